"""The machine: each rule is one way in, and after each step the tags are held to the model."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Protocol, Union

import requests
from attrs import define, evolve, field, frozen
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from pubtools_mlmerge.errors import MergeError
from pubtools_mlmerge.merging.merger import ManifestListMerger
from pubtools_mlmerge.registry.client import RegistryClient
from pubtools_mlmerge.testing import RegistryServer
from pubtools_mlmerge.testing.dialects import Dialect
from pubtools_mlmerge.testing.http import Refused, RegistryError
from pubtools_mlmerge.testing.storage import Repository, StoredManifest
from tests.faults.running import hurried
from tests.hunt.items import ANCIENT, RECIPES, Item, Recipe, make
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
from tests.programs import put, run_here

REPOSITORY = "ns/app"
TAGS = ("1", "2")
_TAG = st.sampled_from(TAGS)
_SOURCES = RECIPES | RECIPES | _TAG
_PATTERN = st.sampled_from([*PATTERNS, *SLIPS])
_NAMES = st.lists(_PATTERN, min_size=1, max_size=3)


@frozen
class Trouble:
    """At the n-th time that a manifest is read, checked or stored: an error, or a foreign write."""

    when: str
    number: int
    what: Union[int, Recipe]


_STATUS = st.sampled_from([404, 429, 500, 503])
_MOMENT = st.sampled_from(["find", "find", "check", "stored"])
_TROUBLE = st.builds(Trouble, _MOMENT, st.integers(0, 5), _STATUS) | st.builds(
    Trouble, st.just("find"), st.integers(0, 6), RECIPES
)
_TROUBLES = st.none() | st.none() | _TROUBLE
_OPTION = st.one_of(
    st.tuples(st.just("--keep"), _NAMES),
    st.tuples(st.just("--drop"), _NAMES),
    st.tuples(st.just("--arch"), _NAMES),
    st.tuples(st.just("--match"), st.just(["architecture"])),
    st.tuples(st.just("--single-image"), st.sampled_from([["replace"], ["index"], ["fail"]])),
    st.sampled_from(
        [
            ("--max-age-days", ["7000", "--stale", "drop"]),
            ("--mixed-types", ["fail"]),
            ("--dry-run", []),
            ("--no-verify", []),
        ]
    ),
)
_OPTIONS = st.lists(_OPTION, max_size=3, unique_by=lambda option: option[0]).map(dict)
Options = Mapping[str, Sequence[str]]


def _arguments(options: Options) -> list[str]:
    comma = ("--keep", "--drop", "--arch")
    pairs = [(n, [",".join(v)] if n in comma else v) for n, v in options.items()]
    return [text for name, values in pairs for text in (name, *values)]


class Troubled(Dialect):
    """A registry that has trouble once."""

    def __init__(self) -> None:
        self.trouble: Trouble | None = None
        self.foreign_write: Callable[[Item], None]

    def _pass(self, when: str) -> None:
        trouble = self.trouble
        if trouble is None or trouble.when != when:
            return
        self.trouble = evolve(trouble, number=trouble.number - 1)
        if trouble.number > 0:
            return
        self.trouble = None
        if isinstance(trouble.what, int):
            raise Refused(trouble.what, RegistryError("UNKNOWN", "in trouble"))
        self.foreign_write(make(trouble.what))

    def find(
        self, repository: Repository | None, name: str, reference: str, accepted: frozenset[str]
    ) -> StoredManifest:
        self._pass("find")
        return super().find(repository, name, reference, accepted)

    def check(self, repository: Repository, content: bytes, content_type: str) -> str:
        self._pass("check")
        return super().check(repository, content, content_type)

    def stored(self, repository: Repository, reference: str, digest: str) -> None:
        self._pass("stored")


@define
class Memory:
    """The embedded registry, as the machine works on it."""

    server: RegistryServer
    dialect: Troubled
    options: tuple[str, ...] = ()

    @property
    def host(self) -> str:
        return self.server.host

    def empty(self) -> None:
        self.server._storage.repositories.clear()
        self.server.forget_requests()

    def put(self, repository: str, tag: str, item: Item) -> None:
        put(self.server, tag, item, repository)

    def read(self, repository: str, reference: str) -> bytes | None:
        stored = self.server._storage.repositories.get(repository)
        found = stored.find(reference) if stored else None
        return found.content if found else None

    def blob(self, repository: str, digest: str) -> bytes | None:
        return self.server._storage.repositories[repository].blobs.get(digest)


class Place(Shelf, Protocol):
    """A registry: its contents, and how commands find it."""

    host: str
    options: tuple[str, ...]

    def empty(self) -> None: ...

    def put(self, repository: str, tag: str, item: Item) -> None: ...


@define
class Act:
    """What one step does to a tag: what it brings, what it names, whether it is said to be done."""

    brought: Offer = field(factory=dict)
    named: Named = field(factory=Named)
    brings: bool = True


class Hunt(RuleBasedStateMachine):
    """Drives one registry through every way in that needs no host."""

    place: Place

    def __init__(self, place: Place, directory: Path) -> None:
        super().__init__()
        self.place = place
        self.place.empty()
        self.records = directory
        for record in directory.iterdir():
            record.unlink()
        self.model: dict[str, Offer] = {tag: {} for tag in TAGS}
        self.contents: dict[str, bytes | None] = dict.fromkeys(TAGS)

    # What the rules share

    def _ref(self, tag: str, repository: str = REPOSITORY) -> str:
        return f"{self.place.host}/{repository}:{tag}"

    def _put_source(self, source: Recipe, name: str = "new", where: str = REPOSITORY) -> str:
        """Store a source, or take a tag as one; return its reference."""
        if source in TAGS:
            return self._ref(str(source))
        self.place.put(where, name, make(source))
        return self._ref(name, where)

    def _offer(self, reference: str, *, nested: bool = True) -> Offer:
        repository, _, tag = reference.partition("/")[2].rpartition(":")
        return offer_of(self.place, repository, tag, nested=nested)

    def _learn(self, *tags: str) -> None:
        """Set the model anew, from what tags hold now."""
        for tag in tags or TAGS:
            self.model[tag] = offer_of(self.place, REPOSITORY, tag)
            self.contents[tag] = self.place.read(REPOSITORY, tag)

    def _judge(
        self, acts: Mapping[str, Act], run: Callable[[], object], trouble: Trouble | None = None
    ) -> None:
        """Do something, and hold all tags to the model."""
        if isinstance(self.place, Memory):
            self.place.dialect.trouble = trouble
        with hurried():
            done = run()
        if isinstance(self.place, Memory):
            self.place.dialect.trouble = None
        for tag in TAGS:
            content, now = self.place.read(REPOSITORY, tag), offer_of(self.place, REPOSITORY, tag)
            if tag not in acts:
                assert content == self.contents[tag], f"{tag} was written by {run}"
                continue
            act = acts[tag]
            gone = [*lost(self.model[tag], now, act.brought, act.named)]
            assert not gone, f"{tag} lost {gone}"
            if content is not None:
                absent = [*missing(self.place, REPOSITORY, tag)]
                assert not absent, f"{tag} lists what cannot be pulled: {absent}"
            if done and act.brings:
                lacking = [n for n in act.brought if not act.brought[n] <= now.get(n, set())]
                assert not lacking, f"{tag} did not get {lacking}"
        self._learn()

    def _call(self, program: str, *arguments: str) -> bool:
        return run_here(program, *arguments, *self.place.options).code == 0

    # Rules

    @initialize(recipes=st.lists(RECIPES, min_size=1, max_size=len(TAGS)))
    def begin(self, recipes: list[Recipe]) -> None:
        for tag, recipe in zip(TAGS, recipes):
            self.another_program_puts(tag, recipe)

    @rule(tag=_TAG, recipe=RECIPES)
    def another_program_puts(self, tag: str, recipe: Recipe) -> None:
        self.place.put(REPOSITORY, tag, make(recipe))
        self._learn(tag)

    @rule(
        source=_SOURCES,
        where=st.sampled_from([REPOSITORY, "src"]),
        tags=st.lists(_TAG, min_size=1, unique=True),
        options=_OPTIONS,
        trouble=_TROUBLES,
    )
    def the_command_merges(
        self,
        source: Recipe,
        where: str,
        tags: list[str],
        options: Options,
        trouble: Trouble | None,
    ) -> None:
        reference = self._put_source(source, where=where)
        named = _named(options)
        brought = eligible(self._offer(reference), options.get("--arch"))
        brings = "--dry-run" not in options and not (trouble and source in TAGS)
        acts = {tag: Act(brought, named, brings) for tag in tags}
        arguments = ["--source-ref", reference, "--dest-ref", ",".join(map(self._ref, tags))]
        arguments += ["--audit", str(self.records), "--threads", "1", *_arguments(options)]
        self._interferes_with(tags[-1])
        self._judge(
            {} if "--dry-run" in options and not trouble else acts,
            lambda: self._call("merge", *arguments),
            None if "--no-verify" in options else trouble,
        )

    def _interferes_with(self, tag: str) -> None:
        def write(item: Item) -> None:
            place = self.place
            assert isinstance(place, Memory)
            _put_within(place.server, tag, item)
            self._learn(tag)

        if isinstance(self.place, Memory):
            self.place.dialect.foreign_write = write

    @rule(
        lines=st.lists(
            st.tuples(RECIPES, _TAG, st.none() | _NAMES),
            min_size=1,
            max_size=2,
            unique_by=lambda line: line[1],
        ),
        options=_OPTIONS,
        trouble=_TROUBLES,
    )
    def a_batch_merges(
        self,
        lines: list[tuple[Recipe, str, list[str] | None]],
        options: dict[str, Sequence[str]],
        trouble: Trouble | None,
    ) -> None:
        options.pop("--arch", None)
        acts, text = {}, ""
        for source, tag, archs in lines:
            reference = self._put_source(source, f"new-{tag}")
            line = {"source_ref": reference, "dest_ref": self._ref(tag), "archs": archs}
            text += json.dumps(line) + "\n"
            brought = eligible(self._offer(reference), archs)
            acts[tag] = Act(brought, _named(options), "--dry-run" not in options)
        batch = self.records.with_name("batch")
        batch.write_text(text, encoding="utf-8")
        arguments = ["--batch", str(batch), "--threads", "1", *_arguments(options)]
        self._interferes_with(lines[-1][1])
        self._judge(
            acts,
            lambda: self._call("merge", *arguments),
            None if "--no-verify" in options else trouble,
        )

    @rule(source=_SOURCES, tag=_TAG, names=st.none() | _NAMES)
    def the_class_merges(self, source: Recipe, tag: str, names: list[str] | None) -> None:
        merger = ManifestListMerger(self._put_source(source), self._ref(tag))
        client = RegistryClient()
        merger.set_quay_clients(client, client)
        brought = eligible(self._offer(merger.src_image, nested=False), names)

        def merge() -> bool:
            with suppress(MergeError, requests.HTTPError):
                if names is None:
                    merger.merge_manifest_lists()
                else:
                    made = merger.merge_manifest_lists_selected_architectures(names)
                    client.upload_manifest(made, merger.dest_image)
                return True
            return False

        self._judge({tag: Act(brought)}, merge)
        client.close()

    @rule(
        tag=_TAG,
        names=_NAMES,
        options=st.lists(st.sampled_from(["--allow-empty", "--dry-run"]), unique=True),
        trouble=_TROUBLES,
    )
    def architectures_are_removed(
        self, tag: str, names: list[str], options: list[str], trouble: Trouble | None
    ) -> None:
        arguments = ["--ref", self._ref(tag), "--arch", ",".join(names), *options]
        arguments += ["--audit", str(self.records)]
        self._interferes_with(tag)
        act = Act(named=Named(drop=names))
        self._judge({tag: act}, lambda: self._call("remove-archs", *arguments), trouble)

    @rule(number=st.integers(0, 3), force=st.booleans())
    def a_tag_is_restored(self, number: int, force: bool) -> None:
        records = sorted(self.records.iterdir())[::-1][number : number + 1]
        for record in records:
            fields = json.loads(record.read_text(encoding="utf-8"))
            tag = fields["destination"].rpartition(":")[2]
            forced = ["--force"] if force else []
            if self._call("restore", str(record), *forced):
                content = self.place.read(REPOSITORY, tag)
                assert content == fields["previous"]["content"].encode()
                self._learn(tag)
            self._judge({}, lambda: True)


def _named(options: Options) -> Named:
    return Named(
        keep=options.get("--keep", ()),
        drop=options.get("--drop", ()),
        stale=ANCIENT if "--max-age-days" in options else frozenset(),
        replaces="replace" in options.get("--single-image", ()),
    )


def _put_within(server: RegistryServer, tag: str, item: Item) -> None:
    """Store something while a request is being answered."""
    storage = server._storage.create(REPOSITORY)
    for child in getattr(item, "children", ()):
        _put_within(server, child.digest, child)
    for blob in getattr(item, "blobs", {}).values():
        storage.add_blob(blob)
    storage.add_manifest(tag, item.content, item.media_type)
