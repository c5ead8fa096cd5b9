"""Where writers meet: a repository in which each of them has an image to merge."""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Iterator, Sequence

from attrs import field, frozen

from pubtools_mlmerge.testing import ImageIndex, make_image, make_index
from tests.peers import DOCKER_LIST, EVERY_TYPE, Peer
from tests.programs import Done
from tests.stress.crew import Crew, Job, Task

IS_LONG = bool(os.environ.get("MLMERGE_STRESS"))
_ALL = (
    "linux/amd64",
    "linux/arm64",
    "linux/arm/v7",
    "linux/s390x",
    "linux/ppc64le",
    "linux/riscv64",
    "linux/386",
    "linux/mips64le",
    "linux/mips64",
    "linux/mipsle",
    "linux/mips",
    "linux/arm/v6",
    "linux/arm/v5",
    "freebsd/amd64",
    "freebsd/arm64",
    "openbsd/amd64",
)
PLATFORMS = _ALL if IS_LONG else _ALL[:8]
_NUMBERS = itertools.count(1)


def _list_of(platform: str) -> ImageIndex:
    # Docker lists, as the host's class reads no others.
    return make_index([make_image(platform, docker=True)], docker=True)


_BASE = _list_of("linux/loong64")
_SOURCES = tuple(map(_list_of, PLATFORMS))
_DIGESTS = tuple(index.children[0].digest for index in _SOURCES)
_KEPT = _BASE.children[0].digest


@frozen(kw_only=True)
class Met:
    """What became of a tag that was written by everybody at once, and of those who wrote it."""

    tag: str
    done: Sequence[Done]
    held: bytes = field(repr=False)

    @property
    def listed(self) -> list[object]:
        """The digests that the tag lists now."""
        return [entry["digest"] for entry in json.loads(self.held)["manifests"]]

    @property
    def errors(self) -> list[str]:
        """What those say who failed."""
        return [done.err for done in self.done if done.code]

    @property
    def lost(self) -> int:
        """How many images are absent though their writers took them for written."""
        return sum(done.code == 0 for done in self._absent)

    @property
    def reported(self) -> int:
        """How many images are absent, as their writers said themselves."""
        return sum(done.code != 0 for done in self._absent)

    def flaws(self) -> Iterator[str]:
        """Yield what must never happen, whatever is lost."""
        if not {_KEPT} <= set(self.listed) <= {_KEPT, *_DIGESTS}:
            yield f"{self.tag}: no merge gives {self.listed}"
        for done in self.done:
            lines = [line for line in done.err.splitlines() if line.startswith("ERROR: ")]
            if done.code and (done.code != 1 or len(lines) != 1 or self.tag not in lines[0]):
                yield f"{self.tag}: it ends with {done.code} and says {done.err}"

    @property
    def _absent(self) -> list[Done]:
        return [done for done, digest in zip(self.done, _DIGESTS) if digest not in self.listed]


@frozen(kw_only=True)
class Arena:
    """A repository with an image for each writer."""

    name: str
    peer: Peer
    host: str
    """The registry, as references name it."""
    options: tuple[str, ...] = ()
    """What our program needs to connect."""
    repository: str = "stress/app"

    def stock(self) -> Arena:
        """Upload what is to be merged."""
        for index, platform in zip(_SOURCES, PLATFORMS):
            self.peer.upload(self.repository, index, _tag_of(platform))
        self.peer.upload(self.repository, _BASE, "base")
        return self

    def fresh(self) -> str:
        """Make a tag that lists one image, which none of the writers brings."""
        tag = f"tag{next(_NUMBERS)}"
        answer = self.peer.put(self.repository, tag, _BASE.content, DOCKER_LIST)
        assert answer.status_code == 201, answer.text
        return tag

    def held(self, tag: str) -> bytes:
        """Read what a tag holds."""
        answer = self.peer.get(self.repository, tag, EVERY_TYPE)
        assert answer.status_code == 200, answer.text
        return answer.content

    def is_untouched(self, tag: str) -> bool:
        """Whether a tag holds what it held at first."""
        return self.held(tag) == _BASE.content

    def reference(self, tag: str) -> str:
        """Name a tag."""
        return f"{self.host}/{self.repository}:{tag}"

    def arguments(self, platform: str, tag: str) -> tuple[str, ...]:
        """Return the arguments of our program that merge an image into a tag."""
        source, into = self.reference(_tag_of(platform)), self.reference(tag)
        if PLATFORMS.index(platform) % 2:  # half of the writers call the registry by another name
            into = into.replace("127.0.0.1", "localhost", 1)
        return ("--source-ref", source, "--dest-ref", into, *self.options)

    def jobs(self, tag: str, task: Task = "ours", options: Sequence[str] = ()) -> list[Job]:
        """Let every writer merge its image into the tag."""
        if task == "host":
            into, at = self.reference(tag), self.host
            return [Job((self.reference(_tag_of(p)), into, at), task) for p in PLATFORMS]
        return [Job((*self.arguments(p, tag), *options)) for p in PLATFORMS]

    def meet(self, crew: Crew, task: Task = "ours", options: Sequence[str] = ()) -> Met:
        """Let every writer merge its image into one tag, all at once."""
        tag = self.fresh()
        done = crew.run(self.jobs(tag, task, options))
        return Met(tag=tag, done=done, held=self.held(tag))


def _tag_of(platform: str) -> str:
    return platform.replace("/", "-")
