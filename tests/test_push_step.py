"""The push step, on the embedded registry."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from types import SimpleNamespace
from typing import Literal

import pytest
from attrs import define, evolve, field
from pubtools.pluggy import hookimpl, pm

from pubtools_mlmerge import plugin
from pubtools_mlmerge.core.plan import Report
from pubtools_mlmerge.core.references import Reference
from pubtools_mlmerge.errors import (
    InvalidSettings,
    MergeError,
    NotAnIndex,
    RegistryError,
    ShrinkError,
    StepNotDone,
)
from pubtools_mlmerge.host.clients import Sides
from pubtools_mlmerge.host.push_step import PushStep, Tag
from pubtools_mlmerge.host.requests import MergeRequest
from pubtools_mlmerge.registry.client import RegistryClient
from pubtools_mlmerge.settings import Settings
from pubtools_mlmerge.testing import Image, RegistryServer, make_image, make_index
from tests.programs import put
from tests.scripted import HURRIED

AMD64, ARM64 = make_image("linux/amd64", seed="new"), make_image("linux/arm64", seed="new")
S390X, OLD_AMD64 = make_image("linux/s390x", seed="old"), make_image("linux/amd64", seed="old")
NEW, OLD = make_index([AMD64, ARM64]), make_index([OLD_AMD64, S390X])
MERGED = {AMD64.digest, ARM64.digest, S390X.digest}


@define
class Push:
    """A push, with all that stands around the step."""

    server: RegistryServer
    step: PushStep
    sides: Sides
    copies: list[object] = field(factory=list)

    def run(self, *names: str, source: str = "src:new") -> None:
        """Push the source to tags, such as app:1."""
        tags = [Tag(name.partition(":")[0], self.reference(name), "key") for name in names]
        self.step.push(
            self.sides, str(self.reference(source)), tags, lambda: self.copies.append("all")
        )

    def reference(self, name: str) -> Reference:
        return Reference.parse(f"{self.server.host}/{name}")

    def digests(self, name: str) -> set[str]:
        """List what a tag lists."""
        found = RegistryClient(options=HURRIED).pull_index(self.reference(name))
        return {entry.digest for entry in found.manifests}

    def copy(self, source: str, destinations: list[str]) -> None:
        self.copies.append([each.partition("/")[2] for each in destinations])


def begin(server: RegistryServer, settings: Settings) -> Push:
    """Begin a push, its sources and tags in place."""
    for repository, name, index in (("src", "new", NEW), ("app", "1", OLD), ("app", "2", OLD)):
        put(server, name, index, repository)
    client = RegistryClient(options=HURRIED)
    copies: list[object] = []
    push = Push(server, PushStep(settings), Sides(client, client, print), copies)
    push.sides = evolve(push.sides, copy=push.copy)
    return push


PLAIN = Settings(anchor_tag=None)


@contextmanager
def registered(site: object) -> Iterator[None]:
    pm.register(site)
    try:
        yield
    finally:
        pm.unregister(site)


def test_every_tag_keeps_what_the_source_lacks(registry_server: RegistryServer) -> None:
    push = begin(registry_server, PLAIN)

    push.run("app:1", "app:2")

    assert push.digests("app:1") == push.digests("app:2") == MERGED
    assert push.copies == []


def test_the_source_is_read_once_and_its_children_are_brought_once(
    registry_server: RegistryServer,
) -> None:
    push = begin(registry_server, PLAIN)
    registry_server.forget_requests()

    push.run("app:1", "app:2")

    lines = [f"{r.method} {r.path}" for r in registry_server.requests]
    assert lines.count("GET /v2/src/manifests/new") == 1
    assert lines.count(f"PUT /v2/app/manifests/{AMD64.digest}".replace(":", "%3A")) <= 1
    assert len([line for line in lines if line.startswith("PUT /v2/app/manifests/sha256")]) == 2


def test_tags_that_are_new_are_copied_and_the_others_merged(
    registry_server: RegistryServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG", "pubtools.mlmerge")
    push = begin(registry_server, PLAIN)

    push.run("app:3", "app:1", "app:4")

    assert push.digests("app:1") == MERGED
    assert push.copies == [["app:3", "app:4"]]
    assert f"{push.reference('app:3')} is copied plainly: it does not exist yet" in caplog.messages


def test_the_host_copies_all_where_nothing_is_merged(registry_server: RegistryServer) -> None:
    push = begin(registry_server, PLAIN)

    push.run("app:3", "app:4")

    assert push.copies == ["all"]
    assert push.step.merged == ()


def test_excluded_repositories_are_copied(
    registry_server: RegistryServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG", "pubtools.mlmerge")
    push = begin(registry_server, evolve(PLAIN, exclude_repos=["a*"]))

    push.run("app:1")

    assert push.copies == ["all"]
    assert caplog.messages == [
        f"{push.reference('app:1')} is copied plainly: its repository is excluded"
    ]


def test_what_is_dropped_by_name_is_no_reason_to_merge(
    registry_server: RegistryServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG", "pubtools.mlmerge")
    policy = Settings.from_task({"mlmerge": {"drop": ["s390x"]}}, {}).policy
    push = begin(registry_server, evolve(PLAIN, policy=policy))

    push.run("app:1")

    assert push.copies == ["all"]
    assert f"{push.reference('app:1')} is copied plainly: dropped by name" in caplog.messages


def test_report_only_copies_all_and_writes_nothing(
    registry_server: RegistryServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "pubtools.mlmerge")
    push = begin(registry_server, evolve(PLAIN, report_only=True, exclude_repos=["other"]))
    registry_server.forget_requests()

    push.run("app:1", "other:1")

    assert push.copies == ["all"]
    assert {r.method for r in registry_server.requests} <= {"GET", "HEAD"}
    told = [line for line in caplog.messages if line.startswith("Would merge")]
    assert len(told) == 1
    assert "linux/s390x" in told[0]


def test_report_only_gets_over_what_would_fail(
    registry_server: RegistryServer, caplog: pytest.LogCaptureFixture
) -> None:
    push = begin(registry_server, evolve(PLAIN, report_only=True))

    push.run("app:1", source="src:absent")

    assert push.copies == ["all"]
    assert "Would fail, were it not to report only" in caplog.text


def test_report_only_tells_of_many_tags_in_their_order(
    registry_server: RegistryServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "pubtools.mlmerge")
    push = begin(registry_server, evolve(PLAIN, report_only=True))
    push.sides = evolve(push.sides, threads=3)

    push.run(*(f"app:{number}" for number in range(6)))

    told = [line for line in caplog.messages if line.startswith("Would merge")]
    assert all(f"{push.reference(f'app:{n}')} " in line for n, line in enumerate(told))
    assert len(told) == 6


def test_a_failure_is_the_push_s_failure(registry_server: RegistryServer) -> None:
    push = begin(registry_server, PLAIN)

    with pytest.raises(RegistryError):
        push.run("app:1", source="src:absent")

    assert push.digests("app:1") == {OLD_AMD64.digest, S390X.digest}
    assert push.copies == []


def test_what_was_merged_is_kept_for_signing_and_rollback(registry_server: RegistryServer) -> None:
    push = begin(registry_server, PLAIN)

    push.run("app:1")

    (report,), (held,) = push.step.merged, push.step.held
    (previous,) = push.step.before.values()
    assert previous is not None
    assert previous.content == OLD.content
    assert held.listed == MERGED
    assert held.digest == report.digest == registry_server.manifest("app", "1").digest


def test_a_tag_remembers_what_it_held_before_all_items(registry_server: RegistryServer) -> None:
    put(registry_server, "all", make_index([AMD64, ARM64, S390X]), "src")
    put(registry_server, "one", make_index([make_image("linux/arm64", seed="one")]), "src")
    push = begin(registry_server, PLAIN)

    push.run("app:1", source="src:all")
    put(registry_server, "1", make_index([AMD64, ARM64, S390X]), "app")
    push.run("app:1", source="src:one")

    (previous,) = push.step.before.values()
    assert previous is not None
    assert previous.digest == OLD.digest


def test_a_tag_that_is_copied_over_holds_the_copy(registry_server: RegistryServer) -> None:
    put(registry_server, "all", make_index([AMD64, ARM64, S390X]), "src")
    push = begin(registry_server, PLAIN)

    push.run("app:1")
    push.run("app:1", source="src:all")

    (held,) = push.step.held
    assert len(push.step.merged) == 1
    assert held.digest == registry_server.manifest("src", "all").digest


def test_a_tag_that_needs_nothing_is_held_and_not_counted(registry_server: RegistryServer) -> None:
    push = begin(registry_server, PLAIN)
    put(registry_server, "1", make_index([AMD64, ARM64, S390X]), "app")

    push.run("app:1")

    assert [report.changed for report in push.step.merged] == [False]
    assert len(push.step.held) == 1
    assert push.copies == []


class Site:
    """A site with a step of its own."""

    def __init__(self, answer: object) -> None:
        self.answer = answer
        self.requests: list[MergeRequest] = []

    @hookimpl
    def mlmerge_merge(self, request: MergeRequest) -> object:
        self.requests.append(request)
        return self.answer


def test_a_site_leaves_a_tag_to_the_host(registry_server: RegistryServer) -> None:
    push, site = begin(registry_server, PLAIN), Site(answer=False)

    with registered(site):
        push.run("app:1")

    assert push.copies == ["all"]
    assert [request.repository for request in site.requests] == ["app"]


def test_a_site_passes_a_tag_on_to_us(registry_server: RegistryServer) -> None:
    push, site = begin(registry_server, PLAIN), Site(answer=None)

    with registered(site):
        push.run("app:1")

    assert push.digests("app:1") == MERGED


def test_a_site_that_merges_itself_is_taken_at_its_word(registry_server: RegistryServer) -> None:
    push = begin(registry_server, PLAIN)
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

    (held,) = push.step.held
    assert push.step.merged == (report,)
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
    push, meeting = begin(registry_server, PLAIN), Meeting(at_a_time)
    push.sides = evolve(push.sides, threads=most)

    with registered(meeting):
        push.run(*(f"app:{number}" for number in range(tags)))

    assert meeting.most == at_a_time
    assert push.copies == ["all"]


def test_items_share_their_threads(registry_server: RegistryServer) -> None:
    push, meeting = begin(registry_server, PLAIN), Meeting(2)
    push.sides = evolve(push.sides, threads=2)

    with registered(meeting), ThreadPoolExecutor(3) as items:
        for n in range(3):
            items.submit(push.run, f"app:{n}", f"app:{n + 3}")

    assert meeting.most == 2
    assert len(meeting.threads) == 2
    assert push.copies == ["all"] * 3


def test_tags_that_are_copied_plainly_keep_their_order(registry_server: RegistryServer) -> None:
    push = begin(registry_server, PLAIN)
    push.sides = evolve(push.sides, threads=4)

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
    push = begin(registry_server, PLAIN)
    for tag in tags:
        put(registry_server, tag.partition(":")[2], OLD, "app")
    push.sides = evolve(push.sides, threads=2)

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


def test_tags_are_locked_in_one_order(registry_server: RegistryServer) -> None:
    push, order = begin(registry_server, PLAIN), Order()

    with registered(order):
        push.run("app:2", "app:1", "app:3")

    assert order.locked == ["1", "2", "3"]


def names(platforms: Sequence[str], version: str) -> list[str]:
    """Name the images of a version by their digests."""
    return [make_image(platform, seed=version).digest for platform in platforms]


def test_two_items_into_the_same_tags_lose_nothing(registry_server: RegistryServer) -> None:
    for version, platform in (("one", "linux/arm64"), ("two", "linux/ppc64le")):
        put(registry_server, version, make_index([make_image(platform, seed=version)]), "src")
    push, barrier = begin(registry_server, PLAIN), threading.Barrier(2)

    def run(version: str, *tags: str) -> None:
        barrier.wait(timeout=10)
        push.run(*tags, source=f"src:{version}")

    with ThreadPoolExecutor(2) as pool:
        both = [
            pool.submit(run, "one", "app:1", "app:2"),
            pool.submit(run, "two", "app:2", "app:1"),
        ]
        for done in both:
            done.result(timeout=30)

    expected = {OLD_AMD64.digest, S390X.digest}
    expected |= {*names(["linux/arm64"], "one"), *names(["linux/ppc64le"], "two")}
    assert push.digests("app:1") == push.digests("app:2") == expected


def test_the_plugin_s_own_step_comes_last() -> None:
    implementations = pm.hook.mlmerge_merge.get_hookimpls()

    assert implementations[0].plugin is plugin


def test_a_tag_that_moved_before_the_plain_copy_is_judged_again(
    registry_server: RegistryServer,
) -> None:
    put(registry_server, "1", make_index([OLD_AMD64]), "app")
    push = begin(registry_server, PLAIN)
    put(registry_server, "3", make_index([OLD_AMD64]), "app")

    class Late:
        """Writes the tag once the step has left it to the host."""

        written = False

        @hookimpl(hookwrapper=True)
        def mlmerge_merge(self, request: MergeRequest) -> Iterator[None]:
            yield
            if not self.written:
                self.written = True
                put(registry_server, "3", OLD, "app")

    with registered(Late()):
        push.run("app:3")

    assert push.digests("app:3") == MERGED
    assert push.copies == []


def test_only_tags_that_are_judged_are_locked(registry_server: RegistryServer) -> None:
    push, order = begin(registry_server, evolve(PLAIN, exclude_repos=["other"])), Order()

    with registered(order):
        push.run("other:1", "app:1")

    assert order.locked == ["1"]
    assert push.copies == [["other:1"]]


def test_threads_end_with_the_push(registry_server: RegistryServer) -> None:
    before = set(threading.enumerate())
    push = begin(registry_server, PLAIN)
    push.sides = evolve(push.sides, threads=4)

    with push.step.running():
        push.run("app:1", "app:2", "app:3", "app:4")

    left = {thread.name for thread in set(threading.enumerate()) - before}
    assert [name for name in left if name.startswith("mlmerge_")] == []


ITEMS = [
    (make_image("linux/amd64", seed="new"), {AMD64.digest, S390X.digest}),
    (make_image("linux/arm64", seed="new"), {ARM64.digest, OLD_AMD64.digest, S390X.digest}),
]


@pytest.mark.parametrize(("image", "expected"), ITEMS)
def test_a_single_image_keeps_what_else_the_tag_has(
    registry_server: RegistryServer, image: Image, expected: set[str]
) -> None:
    push = begin(registry_server, PLAIN)
    put(registry_server, "image", image, "src")

    push.run("app:1", source="src:image")

    assert push.digests("app:1") == expected


def test_a_single_image_over_one_of_its_platform_is_copied(registry_server: RegistryServer) -> None:
    push = begin(registry_server, PLAIN)
    put(registry_server, "image", AMD64, "src")
    put(registry_server, "1", OLD_AMD64, "app")

    push.run("app:1", source="src:image")

    assert push.copies == ["all"]


@pytest.mark.parametrize(("choice", "error"), [("fail", NotAnIndex), ("replace", ShrinkError)])
def test_a_single_image_is_refused_where_that_is_wished_or_takes_away(
    registry_server: RegistryServer, choice: Literal["fail", "replace"], error: type[MergeError]
) -> None:
    policy = evolve(PLAIN.policy, single_image=choice)
    push = begin(registry_server, evolve(PLAIN, policy=policy))
    put(registry_server, "image", AMD64, "src")

    with pytest.raises(error):
        push.run("app:1", source="src:image")

    assert push.digests("app:1") == {OLD_AMD64.digest, S390X.digest}
    assert push.copies == []


SCHEMA_1 = b'{"schemaVersion": 1, "name": "app", "tag": "1", "architecture": "amd64"}'
SCHEMA_1_TYPE = "application/vnd.docker.distribution.manifest.v1+json"


@pytest.mark.parametrize(
    ("held", "is_copied"), [("absent", True), ("schema 1", True), ("index", False)]
)
def test_schema_1_is_copied_where_nothing_could_be_kept(
    registry_server: RegistryServer, held: str, is_copied: bool
) -> None:
    push = begin(registry_server, PLAIN)
    for repository, tag in (("src", "v1"), ("app", "schema")):
        registry_server.put_manifest(repository, tag, SCHEMA_1, SCHEMA_1_TYPE)
    tag = {"absent": "app:9", "schema 1": "app:schema", "index": "app:1"}[held]

    with nullcontext() if is_copied else pytest.raises(NotAnIndex):
        push.run(tag, source="src:v1")

    assert push.copies == (["all"] if is_copied else [])


def test_push_items_override_what_concerns_the_merge(registry_server: RegistryServer) -> None:
    push = begin(registry_server, PLAIN)
    settings, problems = PLAIN.for_item({"drop": ["s390x"]}, "push_items[0].mlmerge")
    assert problems == ()

    push.step.push(
        push.sides,
        str(push.reference("src:new")),
        [Tag("app", push.reference("app:1"), None)],
        lambda: push.copies.append("all"),
        settings,
    )

    assert push.copies == ["all"]


@pytest.mark.parametrize("given", [{"sign": False}, {"keep": "s390x"}, {"stale": "keep"}, "x"])
def test_wrong_overrides_are_refused_before_anything_is_done(given: object) -> None:
    item = SimpleNamespace(metadata={"mlmerge": given}, claims_signing_key=None, repos={})

    with pytest.raises(InvalidSettings, match=r"push_items\[0\]\.mlmerge"):
        PushStep(PLAIN, [item])


def test_a_tag_that_was_not_judged_fails_the_task(registry_server: RegistryServer) -> None:
    push = begin(registry_server, PLAIN)
    metadata = {"pull_url": "q/src:1", "tags": {"a/app": ["1"]}}
    item = SimpleNamespace(metadata=metadata, claims_signing_key="key", repos={})

    push.step.expect("quay.io", {"quay_namespace": "ns"}, [item])

    with pytest.raises(StepNotDone, match=r"quay\.io/ns/a----app:1"):
        push.step.check_done([])


@pytest.mark.parametrize("sign", [True, False])
def test_a_merged_tag_that_no_signer_got_fails_the_task(
    registry_server: RegistryServer, sign: bool
) -> None:
    push = begin(registry_server, evolve(PLAIN, sign=sign))
    push.run("app:1")

    with pytest.raises(StepNotDone, match=r"signer cosign.*app:1") if sign else nullcontext():
        push.step.check_done(["cosign"])
    push.step.note_signed("cosign", [held.tag for held in push.step.held])
    push.step.check_done(["cosign"])


class History:
    """Stands for Quay's API."""

    def __init__(self) -> None:
        self.expiring: list[tuple[str, int]] = []

    def lost(self, tag: Reference, written: str, seen: str | None) -> tuple[Reference, ...]:
        return ()

    def forget(self, reference: Reference) -> None: ...

    def warn(self, tag: Reference) -> None: ...

    def expiration(self, tag: Reference) -> None: ...

    def expire_at(self, reference: Reference, moment: int) -> None: ...

    def expire(self, reference: Reference, days: int) -> None:
        self.expiring.append((reference.tag, days))


def test_anchor_tags_expire_where_that_is_wished(registry_server: RegistryServer) -> None:
    settings = Settings.from_task({"mlmerge": {"anchor_tag": "{tag}-kept", "anchor_days": 30}}, {})
    push, history = begin(registry_server, settings), History()
    push.sides = evolve(push.sides, history=history)

    push.run("app:1")

    assert history.expiring == [("1-kept", 30)]
