"""The hunt inside the real host: push-docker, tag-docker and rollbacks among the other ways in."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable, Sequence
from functools import partial
from itertools import count
from pathlib import Path
from typing import Union

import pytest
import requests
from attrs import field, frozen
from hypothesis import strategies as st
from hypothesis.stateful import rule
from pubtools._quay import push_docker, tag_docker
from pubtools._quay.command_executor import LocalExecutor
from requests.adapters import HTTPAdapter

from pubtools_mlmerge.registry.client import RegistryClient
from pubtools_mlmerge.registry.http import user_agent
from tests.host.running import push, tag
from tests.host.shelves import root_of, shelve, store
from tests.host.stand_ins import no_bundles
from tests.host.world import ON, Item, World, bundle_item
from tests.hunt.items import Item as Held
from tests.hunt.items import Recipe
from tests.hunt.machine import (
    SOME_NAMES,
    SOME_TAGS,
    SOURCES,
    TAG,
    TAGS,
    THREADS,
    TROUBLES,
    Act,
    Expected,
    Hunt,
    Trouble,
    named_by,
)
from tests.hunt.model import Named, eligible, fits
from tests.hunt.test_hunt import hunt

Chosen = dict[str, Union[str, list[str]]]

SEQUENCES = int(os.environ.get("MLMERGE_HUNT", "20"))
_NUMBERS = count(1)


@frozen
class Disk:
    """docker-registry, whose files are read and written directly."""

    world: World
    expected: Expected = field(factory=Expected)

    @property
    def options(self) -> Sequence[str]:
        return ("--ca-bundle", str(self.world.registry.ca_file))

    @property
    def host(self) -> str:
        return self.world.host

    def fresh(self) -> str:
        return f"ns/hunt----{next(_NUMBERS)}"

    def put(self, repository: str, name: str, item: Held) -> None:
        store(self.world.registry, repository, item, name)

    def client(self) -> RegistryClient:
        return self.world.client()

    def send(
        self, adapter: HTTPAdapter, request: requests.PreparedRequest, **options: object
    ) -> requests.Response:
        """Send a request of the host's or of ours, perhaps with trouble."""
        path, _, reference = (request.url or "").rpartition("/")
        is_write, status = request.method == "PUT", None
        is_ours = request.headers["User-Agent"] == user_agent()
        if path.endswith("/manifests"):
            moment = "check" if is_write else "find"
            status = self.expected.at(moment, reference, is_ours=is_ours)
        if status is None:
            response = _SEND(adapter, request, **options)  # type: ignore[arg-type]
            status = self.expected.at("stored", reference) if is_write and response.ok else None
        return response if status is None else _refusal(status, request)

    def read(self, repository: str, reference: str) -> bytes | None:
        manifests = self._shelf / "repositories" / repository / "_manifests"
        if ":" not in reference:
            link = manifests / "tags" / reference / "current" / "link"
            if not link.exists():
                return None
            reference = link.read_text(encoding="utf-8")
        is_there = (manifests / "revisions" / reference.replace(":", "/") / "link").exists()
        return self._blob(reference) if is_there else None

    def blob(self, repository: str, digest: str) -> bytes | None:
        link = self._shelf / "repositories" / repository / "_layers" / digest.replace(":", "/")
        return self._blob(digest) if (link / "link").exists() else None

    @property
    def _shelf(self) -> Path:
        return root_of(self.world.registry) / "docker" / "registry" / "v2"

    def _blob(self, digest: str) -> bytes:
        encoded = digest.partition(":")[2]
        return (self._shelf / "blobs" / "sha256" / encoded[:2] / encoded / "data").read_bytes()

    def copy(self, source: str, destinations: Sequence[str], all_arch: bool = False) -> None:
        """Copy as the host's skopeo does, at once."""
        repository, _, name = source.partition("/")[2].replace("@", ":", 1).partition(":")
        for reference in destinations:
            into, _, tag = reference.partition("/")[2].partition(":")
            assert self.expected.at("check", tag) is None, "the copy breaks"
            self._copy(repository, name, into, tag)
            assert self.expected.at("stored", tag) is None, "the copy breaks once done"

    def _copy(self, repository: str, name: str, into: str, tag: str) -> None:
        content = self.read(repository, name)
        assert content is not None, f"{repository}:{name} is not there"
        document = json.loads(content)
        for entry in document.get("manifests", ()):
            self._copy(repository, entry["digest"], into, entry["digest"])
        blobs = [document["config"], *document["layers"]] if "config" in document else []
        shelve(self.world.registry, into, content, tag, [blob["digest"] for blob in blobs])

    def inspect(self, reference: str) -> dict[str, object]:
        """Read the config of an image as the host's skopeo does."""
        repository, _, name = reference.partition("/")[2].partition(":")
        document = json.loads(self.read(repository, name) or b"{}")
        config = json.loads(self.blob(repository, document["config"]["digest"]) or b"{}")
        return {"Architecture": config["architecture"]}


_SEND = HTTPAdapter.send


def _refusal(status: int, request: requests.PreparedRequest) -> requests.Response:
    response = requests.Response()
    response.status_code, response.raw = status, io.BytesIO()
    response.request, response.url = request, request.url or ""
    return response


_SETTINGS = st.fixed_dictionaries(
    {},
    optional={
        "keep": SOME_NAMES,
        "drop": SOME_NAMES,
        "match": st.just("architecture"),
        "single_image": st.sampled_from(["replace", "index", "fail"]),
        "mixed_types": st.just("oci"),
    },
)


class HostHunt(Hunt):
    """Drives the host's tasks as well; each runs with the step for pushes and tag-docker."""

    error: BaseException | None = None

    def __init__(self, place: Disk, directory: Path) -> None:
        super().__init__(place, directory)
        self.world = place.world

    @property
    def external(self) -> str:
        """The repository as the public names it."""
        return self.repository.partition("/")[2].replace("----", "/")

    def run_task(self, work: Callable[[], None]) -> bool:
        try:
            work()
        except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever it is, tags are looked at
            self.error = error
            return False
        return True

    def push(
        self,
        source: Recipe,
        tags: Sequence[str],
        chosen: Chosen,
        threads: int,
        trouble: Trouble | None,
        *more: Item,
    ) -> None:
        reference = self.put_source(source, where="src/app")
        item = self.world.push_item(reference.partition("/")[2], {self.external: tags})
        item.metadata["mlmerge"] = chosen
        options = {
            f"--{name.replace('_', '-')}": [value] if isinstance(value, str) else value
            for name, value in chosen.items()
        }
        act = Act(
            self.offer(reference),
            named_by(options),
            is_sure=source not in TAGS,
            may_return=bool(more),
        )
        settings = self.world.settings(ON, num_thread_container_push=threads)
        self.error = None
        self.judge(
            dict.fromkeys(tags, act),
            lambda: self.run_task(lambda: push([item, *more], settings)),
            trouble,
        )

    @rule(source=SOURCES, tags=SOME_TAGS, chosen=_SETTINGS, threads=THREADS, trouble=TROUBLES)
    def an_item_is_pushed(
        self,
        source: Recipe,
        tags: list[str],
        chosen: Chosen,
        threads: int,
        trouble: Trouble | None,
    ) -> None:
        self.push(source, tags, chosen, threads, trouble)

    @rule(source=SOURCES, tags=SOME_TAGS, chosen=_SETTINGS, threads=THREADS, trouble=TROUBLES)
    def a_push_is_rolled_back(
        self,
        source: Recipe,
        tags: list[str],
        chosen: Chosen,
        threads: int,
        trouble: Trouble | None,
    ) -> None:
        before = dict(self.contents)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(push_docker, "OperatorPusher", no_bundles)
            self.push(source, tags, chosen, threads, trouble, bundle_item())
        for name, content in before.items():
            if content is not None and trouble is None and isinstance(self.error, SystemExit):
                assert self.contents[name] == content, f"{name} was not rolled back"

    @rule(source=SOURCES, tag=TAG, names=SOME_NAMES, exclude=st.booleans(), trouble=TROUBLES)
    def architectures_are_tagged(
        self,
        source: Recipe,
        tag: str,
        names: list[str],
        exclude: bool,
        trouble: Trouble | None,
    ) -> None:
        reference = self.put_source(source)
        offer = self.offer(reference)
        if exclude:
            brought = {name: offer[name] for name in offer if not fits(names, name)}
        else:
            brought = eligible(offer, names)
        name = reference.rpartition(":")[2]
        is_image = b'"manifests"' not in (self.place.read(self.repository, name) or b"")
        if trouble and is_image and not isinstance(trouble.what, int):
            trouble = None  # the host looks at the tag once, and copies an image plainly
        acts = {tag: Act(brought, is_sure=False)}
        self.tag(acts, names, exclude, trouble, source=name, add=[tag])

    @rule(tag=TAG, names=SOME_NAMES, exclude=st.booleans(), trouble=TROUBLES)
    def architectures_are_untagged(
        self, tag: str, names: list[str], exclude: bool, trouble: Trouble | None
    ) -> None:
        named = Named(keep=names, is_exact=True) if exclude else Named(drop=names)
        self.tag({tag: Act(named=named)}, names, exclude, trouble, remove=[tag])

    def tag(
        self,
        acts: dict[str, Act],
        names: Sequence[str],
        exclude: bool,
        trouble: Trouble | None,
        *,
        source: str = "",
        add: Sequence[str] = (),
        remove: Sequence[str] = (),
    ) -> None:
        item = self.world.tag_item(
            self.external, source=source, add=add, remove=remove, archs=names, exclude=exclude
        )
        settings = self.world.settings(ON)
        self.judge(acts, lambda: self.run_task(lambda: tag([item], settings)), trouble)


def test_nothing_is_lost_by_the_host_s_tasks_unless_it_was_named(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = Disk(world)
    monkeypatch.setattr(LocalExecutor, "skopeo_login", lambda *_: None)
    monkeypatch.setattr(LocalExecutor, "tag_images", lambda _, *named: place.copy(*named))
    monkeypatch.setattr(LocalExecutor, "skopeo_inspect", lambda _, name: place.inspect(name))
    monkeypatch.setattr(tag_docker, "untag_images", lambda **_: None)

    def send(
        adapter: HTTPAdapter, request: requests.PreparedRequest, **options: object
    ) -> requests.Response:
        return place.send(adapter, request, **options)

    monkeypatch.setattr(HTTPAdapter, "send", send)

    hunt(partial(HostHunt, place), tmp_path, SEQUENCES)
