"""Spans: what a trace shows of a merge, and that there is nothing of it where nobody traces."""

from __future__ import annotations

import re
from typing import get_args

import pytest

from pubtools_mlmerge.core.plan import Fate
from pubtools_mlmerge.observe import span
from pubtools_mlmerge.testing import RegistryServer, make_image, make_index
from tests.pages import DOCS
from tests.programs import put, python
from tests.traces import Trace, trace

NEW = make_index([make_image(p, seed="new") for p in ("linux/amd64", "linux/arm64")])
OLD = make_index([make_image(p, seed="old") for p in ("linux/amd64", "linux/s390x")])
PASSWORD = "wonder-land"
TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
MERGE = """
from pubtools_mlmerge.registry.copying import Children
from pubtools_mlmerge.registry.client import RegistryClient
from pubtools_mlmerge.merging.decision import StepOptions
from pubtools_mlmerge.core.references import Reference
from pubtools_mlmerge.concurrency import map_in_order
from pubtools_mlmerge.merging.step import Step
client = RegistryClient("alice", {password!r})
step = Step(client, client, StepOptions(), Children(client, client))
def merge(source, destination):
    return step.merge(Reference.parse(source), Reference.parse(destination))
"""
LOADED = """
import sys
print([name for name in sys.modules if name.startswith(("opentelemetry", "pubtools.tracing"))])
"""


def merging(code: str) -> str:
    return MERGE.format(password=PASSWORD) + code


@pytest.fixture
def filled(registry_server: RegistryServer) -> RegistryServer:
    put(registry_server, "new", NEW, "from/app")
    put(registry_server, "stable", OLD, "to/app")
    put(registry_server, "edge", OLD, "to/app")
    return registry_server


def merge(server: RegistryServer, source: str = "new", **environment: str) -> Trace:
    """Merge between two repositories."""
    code = f"merge('{server.host}/from/app:{source}', '{server.host}/to/app:stable')"
    return trace(merging(code), **environment)


def test_a_merge_is_a_span_with_its_parts_below(filled: RegistryServer) -> None:
    found = merge(filled)

    whole = found.one("merge")
    assert found.below(whole) == ["children", "pull", "pull", "push", "verify", "verify"]
    assert found.below(found.one("children")) == ["child", "child"]
    assert whole.parent is None
    assert {each.status["status_code"] for each in found.spans} == {"UNSET"}


def test_the_attributes_say_what_was_done(filled: RegistryServer) -> None:
    found = merge(filled)

    source, stable = f"{filled.host}/from/app:new", f"{filled.host}/to/app:stable"
    held = filled.manifest("to/app", "stable").digest
    whole = dict(found.one("merge").attributes)
    assert whole.pop("mlmerge.requests") == len(filled.requests)
    assert whole == {
        "mlmerge.source": source,
        "mlmerge.destination": stable,
        "mlmerge.dry_run": False,
        "mlmerge.source_digest": NEW.digest,
        "mlmerge.previous_digest": OLD.digest,
        "mlmerge.digest": held,
        "mlmerge.changed": True,
        "mlmerge.attempts": 1,
        "mlmerge.added": 1,
        "mlmerge.replaced": 1,
        "mlmerge.kept": 1,
    }
    pulls = {tuple(each.attributes.values()) for each in found.named("pull")}
    assert pulls == {(source, NEW.digest), (stable, OLD.digest)}
    push = {"mlmerge.destination": stable, "mlmerge.digest": held}
    assert found.one("push").attributes == push
    assert [each.attributes["mlmerge.found"] for each in found.named("verify")] == [
        OLD.digest,
        held,
    ]


def test_children_say_how_they_came(filled: RegistryServer) -> None:
    found = merge(filled)

    assert found.one("children").attributes["mlmerge.manifests"] == 2
    children = [dict(each.attributes) for each in found.named("child")]
    assert {each["mlmerge.by"] for each in children} == {"mount"}
    images = {f"{filled.host}/to/app@{child.digest}" for child in NEW.children}
    assert {each["mlmerge.destination"] for each in children} == images


def test_no_span_has_a_secret(filled: RegistryServer) -> None:
    found = merge(filled)

    assert found.spans
    assert PASSWORD not in found.done.out + found.done.err


def test_a_failure_marks_the_spans_around_it(filled: RegistryServer) -> None:
    found = merge(filled, "absent")

    absent = next(each for each in found.named("pull") if each.status["status_code"] == "ERROR")
    for failed in (absent, found.one("merge")):
        assert failed.attributes["error.type"] == "NotFound"
        assert failed.status["description"].startswith(f"{filled.host}/from/app:absent: not found")
        assert failed.events == []  # such as tracebacks, with what other libraries say of URLs


def test_what_other_libraries_say_is_not_told() -> None:
    found = trace(
        "from pubtools_mlmerge.observe import span\n"
        "try:\n"
        "    with span('pull'):\n"
        "        raise ValueError('https://cdn.invalid/?signature=secret')\n"
        "except ValueError:\n"
        "    pass"
    )

    failed = found.one("pull")
    assert failed.attributes == {"error.type": "ValueError"}
    assert "secret" not in found.done.out


def test_each_merge_of_a_batch_has_its_own_parts(filled: RegistryServer) -> None:
    new, to = f"{filled.host}/from/app:new", f"{filled.host}/to/app"
    found = trace(
        merging(
            "from opentelemetry import trace\n"
            "from pubtools.tracing import get_trace_wrapper\n"
            "tracer = get_trace_wrapper().provider.get_tracer('host')\n"
            "with tracer.start_as_current_span('mlmerge-task'):\n"
            f"    jobs = [lambda t=t: merge('{new}', f'{to}:{{t}}') for t in ('stable', 'edge')]\n"
            "    list(in_order(jobs, 2))"
        )
    )

    assert found.below(found.one("task")) == ["merge", "merge"]
    for each in found.named("merge"):
        below = found.below(each)
        assert below.count("push") == 1
        assert below.count("verify") == 2
    assert len(found.named("pull")) == 3  # the source is pulled once


def test_the_environment_may_tell_of_the_parent(filled: RegistryServer) -> None:
    found = merge(filled, traceparent=TRACEPARENT)

    assert found.one("merge").parent == "0xb7ad6b7169203331"


def test_merges_one_after_the_other_are_no_parts_of_each_other() -> None:
    found = trace(
        "from pubtools_mlmerge.observe import span\n"
        "for _ in range(2):\n"
        "    with span('merge'), span('pull'):\n"
        "        pass\n"
    )

    assert [each.parent for each in found.named("merge")] == [None, None]


@pytest.mark.parametrize("switch", ["", "false", "1"])
def test_where_tracing_is_off_nothing_of_it_is_loaded(filled: RegistryServer, switch: str) -> None:
    code = f"merge('{filled.host}/from/app:new', '{filled.host}/to/app:stable')\n{LOADED}"
    setting = f"import os; os.environ['OTEL_TRACING'] = {switch!r}\n"

    done = python(setting + merging(code))

    assert (done.code, done.out) == (0, "[]\n"), done.err


def test_the_page_has_every_span(filled: RegistryServer) -> None:
    found = merge(filled)

    page = (DOCS / "observing.rst").read_text(encoding="utf-8").partition("Traces\n---")[2]
    named = set(re.findall(r"``(mlmerge-[a-z]+)``", page))
    assert named - {"mlmerge-remove", "mlmerge-restore"} == {each.name for each in found.spans}
    keys = {key for each in found.spans for key in each.attributes}
    fates = {f"mlmerge.{fate}" for fate in get_args(Fate)}
    assert [key for key in keys - fates if f"``{key.partition('.')[2]}``" not in page] == []


def test_where_tracing_is_off_no_span_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OTEL_TRACING", raising=False)

    one, other = span("merge", source="a"), span("pull")

    assert one is other
    with one as first, other as second:
        first.note(digest="b")
        assert first is second


WITHOUT = """
import os, sys
os.environ["OTEL_TRACING"] = "TRUE"
{hidden}
from pubtools_mlmerge.observe import span
for _ in range(2):
    with span("merge") as current:
        current.note(digest="a")
print("done")
"""


@pytest.mark.parametrize("hidden", ["opentelemetry", "pubtools.tracing"])
def test_what_is_not_there_is_a_warning_and_no_failure(hidden: str) -> None:
    done = python(WITHOUT.format(hidden=f"sys.modules[{hidden!r}] = None"))

    assert (done.code, done.out) == (0, "done\n"), done.err
    (line,) = done.err.splitlines()
    assert line.startswith("Tracing is on, but pubtools.tracing cannot be loaded: ")


def test_tracing_that_was_off_when_it_was_loaded_stays_off() -> None:
    code = WITHOUT.format(
        hidden="os.environ['OTEL_TRACING'] = ''\n"
        "from pubtools.tracing import get_trace_wrapper\n"
        "get_trace_wrapper()\n"
        "os.environ['OTEL_TRACING'] = 'true'"
    )

    done = python(code)

    assert (done.code, done.out, done.err) == (0, "done\n", "")
