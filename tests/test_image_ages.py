"""The ages of images: read only where a rule needs them, and merged by."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from datetime import datetime, timezone

import pytest
from attrs import evolve

import pubtools_mlmerge.plugin  # noqa: F401 - our own hooks carry the steps out
from pubtools_mlmerge.core.manifests import OCI_INDEX, OCI_MANIFEST, Index
from pubtools_mlmerge.core.manifests import Image as ImageManifest
from pubtools_mlmerge.core.plan import AgeRule, Plan, Policy
from pubtools_mlmerge.core.references import Reference
from pubtools_mlmerge.errors import MixedTypes, RegistryError, StaleImages
from pubtools_mlmerge.merging.decision import StepOptions
from pubtools_mlmerge.merging.image_ages import Ages
from pubtools_mlmerge.merging.step import Step
from pubtools_mlmerge.merging.writer import Writer
from pubtools_mlmerge.registry.client import RegistryClient
from pubtools_mlmerge.registry.copying import Children
from pubtools_mlmerge.testing import (
    Image,
    ImageIndex,
    RegistryServer,
    make_attestation,
    make_image,
    make_index,
)
from tests.factories import entry, index
from tests.memory import MemoryRegistry
from tests.programs import put
from tests.scripted import HURRIED

NOW = datetime(2026, 1, 1, tzinfo=timezone.utc)
CREATED = "org.opencontainers.image.created"
LONG_AGO, LATELY = "2023-01-01T00:00:00Z", "2025-12-01T00:00:00Z"
TOO_OLD = "1096 days old, more than 365"
WARN, DROP, FAIL = (AgeRule(max_age_days=365, stale=stale) for stale in ("warn", "drop", "fail"))

NEW = make_index([make_image("linux/amd64", seed="new")])
FRESH = make_image("linux/arm64", created=LATELY)
S390X = make_image("linux/s390x", created=LONG_AGO)
OLD = make_index([make_image("linux/amd64", seed="old"), FRESH, S390X, make_attestation(S390X)])
TAG = Reference.parse("quay.io/ns/app:1")


def noted(image: Image, created: str) -> Image:
    """Note a date at the entry of an image."""
    return evolve(image, annotations={CREATED: created})


def stating(image: Image, created: object) -> Image:
    """Write a date into the manifest of an image."""
    fields = {**json.loads(image.content), "annotations": {CREATED: created}}
    return evolve(image, content=json.dumps(fields).encode())


class Slow(MemoryRegistry):
    """Answers only when four threads ask at once."""

    together = threading.Barrier(4, timeout=20)

    def pull_config(self, reference: Reference, image: ImageManifest) -> Mapping[str, object]:
        self.together.wait()
        return super().pull_config(reference, image)


def merged(
    old: ImageIndex, rule: AgeRule = WARN, registry: MemoryRegistry | None = None
) -> Plan[Index]:
    """Merge a new amd64 into a tag that holds this."""
    registry = registry or MemoryRegistry()
    destination = registry.load(TAG, old)
    assert isinstance(destination, Index)
    source = Index.from_bytes(NEW.content)
    return Ages(registry, rule, lambda: NOW).merge(TAG, source, destination, Policy())


# Where the date is


@pytest.mark.parametrize(
    "image",
    [
        make_image("linux/s390x", created=LONG_AGO),
        make_image("linux/s390x", created=LONG_AGO, docker=True),
        stating(make_image("linux/s390x", created=LATELY), LONG_AGO),
        noted(make_image("linux/s390x", created=LATELY), LONG_AGO),
        noted(stating(make_image("linux/s390x"), LATELY), LONG_AGO),
        stating(make_image("linux/s390x", created=LONG_AGO), ""),
        stating(make_image("linux/s390x", created=LONG_AGO), 5),
    ],
    ids=["config", "docker", "manifest", "entry", "entry first", "empty", "number"],
)
def test_the_date_nearest_to_the_index_counts(image: Image) -> None:
    assert merged(make_index([image])).entries[1].age_days == 1096


@pytest.mark.parametrize(
    ("image", "problem"),
    [
        (make_image("linux/s390x", created=""), "no date is stated"),
        (make_image("linux/s390x", created="soon"), "'soon' is not a date"),
        (noted(S390X, "soon"), "'soon' is not a date"),
    ],
)
@pytest.mark.parametrize("rule", [WARN, DROP, FAIL], ids=["warn", "drop", "fail"])
def test_an_unknown_age_is_a_warning_and_nothing_else(
    image: Image, problem: str, rule: AgeRule, caplog: pytest.LogCaptureFixture
) -> None:
    plan = merged(make_index([image]), rule)

    assert (plan.entries[1].fate, plan.entries[1].age_days) == ("kept", None)
    assert plan.entries[1].reason == f"only the destination has it; age unknown: {problem}"
    message = f"{TAG}@{image.digest} (linux/s390x) is kept: age unknown: {problem}"
    assert [(r.levelname, r.getMessage()) for r in caplog.records] == [("WARNING", message)]


def test_what_cannot_be_read_is_of_unknown_age() -> None:
    registry, old = MemoryRegistry(), make_index([S390X, FRESH])
    at = str(TAG.at(S390X.digest))
    registry.refusals[at] = RegistryError(at, 500, "no")

    plan = merged(old, FAIL, registry)

    assert [e.age.problem for e in plan.entries[1:] if e.age] == [str(registry.refusals[at]), ""]


@pytest.mark.parametrize(
    ("passes", "problem", "reads"), [(False, "it is an index", 0), (True, "no date is stated", 1)]
)
def test_an_index_within_the_index_is_of_unknown_age(
    passes: bool, problem: str, reads: int
) -> None:
    registry, nested = MemoryRegistry(), Index.from_bytes(make_index([S390X]).content)
    registry.put(TAG.at(nested.digest), nested)
    media_type = OCI_MANIFEST if passes else OCI_INDEX  # it may pass for an image
    old = index(entry("linux/s390x", digest=nested.digest, media_type=media_type))

    plan = Ages(registry, WARN).merge(TAG, Index.from_bytes(NEW.content), old, Policy())

    assert plan.entries[1].age is not None
    assert (plan.entries[1].age.problem, len(registry.pulled)) == (problem, reads)


# What is asked


def test_without_a_rule_nothing_is_read() -> None:
    registry = MemoryRegistry()

    plan = merged(OLD, AgeRule(stale="fail"), registry)

    assert registry.pulled == []
    assert not any(entry.age for entry in plan.entries)


def test_tags_that_hold_the_same_are_merged_once() -> None:
    ages = Ages(MemoryRegistry(), AgeRule())

    def plan(destination: bytes, policy: Policy) -> Plan[Index]:
        source, old = (Index.from_bytes(content) for content in (NEW.content, destination))
        return ages.merge(TAG, source, old, policy)

    first = plan(OLD.content, Policy())

    assert plan(OLD.content, Policy()) is first
    assert plan(OLD.content, Policy(drop=["linux/s390x"])) != first
    assert plan(make_index([S390X]).content, Policy()) != first


def test_what_is_kept_is_asked_for_its_age_once() -> None:
    registry, destination = MemoryRegistry(), Index.from_bytes(OLD.content)
    registry.load(TAG, OLD)
    ages = Ages(registry, AgeRule(shown=True), lambda: NOW)

    for _ in range(2):
        plan = ages.merge(TAG, Index.from_bytes(NEW.content), destination, Policy())

    assert sorted(registry.pulled) == sorted(str(TAG.at(i.digest)) for i in (FRESH, S390X))
    assert [e.age_days for e in plan.entries] == [None, 31, 1096, None]


def test_a_date_at_the_entry_takes_no_request() -> None:
    registry = MemoryRegistry()

    plan = merged(make_index([noted(S390X, LATELY)]), registry=registry)

    assert (plan.entries[1].age_days, registry.pulled) == (31, [])


def test_images_are_read_at_the_same_time() -> None:
    platforms = ("linux/arm64", "linux/ppc64le", "linux/riscv64", "linux/s390x")
    old = make_index([make_image(platform, created=LONG_AGO) for platform in platforms])

    plan = merged(old, registry=Slow())

    assert [e.age_days for e in plan.entries[1:]] == [1096] * 4


# What becomes of it


def test_what_is_too_old_is_kept_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    plan = merged(OLD)

    assert [e.fate for e in plan.entries] == ["replaced", "kept", "kept", "kept"]
    message = f"{TAG}@{S390X.digest} (linux/s390x) is kept: {TOO_OLD}"
    (record,) = caplog.records
    assert (record.levelname, record.getMessage()) == ("WARNING", message)
    assert record.__dict__["event"] == {
        "type": "mlmerge-age",
        "image": f"{TAG}@{S390X.digest}",
        "platform": "linux/s390x",
        "age_days": 1096,
        "fate": "kept",
    }


def test_what_is_too_old_is_dropped_with_its_attestations(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "pubtools.mlmerge")

    plan = merged(OLD, DROP)

    assert [e.fate for e in plan.entries] == ["replaced", "kept", "dropped", "dropped"]
    assert [e.digest for e in plan.result.manifests] == [NEW.children[0].digest, FRESH.digest]
    assert [(r.levelname, r.getMessage()) for r in caplog.records] == [
        ("INFO", f"{TAG}@{S390X.digest} (linux/s390x) is dropped: {TOO_OLD}")
    ]


def test_what_is_too_old_may_be_an_error() -> None:
    platform = {"os": "linux", "architecture": "s390x\nERROR: \x1b[2J"}
    bare, hostile = (make_image("linux/s390x", created=LONG_AGO, seed=seed) for seed in "ab")
    hostile = evolve(hostile, platform=platform)

    with pytest.raises(StaleImages) as caught:
        merged(make_index([S390X, FRESH, evolve(bare, platform={}), hostile]), FAIL)

    assert caught.value.reference == str(TAG)
    assert caught.value.images == (
        f"linux/s390x ({S390X.digest}) is {TOO_OLD}",
        f"no platform ({bare.digest}) is {TOO_OLD}",
        f"linux/s390x error: ?[2j ({hostile.digest}) is {TOO_OLD}",
    )


def test_what_is_dropped_makes_no_mix_of_types() -> None:
    """Docker and OCI manifests may not be mixed, and without the old one they are not."""
    registry = MemoryRegistry()
    docker = registry.load(TAG, make_index([make_image("linux/s390x", created=LONG_AGO)]))
    source = Index.from_bytes(
        make_index([make_image("linux/amd64", docker=True)], docker=True).content
    )
    policy = Policy(mixed_types="fail")
    assert isinstance(docker, Index)

    plan = Ages(registry, DROP, lambda: NOW).merge(TAG, source, docker, policy)

    assert plan.result is source
    with pytest.raises(MixedTypes):
        Ages(registry, WARN, lambda: NOW).merge(TAG, source, docker, policy)


# In the steps


@pytest.fixture
def server(registry_server: RegistryServer) -> RegistryServer:
    """Hold a new image, and a tag whose s390x is three years old."""
    children = [make_image("linux/amd64", seed="old"), FRESH, ancient()]
    put(registry_server, "new", NEW)
    put(registry_server, "1", make_index([*children, make_attestation(children[2])]))
    registry_server.forget_requests()
    return registry_server


def ancient() -> Image:
    return make_image("linux/s390x", created=LONG_AGO, seed="old")


class Nothing(Children):
    """Brings no children; they are there."""

    def __init__(self) -> None: ...

    def ensure(self, source: Reference, destination: Reference, digests: object) -> None:
        """Do nothing."""


def at(server: RegistryServer, tag: str) -> Reference:
    return Reference(server.host, "app", tag=tag)


def step(rule: AgeRule, *, dry_run: bool = False) -> Step:
    client = RegistryClient(options=HURRIED)
    options = StepOptions(dry_run=dry_run, ages=rule)
    ages = Ages(client, rule, lambda: NOW)
    return Step(client, Writer(client, options), Nothing(), ages=ages)


def paths(server: RegistryServer) -> list[str]:
    return [f"{r.method} {r.path}".replace("%3A", ":") for r in server.requests]


@pytest.mark.parametrize("dry_run", [False, True])
def test_the_step_drops_what_is_too_old(server: RegistryServer, dry_run: bool) -> None:
    before = server.manifest("app", "1").digest

    report = step(DROP, dry_run=dry_run).merge([at(server, "new")], at(server, "1"))

    assert [e.fate for e in report.entries] == ["replaced", "kept", "dropped", "dropped"]
    assert report.digest != before
    assert server.manifest("app", "1").digest == (before if dry_run else report.digest)


@pytest.mark.parametrize("held", [make_index([S390X, make_attestation(S390X)]), S390X])
def test_a_tag_of_nothing_but_what_is_too_old_gets_the_very_source(
    server: RegistryServer, held: Image | ImageIndex
) -> None:
    put(server, "1", held)

    report = step(DROP).merge([at(server, "new")], at(server, "1"))

    assert server.manifest("app", "1").content == NEW.content
    assert report.digest == NEW.digest


def test_the_step_writes_nothing_where_what_is_too_old_is_an_error(server: RegistryServer) -> None:
    with pytest.raises(StaleImages):
        step(FAIL).merge([at(server, "new")], at(server, "1"))

    assert not [line for line in paths(server) if not line.startswith(("GET", "HEAD"))]


def test_a_merge_that_is_planned_again_reads_no_age_twice(server: RegistryServer) -> None:
    stepping = step(WARN)
    decision = stepping.plan([at(server, "new")], at(server, "1"))
    other = make_index([FRESH, ancient(), make_image("linux/ppc64le", created=LONG_AGO)])
    put(server, "1", other)

    report = stepping.carry_out(decision)

    blobs = [line for line in paths(server) if "/blobs/" in line]
    assert (len(blobs), len(set(blobs)), report.attempts) == (3, 3, 2)
    assert [e.age_days for e in report.entries] == [None, 31, 1096, 1096]
