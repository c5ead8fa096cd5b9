"""The requests that our hooks get."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from attrs import define, field

from pubtools_mlmerge.core.plan import Policy
from pubtools_mlmerge.core.references import Reference
from pubtools_mlmerge.host.requests import MergeRequest, SelectedRequest
from pubtools_mlmerge.merging.decision import StepOptions
from pubtools_mlmerge.merging.merger import ManifestListMerger
from pubtools_mlmerge.merging.step import Step
from pubtools_mlmerge.registry.client import RegistryClient
from pubtools_mlmerge.registry.copying import Children
from pubtools_mlmerge.settings import Settings
from pubtools_mlmerge.testing import Image, ImageIndex, RegistryServer, make_image, make_index
from tests.memory import MemoryRegistry
from tests.programs import put
from tests.scripted import HURRIED

SOURCE, TAG = Reference.parse("quay.io/app:new"), Reference.parse("quay.io/app:1")
AMD64, S390X = make_image("linux/amd64", seed="new"), make_image("linux/s390x", seed="old")
OLD_AMD64 = make_image("linux/amd64", seed="old")
NEW = make_index([AMD64])


@define
class Present(Children):
    """Stands for children that are all there."""

    asked: list[str] = field(factory=list)

    def ensure(self, source: Reference, destination: Reference, digests: Iterable[str]) -> None:
        self.asked += digests


@define
class Asked:
    """A request on a registry in memory."""

    registry: MemoryRegistry
    request: MergeRequest


def ask(
    source: Image | ImageIndex, held: Image | ImageIndex | None, policy: Policy | None = None
) -> Asked:
    """Make a request, its tag looked at already."""
    registry = MemoryRegistry()
    registry.load(SOURCE, source)
    if held is not None:
        registry.load(TAG, held)
    step = Step(registry, registry, StepOptions(policy=policy or Settings().policy), Present())
    decision = step.plan(SOURCE, TAG)
    return Asked(registry, MergeRequest(SOURCE, TAG, "app", Settings(), step, decision))


@pytest.mark.parametrize("held", [make_index([S390X]), S390X], ids=["index", "single image"])
def test_a_tag_is_merged(held: Image | ImageIndex) -> None:
    made = ask(NEW, held)

    report = made.request.carry_out()

    assert report is not None
    assert report.changed
    assert made.registry.digest_at(TAG) == report.digest


@pytest.mark.parametrize(
    ("source", "held", "policy", "reason"),
    [
        (NEW, None, None, "it does not exist yet"),
        (AMD64, None, None, "it does not exist yet"),
        (NEW, OLD_AMD64, None, "the source covers all of it"),
        (NEW, make_index([OLD_AMD64]), None, "the source covers all of it"),
        (NEW, NEW, None, "the source covers all of it"),
        (
            NEW,
            make_index([S390X]),
            Policy(keep=["arm64"], serves_many=True),
            "not among the platforms to keep",
        ),
    ],
)
def test_a_plain_copy_does_the_same_and_is_left_to_the_host(
    source: Image | ImageIndex,
    held: Image | ImageIndex | None,
    policy: Policy | None,
    reason: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("DEBUG", "pubtools.mlmerge")
    made = ask(source, held, policy)

    assert made.request.carry_out() is None
    assert made.registry.pushed == []
    said = f"quay.io/app:1 is copied plainly: {reason}"
    assert [r.levelname for r in caplog.records if r.getMessage() == said] == ["DEBUG"]


def test_a_tag_that_holds_it_already_is_left_alone(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "pubtools.mlmerge")
    made = ask(NEW, make_index([AMD64, S390X]))

    report = made.request.carry_out()

    assert report is not None
    assert not report.changed
    assert made.registry.pushed == []
    assert caplog.messages == []


def test_selected_architectures_are_computed(registry_server: RegistryServer) -> None:
    images = (put(registry_server, "new", NEW), put(registry_server, "1", make_index([S390X])))
    client = RegistryClient(options=HURRIED)
    merger = ManifestListMerger(*images)
    merger.set_quay_clients(client, client)

    document = SelectedRequest(
        *images, ("x86_64", "arm"), Settings(), merger.plan_selected
    ).carry_out()

    entries = document["manifests"]
    assert isinstance(entries, list)
    assert [each["digest"] for each in entries] == [AMD64.digest, S390X.digest]
    assert document["mediaType"] == NEW.media_type
