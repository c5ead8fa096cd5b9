"""The machine: each rule is one way in, and after each step the tags are held to the model."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Protocol

import requests
from attrs import define, evolve, field, frozen
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from pubtools_mlmerge.errors import MergeError
from pubtools_mlmerge.merging.merger import ManifestListMerger
from pubtools_mlmerge.registry.client import RegistryClient
from pubtools_mlmerge.testing import Image, ImageIndex, RegistryServer
from pubtools_mlmerge.testing.http import Refused
from pubtools_mlmerge.testing.registry import Dialect, Repository, StoredManifest
from tests.faults.running import hurried
from tests.hunt.items import ANCIENT, BARE, RECIPES, Item, Recipe, make
from tests.hunt.model import (
    PATTERNS,
    SLIPS,
    Named,
    Offer,
    Shelf,
    eligible,
    lost,
    missing,
    offer_of,
)
from tests.programs import run_here

TAGS = ("1", "2")
TAG = st.sampled_from(TAGS)
SOME_TAGS = st.lists(TAG, min_size=1, unique=True)
SOURCES = RECIPES | RECIPES | TAG
PATTERN = st.sampled_from([*PATTERNS, *SLIPS])
SOME_NAMES = st.lists(PATTERN, min_size=1, max_size=3)


@frozen
class Trouble:
    """At the n-th time that a manifest is read, checked or stored: an error.

    Or at the n-th time that we read a tag, another program's write to it. It is seen then, however
    many threads there are; nobody could see one between the last look and a write of ours, and none
    has to once all is done, when the host still reads.
    """

    when: str
    number: int
    what: int | Recipe


_STATUS = st.sampled_from([404, 429, 500, 503])
_MOMENT = st.sampled_from(["find", "find", "check", "stored"])
_TROUBLE = st.builds(Trouble, _MOMENT, st.integers(0, 5), _STATUS) | st.builds(
    Trouble, st.just("find"), st.integers(0, 6), RECIPES
)
TROUBLES = st.none() | st.none() | _TROUBLE
_OPTION = st.one_of(
    st.tuples(st.just("--keep"), SOME_NAMES),
    st.tuples(st.just("--drop"), SOME_NAMES),
    st.tuples(st.just("--arch"), SOME_NAMES),
    st.tuples(st.just("--match"), st.just(["architecture"])),
    st.tuples(st.just("--single-image"), st.sampled_from([["replace"], ["index"], ["fail"]])),
    st.sampled_from(
        [
            ("--max-age-days", ["7000", "--stale", "drop"]),
            ("--mixed-types", ["fail"]),
            ("--dry-run", []),
            ("--no-verify", []),
            ("--strict", []),
        ]
    ),
)
_OPTIONS = st.lists(_OPTION, max_size=3, unique_by=lambda option: option[0]).map(dict)
Options = Mapping[str, Sequence[str]]
THREADS = st.sampled_from([*[1] * 7, 4])


def _arguments(options: Options) -> list[str]:
    comma = ("--keep", "--drop", "--arch")
    pairs = [(n, [",".join(v)] if n in comma else v) for n, v in options.items()]
    return [text for name, values in pairs for text in (name, *values)]


class Place(Shelf, Protocol):
    """A registry: what it holds, and how programs find it."""

    @property
    def host(self) -> str:
        """The registry as references name it."""

    @property
    def options(self) -> Sequence[str]:
        """What commands need to connect."""

    def fresh(self) -> str:
        """Return the name of a repository that is new."""

    def put(self, repository: str, tag: str, item: Item) -> None:
        """Store an item under a tag, past all checks."""

    def client(self) -> RegistryClient:
        """Connect."""

    @property
    def expected(self) -> Expected:
        """The trouble that it will have."""


Write = Callable[[str, Recipe], None]


@define
class Expected:
    """Trouble that is to happen once."""

    trouble: Trouble | None = None
    write: Write | None = None  # how another program writes a tag

    def at(self, when: str, reference: str, *, is_ours: bool = True) -> int | None:
        """Let it happen if this is the moment; return the status to answer with."""
        trouble, is_look = self.trouble, is_ours and reference in TAGS
        if trouble is None or trouble.when != when:
            return None
        if not isinstance(trouble.what, int) and not is_look:
            return None
        self.trouble = evolve(trouble, number=trouble.number - 1) if trouble.number else None
        if trouble.number:
            return None
        if isinstance(trouble.what, int):
            return trouble.what
        assert self.write is not None
        self.write(reference, trouble.what)
        return None


class Troubled(Dialect):
    """A registry that has trouble once."""

    def __init__(self, expected: Expected) -> None:
        self.expected = expected

    def _pass(self, when: str, reference: str) -> None:
        status = self.expected.at(when, reference)
        if status is not None:
            raise Refused(status, "UNKNOWN", "in trouble")

    def find(
        self, repository: Repository | None, name: str, reference: str, accepted: frozenset[str]
    ) -> StoredManifest:
        self._pass("find", reference)
        return super().find(repository, name, reference, accepted)

    def check(self, repository: Repository, content: bytes, content_type: str) -> str:
        self._pass("check", "")
        return super().check(repository, content, content_type)

    def stored(self, repository: Repository, reference: str, digest: str) -> None:
        self._pass("stored", reference)


@define
class Memory:
    """The embedded registry."""

    server: RegistryServer
    expected: Expected
    options: Sequence[str] = ()

    @property
    def host(self) -> str:
        return self.server.host

    def fresh(self) -> str:
        self.server._storage.repositories.clear()
        self.server.forget_requests()
        return "ns/app"

    def put(self, repository: str, tag: str, item: Item) -> None:
        # Also while the server answers a request, and so has its own methods locked.
        stored = self.server._storage.create(repository)
        for child in item.children if isinstance(item, ImageIndex) else ():
            self.put(repository, child.digest, child)
        for blob in item.blobs.values() if isinstance(item, Image) else ():
            stored.add_blob(blob)
        stored.add_manifest(tag, item.content, item.media_type)

    def client(self) -> RegistryClient:
        return RegistryClient()

    def read(self, repository: str, reference: str) -> bytes | None:
        stored = self.server._storage.repositories.get(repository)
        found = stored.find(reference) if stored else None
        return found.content if found else None

    def blob(self, repository: str, digest: str) -> bytes | None:
        return self.server._storage.repositories[repository].blobs.get(digest)


@frozen
class Act:
    """What one step does to a tag: what it brings if it succeeds, and what it names to go."""

    brought: Offer = field(factory=dict)
    named: Named = field(factory=Named)
    is_dry: bool = False
    is_sure: bool = True  # what it brings: the source did not move meanwhile
    may_return: bool = False  # to what it held before, whatever others write


class Hunt(RuleBasedStateMachine):
    """Drives one registry through every way in that needs no host."""

    def __init__(self, place: Place, directory: Path) -> None:
        super().__init__()
        self.place = place
        self.repository = place.fresh()
        self.records = directory
        for record in directory.iterdir():
            record.unlink()
        self.model: dict[str, Offer] = {}
        self.contents: dict[str, bytes | None] = {}
        self.learn(*TAGS)

    # What the rules share

    def ref(self, tag: str, repository: str = "") -> str:
        return f"{self.place.host}/{repository or self.repository}:{tag}"

    def put_source(self, source: Recipe, name: str = "new", where: str = "") -> str:
        """Store a source, or take a tag as one; return its reference."""
        if source in TAGS:
            return self.ref(str(source))
        self.place.put(where or self.repository, name, make(source))
        return self.ref(name, where)

    def offer(self, reference: str, *, nested: bool = True) -> Offer:
        repository, _, tag = reference.partition("/")[2].rpartition(":")
        return offer_of(self.place, repository, tag, nested=nested)

    def learn(self, *tags: str) -> None:
        """Set the model anew, from what tags hold now."""
        for tag in tags:
            self.model[tag] = offer_of(self.place, self.repository, tag)
            self.contents[tag] = self.place.read(self.repository, tag)

    def judge(
        self,
        acts: Mapping[str, Act],
        run: Callable[[], bool],
        trouble: Trouble | None = None,
    ) -> None:
        """Do something, and hold all tags to the model."""
        before, is_done = dict(self.contents), self.run(run, trouble)
        for tag in TAGS:
            if tag not in acts or acts[tag].is_dry:
                assert self.place.read(self.repository, tag) == self.contents[tag], f"{tag} moved"
                continue
            act, now = acts[tag], offer_of(self.place, self.repository, tag)
            if act.may_return and self.place.read(self.repository, tag) == before[tag]:
                continue
            gone = [*lost(self.model[tag], now, act.brought, act.named)]
            assert not gone, f"{tag} lost {gone}"
            absent = [*missing(self.place, self.repository, tag)] if now else []
            assert not absent, f"{tag} lists what cannot be pulled: {absent}"
            lacking = [n for n in act.brought if not act.brought[n] <= now.get(n, set())]
            assert not (is_done and act.is_sure and lacking), f"{tag} did not get {lacking}"
        self.learn(*TAGS)

    def run(self, run: Callable[[], bool], trouble: Trouble | None) -> bool:
        expected = self.place.expected
        expected.trouble, expected.write = trouble, self.another_program_puts
        try:
            with hurried():
                return run()
        finally:
            expected.trouble = None

    def _call(self, program: str, *arguments: str) -> bool:
        return run_here(program, *arguments, *self.place.options).code == 0

    # Rules

    @initialize(recipes=st.lists(RECIPES, min_size=1, max_size=len(TAGS)))
    def begin(self, recipes: list[Recipe]) -> None:
        for tag, recipe in zip(TAGS, recipes):
            self.another_program_puts(tag, recipe)

    @rule(tag=TAG, recipe=RECIPES)
    def another_program_puts(self, tag: str, recipe: Recipe) -> None:
        self.place.put(self.repository, tag, make(recipe))
        self.learn(tag)

    @rule(
        source=SOURCES,
        where=st.sampled_from(["", "src"]),
        tags=SOME_TAGS,
        options=_OPTIONS,
        threads=THREADS,
        trouble=TROUBLES,
    )
    def the_command_merges(
        self,
        *,
        source: Recipe,
        where: str,
        tags: list[str],
        options: Options,
        threads: int,
        trouble: Trouble | None,
    ) -> None:
        reference = self.put_source(source, where=where)
        named = named_by(options)
        brought = eligible(self.offer(reference), options.get("--arch"))
        is_sure = not (trouble and source in TAGS)
        if trouble and source in TAGS and not isinstance(trouble.what, int):
            # Another program may write the source, which then brings other images.
            named = evolve(named, coarse=True)
        act = Act(brought, named, "--dry-run" in options, is_sure)
        arguments = ["--source-ref", reference, "--dest-ref", ",".join(map(self.ref, tags))]
        arguments += ["--audit", str(self.records), "--threads", f"{threads}", *_arguments(options)]
        self.judge(
            dict.fromkeys(tags, act),
            lambda: self._call("merge", *arguments),
            None if "--no-verify" in options else trouble,
        )

    @rule(
        lines=st.lists(
            st.tuples(RECIPES, TAG, st.none() | SOME_NAMES),
            min_size=1,
            max_size=2,
            unique_by=lambda line: line[1],
        ),
        options=_OPTIONS,
        threads=THREADS,
        trouble=TROUBLES,
    )
    def a_batch_merges(
        self,
        lines: list[tuple[Recipe, str, list[str] | None]],
        options: dict[str, Sequence[str]],
        threads: int,
        trouble: Trouble | None,
    ) -> None:
        options.pop("--arch", None)
        acts, text = {}, ""
        for source, tag, archs in lines:
            reference = self.put_source(source, f"new-{tag}")
            line = {"source_ref": reference, "dest_ref": self.ref(tag), "archs": archs}
            text += json.dumps(line) + "\n"
            brought = eligible(self.offer(reference), archs)
            acts[tag] = Act(brought, named_by(options), "--dry-run" in options)
        batch = self.records.with_name("batch")
        batch.write_text(text, encoding="utf-8")
        arguments = ["--batch", str(batch), "--threads", f"{threads}", *_arguments(options)]
        self.judge(
            acts,
            lambda: self._call("merge", *arguments),
            None if "--no-verify" in options else trouble,
        )

    @rule(source=SOURCES, tag=TAG, names=st.none() | SOME_NAMES)
    def the_class_merges(self, source: Recipe, tag: str, names: list[str] | None) -> None:
        merger = ManifestListMerger(self.put_source(source), self.ref(tag))
        client = self.place.client()
        merger.set_quay_clients(client, client)
        brought = eligible(self.offer(merger.src_image, nested=False), names)

        def merge() -> bool:
            with suppress(MergeError, requests.HTTPError):
                if names is None:
                    merger.merge_manifest_lists()
                else:
                    made = merger.merge_manifest_lists_selected_architectures(names)
                    client.upload_manifest(made, merger.dest_image)
                return True
            return False

        self.judge({tag: Act(brought)}, merge)
        client.close()

    @rule(
        tag=TAG,
        names=SOME_NAMES,
        options=st.lists(
            st.sampled_from(["--allow-empty", "--dry-run", "--prune", "--strict"]), unique=True
        ),
        trouble=TROUBLES,
    )
    def architectures_are_removed(
        self, tag: str, names: list[str], options: list[str], trouble: Trouble | None
    ) -> None:
        arguments = ["--ref", self.ref(tag), "--arch", ",".join(names), *options]
        arguments += ["--audit", str(self.records)]
        named = Named(drop=names, digests=BARE if "--prune" in options else frozenset())
        act = Act(named=named, is_dry="--dry-run" in options)
        self.judge({tag: act}, lambda: self._call("remove-archs", *arguments), trouble)

    @rule(number=st.integers(0, 3), force=st.booleans(), trouble=TROUBLES)
    def a_tag_is_restored(self, number: int, force: bool, trouble: Trouble | None) -> None:
        records = sorted(self.records.iterdir())[::-1][number : number + 1]
        for record in records:
            fields = json.loads(record.read_text(encoding="utf-8"))
            tag = fields["destination"].rpartition(":")[2]
            forced = ["--force"] if force else []
            is_done = self.run(partial(self._call, "restore", str(record), *forced), trouble)
            content, previous = self.place.read(self.repository, tag), fields["previous"]
            before = previous and previous["content"].encode()
            assert content == before or (content == self.contents[tag] and not is_done)
            self.learn(tag)
            self.judge({}, lambda: True)


def named_by(options: Options) -> Named:
    return Named(
        keep=options.get("--keep", ()),
        drop=options.get("--drop", ()),
        digests=ANCIENT if "--max-age-days" in options else frozenset(),
        replaces="replace" in options.get("--single-image", ()),
        coarse="--match" in options,
    )
