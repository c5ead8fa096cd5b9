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
from tests.host.world import ON, REPOSITORY, THREE, TWO, Item, World, build

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


class Wrapping:
    """Lets the step do its work, and says something else about it."""

    digest = "sha256:" + "0" * 64

    @hookimpl(hookwrapper=True)
    def mlmerge_merge(self, request: MergeRequest) -> Generator[None, Outcome, None]:
        outcome = yield
        outcome.force_result(evolve(outcome.get_result(), digest=self.digest))


class Site:
    """Has steps of its own."""

    def __init__(self, answer: Callable[[MergeRequest | SelectedRequest], object]) -> None:
        self.answer = answer
        self.requests: list[MergeRequest | SelectedRequest] = []

    @hookimpl
    def mlmerge_merge(self, request: MergeRequest) -> object:
        self.requests.append(request)
        return self.answer(request)

    @hookimpl
    def mlmerge_merge_selected(self, request: SelectedRequest) -> object:
        self.requests.append(request)
        return self.answer(request)


def to_tag(world: World) -> list[Item]:
    """Arrange for an architecture to be taken."""
    world.fill()
    world.put(REPOSITORY, "build", build("new", *TWO))
    return [world.tag_item("a/app", source="build", add=["1"], archs=["arm64"])]


@pytest.mark.parametrize("task", ["push", "tag-docker"])
def test_events_follow_the_upload(world: World, plugged: Plug, task: str) -> None:
    site = Listening()
    plugged(site)

    if task == "push":
        push([world.fill()], world.settings(ON))
    else:
        tag(to_tag(world), world.settings(ON))

    source = f"{world.host}/{'src/app:new' if task == 'push' else REPOSITORY + ':build'}"
    target = f"{world.host}/{REPOSITORY}:1"
    assert site.heard == [
        ("lock", target),
        ("merged", source, target, world.digest(REPOSITORY, "1")),
        ("tagged", source, [target]),
    ]


@pytest.mark.parametrize("merges", [True, False])
def test_a_site_replaces_the_step_of_a_push_or_leaves_it_to_the_host(
    world: World, plugged: Plug, merges: bool
) -> None:
    site = Site(lambda request: request.carry_out() if merges else False)
    plugged(site)

    push([world.fill()], world.settings(ON))

    (request,) = site.requests
    assert isinstance(request, MergeRequest)
    assert str(request.destination) == f"{world.host}/{REPOSITORY}:1"
    assert request.repository == "a/app"
    assert set(world.platforms(REPOSITORY, "1")) == set(THREE if merges else TWO)


def test_what_a_site_says_it_merged_is_signed(world: World, plugged: Plug) -> None:
    plugged(Wrapping())

    push([world.fill()], world.settings(ON))

    assert [entry.digest for entry in RecordingSigner.signed].count(Wrapping.digest) == 1


def test_a_site_computes_the_list_of_tag_docker(world: World, plugged: Plug) -> None:
    items = to_tag(world)
    new = world.read(REPOSITORY, "build")
    site = Site(lambda _: {**new.fields, "manifests": [new.manifests[0].fields]})
    plugged(site)

    tag(items, world.settings(ON))

    assert list(world.platforms(REPOSITORY, "1").values()) == [new.manifests[0].digest]
    (request,) = site.requests
    assert isinstance(request, SelectedRequest)
    assert request.eligible == ("linux/arm64",)


def test_a_site_leaves_the_list_to_us(world: World, plugged: Plug) -> None:
    plugged(Site(lambda _: None))

    tag(to_tag(world), world.settings(ON))

    platforms = world.platforms(REPOSITORY, "1")
    assert set(platforms) == set(THREE)
    assert platforms["linux/arm64"] == world.platforms(REPOSITORY, "build")["linux/arm64"]


def test_report_only_gets_over_a_site_that_fails(
    world: World, plugged: Plug, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(_: object) -> None:
        raise RuntimeError("out of order")

    plugged(Site(fail))

    tag(to_tag(world), world.settings({**ON, "report_only": True}))

    assert set(world.platforms(REPOSITORY, "1")) == set(THREE)
    assert "Would fail, were it not to report only: out of order" in caplog.text
