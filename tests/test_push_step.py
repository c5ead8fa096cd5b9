"""The push step, on the embedded registry."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Literal

import pytest
from attrs import define, evolve, field
from pubtools.pluggy import hookimpl, pm

from pubtools_mlmerge import plugin
from pubtools_mlmerge.core.plan import Report
from pubtools_mlmerge.core.references import Reference
from pubtools_mlmerge.errors import (
    ImmutableTag,
    InvalidSettings,
    LockLost,
    MergeError,
    MixedTypes,
    NotAnIndex,
    PushFailed,
    RegistryError,
    ShrinkError,
    StepNotDone,
)
from pubtools_mlmerge.host.clients import PushItem, Sides
from pubtools_mlmerge.host.push_step import PushStep
from pubtools_mlmerge.host.requests import MergeRequest
from pubtools_mlmerge.merging.audit import read_change
from pubtools_mlmerge.merging.decision import AnchorTag
from pubtools_mlmerge.registry.client import RegistryClient
from pubtools_mlmerge.registry.quay_history import TagHistory
from pubtools_mlmerge.settings import Settings
from pubtools_mlmerge.testing import Image, ImageIndex, RegistryServer, make_image, make_index
from tests.pages import DOCS
from tests.peers import SCHEMA_1
from tests.programs import put
from tests.pushes import Expired, begin, item, registered
from tests.scripted import HURRIED

Log = pytest.LogCaptureFixture

AMD64, ARM64 = make_image("linux/amd64", seed="new"), make_image("linux/arm64", seed="new")
S390X, OLD_AMD64 = make_image("linux/s390x", seed="old"), make_image("linux/amd64", seed="old")
NEW, OLD = make_index([AMD64, ARM64]), make_index([OLD_AMD64, S390X])
ALL = make_index([AMD64, ARM64, S390X])
MERGED = {AMD64.digest, ARM64.digest, S390X.digest}
PLAIN = Settings(anchor_tag=None)
TOO_OLD = {"max_age_days": 365, "stale": "drop"}


@define
class Push:
    """A push, with all that stands around the step."""

    server: RegistryServer
    settings: Settings = PLAIN
    threads: int = 1
    history: TagHistory | None = None
    copies: list[object] = field(factory=list)
    step: PushStep = field(init=False)

    def __attrs_post_init__(self) -> None:
        """Put the sources and tags in place."""
        self.put("src:new", NEW)
        for name in ("app:1", "app:2"):
            self.put(name, OLD)
        self.begin()

    def begin(self, *items: PushItem) -> None:
        client = RegistryClient(options=HURRIED)
        sides = Sides(client, client, self.copy, self.history, self.threads)
        self.step = begin(sides, self.server.host, self.settings, items=items)

    def copy(self, source: str, destinations: list[str]) -> None:
        self.copies.append([each.partition("/ns/")[2] for each in destinations])

    def put(self, name: str, held: Image | ImageIndex) -> None:
        repository, _, tag = name.partition(":")
        put(self.server, tag, held, f"ns/{repository}")

    def item(self, *names: str, source: str = "src:new", **metadata: object) -> PushItem:
        """Make an item that pushes a source to tags, such as app:1."""
        tags: dict[str, list[str]] = {}
        for name in names:
            tags.setdefault(name.partition(":")[0], []).append(name.partition(":")[2])
        return item(str(self.reference(source)), tags, **metadata)

    def push(self, pushed: PushItem) -> None:
        self.step.push_item(pushed, lambda: self.copies.append("all"))

    def run(self, *names: str, source: str = "src:new") -> None:
        self.push(self.item(*names, source=source))

    def run_all(self, *items: PushItem) -> None:
        """Push items as the host does: look at all, and then push one after the other."""
        with self.step.running():
            self.step.look(items)
            for each in items:
                self.push(each)

    def reference(self, name: str) -> Reference:
        return Reference.parse(f"{self.server.host}/ns/{name}")

    def digests(self, name: str) -> set[str]:
        """List what a tag lists."""
        found = RegistryClient(options=HURRIED).pull_index(self.reference(name))
        return {entry.digest for entry in found.manifests}

    def writes(self) -> list[str]:
        return [r.path for r in self.server.requests if r.method not in ("GET", "HEAD")]


def test_every_tag_keeps_what_the_source_lacks_and_what_it_brings_is_brought_once(
    registry_server: RegistryServer,
) -> None:
    push = Push(registry_server)
    registry_server.forget_requests()

    push.run("app:1", "app:2")

    lines = [f"{r.method} {r.path}" for r in registry_server.requests]
    assert lines.count("GET /v2/ns/src/manifests/new") == 1
    assert len([line for line in lines if line.startswith("PUT /v2/ns/app/manifests/sha256")]) == 2
    assert push.digests("app:1") == push.digests("app:2") == MERGED
    assert push.copies == []


@pytest.mark.parametrize("mode", ["ignore", "copy"])
def test_what_refers_to_an_image_comes_along_where_the_setting_says_so(
    registry_server: RegistryServer, mode: str
) -> None:
    push = Push(registry_server, Settings.from_task({"mlmerge": {"referrers": mode}}, {}))
    signature = f"{NEW.children[0].digest.replace(':', '-')}.sig"
    push.put(f"src:{signature}", make_image(seed="signature"))

    push.run("app:1")

    assert (signature in registry_server.tags("ns/app")) is (mode == "copy")


@pytest.mark.parametrize(
    ("mlmerge", "names", "copies", "tag", "reason"),
    [
        ({}, "app:3 app:1 app:4", ["app:3", "app:4"], "app:3", "it does not exist yet"),
        ({}, "app:3 app:4", "all", "app:4", "it does not exist yet"),
        ({"exclude_repos": ["a*"]}, "app:1", "all", "app:1", "its repository is excluded"),
        ({"drop": ["s390x"]}, "app:1", "all", "app:1", "dropped by name"),
        (TOO_OLD, "app:old", "all", "app:old", "older than 365 days"),
    ],
)
def test_where_nothing_is_kept_the_host_copies(  # noqa: PLR0917
    registry_server: RegistryServer,
    caplog: Log,
    mlmerge: dict[str, object],
    names: str,
    copies: object,
    tag: str,
    reason: str,
) -> None:
    caplog.set_level("DEBUG", "pubtools.mlmerge")
    settings = Settings.from_task({"mlmerge": {"anchor_tag": None, **mlmerge}}, {})
    push = Push(registry_server, settings)
    created = (datetime.now(timezone.utc) - timedelta(days=400, hours=1)).isoformat()
    push.put("app:old", make_index([make_image("linux/s390x", created=created)]))

    push.run(*names.split())

    assert push.copies == [copies]
    said = f"{push.reference(tag)} is copied plainly: {reason}"
    assert [r.levelname for r in caplog.records if r.getMessage() == said] == ["DEBUG"]


def test_report_only_copies_all_and_tells_of_the_tags_in_their_order(
    registry_server: RegistryServer, caplog: Log
) -> None:
    caplog.set_level("INFO", "pubtools.mlmerge")
    settings = evolve(PLAIN, report_only=True, exclude_repos=["other"])
    push = Push(registry_server, settings, threads=3)
    registry_server.forget_requests()

    push.run("app:1", source="src:absent")
    push.run_all(push.item(*(f"app:{number}" for number in range(6)), "other:1"))

    assert push.copies == ["all", "all"]
    assert push.writes() == []
    told = [line for line in caplog.messages if line.startswith("Would merge")]
    assert all(f"{push.reference(f'app:{n}')} " in line for n, line in enumerate(told))
    assert len(told) == 6
    assert "linux/s390x" in told[1]
    assert "Would fail, if not report_only" in caplog.text


def test_a_failure_is_the_push_s_failure(registry_server: RegistryServer) -> None:
    push = Push(registry_server)

    with pytest.raises(RegistryError):
        push.run("app:1", source="src:absent")

    assert push.digests("app:1") == {OLD_AMD64.digest, S390X.digest}
    assert push.copies == []


def test_what_was_merged_is_kept_for_signing_and_rollback(registry_server: RegistryServer) -> None:
    push = Push(registry_server)
    push.put("src:one", make_index([make_image("linux/arm64", seed="one")]))

    push.run("app:1")
    push.run("app:1", source="src:one")

    (held,), (previous,) = push.step.held.values(), push.step.before.values()
    assert previous is not None
    assert previous.content == OLD.content
    assert held.digest == push.step.merged[1].digest
    assert held.digest == registry_server.manifest("ns/app", "1").digest
    assert held.listed == push.digests("app:1")


def test_a_tag_that_is_copied_over_holds_the_copy(registry_server: RegistryServer) -> None:
    push = Push(registry_server)
    push.put("src:all", ALL)

    push.run("app:1")
    push.run("app:1", source="src:all")

    (held,) = push.step.held.values()
    assert len(push.step.merged) == 1
    assert held.digest == ALL.digest


def test_a_tag_that_needs_nothing_is_held_and_not_counted(registry_server: RegistryServer) -> None:
    push = Push(registry_server)
    push.put("app:1", ALL)

    push.run_all(push.item("app:1"))

    assert push.step.merged == []
    assert len(push.step.held) == 1
    assert push.copies == []


class Site:
    """A site with a step of its own."""

    def __init__(self, answer: object) -> None:
        self.answer = answer

    @hookimpl
    def mlmerge_merge(self, request: MergeRequest) -> object:
        return self.answer


def test_a_site_that_merges_itself_is_taken_at_its_word(registry_server: RegistryServer) -> None:
    push = Push(registry_server)
    report = Report(
        source=None,
        destination=push.reference("app:1"),
        source_digest=None,
        previous_digest=None,
        digest=AMD64.digest,
        media_type="",
        changed=True,
        dry_run=False,
        entries=(),
    )

    with registered(Site(report)):
        push.run("app:1")

    (held,) = push.step.held.values()
    assert push.step.merged == [report]
    assert held.to_sign == ((AMD64.digest, ""),)
    assert push.copies == []


class Meeting:
    """Lets nobody pass until some have come, and notes how many there are at a time."""

    def __init__(self, number: int) -> None:
        self.barrier = threading.Barrier(number, timeout=10)
        self.present = self.most = 0
        self.threads: set[int] = set()
        self.lock = threading.Lock()

    @hookimpl
    def mlmerge_merge(self, request: MergeRequest) -> Literal[False]:
        self.note(1)
        self.barrier.wait()
        self.note(-1)
        return False

    def note(self, change: int) -> None:
        with self.lock:
            self.threads.add(threading.get_ident())
            self.present += change
            self.most = max(self.most, self.present)


@pytest.mark.parametrize(
    ("tags", "most", "at_a_time"), [(2, 8, 2), (4, 1, 1), (9, 3, 3), (16, 8, 8)]
)
def test_tags_of_an_item_are_merged_side_by_side(
    registry_server: RegistryServer, tags: int, most: int, at_a_time: int
) -> None:
    push, meeting = Push(registry_server, threads=most), Meeting(at_a_time)

    with registered(meeting):
        push.run(*(f"app:{number}" for number in range(tags)))

    assert meeting.most == at_a_time
    assert push.copies == ["all"]


def test_items_share_their_threads(registry_server: RegistryServer) -> None:
    push, meeting = Push(registry_server, threads=2), Meeting(2)

    with registered(meeting), ThreadPoolExecutor(3) as items:
        for n in range(3):
            items.submit(push.run, f"app:{n}", f"app:{n + 3}")

    assert (meeting.most, len(meeting.threads)) == (2, 2)
    assert push.copies == ["all"] * 3


def test_tags_that_are_copied_plainly_keep_their_order(registry_server: RegistryServer) -> None:
    push = Push(registry_server, threads=4)

    push.run(*(f"app:{number}" for number in range(8)))

    assert push.digests("app:1") == push.digests("app:2") == MERGED
    assert push.copies == [[f"app:{number}" for number in (0, 3, 4, 5, 6, 7)]]


class Failing:
    """Fails for one tag; until then, the others wait."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.failed = threading.Event()

    @hookimpl
    def mlmerge_merge(self, request: MergeRequest) -> None:
        if request.destination.tag == self.name:
            self.failed.set()
            raise RegistryError(str(request.destination), 500, "no")
        assert self.failed.wait(timeout=10)


def test_tags_that_were_begun_when_another_one_failed_are_merged_and_can_be_taken_back(
    registry_server: RegistryServer,
) -> None:
    tags = [f"app:{number}" for number in range(1, 9)]
    push = Push(registry_server, threads=2)
    for tag in tags:
        push.put(tag, OLD)

    with registered(Failing("2")), pytest.raises(RegistryError, match=r"app:2.*no"):
        push.run(*tags)

    (report,) = push.step.merged
    assert report.destination == push.reference("app:1")
    assert [push.digests(tag) == MERGED for tag in tags] == [True, *[False] * 7]
    assert push.copies == []


class Order:
    """Notes in which order tags are locked."""

    def __init__(self) -> None:
        self.locked: list[str] = []

    @hookimpl
    def mlmerge_lock(self, reference: str) -> None:
        self.locked.append(reference.rpartition(":")[2])


def test_tags_that_are_judged_are_locked_in_one_order(registry_server: RegistryServer) -> None:
    settings = evolve(PLAIN, exclude_repos=["other"], anchor_tag=AnchorTag("2-kept"))
    push, order = Push(registry_server, settings), Order()

    with registered(order):
        push.run("app:2", "other:9", "app:1", "app:3")

    assert order.locked == ["1", "2", "2-kept", "3"]
    assert push.copies == [["app:3", "other:9"]]


def test_nothing_is_copied_plainly_without_the_lock(registry_server: RegistryServer) -> None:
    push = Push(registry_server)

    with registered(Expired()), pytest.raises(LockLost):
        push.run("app:3")

    assert (push.copies, push.writes()) == ([], [])


@pytest.mark.parametrize("is_looked_at", [True, False])
def test_nothing_is_merged_without_the_lock(
    registry_server: RegistryServer, *, is_looked_at: bool
) -> None:
    push = Push(registry_server)
    pushed = push.item("app:1")
    if is_looked_at:
        push.step.look([pushed])

    with registered(Expired()), pytest.raises(LockLost):
        push.push(pushed)

    assert push.digests("app:1") == {OLD_AMD64.digest, S390X.digest}


def names(platforms: Sequence[str], version: str) -> list[str]:
    """Name the images of a version by their digests."""
    return [make_image(platform, seed=version).digest for platform in platforms]


def test_two_items_into_the_same_tags_lose_nothing(registry_server: RegistryServer) -> None:
    push, barrier = Push(registry_server), threading.Barrier(2)
    for version, platform in (("one", "linux/arm64"), ("two", "linux/ppc64le")):
        push.put(f"src:{version}", make_index([make_image(platform, seed=version)]))
    items = [
        push.item("app:1", "app:2", source="src:one"),
        push.item("app:2", "app:1", source="src:two"),
    ]
    push.step.look(items)

    def run(pushed: PushItem) -> None:
        barrier.wait(timeout=10)
        push.push(pushed)

    with ThreadPoolExecutor(2) as pool:
        for done in [pool.submit(run, each) for each in items]:
            done.result(timeout=30)

    expected = {OLD_AMD64.digest, S390X.digest}
    expected |= {*names(["linux/arm64"], "one"), *names(["linux/ppc64le"], "two")}
    assert push.digests("app:1") == push.digests("app:2") == expected


def test_the_plugin_s_own_step_comes_last() -> None:
    assert pm.hook.mlmerge_merge.get_hookimpls()[0].plugin is plugin


class Late:
    """Does something once the step has left a tag to the host."""

    def __init__(self, act: Callable[[], None]) -> None:
        self.acts = [act]

    @hookimpl(hookwrapper=True)
    def mlmerge_merge(self, request: MergeRequest) -> Iterator[None]:
        yield
        while self.acts:
            self.acts.pop()()


def test_a_tag_that_moved_before_the_plain_copy_is_judged_again(
    registry_server: RegistryServer,
) -> None:
    push = Push(registry_server)
    push.put("app:3", make_index([OLD_AMD64]))

    with registered(Late(lambda: push.put("app:3", OLD))):
        push.run("app:3")

    assert push.digests("app:3") == MERGED
    assert push.copies == []


# The look at the whole push


OCI = make_index([make_image("linux/s390x", seed="oci")])
DOCKER = make_index([make_image("linux/amd64", docker=True)], docker=True)


def test_what_must_not_be_merged_refuses_all_items_before_the_first_write(
    registry_server: RegistryServer, caplog: Log
) -> None:
    push = Push(registry_server)
    for name in ("8", "9"):
        push.put(f"app:{name}", OCI)
    push.put("src:docker", DOCKER)
    items = [push.item("app:1", "app:3"), push.item("app:8", "app:9", source="src:docker")]
    registry_server.forget_requests()

    with pytest.raises(MixedTypes, match="app:8"):
        push.run_all(*items)

    assert (push.writes(), push.copies) == ([], [])
    assert any(str(push.reference("app:9")) in line for line in caplog.messages)


def test_a_refusal_is_left_to_a_site_that_may_do_it(registry_server: RegistryServer) -> None:
    push = Push(registry_server)
    push.put("app:9", OCI)
    push.put("src:docker", DOCKER)

    with registered(Site(answer=False)):
        push.run_all(push.item("app:9", source="src:docker"))

    assert push.copies == ["all"]


def test_a_tag_of_several_items_is_judged_when_it_is_its_turn(
    registry_server: RegistryServer,
) -> None:
    """The second item would be refused over what the tag holds now."""
    push = Push(registry_server)
    push.put("app:9", DOCKER)
    push.put("src:first", make_index([make_image("linux/amd64", seed="first")]))

    with registered(Late(lambda: push.put("app:9", NEW))):
        push.run_all(push.item("app:9", source="src:first"), push.item("app:9", source="src:first"))

    assert push.digests("app:9") == {ARM64.digest, *names(["linux/amd64"], "first")}


@pytest.mark.parametrize("held", [OLD, ALL], ids=["to be merged", "with nothing to do"])
def test_a_tag_that_moved_since_the_look_is_judged_again(
    registry_server: RegistryServer, held: ImageIndex
) -> None:
    push = Push(registry_server)
    push.put("app:1", held)
    pushed = push.item("app:1")
    push.step.look([pushed])
    theirs = make_image("linux/ppc64le", seed="theirs")
    push.put("app:1", make_index([theirs]))

    push.push(pushed)

    assert push.digests("app:1") == {AMD64.digest, ARM64.digest, theirs.digest}


def test_the_look_costs_no_request(registry_server: RegistryServer) -> None:
    counts = []
    for looks in (False, True):
        push = Push(registry_server)
        push.put("app:new", NEW)  # its images are in the repository
        pushed = push.item("app:1", "app:2", "app:3")
        registry_server.forget_requests()
        if looks:
            push.step.look([pushed])
        push.push(pushed)
        counts.append(len(registry_server.requests))

    assert counts[0] == counts[1]


def test_every_tag_of_the_push_goes_back_to_its_very_bytes(registry_server: RegistryServer) -> None:
    push = Push(registry_server, evolve(PLAIN, exclude_repos=["other"]))
    tags = ["app:1", "app:3", "other:1", "sources:1"]
    for tag in tags:
        push.put(tag, OLD if tag != "app:3" else make_index([OLD_AMD64]))
    build = {"extra": {"image": {"sources_for_nvr": "app-1"}}}
    items = [push.item(*tags[:3]), push.item("sources:1", "sources:new", build=build)]
    before = {tag: RegistryClient().digest(push.reference(tag)) for tag in tags}
    push.step.look(items)
    for each in items:
        push.push(each)
    for tag in tags[1:]:  # as the host copies
        push.put(tag, NEW)

    push.step.restore()

    assert {tag: RegistryClient().digest(push.reference(tag)) for tag in tags} == before
    assert push.step.before[push.reference("sources:new")] is None


@pytest.mark.parametrize("audit", [True, False])
def test_a_push_that_fails_names_what_was_merged_and_how_to_put_it_back(
    registry_server: RegistryServer, audit: bool, tmp_path: Path
) -> None:
    settings = evolve(PLAIN, audit=str(tmp_path) if audit else None)
    push, failing = Push(registry_server, settings), Failing("2")
    failing.failed.set()

    with registered(failing), pytest.raises(PushFailed, match=r"app:2.*no") as caught:
        push.run_all(push.item("app:1"), push.item("app:3"), push.item("app:2"))

    (line,) = caught.value.merged
    tag = push.reference("app:1")
    assert isinstance(caught.value.__cause__, RegistryError)
    assert line.startswith(f"{tag}, which held {OLD.digest}: ")
    command = line.partition(f"{OLD.digest}: ")[2].split()
    if audit:
        assert command[0] == "pubtools-mlmerge-restore"
        assert read_change(command[1]).destination == tag
    else:
        copy = ["skopeo", "copy", "--all"]
        assert command == [*copy, f"docker://{tag.at(OLD.digest)}", f"docker://{tag}"]


def test_threads_end_with_the_push(registry_server: RegistryServer) -> None:
    before = set(threading.enumerate())
    push = Push(registry_server, threads=4)

    push.run_all(push.item("app:1", "app:2", "app:3", "app:4"))

    left = {thread.name for thread in set(threading.enumerate()) - before}
    assert [name for name in left if name.startswith("mlmerge_")] == []


# Each case of the table in docs/push.rst


DOCKER_S390X = make_image("linux/s390x", docker=True, seed="old")
DOCKER_AMD64 = make_image("linux/amd64", docker=True, seed="new")
KINDS: dict[str, Image | ImageIndex | None] = {
    "absent": None,
    "schema 1": None,
    "list": make_index([DOCKER_AMD64], docker=True),
    "list to keep": make_index([DOCKER_S390X], docker=True),
    "list covered": make_index([make_image("linux/amd64", docker=True, seed="old")], docker=True),
    "index": make_index([AMD64]),
    "index to keep": make_index([S390X]),
    "index covered": make_index([OLD_AMD64]),
    "image": DOCKER_AMD64,
    "other image": DOCKER_S390X,
    "same image": make_image("linux/amd64", docker=True, seed="old"),
    "oci image": AMD64,
    "other oci image": S390X,
}
CASES = [
    ("list", "absent", "copied"),
    ("list", "list to keep", "merged"),
    ("list", "list covered", "copied"),
    ("list", "index covered", "copied"),
    ("list", "index to keep", "refused"),
    ("list", "other image", "merged"),
    ("list", "same image", "copied"),
    ("list", "schema 1", "refused"),
    ("index", "absent", "copied"),
    ("index", "index to keep", "merged"),
    ("index", "index covered", "copied"),
    ("index", "list covered", "copied"),
    ("index", "list to keep", "refused"),
    ("index", "other oci image", "merged"),
    ("index", "same image", "copied"),
    ("index", "schema 1", "refused"),
    ("image", "absent", "copied"),
    ("image", "list to keep", "merged"),
    ("image", "list covered", "copied"),
    ("oci image", "index to keep", "merged"),
    ("image", "same image", "copied"),
    ("image", "other image", "merged"),
    ("image", "schema 1", "refused"),
    ("schema 1", "absent", "copied"),
    ("schema 1", "list covered", "refused"),
    ("schema 1", "index covered", "refused"),
    ("schema 1", "same image", "refused"),
    ("schema 1", "schema 1", "copied"),
]
ROWS = {"list": "Docker list", "index": "OCI index", "image": "single image"}
COLUMNS = ["absent", "list", "image", "schema 1"]
OLD_SCHEMA = b'{"schemaVersion": 1, "name": "app", "tag": "1", "architecture": "amd64"}'


def cell(source: str, tag: str) -> str:
    """Read a cell of the table of cases in the docs."""
    _, _, page = (DOCS / "push.rst").read_text(encoding="utf-8").partition("Tag is schema 1")
    rows = [[cell.strip() for cell in row.split("     - ")] for row in page.split("   * - ")[1:]]
    kind = source.removeprefix("oci ")
    (row,) = [row for row in rows if row[0] == ROWS.get(kind, kind)]
    name = next(c for c in COLUMNS if c in tag.replace("index", "list"))
    return " ".join(row[1 + COLUMNS.index(name)].split("\n\n")[0].split())


@pytest.mark.parametrize(("source", "tag", "outcome"), CASES)
def test_each_case_of_the_page_ends_as_it_says(
    registry_server: RegistryServer, source: str, tag: str, outcome: str
) -> None:
    push = Push(registry_server)
    for kind, name in ((source, "src:case"), (tag, "app:case")):
        held = KINDS[kind]
        repository, _, tag_name = name.partition(":")
        if kind == "schema 1":
            place = f"ns/{repository}"
            digest = registry_server.put_manifest(place, tag_name, OLD_SCHEMA, SCHEMA_1)
            # It is signed anew for each answer, and its digest is that of what is signed.
            signed = evolve(registry_server.manifest(place, tag_name), content=OLD_SCHEMA + b" ")
            registry_server._storage.repositories[place].manifests[digest] = signed
        elif held is not None:
            push.put(name, held)
    registry_server.forget_requests()

    with pytest.raises(MergeError) if outcome == "refused" else nullcontext():
        push.run_all(push.item("app:case", source="src:case"))

    assert bool(push.copies) == (outcome == "copied")
    assert bool(push.writes()) == (outcome == "merged")
    assert outcome in cell(source, tag)


@pytest.mark.parametrize(("choice", "error"), [("fail", NotAnIndex), ("replace", ShrinkError)])
def test_a_single_image_is_refused_where_that_is_wished_or_takes_away(
    registry_server: RegistryServer, choice: Literal["fail", "replace"], error: type[MergeError]
) -> None:
    policy = evolve(PLAIN.policy, single_image=choice)
    push = Push(registry_server, evolve(PLAIN, policy=policy))
    push.put("src:image", AMD64)

    with pytest.raises(error):
        push.run("app:1", source="src:image")

    assert push.digests("app:1") == {OLD_AMD64.digest, S390X.digest}
    assert push.copies == []


@pytest.mark.parametrize("given", [{"sign": False}, {"keep": "s390x"}, {"stale": "keep"}, "x"])
def test_wrong_overrides_are_refused_before_anything_is_done(
    registry_server: RegistryServer, given: object
) -> None:
    push = Push(registry_server)

    with pytest.raises(InvalidSettings, match=r"push_items\[0\]\.mlmerge"):
        push.begin(push.item("app:1", mlmerge=given))


def test_a_tag_that_was_not_judged_fails_the_task(registry_server: RegistryServer) -> None:
    push = Push(registry_server)

    push.step.look([push.item("app:1")])

    with pytest.raises(StepNotDone, match=r"/ns/app:1"):
        push.step.check_done([])


@pytest.mark.parametrize("sign", [True, False])
def test_a_merged_tag_that_no_signer_got_fails_the_task(
    registry_server: RegistryServer, sign: bool
) -> None:
    push = Push(registry_server, evolve(PLAIN, sign=sign))
    push.run("app:1")

    with pytest.raises(StepNotDone, match=r"signer cosign.*app:1") if sign else nullcontext():
        push.step.check_done(["cosign"])
    push.step.to_sign()
    push.step.check_done(["cosign"])


def test_an_anchor_tag_that_cannot_be_set_fails_the_task_once_all_is_merged_and_signed() -> None:
    with RegistryServer() as server:
        Push(server).run("app:1")
        merged = server.manifest("ns/app", "1")
    anchor = f"1-{merged.digest[7:19]}"
    with RegistryServer(immutable_tags=[anchor]) as server:
        server.put_manifest("ns/app", anchor, merged.content, merged.media_type)
        settings = Settings.from_task({"mlmerge": {"anchor_tag": "{tag}-{digest}"}}, {})
        push = Push(server, settings)

        push.run("app:1", "app:2")

        assert push.digests("app:1") == push.digests("app:2") == MERGED
        with pytest.raises(StepNotDone, match="signer cosign"):
            push.step.check_done(["cosign"])
        push.step.to_sign()
        with pytest.raises(ImmutableTag, match=f"ns/app:{anchor}: the tag is immutable"):
            push.step.check_done(["cosign"])


class History(TagHistory):
    """Stands for Quay's API."""

    def __init__(self) -> None:
        self.expiring: list[tuple[str, int]] = []

    def lost(self, tag: Reference, written: str, seen: str | None) -> tuple[Reference, ...]:
        return ()

    def forget(self, reference: Reference) -> None: ...

    def expiration(self, tag: Reference) -> None: ...

    def expire(self, reference: Reference, days: int) -> None:
        self.expiring.append((reference.tag, days))


def test_anchor_tags_expire_where_that_is_wished(registry_server: RegistryServer) -> None:
    settings = Settings.from_task({"mlmerge": {"anchor_tag": "{tag}-kept", "anchor_days": 30}}, {})
    history = History()

    Push(registry_server, settings, history=history).run("app:1")

    assert history.expiring == [("1-kept", 30)]
