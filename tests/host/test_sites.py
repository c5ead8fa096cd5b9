"""A site's own implementations of our hooks, in the real host."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import nullcontext
from typing import Protocol

import pytest
from attrs import evolve
from pubtools.pluggy import hookimpl

from pubtools_mlmerge.core.plan import Report
from pubtools_mlmerge.host.requests import MergeRequest, SelectedRequest
from tests.host.running import push, tag
from tests.host.stand_ins import RecordingSigner
from tests.host.world import ON, THREE, TWO, Item, World, build

REPOSITORY = "ns/a----app"

Plug = Callable[[object], None]


class Outcome(Protocol):
    """What a wrapper gets to see."""

    def get_result(self) -> Report:
        """Tell what came out."""

    def force_result(self, result: object) -> None:
        """Let something else come out."""


class Listening:
    """Hears of all that happens."""

    def __init__(self) -> None:
        self.heard: list[object] = []

    @hookimpl
    def mlmerge_lock(self, reference: str) -> object:
        self.heard.append(("lock", reference))
        return nullcontext()

    @hookimpl
    def mlmerge_merged(self, report: Report) -> None:
        self.heard.append(("merged", str(report.source), str(report.destination), report.digest))

    @hookimpl
    def quay_images_tagged(self, source_ref: str, dest_refs: list[str]) -> None:
        self.heard.append(("tagged", source_ref, dest_refs))


class Vetoing:
    """Leaves tags to the host's plain copy."""

    @hookimpl
    def mlmerge_merge(self, request: MergeRequest) -> bool:
        return False


class Wrapping:
    """Lets the step do its work, and says something else about it."""

    digest = "sha256:" + "0" * 64

    @hookimpl(hookwrapper=True)
    def mlmerge_merge(self, request: MergeRequest) -> Generator[None, Outcome, None]:
        outcome = yield
        outcome.force_result(evolve(outcome.get_result(), digest=self.digest))


class Replacing:
    """Does the step in its own way: by way of ours."""

    def __init__(self) -> None:
        self.requests: list[MergeRequest] = []

    @hookimpl
    def mlmerge_merge(self, request: MergeRequest) -> object:
        self.requests.append(request)
        return request.carry_out()


class Computing:
    """Computes the list of tag-docker itself."""

    def __init__(self, document: object = None) -> None:
        self.document = document
        self.requests: list[SelectedRequest] = []

    @hookimpl
    def mlmerge_merge_selected(self, request: SelectedRequest) -> object:
        self.requests.append(request)
        return self.document


class Failing:
    """Has a step of its own that fails."""

    @hookimpl
    def mlmerge_merge_selected(self, request: SelectedRequest) -> None:
        raise RuntimeError("out of order")


def to_push(world: World) -> list[Item]:
    """Arrange for a push that a merge makes a difference to."""
    world.put(REPOSITORY, "1", build("old", *THREE))
    world.put("src/app", "new", build("new", *TWO))
    return [world.push_item("src/app:new", {"a/app": ["1"]})]


def to_tag(world: World) -> list[Item]:
    """Arrange for an architecture to be taken."""
    world.put(REPOSITORY, "1", build("old", *THREE))
    world.put(REPOSITORY, "build", build("new", *TWO))
    return [world.tag_item("a/app", source="build", add=["1"], archs=["arm64"])]


def test_events_follow_the_upload_of_a_push(world: World, plugged: Plug) -> None:
    site = Listening()
    plugged(site)

    push(to_push(world), world.settings(ON))

    source, target = f"{world.host}/src/app:new", f"{world.host}/{REPOSITORY}:1"
    assert site.heard == [
        ("lock", target),
        ("merged", source, target, world.digest(REPOSITORY, "1")),
        ("tagged", source, [target]),
    ]


def test_events_follow_the_upload_of_tag_docker(world: World, plugged: Plug) -> None:
    site = Listening()
    plugged(site)

    tag(to_tag(world), world.settings(ON))

    source, target = f"{world.host}/{REPOSITORY}:build", f"{world.host}/{REPOSITORY}:1"
    assert site.heard == [
        ("lock", target),
        ("merged", source, target, world.digest(REPOSITORY, "1")),
        ("tagged", source, [target]),
    ]


def test_a_site_leaves_a_tag_to_the_host(world: World, plugged: Plug) -> None:
    plugged(Vetoing())

    push(to_push(world), world.settings(ON))

    assert world.digest(REPOSITORY, "1") == world.digest("src/app", "new")


def test_a_site_replaces_the_step_of_a_push(world: World, plugged: Plug) -> None:
    site = Replacing()
    plugged(site)

    push(to_push(world), world.settings(ON))

    (request,) = site.requests
    assert str(request.destination) == f"{world.host}/{REPOSITORY}:1"
    assert request.repository == "a/app"
    assert set(world.platforms(REPOSITORY, "1")) == set(THREE)


def test_what_a_site_says_it_merged_is_signed(world: World, plugged: Plug) -> None:
    plugged(Wrapping())

    push(to_push(world), world.settings(ON))

    assert [entry.digest for entry in RecordingSigner.signed].count(Wrapping.digest) == 1


def test_a_site_computes_the_list_of_tag_docker(world: World, plugged: Plug) -> None:
    items = to_tag(world)
    new = world.read(REPOSITORY, "build")
    site = Computing({**new.fields, "manifests": [new.manifests[0].fields]})
    plugged(site)

    tag(items, world.settings(ON))

    assert list(world.platforms(REPOSITORY, "1").values()) == [new.manifests[0].digest]
    assert [request.eligible for request in site.requests] == [("linux/arm64",)]


def test_a_site_leaves_the_list_to_us(world: World, plugged: Plug) -> None:
    plugged(Computing(None))

    tag(to_tag(world), world.settings(ON))

    platforms = world.platforms(REPOSITORY, "1")
    assert set(platforms) == set(THREE)
    assert platforms["linux/arm64"] == world.platforms(REPOSITORY, "build")["linux/arm64"]


def test_report_only_gets_over_a_site_that_fails(
    world: World, plugged: Plug, caplog: pytest.LogCaptureFixture
) -> None:
    plugged(Failing())

    tag(to_tag(world), world.settings({**ON, "report_only": True}))

    assert set(world.platforms(REPOSITORY, "1")) == set(THREE)
    assert "Would fail, were it not to report only: out of order" in caplog.text
