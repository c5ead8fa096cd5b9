"""The step: one source, one destination tag, on the embedded registry."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import pytest
from attrs import define, field

from pubtools_mlmerge.core.plan import Policy, patterns_of
from pubtools_mlmerge.core.references import Reference
from pubtools_mlmerge.errors import (
    CopyFailed,
    EmptyIndex,
    ImmutableTag,
    InvalidReference,
    MixedTypes,
    NotAnIndex,
    NotFound,
    NothingEligible,
    RegistryError,
    ShrinkError,
    Unauthorized,
)
from pubtools_mlmerge.merging.decision import AnchorTag, StepOptions, digest_if_any
from pubtools_mlmerge.merging.step import Step, are_quicker_at_once, both, remove_platforms
from pubtools_mlmerge.merging.writer import Writer
from pubtools_mlmerge.registry.adapter import ClientRegistry
from pubtools_mlmerge.registry.base import Registry
from pubtools_mlmerge.registry.client import RegistryClient
from pubtools_mlmerge.testing import RegistryServer, make_attestation, make_image, make_index
from tests.programs import put
from tests.scripted import HURRIED, ScriptedServer, manifest_reply, refusal
from tests.servers import free_port

# The step: one source, one destination tag, on the embedded registry


AMD64, ARM64 = make_image("linux/amd64", seed="new"), make_image("linux/arm64", seed="new")
S390X = make_image("linux/s390x", seed="old")
NEW, OLD = make_index([AMD64, ARM64]), make_index([make_image("linux/amd64", seed="old"), S390X])
WRAP, FAIL = Policy(single_image="wrap"), Policy(single_image="fail")
INDEX, REPLACE = Policy(single_image="index"), Policy(single_image="replace")


@define
class Brought:
    """Notes which children are wanted; fails where it is told to."""

    server: RegistryServer
    failure: CopyFailed | None = None
    digests: list[str] = field(factory=list)
    writes_before: int = -1

    def ensure(self, source: Reference, destination: Reference, digests: Iterable[str]) -> None:
        """Note them."""
        self.digests += digests
        self.writes_before = len(writes(self.server))
        if self.failure:
            raise self.failure


@pytest.fixture
def server(registry_server: RegistryServer) -> RegistryServer:
    """Hold a new image and an old one."""
    put(registry_server, "new", NEW)
    put(registry_server, "old", OLD)
    return registry_server


def tag(server: RegistryServer, name: str) -> Reference:
    return Reference(server.host, "app", tag=name)


def step(
    server: RegistryServer,
    policy: Policy | None = None,
    *,
    dry_run: bool = False,
    anchor: str = "",
    children: Brought | None = None,
) -> Step:
    client = RegistryClient()
    template = AnchorTag.parse(anchor) if anchor else None
    options = StepOptions(policy=policy or Policy(), dry_run=dry_run, anchor_tag=template)
    return Step(client, client, options, children or Brought(server))


def writes(server: RegistryServer) -> list[str]:
    return [request.path for request in server.requests if request.method not in ("GET", "HEAD")]


def test_the_report_tells_what_was_done(server: RegistryServer) -> None:
    report = step(server).merge(tag(server, "new"), tag(server, "old"))

    held = server.manifest("app", "old")
    assert (report.source_digest, report.previous_digest) == (NEW.digest, OLD.digest)
    assert (report.digest, report.media_type) == (held.digest, held.media_type)
    assert (report.changed, report.dry_run, report.anchor_tag) == (True, False, None)
    assert (report.requests, report.attempts, report.missing) == (5, 1, ())
    assert report.seconds > 0
    assert [e.fate for e in report.entries] == ["replaced", "added", "kept"]


def test_children_come_before_the_tag(server: RegistryServer) -> None:
    children = Brought(server)

    step(server, children=children).merge(tag(server, "new"), tag(server, "old"))

    assert children.digests == [AMD64.digest, ARM64.digest]
    assert children.writes_before == 0
    assert writes(server) == ["/v2/app/manifests/old"]


def test_a_child_that_cannot_be_brought_leaves_the_tag_alone(server: RegistryServer) -> None:
    children = Brought(server, CopyFailed("new", "old", "no"))

    with pytest.raises(CopyFailed):
        step(server, children=children, anchor="kept").merge(tag(server, "new"), tag(server, "old"))

    assert writes(server) == []


def test_a_plan_writes_nothing_until_it_is_carried_out(server: RegistryServer) -> None:
    planning = step(server)

    planned = planning.plan(tag(server, "new"), tag(server, "old"))

    assert writes(server) == []
    assert (digest_if_any(planned.new), planned.seen) == (NEW.digest, OLD.digest)
    report = planning.carry_out(planned)
    assert server.manifest("app", "old").digest == report.digest == planned.plan.result.digest


def test_nothing_to_do_asks_for_no_children(server: RegistryServer) -> None:
    children = Brought(server)

    report = step(server, children=children, anchor="kept").merge(
        tag(server, "old"), tag(server, "old")
    )

    assert (report.changed, report.anchor_tag, report.requests) == (False, None, 2)
    assert (children.writes_before, writes(server)) == (-1, [])


def test_a_dry_run_stops_before_the_children(server: RegistryServer) -> None:
    children = Brought(server)

    report = step(server, dry_run=True, children=children, anchor="kept").merge(
        tag(server, "new"), tag(server, "old")
    )

    assert (report.changed, report.dry_run, report.anchor_tag) == (True, True, None)
    assert (children.writes_before, writes(server)) == (-1, [])


def test_an_absent_tag_becomes_the_source(server: RegistryServer) -> None:
    report = step(server).merge(tag(server, "new"), tag(server, "fresh"))

    assert report.previous_digest is None
    assert server.manifest("app", "fresh").content == NEW.content


def test_an_absent_source_is_an_error(server: RegistryServer) -> None:
    with pytest.raises(NotFound, match="app:none: not found"):
        step(server).merge(tag(server, "none"), tag(server, "old"))


def test_the_source_is_pulled_once(server: RegistryServer) -> None:
    merging = step(server)

    reports = [merging.merge(tag(server, "new"), tag(server, t)) for t in ("old", "a", "b")]

    assert [report.requests for report in reports] == [5, 4, 4]
    assert sum(r.path == "/v2/app/manifests/new" for r in server.requests) == 1


def test_two_clients_are_counted_together(server: RegistryServer) -> None:
    merging = Step(RegistryClient(), RegistryClient(), StepOptions(), Brought(server))

    assert merging.merge(tag(server, "new"), tag(server, "old")).requests == 5


def test_any_client_of_the_host_s_shape_will_do(server: RegistryServer) -> None:
    registry = ClientRegistry(RegistryClient())

    report = Step(registry, registry, StepOptions(), Brought(server)).merge(
        tag(server, "new"), tag(server, "old")
    )

    assert report.requests == 9  # an OCI index takes two, asked for type by type
    assert server.manifest("app", "old").digest == report.digest


@pytest.mark.parametrize("logged_in", [True, False])
def test_a_hidden_repository_is_absent_to_those_who_are_logged_in(logged_in: bool) -> None:
    login = ("alice", "wonderland") if logged_in else (None, None)
    users = {"alice": "wonderland"}
    with RegistryServer(
        dialect="quay", auth="token", users=users, grants={"alice": ["mine"]}, public=["app"]
    ) as server:
        put(server, "new", NEW)
        client = RegistryClient(*login)
        dry = Step(client, client, StepOptions(dry_run=True), Brought(server))
        hidden = Reference(server.host, "hidden", tag="1")

        if logged_in:
            assert dry.merge(tag(server, "new"), hidden).previous_digest is None
        else:
            with pytest.raises(Unauthorized):
                dry.merge(tag(server, "new"), hidden)


def test_a_failing_destination_is_no_absent_one(server: RegistryServer) -> None:
    with ScriptedServer(refusal(500, "UNKNOWN", "out of order")) as broken:
        writer = RegistryClient(host=broken.url, options=HURRIED)
        merging = Step(RegistryClient(), writer, StepOptions(), Brought(server))

        with pytest.raises(RegistryError, match="out of order"):
            merging.merge(tag(server, "new"), tag(server, "old"))


def test_names_that_the_source_lacks_are_reported(
    server: RegistryServer, caplog: pytest.LogCaptureFixture
) -> None:
    report = step(server, Policy(eligible=["arm64", "ppc64le"])).merge(
        tag(server, "new"), tag(server, "old")
    )

    assert report.missing == ("ppc64le",)
    assert f"{tag(server, 'new')}: the source has no ppc64le" in caplog.messages


@pytest.mark.parametrize("destination", ["fresh", "old"])
def test_nothing_eligible_makes_no_empty_tag(server: RegistryServer, destination: str) -> None:
    nothing = Policy(eligible=["ppc64le"], drop=["*"])

    with pytest.raises(NothingEligible):
        step(server, nothing).merge(tag(server, "new"), tag(server, destination))

    assert writes(server) == []


def test_an_empty_source_is_copied(server: RegistryServer) -> None:
    put(server, "empty", make_index([]))

    report = step(server).merge(tag(server, "empty"), tag(server, "fresh"))

    assert server.manifest("app", "fresh").digest == report.digest


def test_each_upload_is_an_event(server: RegistryServer, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "pubtools.mlmerge")

    report = step(server, anchor="{tag}-kept").merge(tag(server, "new"), tag(server, "old"))

    start, *events, end = (vars(record)["event"] for record in caplog.records)
    assert (start["type"], end["type"]) == ("mlmerge-merge-start", "mlmerge-merge-end")
    assert events == [
        {"type": "mlmerge-upload", "destination": str(tag(server, name)), "digest": report.digest}
        for name in ("old", "old-kept")
    ]
    assert report.anchor_tag == "old-kept"
    assert server.manifest("app", "old-kept") == server.manifest("app", "old")


def test_an_anchor_that_cannot_be_made_leaves_the_tag_alone(server: RegistryServer) -> None:
    with pytest.raises(InvalidReference):
        step(server, anchor="old").merge(tag(server, "new"), tag(server, "old"))

    assert writes(server) == []


def test_an_immutable_tag_is_an_error_of_its_own() -> None:
    with RegistryServer(dialect="quay", immutable_tags=["old"]) as server:
        put(server, "new", NEW)
        put(server, "old", OLD)

        with pytest.raises(ImmutableTag):
            step(server).merge(tag(server, "new"), tag(server, "old"))


SINGLE = make_image("linux/s390x", seed="single")


@pytest.fixture
def single_server(server: RegistryServer) -> RegistryServer:
    put(server, "single", SINGLE)
    return server


def test_a_single_image_replaces_what_was_there(
    single_server: RegistryServer, caplog: pytest.LogCaptureFixture
) -> None:
    children = Brought(single_server)

    policy = Policy(single_image="replace", drop=["*/*"])
    report = step(single_server, policy, children=children).merge(
        tag(single_server, "single"), tag(single_server, "old")
    )

    assert single_server.manifest("app", "old").content == SINGLE.content
    assert children.digests == [SINGLE.digest]
    assert [e.fate for e in report.entries] == ["replaced", "dropped"]
    assert "as one of them is a single image" in caplog.text


def test_a_single_image_replaces_several_platforms_only_by_name(
    single_server: RegistryServer,
) -> None:
    with pytest.raises(ShrinkError):
        step(single_server, REPLACE).merge(tag(single_server, "single"), tag(single_server, "old"))

    assert writes(single_server) == []


def test_a_single_image_is_replaced(
    single_server: RegistryServer, caplog: pytest.LogCaptureFixture
) -> None:
    children = Brought(single_server)

    policy = Policy(single_image="replace", drop=["s390x"])
    step(single_server, policy, children=children).merge(
        tag(single_server, "new"), tag(single_server, "single")
    )

    assert single_server.manifest("app", "single").content == NEW.content
    assert children.digests == [AMD64.digest, ARM64.digest]
    assert "as one of them is a single image" in caplog.text


@pytest.mark.parametrize(("source", "destination"), [("single", "old"), ("new", "single")])
def test_a_single_image_can_be_refused(
    single_server: RegistryServer, source: str, destination: str
) -> None:
    with pytest.raises(NotAnIndex) as caught:
        step(single_server, FAIL).merge(tag(single_server, source), tag(single_server, destination))

    assert caught.value.reference == str(tag(single_server, "single"))
    assert writes(single_server) == []


def test_a_single_image_can_be_selected(single_server: RegistryServer) -> None:
    selecting = step(single_server, Policy(eligible=["s390x"]))

    report = selecting.merge(tag(single_server, "single"), tag(single_server, "old"))

    assert [e.fate for e in report.entries] == ["replaced", "kept"]


def test_a_single_image_that_stays_alone_goes_up_as_it_is(single_server: RegistryServer) -> None:
    for destination in ("fresh", "single"):
        report = step(single_server).merge(
            tag(single_server, "single"), tag(single_server, destination)
        )

        assert single_server.manifest("app", destination).content == SINGLE.content
        assert report.changed is (destination == "fresh")


def test_an_artifact_is_not_listed_in_an_index(single_server: RegistryServer) -> None:
    artifact = tag(single_server, "artifact")
    put(single_server, "artifact", make_attestation(SINGLE))

    assert step(single_server).merge(artifact, tag(single_server, "fresh")).changed
    with pytest.raises(NotAnIndex, match="without a platform"):
        step(single_server).merge(artifact, tag(single_server, "old"))


def test_an_error_of_the_merge_names_the_tag(single_server: RegistryServer) -> None:
    put(single_server, "docker", make_index([make_image("linux/riscv64", docker=True)]))

    with pytest.raises(MixedTypes, match="the merged index would mix") as caught:
        step(single_server, Policy(mixed_types="fail")).merge(
            tag(single_server, "docker"), tag(single_server, "old")
        )

    assert caught.value.reference == str(tag(single_server, "old"))


def test_a_wrapped_image_is_merged_as_an_index(single_server: RegistryServer) -> None:
    children = Brought(single_server)

    report = step(single_server, WRAP, children=children).merge(
        tag(single_server, "single"), tag(single_server, "old")
    )

    assert children.digests == [SINGLE.digest]
    assert [e.fate for e in report.entries] == ["replaced", "kept"]
    assert report.source_digest == SINGLE.digest


def test_a_wrapped_destination_keeps_its_image(single_server: RegistryServer) -> None:
    report = step(single_server, WRAP).merge(
        tag(single_server, "new"), tag(single_server, "single")
    )

    assert [e.fate for e in report.entries] == ["added", "added", "kept"]
    assert report.entries[-1].descriptor.digest == SINGLE.digest


@pytest.mark.parametrize("source", ["single", "wrapped"])
def test_a_tag_that_holds_the_bare_image_is_wrapped_once(
    single_server: RegistryServer, source: str
) -> None:
    wrapping = step(single_server, INDEX)
    first = wrapping.merge(tag(single_server, "single"), tag(single_server, "wrapped"))

    report = wrapping.merge(tag(single_server, source), tag(single_server, "single"))

    assert (report.changed, report.previous_digest) == (True, SINGLE.digest)
    assert single_server.manifest("app", "single").digest == report.digest == first.digest
    again = wrapping.merge(tag(single_server, "wrapped"), tag(single_server, "single"))
    assert (again.changed, again.digest) == (False, first.digest)


def test_wrapping_leaves_an_index_as_it_is(server: RegistryServer) -> None:
    report = step(server, WRAP).merge(tag(server, "new"), tag(server, "fresh"))

    assert server.manifest("app", "fresh").digest == report.digest == NEW.digest


def test_a_config_that_is_no_config_is_an_error() -> None:
    image = make_image()
    with ScriptedServer(manifest_reply(image.content, image.media_type), refusal(404)) as broken:
        client = RegistryClient(host=broken.url, options=HURRIED)
        merging = Step(client, client, StepOptions(policy=WRAP), Brought(RegistryServer()))

        with pytest.raises(NotFound):
            merging.merge(Reference("", "app", tag="1"), Reference("", "app", tag="2"))


# Pulling: both sides at the same time, where that is quicker


SOURCE, DESTINATION = Reference.parse("quay.io/app:new"), Reference.parse("quay.io/app:stable")


@contextmanager
def client(host: str, *login: str) -> Iterator[RegistryClient]:
    username, password = login or (None, None)
    made = RegistryClient(username, password, host, HURRIED)
    try:
        yield made
    finally:
        made.close()


def at_once(source: Registry, destination: Registry) -> bool:
    return are_quicker_at_once(source, SOURCE, destination, DESTINATION)


def test_two_registries_are_asked_at_the_same_time() -> None:
    with client("https://a.invalid", "alice", "s") as a, client("https://b.invalid") as b:
        assert at_once(a, b)


def test_one_registry_is_asked_twice_while_there_is_no_connection() -> None:
    with client(f"https://127.0.0.1:{free_port()}") as registry:
        assert at_once(registry, registry)
        with pytest.raises(RegistryError):
            registry.pull(SOURCE)

        assert not at_once(registry, registry)


def test_a_registry_that_wants_a_login_is_asked_in_turn() -> None:
    with client("https://a.invalid", "alice", "s") as registry:
        assert not at_once(registry, registry)


def test_without_tls_a_connection_costs_little() -> None:
    with client("http://a.invalid", "alice", "s") as registry:
        assert at_once(registry, registry)


def test_clients_with_connections_for_each_thread_are_asked_in_turn() -> None:
    with client("http://a.invalid") as inner:
        assert not at_once(ClientRegistry(inner), inner)


@pytest.mark.parametrize("at_once", [True, False])
def test_both_are_done(at_once: bool) -> None:
    here, there = both(threading.get_ident, threading.get_ident, at_once=at_once)

    assert here == threading.get_ident()
    assert (here == there) is not at_once


@pytest.mark.parametrize("at_once", [True, False])
def test_the_failure_of_the_first_comes_first(at_once: bool) -> None:
    def fail(problem: str) -> None:
        raise ValueError(problem)

    with pytest.raises(ValueError, match="first"):
        both(lambda: fail("first"), lambda: fail("second"), at_once=at_once)


# Removal of platforms from a tag, on the embedded registry


AMD64_REMOVAL, ARM64_REMOVAL = make_image("linux/amd64"), make_image("linux/arm64")
WHOLE = make_index([AMD64_REMOVAL, ARM64_REMOVAL, make_attestation(ARM64_REMOVAL)])


def writer(*, dry_run: bool = False) -> Writer:
    return Writer(RegistryClient(), StepOptions(dry_run=dry_run))


@pytest.fixture
def tag_removal(registry_server: RegistryServer) -> Reference:
    put(registry_server, "1", WHOLE)
    return Reference(registry_server.host, "app", tag="1")


def test_the_tag_is_written_without_them(
    registry_server: RegistryServer, tag_removal: Reference
) -> None:
    report = remove_platforms(writer(), tag_removal, patterns_of(["arm64", "s390x"]))

    held = registry_server.manifest("app", "1")
    assert (report.digest, report.previous_digest) == (held.digest, WHOLE.digest)
    assert [e.fate for e in report.entries] == ["kept", "dropped", "dropped"]
    assert (report.source, report.missing, report.requests) == (None, ("s390x",), 4)
    assert (report.changed, report.dry_run) == (True, False)


def test_nothing_to_remove_is_not_written(
    registry_server: RegistryServer, tag_removal: Reference
) -> None:
    report = remove_platforms(writer(), tag_removal, patterns_of(["s390x"]))

    assert (report.changed, report.digest, report.requests) == (False, WHOLE.digest, 1)


def test_a_dry_run_writes_nothing(registry_server: RegistryServer, tag_removal: Reference) -> None:
    report = remove_platforms(writer(dry_run=True), tag_removal, patterns_of(["arm64"]))

    assert (report.changed, report.dry_run) == (True, True)
    assert registry_server.manifest("app", "1").content == WHOLE.content


def test_emptying_needs_permission(registry_server: RegistryServer, tag_removal: Reference) -> None:
    with pytest.raises(EmptyIndex):
        remove_platforms(writer(), tag_removal, patterns_of(["*"]))

    report = remove_platforms(writer(), tag_removal, patterns_of(["*"]), allow_empty=True)

    assert registry_server.manifest("app", "1").digest == report.digest
    assert [e.fate for e in report.entries] == ["dropped"] * 3


def test_only_an_index_has_platforms(
    registry_server: RegistryServer, tag_removal: Reference
) -> None:
    put(registry_server, "single", AMD64_REMOVAL)

    with pytest.raises(NotAnIndex):
        remove_platforms(writer(), tag_removal.tagged("single"), patterns_of(["amd64"]))
    with pytest.raises(NotFound):
        remove_platforms(writer(), tag_removal.tagged("none"), patterns_of(["amd64"]))
