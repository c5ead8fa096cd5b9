"""What release engineers see of the real host's tasks: log events, and the collected report."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from attrs import define, field
from jsonschema import Draft202012Validator
from pushcollector import Collector

from pubtools_mlmerge.errors import MixedTypes
from pubtools_mlmerge.merging.audit import collect_change, read_change
from pubtools_mlmerge.reports.report import report_schema
from tests.host.running import add, push_new, remove
from tests.host.test_safety import Interferer
from tests.host.world import BUILD, ON, REPOSITORY, THREE, TWO, World, build
from tests.pushes import registered
from tests.test_audit import PLAN, change

Log = pytest.LogCaptureFixture

REPORT = "mlmerge-report.json"


@pytest.fixture
def log(caplog: Log) -> Log:
    caplog.set_level("DEBUG", "pubtools.mlmerge")
    return caplog


@pytest.fixture
def filled(world: World) -> World:
    world.fill()
    world.fill(source=BUILD)
    return world


def events(log: Log, *kinds: str) -> list[dict[str, object]]:
    """List the events whose types end like this, or all of them."""
    found = [vars(record)["event"] for record in log.records if "event" in vars(record)]
    return [each for each in found if not kinds or each["type"].endswith(kinds)]


def push_tags(world: World, *tags: str, **settings: object) -> None:
    push_new(world, *tags, mlmerge={**ON, "anchor_tag": None, **settings})


def test_each_merged_tag_of_a_push_is_logged_once_and_no_other(filled: World, log: Log) -> None:
    filled.put(REPOSITORY, "covered", build("old", *TWO))

    push_tags(filled, "1", "fresh", "covered")

    (start,) = events(log, "merge-start")
    (end,) = events(log, "merge-end")
    one = str(filled.reference(REPOSITORY, "1"))
    assert start["destination"] == end["destination"] == one
    assert end["digest"] == filled.digest(REPOSITORY, "1")
    assert end["counts"] == {"replaced": 2, "kept": 1}
    assert events(log, "-error") == []
    said = {name: str(filled.reference(REPOSITORY, name)) for name in ("1", "fresh", "covered")}
    lines = [r.getMessage() for r in log.records if r.levelno >= logging.INFO]
    lines = [line for line in lines if not line.startswith("Push item")]  # the host's
    counts = {name: sum(tag in line for line in lines) for name, tag in said.items()}
    assert counts == {"1": 1, "fresh": 0, "covered": 0}, lines


def test_each_manifest_that_a_push_writes_has_its_line(world: World, log: Log) -> None:
    world.fill()

    push_tags(world, "1")

    told = [str(each["destination"]) for each in events(log, "mlmerge-child", "mlmerge-upload")]
    digests = world.platforms("src/app", "new").values()
    assert sorted(world.log.puts(REPOSITORY)) == sorted(["1", *digests])
    children = sorted(f"{world.host}/{REPOSITORY}@{digest}" for digest in digests)
    assert [*sorted(told[:-1]), told[-1]] == [*children, str(world.reference(REPOSITORY, "1"))]


@pytest.mark.parametrize("step", ["push", "tag-docker"])
def test_what_is_only_reported_is_told_as_a_dry_run(filled: World, log: Log, step: str) -> None:
    if step == "push":
        push_tags(filled, "1", report_only=True)
    else:
        add(filled, "arm64", mlmerge={**ON, "report_only": True})

    assert [event["type"] for event in events(log)] == ["mlmerge-merge-start", "mlmerge-merge-end"]
    assert {event["dry_run"] for event in events(log)} == {True}


def test_a_push_that_fails_is_told(filled: World, log: Log) -> None:
    filled.put("src/app", "new", build("new", *TWO, docker=False))

    with pytest.raises(MixedTypes) as caught:
        push_tags(filled, "1", mixed_types="fail")

    (event,) = events(log, "merge-error")
    assert (event["error"], event["message"]) == ("MixedTypes", str(caught.value))
    assert event["destination"] == str(filled.reference(REPOSITORY, "1"))


def test_tag_docker_is_told_once_however_often_it_begins_again(filled: World, log: Log) -> None:
    with registered(Interferer(filled, 2)):
        add(filled, "arm64")

    (start,) = events(log, "merge-start")
    (end,) = events(log, "merge-end")
    assert start["source"] == end["source"] == str(filled.reference(REPOSITORY, "build"))
    assert (end["attempts"], end["digest"]) == (3, filled.digest(REPOSITORY, "1"))
    assert events(log, "-error") == []


def test_a_removal_by_tag_docker_is_told(filled: World, log: Log) -> None:
    remove(filled, "s390x")

    (start,) = events(log, "remove-start")
    (end,) = events(log, "remove-end")
    assert start["source"] is None
    assert end["digest"] == filled.digest(REPOSITORY, "1")


# What the host collects


@define
class Backend:
    """A host's collector."""

    files: dict[str, bytes] = field(factory=dict)
    items: list[object] = field(factory=list)

    def attach_file(self, filename: str, content: bytes) -> None:
        """Keep a file; no two may have one name. It need not return anything."""
        if filename in self.files:
            raise ValueError(filename)
        self.files[filename] = content

    def update_push_items(self, items: list[object]) -> None:
        """Note the states of items."""
        self.items += items


@pytest.fixture
def collected() -> Iterator[Backend]:
    """Make a backend of the host's the default one."""
    backend = Backend()
    Collector.register_backend("tests", lambda: backend)
    Collector.set_default_backend("tests")
    yield backend
    Collector.register_backend("tests", None)


def test_the_report_of_a_push_is_collected(filled: World, collected: Backend) -> None:
    filled.put(REPOSITORY, "2", build("older", *THREE))

    push_tags(filled, "1", "2", "fresh")

    assert collected.items == []
    reports = json.loads(collected.files[REPORT])
    for report in reports:
        Draft202012Validator(report_schema()).validate(report)
    tags = {str(filled.reference(REPOSITORY, name)) for name in ("1", "2")}
    assert {report["destination"] for report in reports} == tags
    assert {report["digest"] for report in reports} == {
        filled.digest(REPOSITORY, name) for name in ("1", "2")
    }


def test_the_report_of_tag_docker_is_collected(filled: World, collected: Backend) -> None:
    add(filled, "arm64")

    (report,) = json.loads(collected.files[REPORT])
    Draft202012Validator(report_schema()).validate(report)
    assert report["digest"] == filled.digest(REPOSITORY, "1")


@pytest.mark.parametrize("settings", [{"steps": []}, {"report_only": True}])
def test_a_task_that_merged_nothing_has_no_report(
    filled: World, collected: Backend, settings: dict[str, object]
) -> None:
    push_tags(filled, "1", **settings)

    assert REPORT not in collected.files


def test_the_host_collects_records(collected: Backend, tmp_path: Path) -> None:
    collect_change(change())
    collect_change(change())

    assert len(collected.files) == 2
    (tmp_path / "record").write_bytes(min(collected.files.values()))
    assert read_change(str(tmp_path / "record")).new == PLAN.result


@pytest.mark.parametrize("backend", [None, "local", "dummy"])
def test_the_backends_of_the_library_are_left_alone(
    backend: str | None, collected: Backend, tmp_path: Path, log: Log
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        Collector.set_default_backend(backend)
        collect_change(change())

    assert (collected.files, list(tmp_path.iterdir()), log.messages) == ({}, [], [])
