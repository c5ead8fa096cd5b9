"""The push step, on the embedded registry."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from datetime import datetime, timedelta, timezone
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Literal

import pytest
from attrs import define, evolve, field
from pubtools.pluggy import hookimpl, pm

from pubtools_mlmerge import plugin
from pubtools_mlmerge.core.references import Reference
from pubtools_mlmerge.errors import (
    AnchorTaken,
    ConflictError,
    InvalidSettings,
    LockLost,
    MergeError,
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
UNTOUCHED = {OLD_AMD64.digest, S390X.digest}
PLAIN = Settings(anchor_tag=None)


def settings_of(**mlmerge: object) -> Settings:
    return Settings.from_task({"mlmerge": {"anchor_tag": None, **mlmerge}}, {})


@define
class Push:
    """A push, with all that stands around the step."""

    server: RegistryServer
    copies: list[object] = field(factory=list)
    step: PushStep = field(init=False)

    def __attrs_post_init__(self) -> None:
        """Put the sources and tags in place."""
        self.put("src:new", NEW)
        self.put("app:1", OLD)
        self.put("app:2", OLD)
        self.begin()
        self.server.forget_requests()

    def begin(
        self,
        *items: PushItem,
        settings: Settings = PLAIN,
        threads: int = 1,
        history: TagHistory | None = None,
    ) -> None:
        client = RegistryClient(options=HURRIED)
        sides = Sides(client, client, self.copy, history, threads)
        self.step = begin(sides, self.server.host, settings, items=items)

    def copy(self, source: Reference, destinations: Sequence[Reference]) -> None:
        self.copies.append([str(each).partition("/ns/")[2] for each in destinations])

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


@pytest.fixture
def push(registry_server: RegistryServer) -> Push:
    return Push(registry_server)


def test_every_tag_keeps_what_the_source_lacks_and_what_it_brings_is_brought_once(
    push: Push,
) -> None:
    push.run("app:1", "app:2", "app:1")

    lines = [f"{r.method} {r.path}" for r in push.server.requests]
    assert lines.count("GET /v2/ns/src/manifests/new") == 1
    assert lines.count("PUT /v2/ns/app/manifests/1") == 1
    assert len([line for line in lines if line.startswith("PUT /v2/ns/app/manifests/sha256")]) == 2
    assert push.digests("app:1") == push.digests("app:2") == MERGED
    assert push.copies == []


@pytest.mark.parametrize("mode", ["ignore", "copy"])
def test_what_refers_to_an_image_comes_along_where_the_setting_says_so(
    push: Push, mode: str
) -> None:
    push.begin(settings=settings_of(referrers=mode))
    signature = f"{AMD64.digest.replace(':', '-')}.sig"
    push.put(f"src:{signature}", make_image(seed="signature"))

    push.run("app:1")

    assert (signature in push.server.tags("ns/app")) is (mode == "copy")


TOO_OLD = {"max_age_days": 365, "stale": "drop"}


@pytest.mark.parametrize(
    ("mlmerge", "names", "copies", "reason"),
    [
        ({}, "app:3 app:1 app:4", ["app:3", "app:4"], "it does not exist yet"),
        ({}, "app:3 app:4", "all", "it does not exist yet"),
        ({}, "app:covered", "all", "the source covers all of it"),
        ({}, "app:image", "all", "the source covers all of it"),
        ({}, "app:same", "all", "the source covers all of it"),
        ({"exclude_repos": ["a*"]}, "app:1", "all", "its repository is excluded"),
        ({"drop": ["s390x"]}, "app:1", "all", "dropped by name"),
        ({"keep": ["arm64"]}, "app:1", "all", "not among the platforms to keep"),
        (TOO_OLD, "app:aged", "all", "older than 365 days"),
    ],
)
def test_where_nothing_is_kept_the_host_copies(  # noqa: PLR0917
    push: Push, caplog: Log, mlmerge: dict[str, object], names: str, copies: object, reason: str
) -> None:
    caplog.set_level("DEBUG", "pubtools.mlmerge")
    push.begin(settings=settings_of(**mlmerge))
    created = (datetime.now(timezone.utc) - timedelta(days=400, hours=1)).isoformat()
    push.put("app:aged", make_index([make_image("linux/s390x", created=created)]))
    push.put("app:covered", make_index([OLD_AMD64]))
    push.put("app:image", OLD_AMD64)
    push.put("app:same", NEW)

    push.run(*names.split())

    assert push.copies == [copies]
    said = f"{push.reference(names.split(maxsplit=1)[0])} is copied plainly: {reason}"
    assert [r.levelname for r in caplog.records if r.getMessage() == said] == ["DEBUG"]


def test_report_only_copies_all_and_tells_of_the_tags_in_their_order(
    push: Push, caplog: Log
) -> None:
    caplog.set_level("INFO", "pubtools.mlmerge")
    settings = settings_of(report_only=True, exclude_repos=["other"], drop=["s390x"])
    push.begin(settings=settings, threads=3)

    push.run("app:1", source="src:absent")
    push.run_all(push.item(*(f"app:{number}" for number in range(6)), "other:1"))

    assert push.copies == ["all", "all"]
    assert push.writes() == []
    told = [line for line in caplog.messages if line.startswith("Would merge")]
    assert all(f"{push.reference(f'app:{n}')} " in line for n, line in enumerate(told))
    assert len(told) == 6
    assert "linux/s390x" in told[1]
    assert "dropped by name" in told[1]
    assert "Would fail, if not report_only" in caplog.text


def test_a_failure_is_the_push_s_failure(push: Push) -> None:
    with pytest.raises(RegistryError):
        push.run("app:1", source="src:absent")

    assert push.digests("app:1") == UNTOUCHED
    assert push.copies == []


def test_a_tag_that_is_copied_over_holds_the_copy(push: Push) -> None:
    push.put("src:all", ALL)

    push.run("app:1")
    push.run("app:1", source="src:all")

    (held,) = push.step.held.values()
    assert len(push.step.merged) == 1
    assert held.digest == ALL.digest


def test_the_source_is_claimed_for_a_tag_once_the_tag_holds_it(push: Push) -> None:
    claim = SimpleNamespace(pub_reference="registry.example.com/app:1", digest=NEW.digest)

    push.run("app:1")
    assert push.step.true_claims([claim]) == []

    push.put("app:1", make_index([OLD_AMD64]))
    push.run("app:1")
    assert push.step.true_claims([claim]) == [claim]


def test_a_tag_that_needs_nothing_is_held_and_not_counted(push: Push, caplog: Log) -> None:
    caplog.set_level("INFO", "pubtools.mlmerge")
    push.put("app:1", ALL)
    push.server.forget_requests()

    push.run_all(push.item("app:1"))

    assert (push.step.merged, push.copies, push.writes(), caplog.messages) == ([], [], [], [])
    assert len(push.step.held) == 1


class Site:
    """A site with a step of its own."""

    def __init__(self, act: Callable[[MergeRequest], object]) -> None:
        self.act = act

    @hookimpl
    def mlmerge_merge(self, request: MergeRequest) -> object:
        return self.act(request)


class Meeting:
    """Lets nobody pass until some have come, and notes how many there are at a time."""

    def __init__(self, number: int) -> None:
        self.barrier = threading.Barrier(number, timeout=10)
        self.present = self.most = 0
        self.threads: set[int] = set()
        self.lock = threading.Lock()

    def meet(self, _: MergeRequest) -> Literal[False]:
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
    push: Push, tags: int, most: int, at_a_time: int
) -> None:
    meeting = Meeting(at_a_time)
    push.begin(threads=most)

    with registered(Site(meeting.meet)):
        push.run(*(f"app:{number}" for number in range(tags)))

    assert meeting.most == at_a_time
    assert push.copies == ["all"]


def test_items_share_their_threads(push: Push) -> None:
    meeting = Meeting(2)
    push.begin(threads=2)

    with registered(Site(meeting.meet)), ThreadPoolExecutor(3) as items:
        for n in range(3):
            items.submit(push.run, f"app:{n}", f"app:{n + 3}")

    assert (meeting.most, len(meeting.threads)) == (2, 2)
    assert push.copies == ["all"] * 3


def test_tags_that_are_copied_plainly_keep_their_order(push: Push) -> None:
    push.begin(threads=4)

    push.run(*(f"app:{number}" for number in range(8)))

    assert push.digests("app:1") == push.digests("app:2") == MERGED
    assert push.copies == [[f"app:{number}" for number in (0, 3, 4, 5, 6, 7)]]


def failing(name: str, *, others_wait: bool = True) -> Site:
    """Fail for one tag; until then, the others may have to wait."""
    failed = threading.Event()
    if not others_wait:
        failed.set()

    def act(request: MergeRequest) -> None:
        if request.destination.tag == name:
            failed.set()
            raise RegistryError(str(request.destination), 500, "no")
        assert failed.wait(timeout=10)

    return Site(act)


def test_tags_that_were_begun_when_another_one_failed_are_merged_and_can_be_taken_back(
    push: Push,
) -> None:
    tags = [f"app:{number}" for number in range(1, 9)]
    push.begin(threads=2)
    for tag in tags:
        push.put(tag, OLD)

    with registered(failing("2")), pytest.raises(RegistryError, match=r"app:2.*no"):
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


def test_tags_that_are_judged_are_locked_in_one_order(push: Push) -> None:
    order = Order()
    push.begin(settings=evolve(PLAIN, exclude_repos=["other"], anchor_tag=AnchorTag("2-kept")))

    with registered(order):
        push.run("app:2", "other:9", "app:1", "app:3")

    assert order.locked == ["1", "2", "2-kept", "3"]
    assert push.copies == [["app:3", "other:9"]]


@pytest.mark.parametrize(
    ("name", "is_looked_at"), [("app:1", True), ("app:1", False), ("app:3", False)]
)
def test_nothing_is_merged_or_copied_plainly_without_the_lock(
    push: Push, name: str, is_looked_at: bool
) -> None:
    pushed = push.item(name)
    if is_looked_at:
        push.step.look([pushed])

    with registered(Expired()), pytest.raises(LockLost):
        push.push(pushed)

    assert push.copies == []
    assert push.server.tags("ns/app") == ("1", "2")
    assert push.digests("app:1") == UNTOUCHED


def test_two_items_into_the_same_tags_lose_nothing(push: Push) -> None:
    barrier = threading.Barrier(2)
    push.begin(settings=evolve(PLAIN, tries=1))  # what the other item wrote is no conflict
    new = [make_image(platform, seed="two") for platform in ("linux/arm64", "linux/ppc64le")]
    for name, image in zip(("one", "two"), new):
        push.put(f"src:{name}", make_index([image]))
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

    expected = UNTOUCHED | {image.digest for image in new}
    assert push.digests("app:1") == push.digests("app:2") == expected


def test_the_plugin_s_own_step_comes_last() -> None:
    assert pm.hook.mlmerge_merge.get_hookimpls()[0].plugin is plugin


class Late:
    """Puts something into a tag each time that the step has left a tag to the host."""

    def __init__(self, push: Push, name: str, *held: ImageIndex) -> None:
        self.acts = [partial(push.put, name, each) for each in held]

    @hookimpl(hookwrapper=True)
    def mlmerge_merge(self, request: MergeRequest) -> Iterator[None]:
        yield
        if self.acts:
            self.acts.pop()()


def test_a_tag_that_moved_before_the_plain_copy_is_judged_again(push: Push) -> None:
    push.put("app:3", make_index([OLD_AMD64]))

    with registered(Late(push, "app:3", OLD)):
        push.run("app:3")

    assert push.digests("app:3") == MERGED
    assert push.copies == []


def test_a_tag_that_moves_before_each_plain_copy_is_left_alone(push: Push) -> None:
    push.begin(settings=evolve(PLAIN, tries=2))
    held = [make_index([make_image("linux/amd64", seed=seed)]) for seed in ("one", "two", "three")]
    push.put("app:3", held[0])

    with registered(Late(push, "app:3", *held[1:])), pytest.raises(ConflictError, match="app:3"):
        push.run("app:3")

    assert push.copies == []


# The look at the whole push


OCI = make_index([make_image("linux/s390x", seed="oci")])
DOCKER = make_index([make_image("linux/amd64", docker=True)], docker=True)


def test_a_refusal_is_left_to_a_site_that_may_do_it(push: Push) -> None:
    push.put("app:9", OCI)
    push.put("src:docker", DOCKER)

    with registered(Site(lambda _: False)):
        push.run_all(push.item("app:9", source="src:docker"))

    assert push.copies == ["all"]


def test_a_tag_of_several_items_is_judged_when_it_is_its_turn(push: Push) -> None:
    """The second item would be refused over what the tag holds now."""
    push.put("app:9", DOCKER)
    first = make_image("linux/amd64", seed="first")
    push.put("src:first", make_index([first]))

    with registered(Late(push, "app:9", NEW)):
        push.run_all(push.item("app:9", source="src:first"), push.item("app:9", source="src:first"))

    assert push.digests("app:9") == {ARM64.digest, first.digest}


@pytest.mark.parametrize("held", [OLD, ALL], ids=["to be merged", "with nothing to do"])
def test_a_tag_that_moved_since_the_look_is_judged_again(push: Push, held: ImageIndex) -> None:
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


def test_a_push_that_fails_names_what_was_merged_and_the_record_that_puts_it_back(
    push: Push, tmp_path: Path
) -> None:
    push.begin(settings=settings_of(audit=str(tmp_path), single_image="index"))
    push.put("src:image", AMD64)
    items = [push.item("app:1"), push.item("app:new", source="src:image"), push.item("app:2")]
    site = failing("2", others_wait=False)

    with registered(site), pytest.raises(PushFailed, match=r"app:2.*no") as caught:
        push.run_all(*items)

    line, of_new = caught.value.merged
    tag = push.reference("app:1")
    assert isinstance(caught.value.__cause__, RegistryError)
    words, _, record = line.rpartition(" ")
    assert words == f"{tag}, which held {OLD.digest}: pubtools-mlmerge-restore"
    assert read_change(record).destination == tag
    assert of_new == f"{push.reference('app:new')}, which did not exist: delete it"


# Each case of the table in docs/push.rst


DOCKER_S390X = make_image("linux/s390x", docker=True, seed="old")
DOCKER_AMD64 = make_image("linux/amd64", docker=True, seed="new")
OLD_DOCKER_AMD64 = make_image("linux/amd64", docker=True, seed="old")
KINDS: dict[str, Image | ImageIndex | None] = {
    "absent": None,
    "schema 1": None,
    "list": make_index([DOCKER_AMD64], docker=True),
    "list to keep": make_index([DOCKER_S390X], docker=True),
    "list covered": make_index([OLD_DOCKER_AMD64], docker=True),
    "index": make_index([AMD64]),
    "index to keep": make_index([S390X]),
    "index covered": make_index([OLD_AMD64]),
    "image": DOCKER_AMD64,
    "other image": DOCKER_S390X,
    "same image": OLD_DOCKER_AMD64,
    "oci image": AMD64,
    "other oci image": S390X,
}
OUTCOMES = {  # by source and outcome: what the tag holds
    "list": {
        "copied": ["absent", "list covered", "index covered", "same image"],
        "merged": ["list to keep", "other image"],
        "refused": ["index to keep", "schema 1"],
    },
    "index": {
        "copied": ["absent", "index covered", "list covered", "same image"],
        "merged": ["index to keep", "other oci image"],
        "refused": ["list to keep", "schema 1"],
    },
    "image": {
        "copied": ["absent", "list covered", "same image"],
        "merged": ["list to keep", "other image"],
        "refused": ["schema 1"],
    },
    "oci image": {"merged": ["index to keep"]},
    "schema 1": {
        "copied": ["absent", "schema 1"],
        "refused": ["list covered", "index covered", "same image"],
    },
}
CASES = [
    (source, tag, outcome)
    for source, outcomes in OUTCOMES.items()
    for outcome, tags in outcomes.items()
    for tag in tags
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
    push: Push, source: str, tag: str, outcome: str
) -> None:
    server = push.server
    for kind, place in ((source, "ns/src"), (tag, "ns/app")):
        held = KINDS[kind]
        if kind == "schema 1":
            digest = server.put_manifest(place, "case", OLD_SCHEMA, SCHEMA_1)
            # It is signed anew for each answer, and its digest is that of what is signed.
            signed = evolve(server.manifest(place, "case"), content=OLD_SCHEMA + b" ")
            server._storage.repositories[place].manifests[digest] = signed
        elif held is not None:
            put(server, "case", held, place)
    server.forget_requests()

    with pytest.raises(MergeError) if outcome == "refused" else nullcontext():
        push.run_all(push.item("app:case", source="src:case"))

    assert bool(push.copies) == (outcome == "copied")
    assert bool(push.writes()) == (outcome == "merged")
    assert outcome in cell(source, tag)


@pytest.mark.parametrize(
    ("choice", "name", "error"),
    [
        ("fail", "app:1", NotAnIndex),
        ("fail", "app:absent", NotAnIndex),
        ("replace", "app:1", ShrinkError),
    ],
)
def test_a_single_image_is_refused_where_that_is_wished_or_takes_away(
    push: Push, choice: str, name: str, error: type[MergeError]
) -> None:
    push.begin(settings=settings_of(single_image=choice))
    push.put("src:image", AMD64)

    with pytest.raises(error):
        push.run(name, source="src:image")

    assert push.digests("app:1") == UNTOUCHED
    assert push.copies == []


@pytest.mark.parametrize("given", [{"sign": False}, {"keep": "s390x"}, {"stale": "keep"}, "x"])
def test_wrong_overrides_are_refused_before_anything_is_done(push: Push, given: object) -> None:
    with pytest.raises(InvalidSettings, match=r"push_items\[0\]\.mlmerge"):
        push.begin(push.item("app:1", mlmerge=given))


def test_an_anchor_tag_that_cannot_be_set_fails_the_task_once_all_is_merged_and_signed(
    push: Push,
) -> None:
    push.run("app:1")
    anchor = f"1-{push.server.manifest('ns/app', '1').digest[7:19]}"
    push.put("app:1", OLD)
    push.put(f"app:{anchor}", NEW)
    push.begin(settings=settings_of(anchor_tag="{tag}-{digest}"))

    push.run("app:1", "app:2")

    assert push.digests("app:1") == push.digests("app:2") == MERGED
    with pytest.raises(StepNotDone, match="signer cosign"):
        push.step.check_done(["cosign"])
    push.step.to_sign()
    with pytest.raises(AnchorTaken, match=f"ns/app:{anchor}: the anchor tag exists"):
        push.step.check_done(["cosign"])
