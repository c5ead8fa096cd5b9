"""A site's own implementations of our hooks, in the real host."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Generator
from contextlib import nullcontext
from pathlib import Path
from types import ModuleType
from typing import Protocol

import pytest
from attrs import evolve
from pubtools.pluggy import hookimpl, pm

from pubtools_mlmerge.core.plan import Report
from pubtools_mlmerge.host.requests import MergeRequest, SelectedRequest
from tests.host.running import add, push_new
from tests.host.stand_ins import RecordingSigner
from tests.host.world import BUILD, ON, REPOSITORY, THREE, TWO, World
from tests.programs import ROOT, python
from tests.pushes import registered

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
    def mlmerge_merge(self, request: MergeRequest | SelectedRequest) -> object:
        self.requests.append(request)
        return self.answer(request)

    mlmerge_merge_selected = mlmerge_merge


@pytest.fixture(autouse=True)
def _old_and_new(world: World) -> None:
    world.fill()
    world.fill(source=BUILD)


Run = Callable[[World], None]
TASKS: dict[str, Run] = {"push": push_new, "tag-docker": lambda world: add(world, "arm64")}


@pytest.mark.parametrize(("task", "source"), [("push", "src/app:new"), ("tag-docker", BUILD)])
def test_events_follow_the_upload(world: World, plugged: Plug, task: str, source: str) -> None:
    site = Listening()
    plugged(site)

    TASKS[task](world)

    source = f"{world.host}/{source}"
    target = f"{world.host}/{REPOSITORY}:1"
    assert site.heard == [
        ("lock", target),
        ("merged", source, target, world.digest(REPOSITORY, "1")),
        ("tagged", source, [target]),
    ]


@pytest.mark.parametrize("task", TASKS)
def test_no_event_follows_where_a_retry_uploads_nothing(
    world: World, plugged: Plug, task: str
) -> None:
    TASKS[task](world)
    site = Listening()
    plugged(site)

    TASKS[task](world)

    assert site.heard == [("lock", f"{world.host}/{REPOSITORY}:1")]


@pytest.mark.parametrize("merges", [True, False])
def test_a_site_replaces_the_step_of_a_push_or_leaves_it_to_the_host(
    world: World, plugged: Plug, merges: bool
) -> None:
    site = Site(lambda request: request.carry_out() if merges else False)
    plugged(site)

    push_new(world)

    (request,) = site.requests
    assert isinstance(request, MergeRequest)
    assert str(request.destination) == f"{world.host}/{REPOSITORY}:1"
    assert request.repository == "a/app"
    assert set(world.platforms(REPOSITORY, "1")) == set(THREE if merges else TWO)


def test_what_a_site_says_it_merged_is_signed(world: World, plugged: Plug) -> None:
    plugged(Wrapping())

    push_new(world)

    assert [entry.digest for entry in RecordingSigner.signed].count(Wrapping.digest) == 1


def test_a_site_computes_the_list_of_tag_docker(world: World, plugged: Plug) -> None:
    new = world.read(REPOSITORY, "build")
    site = Site(lambda _: {**new.fields, "manifests": [new.manifests[0].fields]})
    plugged(site)

    add(world, "arm64")

    assert list(world.platforms(REPOSITORY, "1").values()) == [new.manifests[0].digest]
    (request,) = site.requests
    assert isinstance(request, SelectedRequest)
    assert request.eligible == ("linux/arm64",)


def failing(hook: str) -> ModuleType:
    """Make a plugin that raises in one hook."""

    @hookimpl
    def fail() -> None:
        raise RuntimeError("out of order")

    site = ModuleType("site")
    setattr(site, hook, fail)
    return site


@pytest.mark.parametrize(
    ("hook", "task"),
    [
        ("mlmerge_merge", "push"),
        ("mlmerge_lock", "push"),
        ("mlmerge_merge_selected", "tag-docker"),
        ("mlmerge_lock", "tag-docker"),
    ],
)
def test_a_site_that_fails_before_the_write_is_named_and_leaves_the_tag(
    world: World, caplog: pytest.LogCaptureFixture, hook: str, task: str
) -> None:
    before = world.digest(REPOSITORY, "1")

    with registered(failing(hook), "site-rules"), pytest.raises(RuntimeError, match="out of order"):
        TASKS[task](world)

    assert f"{hook} of the plugin site-rules failed: RuntimeError: out of order" in caplog.messages
    assert world.digest(REPOSITORY, "1") == before


@pytest.mark.parametrize("task", ["push", "tag-docker"])
def test_a_site_that_fails_after_the_write_fails_no_task(
    world: World, caplog: pytest.LogCaptureFixture, task: str
) -> None:
    with registered(failing("mlmerge_merged"), "site-rules"):
        TASKS[task](world)

    assert set(world.platforms(REPOSITORY, "1")) == set(THREE)
    assert "mlmerge_merged of the plugin site-rules failed, after the tag was" in caplog.text


MISTAKES = {
    "mlmerge_mergd(report)": "The plugin site_mistake implements mlmerge_mergd, which is never",
    "mlmerge_merged(reprt)": "'site_mistake' for hook 'mlmerge_merged'",
}


@pytest.mark.parametrize("mistake", MISTAKES)
@pytest.mark.parametrize("is_first", [True, False])
def test_a_mistake_in_a_plugin_is_named_whichever_is_loaded_first(
    tmp_path: Path, mistake: str, is_first: bool
) -> None:
    """The host loads plugins in the order in which they happen to be installed."""
    code = "import sys\nfrom pubtools.pluggy import hookimpl, pm\n@hookimpl\n"
    code += f"def {mistake}: pass\npm.register(sys.modules[__name__])\n"
    (tmp_path / "site_mistake.py").write_text(code, encoding="utf-8")
    first = "site_mistake" if is_first else "pubtools_mlmerge.plugin"

    done = python(
        f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
        f"import {first}, site_mistake, pubtools_mlmerge.plugin\n"
        "from pubtools.pluggy import task_context\n"
        "with task_context(): pass\n"
    )

    assert MISTAKES[mistake] in done.err
    assert (done.code == 0) == ("mergd" in mistake)


def test_the_plugin_of_the_documentation_takes_part_in_a_push(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SITE_MERGES", str(tmp_path))
    monkeypatch.syspath_prepend(str(ROOT / "docs" / "examples"))
    site = importlib.import_module("site_plugin")
    try:
        push_new(world)
        held = world.digest(REPOSITORY, "1")
        (tmp_path / "frozen").write_text("a/app", encoding="utf-8")
        world.fill()
        before = world.digest(REPOSITORY, "1")
        with pytest.raises(site.FrozenError, match="a/app is frozen"):
            push_new(world)
    finally:
        pm.unregister(site)

    (line, *_) = (tmp_path / "journal").read_text(encoding="utf-8").splitlines()
    tag = f"{world.host}/{REPOSITORY}:1"
    kept = {"tag": tag, "outcome": "merged", "digest": held, "kept": ["linux/s390x"]}
    assert json.loads(line) == kept
    assert world.digest(REPOSITORY, "1") == before


def test_report_only_gets_over_a_site_that_fails(
    world: World, plugged: Plug, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(_: object) -> None:
        raise RuntimeError("out of order")

    plugged(Site(fail))

    add(world, "arm64", mlmerge={**ON, "report_only": True})

    assert set(world.platforms(REPOSITORY, "1")) == set(THREE)
    assert "Would fail, if not report_only: out of order" in caplog.text
