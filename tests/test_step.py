"""The step: one source, one destination tag, on the embedded registry."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable, Iterable
from functools import partial

import pytest
from attrs import define, evolve, field

from pubtools_mlmerge.core.manifests import OCI_MANIFEST, Index, Manifest, digest_of
from pubtools_mlmerge.core.plan import Policy, Report, patterns_of
from pubtools_mlmerge.core.references import Reference
from pubtools_mlmerge.errors import (
    CopyFailed,
    EmptyIndex,
    ImmutableTag,
    InvalidIndex,
    InvalidReference,
    MixedTypes,
    NestedIndex,
    NotAnIndex,
    NotFound,
    NothingEligible,
    PatternFitsNothing,
    RegistryError,
    ShrinkError,
    Unauthorized,
)
from pubtools_mlmerge.merging.decision import AnchorTag, StepOptions
from pubtools_mlmerge.merging.merger import ManifestListMerger
from pubtools_mlmerge.merging.step import Step, pull_both, remove_platforms
from pubtools_mlmerge.merging.writer import Writer
from pubtools_mlmerge.registry.adapter import ClientRegistry
from pubtools_mlmerge.registry.base import Registry
from pubtools_mlmerge.registry.client import RegistryClient
from pubtools_mlmerge.registry.copying import Children
from pubtools_mlmerge.reports.report import to_json, to_text
from pubtools_mlmerge.testing import (
    ImageIndex,
    RegistryServer,
    make_attestation,
    make_image,
    make_index,
)
from tests.memory import MemoryRegistry
from tests.peers import SCHEMA_1
from tests.programs import put
from tests.quay import QuayDialect
from tests.scripted import HURRIED, ScriptedServer, manifest_reply, refusal

AMD64, ARM64 = make_image("linux/amd64", seed="new"), make_image("linux/arm64", seed="new")
S390X = make_image("linux/s390x", seed="old")
NEW, OLD = make_index([AMD64, ARM64]), make_index([make_image("linux/amd64", seed="old"), S390X])
SINGLE = make_image("linux/s390x", seed="single")
WHOLE = make_index([AMD64, ARM64, make_attestation(ARM64)])
WRAP, FAIL = Policy(single_image="wrap"), Policy(single_image="fail")
INDEX, REPLACE = Policy(single_image="index"), Policy(single_image="replace")


@define
class Brought(Children):
    """Notes which children are wanted; may fail."""

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
    """Hold some indexes and a single image."""
    for name, item in (("new", NEW), ("old", OLD), ("whole", WHOLE)):
        put(registry_server, name, item)
    put(registry_server, "single", SINGLE)
    return registry_server


def tag(server: RegistryServer, name: str) -> Reference:
    return Reference(server.host, "app", tag=name)


def step(
    server: RegistryServer,
    *,
    registry: Registry | None = None,
    children: Brought | None = None,
    dry_run: bool = False,
    anchor: str = "",
) -> Step:
    template = AnchorTag.parse(anchor) if anchor else None
    options = StepOptions(dry_run=dry_run, anchor_tag=template)
    registry = registry or RegistryClient()
    return Step(registry, Writer(registry, options), children or Brought(server))


def merge(
    server: RegistryServer,
    source: str,
    destination: str,
    policy: Policy = WRAP,
    *,
    children: Brought | None = None,
    dry_run: bool = False,
    anchor: str = "",
) -> Report:
    """Merge one tag into another."""
    merging = step(server, children=children, dry_run=dry_run, anchor=anchor)
    return merging.merge([tag(server, source)], tag(server, destination), policy)


def fates(report: Report) -> list[str]:
    return [entry.fate for entry in report.entries]


def writes(server: RegistryServer) -> list[str]:
    return [request.path for request in server.requests if request.method not in ("GET", "HEAD")]


def test_the_report_has_what_was_done(server: RegistryServer) -> None:
    children = Brought(server)

    report = merge(server, "new", "old", children=children)

    held = server.manifest("app", "old")
    assert (children.digests, children.writes_before) == ([AMD64.digest, ARM64.digest], 0)
    assert writes(server) == ["/v2/app/manifests/old"]
    assert (report.source_digest, report.previous_digest) == (NEW.digest, OLD.digest)
    assert (report.digest, report.media_type) == (held.digest, held.media_type)
    assert (report.changed, report.dry_run, report.anchor_tag) == (True, False, None)
    assert (report.attempts, report.missing) == (1, ())
    assert 0 < report.seconds < 60
    assert len(server.requests) == 5
    assert fates(report) == ["replaced", "added", "kept"]


def test_a_child_that_cannot_be_brought_leaves_the_tag_alone(server: RegistryServer) -> None:
    children = Brought(server, CopyFailed("new", "old", "no"))

    with pytest.raises(CopyFailed):
        merge(server, "new", "old", children=children, anchor="kept")

    assert writes(server) == []


@pytest.mark.parametrize(("source", "dry_run"), [("old", False), ("new", True)])
def test_nothing_to_do_and_a_dry_run_stop_before_the_children(
    server: RegistryServer, source: str, dry_run: bool
) -> None:
    children = Brought(server)

    report = merge(server, source, "old", dry_run=dry_run, children=children, anchor="{digest}")

    assert (report.changed, report.dry_run, report.anchor_tag) == (dry_run, dry_run, None)
    assert (children.writes_before, writes(server), len(server.requests)) == (-1, [], 2)


def test_an_absent_tag_becomes_the_source(server: RegistryServer) -> None:
    report = merge(server, "new", "fresh")

    assert (report.previous_digest, report.destination_state) == (None, "absent")
    assert server.manifest("app", "fresh").content == NEW.content
    assert merge(server, "old", "fresh").destination_state == "present"


def test_the_source_is_pulled_once(server: RegistryServer) -> None:
    merging = step(server)

    for name in ("old", "a", "b"):
        merging.merge([tag(server, "new")], tag(server, name))

    assert len(server.requests) == 5 + 4 + 4
    assert sum(r.path == "/v2/app/manifests/new" for r in server.requests) == 1


def test_a_source_that_was_written_is_pulled_again(server: RegistryServer) -> None:
    for name, item in (("new", NEW), ("old", OLD)):
        put(server, name, item, "library/app")
    merging = step(server, registry=RegistryClient(host=server.url))

    for names in (("app", "app"), ("docker.io/app", "docker.io/library/app")):
        old, same = (Reference.parse(f"{name}:old") for name in names)
        merging.merge([old], old.tagged("before"))
        merging.merge([old.tagged("new")], same)
        report = merging.merge([old], old.tagged("after"))

        held = server.manifest("library/app" if "/" in names[0] else "app", "old")
        assert report.source_digest == held.digest != OLD.digest


@pytest.mark.parametrize(("changes", "methods"), [(False, ["HEAD"]), (True, ["HEAD", "GET"])])
def test_a_source_is_looked_at_again_after_half_a_minute(
    server: RegistryServer, monkeypatch: pytest.MonkeyPatch, *, changes: bool, methods: list[str]
) -> None:
    merging = step(server)
    merging.merge([tag(server, "new")], tag(server, "one"))
    if changes:
        put(server, "new", OLD)
    server.forget_requests()
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now + 31)

    report = merging.merge([tag(server, "new")], tag(server, "two"))

    asked = [r.method for r in server.requests if r.path.endswith("/manifests/new")]
    assert asked == methods
    assert report.digest == server.manifest("app", "new").digest


@pytest.mark.parametrize("logged_in", [True, False])
def test_a_hidden_repository_is_absent_to_those_who_are_logged_in(
    caplog: pytest.LogCaptureFixture, logged_in: bool
) -> None:
    user, password = ("alice", "wonderland") if logged_in else (None, None)
    users = {"alice": "wonderland"}
    with RegistryServer(
        dialect=QuayDialect(), auth="token", users=users, grants={"alice": ["mine"]}, public=["app"]
    ) as server:
        put(server, "new", NEW)
        client = RegistryClient(username=user, password=password)
        dry = step(server, registry=client, dry_run=True)
        hidden = Reference(server.host, "hidden", tag="1")

        if logged_in:
            report = dry.merge([tag(server, "new")], hidden)
            assert (report.previous_digest, report.destination_state) == (None, "hidden")
            assert json.loads(to_json(report))["destination_state"] == "hidden"
            assert "(was hidden)" in to_text(report)
            unknown = "it does not exist, or this login may not read it: what it holds is unknown"
            assert f"{hidden}: {unknown}" in caplog.messages
        else:
            with pytest.raises(Unauthorized):
                dry.merge([tag(server, "new")], hidden)


@pytest.mark.parametrize(
    ("is_hidden_first", "is_hidden_later"), [(True, False), (True, True), (False, True)]
)
def test_a_tag_that_is_hidden_once_its_images_are_there_is_not_written(
    server: RegistryServer, *, is_hidden_first: bool, is_hidden_later: bool
) -> None:
    """A login may have the right to write it and not to read it; what it holds would be lost."""
    children = Brought(server)

    class Hiding(RegistryClient):
        def pull(self, reference: Reference) -> Manifest:
            is_hidden = is_hidden_later if children.digests else is_hidden_first
            if reference.tag == "old" and is_hidden:
                raise Unauthorized(str(reference), 401, logged_in=True)
            return super().pull(reference)

        digest = Registry.digest

    merging = step(server, registry=Hiding(), children=children)
    if is_hidden_later:
        with pytest.raises(Unauthorized, match="this login may write the tag and not read it"):
            merging.merge([tag(server, "new")], tag(server, "old"))
        assert writes(server) == []
    else:
        report = merging.merge([tag(server, "new")], tag(server, "old"))
        assert fates(report) == ["replaced", "added", "kept"]


def test_a_failing_registry_has_no_absent_tags(server: RegistryServer) -> None:
    with ScriptedServer(refusal(500, "UNKNOWN", "out of order")) as broken:
        writer = Writer(RegistryClient(host=broken.url, options=HURRIED), StepOptions())
        merging = Step(RegistryClient(), writer, Brought(server))

        with pytest.raises(RegistryError, match="out of order"):
            merging.merge([tag(server, "new")], tag(server, "old"))
    with pytest.raises(NotFound, match="app:none: not found"):
        merge(server, "none", "old")


def test_names_that_the_source_lacks_are_reported(
    server: RegistryServer, caplog: pytest.LogCaptureFixture
) -> None:
    report = merge(server, "new", "old", Policy(eligible=["arm64", "ppc64le"]))

    assert report.missing == ("ppc64le",)
    assert f"{tag(server, 'new')}: the source has no ppc64le" in caplog.messages


@pytest.mark.parametrize("destination", ["fresh", "old"])
def test_nothing_eligible_makes_no_empty_tag(server: RegistryServer, destination: str) -> None:
    nothing = Policy(eligible=["ppc64le"], drop=["*"])

    with pytest.raises(NothingEligible):
        merge(server, "new", destination, nothing)

    assert writes(server) == []


def test_an_empty_source_is_copied(server: RegistryServer) -> None:
    put(server, "empty", make_index([]))

    report = merge(server, "empty", "fresh")

    assert server.manifest("app", "fresh").digest == report.digest


def test_each_upload_is_an_event(server: RegistryServer, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG", "pubtools.mlmerge")

    report = merge(server, "new", "old", anchor="{tag}-kept")

    found = [vars(record).get("event") for record in caplog.records]
    start, *events, end = (event for event in found if event is not None)
    assert (start["type"], end["type"]) == ("mlmerge-merge-start", "mlmerge-merge-end")
    assert events == [
        {"type": "mlmerge-upload", "destination": str(tag(server, name)), "digest": report.digest}
        for name in ("old", "old-kept")
    ]
    assert report.anchor_tag == "old-kept"
    assert f"Uploaded {report.digest} to {tag(server, 'old')}" in caplog.messages
    assert server.manifest("app", "old-kept") == server.manifest("app", "old")


def test_an_anchor_that_cannot_be_made_leaves_the_tag_alone(server: RegistryServer) -> None:
    with pytest.raises(InvalidReference):
        merge(server, "new", "old", anchor="old")

    assert writes(server) == []


def test_quay_takes_a_mix_of_both_kinds_and_may_have_immutable_tags() -> None:
    """It refuses an entry whose type is not that of its manifest."""
    with RegistryServer(dialect=QuayDialect(), immutable_tags=["kept"]) as server:
        images = [make_image(p, docker=True) for p in ("linux/amd64", "linux/s390x")]
        for name in ("old", "kept"):
            put(server, name, make_index(images, docker=True))
        put(server, "new", NEW)

        assert fates(merge(server, "new", "old")) == ["replaced", "added", "kept"]
        with pytest.raises(ImmutableTag):
            merge(server, "new", "kept")


@pytest.mark.parametrize(
    ("source", "destination", "expected"),
    [
        ("single", "old", ["replaced", "dropped"]),
        ("new", "single", ["added", "added", "dropped"]),
    ],
)
def test_a_single_image_replaces_or_is_replaced_by_name_only(
    server: RegistryServer,
    caplog: pytest.LogCaptureFixture,
    source: str,
    destination: str,
    expected: list[str],
) -> None:
    held = server.manifest("app", source)
    children = Brought(server)
    with pytest.raises(ShrinkError):
        merge(server, source, destination, REPLACE)
    assert writes(server) == []

    report = merge(*(server, source, destination, evolve(REPLACE, drop=["*/*"])), children=children)

    assert server.manifest("app", destination).content == held.content
    images = [AMD64, ARM64] if source == "new" else [SINGLE]
    assert children.digests == [image.digest for image in images]
    assert fates(report) == expected
    words = "as one of them is a single image"
    assert words in caplog.text
    caplog.clear()
    for name in (destination, "fresh"):  # where nothing is replaced
        merge(server, source, name, REPLACE)
    assert words not in caplog.text


@pytest.mark.parametrize(("source", "destination"), [("single", "old"), ("new", "single")])
def test_a_single_image_can_be_refused(
    server: RegistryServer, source: str, destination: str
) -> None:
    with pytest.raises(NotAnIndex) as caught:
        merge(server, source, destination, FAIL)

    assert caught.value.reference == str(tag(server, "single"))
    assert writes(server) == []


HELM = "application/vnd.cncf.helm.config.v1+json"


@pytest.mark.parametrize(
    ("config", "artifact", "kind"),
    [
        (HELM, None, f"a Helm chart ({HELM})"),
        ("application/vnd.oci.empty.v1+json", "x/sbom", "an artifact of type x/sbom"),
        ("application/vnd.example", None, "an artifact of type application/vnd.example"),
        ("application/vnd.oci.image.config.v1+json", None, OCI_MANIFEST),
    ],
)
def test_an_artifact_is_named_and_never_listed_beside_images(
    server: RegistryServer, config: str, artifact: str | None, kind: str
) -> None:
    fields = json.loads(make_attestation(SINGLE).content)
    fields["config"]["mediaType"] = config
    fields.update({"artifactType": artifact} if artifact else {})
    put(server, "proof", make_attestation(SINGLE))  # has the blobs
    server.put_manifest("app", "artifact", json.dumps(fields).encode(), OCI_MANIFEST)
    words = f"{tag(server, 'artifact')} holds {kind}"

    assert merge(server, "artifact", "fresh").changed
    with pytest.raises(NotAnIndex, match=re.escape(f"{words}, which states no platform")):
        merge(server, "artifact", "old")
    with pytest.raises(NotAnIndex, match=re.escape(words)):
        remove(server, "artifact", "amd64")


@pytest.mark.parametrize("wrap", [lambda client: client, ClientRegistry], ids=["ours", "host's"])
def test_a_schema_1_manifest_is_named(wrap: Callable[[RegistryClient], Registry]) -> None:
    payload = b'{"schemaVersion": 1, "fsLayers": [], "history": []}'
    signed = payload[:-1] + b', "signatures": ["new"]}'
    reply = manifest_reply(signed, SCHEMA_1, Docker_Content_Digest=digest_of(payload))
    with ScriptedServer(reply) as old:
        merging = step(
            RegistryServer(), registry=wrap(RegistryClient(host=old.url, options=HURRIED))
        )
        first, second = (Reference("", "app", tag=name) for name in ("1", "2"))

        with pytest.raises(NotAnIndex, match="app:1 holds a schema 1 manifest"):
            merging.plan([first], second)


def test_an_error_of_the_merge_names_the_tag(server: RegistryServer) -> None:
    put(server, "docker", make_index([make_image("linux/riscv64", docker=True)]))

    with pytest.raises(MixedTypes, match="the merged index would mix") as caught:
        merge(server, "docker", "old", Policy(mixed_types="fail"))

    assert caught.value.reference == str(tag(server, "old"))


@pytest.mark.parametrize("policy", [WRAP, INDEX, Policy(eligible=["s390x"])])
def test_a_single_image_is_merged_as_an_index(server: RegistryServer, policy: Policy) -> None:
    children = Brought(server)

    report = merge(server, "single", "old", policy, children=children)
    into_single = merge(server, "new", "single", evolve(policy, eligible=None))

    assert (children.digests, report.source_digest) == ([SINGLE.digest], SINGLE.digest)
    assert fates(report) == ["replaced", "kept"]
    assert fates(into_single) == ["added", "added", "kept"]
    assert into_single.entries[-1].descriptor.digest == SINGLE.digest


def test_a_config_that_is_no_config_is_an_error() -> None:
    image = make_image()
    with ScriptedServer(manifest_reply(image.content, image.media_type), refusal(404)) as broken:
        client = RegistryClient(host=broken.url, options=HURRIED)
        merging = step(RegistryServer(), registry=client)

        with pytest.raises(NotFound):
            merging.merge([Reference("", "app", tag="1")], Reference("", "app", tag="2"))


# Pulling: both sides at the same time, where they share no connection


def two_kinds() -> tuple[Registry, ...]:
    client = RegistryClient()
    return client, RegistryClient(), ClientRegistry(client), ClientRegistry(client)


ONE, TWO, OF_THE_HOST, OTHER_OF_THE_HOST = two_kinds()


@pytest.mark.parametrize(
    ("source", "destination", "at_once"),
    [
        (ONE, TWO, True),
        (ONE, ONE, False),
        (OF_THE_HOST, OTHER_OF_THE_HOST, False),  # they log in in each thread
        (ONE, OF_THE_HOST, False),
    ],
)
def test_both_sides_are_pulled_at_once_where_that_costs_nothing(
    source: Registry, destination: Registry, at_once: bool
) -> None:
    def fail(problem: str) -> None:
        raise ValueError(problem)

    here, there = pull_both(source, threading.get_ident, destination, threading.get_ident)

    assert here == threading.get_ident()
    assert (here == there) is not at_once
    with pytest.raises(ValueError, match="first"):
        pull_both(source, partial(fail, "first"), destination, partial(fail, "second"))


# Removing platforms from a tag


def remove(server: RegistryServer, name: str, *platforms: str, **how: bool) -> Report:
    writer = Writer(RegistryClient(), StepOptions(dry_run=how.get("dry_run", False)))
    patterns, allow_empty = patterns_of(platforms), how.get("allow_empty", False)
    return remove_platforms(writer, tag(server, name), patterns, allow_empty=allow_empty)


def test_the_tag_is_written_without_the_platforms(server: RegistryServer) -> None:
    report = remove(server, "whole", "arm64", "s390x")

    held = server.manifest("app", "whole")
    assert (report.digest, report.previous_digest) == (held.digest, WHOLE.digest)
    assert fates(report) == ["kept", "dropped", "dropped"]
    assert (report.source, report.missing) == (None, ("s390x",))
    assert (report.changed, report.dry_run, len(server.requests)) == (True, False, 4)


def test_nothing_to_remove_and_a_dry_run_write_nothing(server: RegistryServer) -> None:
    with pytest.raises(PatternFitsNothing):
        remove(server, "whole", "s390x")
    dry = remove(server, "whole", "arm64", dry_run=True)

    assert len(server.requests) == 2
    assert (dry.changed, dry.dry_run) == (True, True)
    assert server.manifest("app", "whole").content == WHOLE.content
    real = remove(server, "whole", "arm64")
    assert (real.digest, real.entries) == (dry.digest, dry.entries)


def test_what_somebody_else_removes_meanwhile_is_no_slip(server: RegistryServer) -> None:
    class Overtaken(RegistryClient):
        def digest(self, reference: Reference) -> str | None:
            put(server, "whole", make_index([AMD64]))
            return super().digest(reference)

    writer = Writer(Overtaken(), StepOptions())
    report = remove_platforms(writer, tag(server, "whole"), patterns_of(["arm64"]))

    assert (fates(report), report.missing, report.attempts) == (["kept"], ("arm64",), 2)


def test_emptying_needs_permission(server: RegistryServer) -> None:
    with pytest.raises(EmptyIndex, match=f"^{tag(server, 'whole')}: removing"):
        remove(server, "whole", "*")

    report = remove(server, "whole", "*", allow_empty=True)

    assert server.manifest("app", "whole").digest == report.digest
    assert fates(report) == ["dropped"] * 3


def test_only_an_index_has_platforms(server: RegistryServer) -> None:
    with pytest.raises(NotAnIndex):
        remove(server, "single", "amd64")
    with pytest.raises(NotFound):
        remove(server, "none", "amd64")


# Nested indexes (law 2)

PAIR = make_index([make_image("linux/amd64", seed="in"), make_image("linux/arm64", seed="in")])
TRIO = make_index([*PAIR.children, make_image("linux/s390x", seed="in")])


def stating(nested: ImageIndex, platform: str = "linux/amd64") -> ImageIndex:
    """Make an index of a nested one whose entry states a platform, as some programs write it."""
    whole = make_index([nested])
    fields = json.loads(whole.content)
    fields["manifests"][0]["platform"] = dict(zip(("os", "architecture"), platform.split("/")))
    return evolve(whole, content=json.dumps(fields).encode())


def digests(server: RegistryServer, name: str) -> list[str]:
    entries = json.loads(server.manifest("app", name).content)["manifests"]
    return [entry["digest"] for entry in entries]


@pytest.mark.parametrize("levels", [1, 2])
def test_a_nested_index_of_the_source_covers_what_it_lists(
    server: RegistryServer, levels: int
) -> None:
    nested = PAIR if levels == 1 else make_index([PAIR])
    put(server, "new", make_index([nested]))
    put(server, "1", make_index([AMD64, ARM64, make_attestation(ARM64), S390X]))

    report = merge(server, "new", "1")

    assert digests(server, "1") == [nested.digest, S390X.digest]
    assert fates(report) == ["added", "kept", "dropped", "dropped", "dropped"]
    assert not merge(server, "new", "1").changed


@pytest.mark.parametrize("held", [make_index([TRIO]), stating(TRIO)], ids=["bare", "stating"])
@pytest.mark.parametrize("source", ["amd64", "single"])
def test_a_nested_index_of_the_tag_is_kept_whole_until_all_of_it_is_covered(
    server: RegistryServer, caplog: pytest.LogCaptureFixture, held: ImageIndex, source: str
) -> None:
    put(server, "amd64", make_index([AMD64]))
    put(server, "single", AMD64)
    put(server, "1", held)

    report = merge(server, source, "1")

    assert digests(server, "1") == [AMD64.digest, TRIO.digest]
    assert fates(report) == ["added", "kept"]
    twice = f"the nested index {TRIO.digest} is kept whole, so linux/amd64 is listed twice"
    assert f"{tag(server, '1')}: {twice}" in caplog.messages
    put(server, "all", make_index([AMD64, ARM64, S390X]))
    assert fates(merge(server, "all", "1")) == ["same", "added", "added", "dropped"]


def test_an_attestation_of_an_image_within_a_nested_index_is_kept_with_it(
    server: RegistryServer,
) -> None:
    proof = make_attestation(TRIO.children[-1])  # type: ignore[arg-type]  # an image
    put(server, "1", make_index([TRIO, proof]))
    put(server, "amd64", make_index([AMD64]))

    merge(server, "amd64", "1")

    assert digests(server, "1") == [AMD64.digest, TRIO.digest, proof.digest]
    assert (
        fates(remove(server, "1", "s390x", "arm64", "amd64", allow_empty=True)) == ["dropped"] * 3
    )


@pytest.mark.parametrize("policy", [Policy(drop=["amd64"]), Policy(keep=["amd64"])])
def test_a_nested_index_that_a_policy_fits_in_part_is_refused(
    server: RegistryServer, policy: Policy
) -> None:
    put(server, "1", stating(TRIO))
    put(server, "ppc64le", make_index([make_image("linux/ppc64le")]))

    with pytest.raises(NestedIndex, match=r"linux/amd64, not linux/arm64, linux/s390x") as caught:
        merge(server, "ppc64le", "1", policy)

    assert (caught.value.reference, writes(server)) == (str(tag(server, "1")), [])
    every = ["amd64", "arm64", "s390x"]
    whole = Policy(drop=every) if policy.drop else Policy(keep=every)
    expected = ["added", "dropped" if policy.drop else "kept"]
    assert fates(merge(server, "ppc64le", "1", whole)) == expected


def test_a_nested_index_is_selected_and_removed_whole_or_not_at_all(
    server: RegistryServer,
) -> None:
    put(server, "1", stating(TRIO))

    with pytest.raises(NestedIndex):
        merge(server, "1", "fresh", Policy(eligible=["amd64"]))
    with pytest.raises(NothingEligible):
        merge(server, "1", "other", Policy(eligible=["ppc64le"]))
    with pytest.raises(NestedIndex):
        remove(server, "1", "amd64")
    with pytest.raises(PatternFitsNothing):
        remove(server, "1", "ppc64le")

    assert fates(merge(server, "1", "fresh", Policy(eligible=["*"]))) == ["added"]
    report = remove(server, "1", "amd64", "arm64", "s390x", allow_empty=True)
    assert fates(report) == ["dropped"]


def test_a_nested_index_is_an_entry_without_platform_to_the_class(server: RegistryServer) -> None:
    put(server, "amd64", make_index([AMD64]))
    put(server, "1", stating(TRIO))
    merger = ManifestListMerger(str(tag(server, "amd64")), str(tag(server, "1")))
    merger.set_quay_clients(RegistryClient(), RegistryClient())

    selected = merger.merge_manifest_lists_selected_architectures(["amd64"])
    merger.merge_manifest_lists()

    assert digests(server, "1") == [AMD64.digest, TRIO.digest]
    assert [entry["digest"] for entry in selected["manifests"]] == [AMD64.digest, TRIO.digest]


def test_nested_indexes_are_read_to_a_depth_and_a_number(server: RegistryServer) -> None:
    deep = make_index([AMD64])
    for _ in range(4):
        deep = make_index([deep])
    put(server, "deep", deep)
    put(server, "deeper", make_index([deep]))
    many = [make_index([AMD64], annotations={"number": str(number)}) for number in range(65)]
    put(server, "most", make_index(many[:64]))
    put(server, "more", make_index(many))

    for name in ("deep", "most"):
        assert merge(server, name, f"{name}-copy").changed
    for name in ("deeper", "more"):
        with pytest.raises(InvalidIndex, match="at most 4 levels and 64 nested indexes are read"):
            merge(server, name, "1")


@pytest.fixture
def registry() -> MemoryRegistry:
    """Hold two images, and two indexes that list a nested one that is gone."""
    registry = MemoryRegistry()
    for name, item in (("new", NEW), ("old", OLD), ("lacking", stating(TRIO))):
        registry.put(Reference("quay.io", "app", tag=name), Index.from_bytes(item.content))
    return registry


def test_a_nested_index_that_is_gone_is_kept_with_a_warning(
    registry: MemoryRegistry, caplog: pytest.LogCaptureFixture
) -> None:
    new, lacking = (Reference("quay.io", "app", tag=name) for name in ("new", "lacking"))

    report = step(RegistryServer(), registry=registry, dry_run=True).merge([new], lacking)

    assert fates(report) == ["added", "added", "kept"]
    unknown = f"{lacking.at(TRIO.digest)}: no index there, so its platforms are unknown"
    assert unknown in caplog.messages


def test_a_nested_index_is_kept_where_one_within_it_is_gone(registry: MemoryRegistry) -> None:
    new, into = (Reference("quay.io", "app", tag=name) for name in ("new", "1"))
    outer = make_index([AMD64, stating(TRIO)])  # the source has amd64
    for reference, item in ((into, make_index([outer])), (into.at(outer.digest), outer)):
        registry.put(reference, Index.from_bytes(item.content))

    report = step(RegistryServer(), registry=registry, dry_run=True).merge([new], into)

    assert fates(report) == ["added", "added", "kept"]


@pytest.mark.parametrize("policy", [Policy(), Policy(eligible=["amd64"])])
def test_a_nested_index_of_the_source_must_exist(registry: MemoryRegistry, policy: Policy) -> None:
    lacking, old = (Reference("quay.io", "app", tag=name) for name in ("lacking", "old"))

    with pytest.raises(NotFound, match=TRIO.digest):
        step(RegistryServer(), registry=registry).merge([lacking], old, policy=policy)

    assert registry.digest_at(old) == OLD.digest
