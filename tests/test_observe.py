"""Events in the log and spans in a trace, of merges, removals, restores and each write."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import get_args

import pytest
from attrs import evolve

import pubtools_mlmerge
from pubtools_mlmerge.core.merge import merge
from pubtools_mlmerge.core.plan import Age, Fate, Report, patterns_of
from pubtools_mlmerge.core.references import Reference
from pubtools_mlmerge.errors import NotFound
from pubtools_mlmerge.merging.decision import AnchorTag, StepOptions
from pubtools_mlmerge.merging.merger import ManifestListMerger
from pubtools_mlmerge.merging.restore import restore
from pubtools_mlmerge.merging.step import Step, remove_platforms
from pubtools_mlmerge.merging.writer import Writer
from pubtools_mlmerge.observe import Kind, observed
from pubtools_mlmerge.registry.client import RegistryClient
from pubtools_mlmerge.registry.copying import Children
from pubtools_mlmerge.testing import RegistryServer, make_image, make_index
from tests.factories import index
from tests.pages import DOCS
from tests.programs import put, python
from tests.test_audit import change
from tests.traces import Trace, trace

Log = pytest.LogCaptureFixture

SOURCES = sorted(Path(pubtools_mlmerge.__file__).parent.rglob("*.py"))
PAGE = (DOCS / "observing.rst").read_text(encoding="utf-8")

SOURCE, TAG = Reference.parse("quay.io/src/app:new"), Reference.parse("quay.io/ns/app:1")
PLAN = merge(index("linux/amd64@new"), index("linux/amd64@old", "linux/s390x", "linux/arm64"))
REPORT = Report.of(PLAN, SOURCE, TAG, seconds=0.12345)
NEW = make_index([make_image(p, seed="new") for p in ("linux/amd64", "linux/arm64")])
OLD = make_index([make_image(p, seed="old") for p in ("linux/amd64", "linux/s390x")])


@pytest.fixture
def log(caplog: Log) -> Log:
    caplog.set_level("DEBUG", "pubtools.mlmerge")
    return caplog


def events(log: Log) -> list[dict[str, object]]:
    return [vars(record)["event"] for record in log.records if hasattr(record, "event")]


def observe(report: Report | None = REPORT) -> None:
    with observed("merge", SOURCE, TAG) as seen:
        seen.report = report


def fail(error: Exception, *, dry_run: bool = False) -> None:
    with observed("merge", SOURCE, TAG, dry_run=dry_run):
        raise error


def test_the_start_names_the_references_and_the_end_says_what_was_done(log: Log) -> None:
    observe()
    observe(evolve(REPORT, changed=False))

    title = f"Merge of {SOURCE} into {TAG}"
    assert log.messages[:2] == [f"{title}: started", f"{title}: finished: 1 replaced, 2 kept"]
    assert log.messages[3] == f"{title}: finished, nothing to do"
    start, end, *_ = events(log)
    assert start == {
        "type": "mlmerge-merge-start",
        "source": "quay.io/src/app:new",
        "destination": "quay.io/ns/app:1",
        "dry_run": False,
    }
    assert end == {
        **start,
        "type": "mlmerge-merge-end",
        "source_digest": index("linux/amd64@new").digest,
        "previous_digest": PLAN.previous_digest,
        "digest": PLAN.result.digest,
        "media_type": PLAN.result.media_type,
        "changed": True,
        "anchor_tag": None,
        "attempts": 1,
        "seconds": 0.123,
        "counts": {"replaced": 1, "kept": 2},
        "stale": [],
    }


def test_the_end_names_what_is_too_old_and_stays(log: Log) -> None:
    new, s390x, arm64 = REPORT.entries
    old = evolve(s390x, age=Age(days=1095), is_stale=True)
    gone = evolve(arm64, age=Age(days=1096), is_stale=True, fate="dropped")
    young = evolve(s390x, age=Age(days=9))

    observe(evolve(REPORT, entries=[new, old, gone, young]))

    digest = s390x.descriptor.digest
    expected = {"platform": "linux/s390x", "digest": digest, "age_days": 1095}
    assert events(log)[1]["stale"] == [expected]


def test_what_is_left_to_others_has_no_digests(log: Log) -> None:
    observe(None)

    assert log.messages[1].endswith(": left to others")
    start, end = events(log)
    assert end == {**start, "type": "mlmerge-merge-end", "is_left": True}


@pytest.mark.parametrize(("dry_run", "level"), [(True, "WARNING"), (False, "ERROR")])
def test_a_failure_is_logged_with_its_kind(dry_run: bool, level: str, log: Log) -> None:
    error = NotFound("quay.io/src/app:new", 404)

    with pytest.raises(NotFound):
        fail(error, dry_run=dry_run)

    start, event = events(log)
    assert isinstance(event.pop("seconds"), float)
    assert event == {
        **start,
        "type": "mlmerge-merge-error",
        "dry_run": dry_run,
        "error": "NotFound",
        "message": str(error),
    }
    assert log.records[1].levelname == level
    assert log.messages[1].endswith(f": failed: {error}")


def test_what_other_libraries_say_is_not_logged(log: Log) -> None:
    error = OSError("https://cdn.invalid/?signature=secret")

    with pytest.raises(OSError, match="secret"):
        fail(error)

    assert events(log)[1]["message"] is None
    assert log.messages[1].endswith(": failed: OSError")
    assert "secret" not in f"{log.text} {events(log)}"


@pytest.mark.parametrize(
    ("kind", "title"), [("remove", f"Removal from {TAG}"), ("restore", f"Restore of {TAG}")]
)
def test_removals_and_restores_have_no_source(kind: Kind, title: str, log: Log) -> None:
    with observed(kind, None, TAG, dry_run=True):
        pass

    assert [line.partition(": ")[0] for line in log.messages] == [f"{title} (dry run)"] * 2
    assert [event["source"] for event in events(log)] == [None, None]


# Where the work is done


@pytest.fixture
def server(registry_server: RegistryServer) -> RegistryServer:
    for tag, item in (("new", NEW), ("stable", OLD)):
        put(registry_server, tag, item)
    return registry_server


def tag(server: RegistryServer, name: str, repository: str = "app") -> Reference:
    return Reference(server.host, repository, tag=name)


def merge_by_step(server: RegistryServer) -> None:
    client = RegistryClient()
    step = Step(client, Writer(client, StepOptions()), Children(client, client))
    step.merge([tag(server, "new")], tag(server, "stable"))


def merge_by_class(server: RegistryServer) -> None:
    merger = ManifestListMerger(*(str(tag(server, name)) for name in ("new", "stable")))
    merger.set_quay_clients(RegistryClient(), RegistryClient())
    merger.merge_manifest_lists()


def remove(server: RegistryServer) -> None:
    writer = Writer(RegistryClient(), StepOptions())
    remove_platforms(writer, tag(server, "stable"), patterns_of(["s390x"]))


def put_back(server: RegistryServer) -> None:
    client, destination = RegistryClient(), tag(server, "stable")
    new, previous = (client.pull(tag(server, name)) for name in ("stable", "new"))
    restore(client, change(previous, new, destination))


@pytest.mark.parametrize(
    ("kind", "work"),
    [
        ("merge", merge_by_step),
        ("merge", merge_by_class),
        ("remove", remove),
        ("restore", put_back),
    ],
)
def test_each_is_logged_once_with_its_upload(
    kind: str, work: Callable[[RegistryServer], None], server: RegistryServer, log: Log
) -> None:
    work(server)

    start, upload, end = events(log)
    types = [start["type"], upload["type"], end["type"]]
    assert types == [f"mlmerge-{kind}-start", "mlmerge-upload", f"mlmerge-{kind}-end"]
    held = server.manifest("app", "stable").digest
    assert upload["digest"] == end["digest"] == held
    assert start["destination"] == upload["destination"] == end["destination"]


@pytest.mark.parametrize("work", [merge_by_step, merge_by_class])
def test_a_failure_is_logged_once(
    work: Callable[[RegistryServer], None], server: RegistryServer, log: Log
) -> None:
    server.delete_tag("app", "new")

    with pytest.raises(Exception, match=r"404|not found"):
        work(server)

    types = (str(event["type"]) for event in events(log))
    logged = [kind for kind in types if kind.rpartition("-")[2] in ("start", "end", "error")]
    assert logged == ["mlmerge-merge-start", "mlmerge-merge-error"]


def test_each_manifest_that_is_written_has_its_line(server: RegistryServer, log: Log) -> None:
    inner = make_index([make_image("linux/riscv64")])
    put(server, "deep", make_index([make_image("linux/amd64"), inner]))
    put(server, "stable", OLD, "to")
    client, anchor = RegistryClient(), AnchorTag.parse("{tag}-kept")
    step = Step(client, Writer(client, StepOptions(anchor_tag=anchor)), Children(client, client))
    server.forget_requests()

    step.merge([tag(server, "deep")], tag(server, "stable", "to"))

    written = [r.path for r in server.requests if r.method == "PUT" and "/manifests/" in r.path]
    logged = [
        str(event["destination"])
        for event in events(log)
        if event["type"] in ("mlmerge-upload", "mlmerge-child")
    ]
    names = [path.replace("/v2/to/manifests/", "").replace("%3A", ":") for path in written]
    assert len(names) == 5  # two images, the index within, and the tag with its anchor
    paths = [each[len(f"{server.host}/to") + 1 :] for each in logged]
    assert sorted(paths) == sorted(names)  # images are copied side by side
    assert paths[-2:] == names[-2:]


# What the documentation says


def terms(label: str) -> set[str]:
    """Read the keys of the lists below a label, up to the next heading."""
    section = PAGE.partition(f".. _{label}:\n")[2].partition("\n~~~")[0]
    lines = re.findall(r"^(``\w+``(?:, ``\w+``)*)$", section, re.MULTILINE)
    return {name for line in lines for name in re.findall(r"``(\w+)``", line)}


def test_the_page_has_every_key_of_a_start_and_an_end(log: Log) -> None:
    observe()
    observe(None)
    with pytest.raises(OSError, match="no"):
        fail(OSError("no"))

    keys = {key for event in events(log) for key in event}
    assert terms("event-keys") == keys - {"type"}


def test_the_page_has_every_event() -> None:
    sources = "".join(path.read_text(encoding="utf-8") for path in SOURCES)
    types = set(re.findall(r'"type": "(mlmerge-[a-z]+)"', sources))
    steps = {f"mlmerge-merge-{step}" for step in ("start", "end", "error")}

    named = re.findall(
        r"^``(mlmerge-[a-z-]+)``(?: \([A-Z]+\))?$", PAGE.partition("Traces\n---")[0], re.MULTILINE
    )
    assert set(named) == types | steps


# Nothing on the root logger


CALLS = """
import importlib, logging, pkgutil
import pubtools_mlmerge
before = (logging.root.level, list(logging.root.handlers), set(logging.Logger.manager.loggerDict))
for module in pkgutil.walk_packages(pubtools_mlmerge.__path__, "pubtools_mlmerge."):
    try:
        importlib.import_module(module.name)
    except ModuleNotFoundError as error:
        assert error.name.startswith(("pubtools._quay", "pytest")), error
from tests.test_observe import NEW, OLD, merge_by_class, merge_by_step, put_back, remove
from pubtools_mlmerge.testing import RegistryServer
from tests.programs import put
with RegistryServer() as server:
    for work in (merge_by_step, remove, put_back, merge_by_class):
        put(server, "new", NEW)
        put(server, "stable", OLD)
        work(server)
assert (logging.root.level, logging.root.handlers) == before[:2]
loggers = [name for name in logging.Logger.manager.loggerDict if "mlmerge" in name]
own = [logging.getLogger(name) for name in loggers]
handlers = [[type(handler).__name__ for handler in each.handlers] for each in own]
print(loggers, handlers, [each.level for each in own])
"""


def test_to_import_and_to_run_everything_leaves_the_root_logger_alone() -> None:
    done = python(CALLS)

    assert done.out == "['pubtools.mlmerge'] [['NullHandler']] [0]\n", done.err
    assert done.err == ""


# Spans, of which there is nothing where nobody traces


PASSWORD = "wonder-land"
TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
MERGE = """
from pubtools_mlmerge.registry.copying import Children
from pubtools_mlmerge.registry.client import RegistryClient
from pubtools_mlmerge.merging.decision import StepOptions
from pubtools_mlmerge.core.references import Reference
from pubtools_mlmerge.concurrency import map_in_order
from pubtools_mlmerge.merging.step import Step
from pubtools_mlmerge.merging.writer import Writer
client = RegistryClient(username="alice", password={password!r})
step = Step(client, Writer(client, StepOptions()), Children(client, client))
def merge(source, destination):
    return step.merge([Reference.parse(source)], Reference.parse(destination))
"""
LOADED = """
import sys
print([name for name in sys.modules if name.startswith(("opentelemetry", "pubtools.tracing"))])
"""


def merging(code: str) -> str:
    return MERGE.format(password=PASSWORD) + code


@pytest.fixture(scope="module")
def filled() -> Iterator[RegistryServer]:
    with RegistryServer() as server:
        for tag, item, repository in (("new", NEW, "from/app"), ("stable", OLD, "to/app")):
            put(server, tag, item, repository)
        put(server, "edge", OLD, "to/app")
        yield server


def traced_merge(server: RegistryServer, source: str, tag: str, **environment: str) -> Trace:
    """Merge between two repositories."""
    code = f"merge('{server.host}/from/app:{source}', '{server.host}/to/app:{tag}')"
    return trace(merging(code), **environment)


@pytest.fixture(scope="module")
def merged(filled: RegistryServer) -> Trace:
    return traced_merge(filled, "new", "stable", traceparent=TRACEPARENT)


def test_a_merge_is_a_span_with_its_parts_below(merged: Trace) -> None:
    whole = merged.one("merge")

    assert merged.below(whole) == ["children", "pull", "pull", "push", "verify", "verify"]
    assert merged.below(merged.one("children")) == ["child", "child"]
    assert whole.parent == "0xb7ad6b7169203331"  # named in the environment
    assert {each.status["status_code"] for each in merged.spans} == {"UNSET"}
    assert PASSWORD not in merged.done.out + merged.done.err


def test_the_attributes_say_what_was_done(filled: RegistryServer, merged: Trace) -> None:
    source, stable = f"{filled.host}/from/app:new", f"{filled.host}/to/app:stable"
    held = filled.manifest("to/app", "stable").digest
    assert merged.one("merge").attributes == {
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
    pulls = {tuple(each.attributes.values()) for each in merged.named("pull")}
    assert pulls == {(source, NEW.digest), (stable, OLD.digest)}
    push = {"mlmerge.destination": stable, "mlmerge.digest": held}
    assert merged.one("push").attributes == push
    found = [each.attributes["mlmerge.found"] for each in merged.named("verify")]
    assert found == [OLD.digest, held]
    assert merged.one("children").attributes["mlmerge.manifests"] == 2
    children = {tuple(each.attributes.values()) for each in merged.named("child")}
    assert children == {
        (
            f"{filled.host}/from/app@{child.digest}",
            f"{filled.host}/to/app@{child.digest}",
            "mount",
        )
        for child in NEW.children
    }


def test_the_page_has_every_span(merged: Trace) -> None:
    page = PAGE.partition("Traces\n---")[2]

    named = set(re.findall(r"``(mlmerge-[a-z]+)``", page))
    assert named - {"mlmerge-remove", "mlmerge-restore"} == {each.name for each in merged.spans}
    keys = {key for each in merged.spans for key in each.attributes}
    fates = {f"mlmerge.{fate}" for fate in get_args(Fate)}
    assert [key for key in keys - fates if f"``{key.partition('.')[2]}``" not in page] == []


def test_a_failure_marks_the_spans_around_it(filled: RegistryServer) -> None:
    found = traced_merge(filled, "absent", "edge")

    absent = next(each for each in found.named("pull") if each.status["status_code"] == "ERROR")
    for failed in (absent, found.one("merge")):
        assert failed.attributes["error.type"] == "NotFound"
        assert failed.status["description"].startswith(f"{filled.host}/from/app:absent: not found")
        assert failed.events == []  # such as tracebacks, with what other libraries say of URLs


def test_what_other_libraries_say_is_in_no_span() -> None:
    found = trace(
        "from pubtools_mlmerge.observe import span\n"
        "try:\n"
        "    with span('pull', reference='a\\nb'):\n"
        "        raise ValueError('https://cdn.invalid/?signature=secret')\n"
        "except ValueError:\n"
        "    pass"
    )

    failed = found.one("pull")
    assert failed.attributes == {"error.type": "ValueError", "mlmerge.reference": "a?b"}
    assert "secret" not in found.done.out


def test_each_merge_of_a_batch_has_its_own_parts(filled: RegistryServer) -> None:
    new, to = f"{filled.host}/from/app:new", f"{filled.host}/to/app"
    found = trace(
        merging(
            "from opentelemetry import trace\n"
            "from pubtools.tracing import get_trace_wrapper\n"
            "tracer = get_trace_wrapper().provider.get_tracer('host')\n"
            "with tracer.start_as_current_span('mlmerge-task'):\n"
            f"    jobs = [lambda t=t: merge('{new}', f'{to}:{{t}}') for t in ('one', 'edge')]\n"
            "    list(map_in_order(jobs, 2))"
        )
    )

    assert found.below(found.one("task")) == ["merge", "merge"]
    for each in found.named("merge"):
        below = found.below(each)
        assert below.count("push") == 1
        assert below.count("verify") == 2
    assert len(found.named("pull")) == 3  # the source is pulled once


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


WITHOUT = """
import logging, os, sys
logging.basicConfig(format="%(message)s")
os.environ["OTEL_TRACING"] = "TRUE"
{hidden}
from pubtools_mlmerge.observe import span
for _ in range(2):
    with span("merge") as current:
        current.note(digest="a")
print("done")
"""


OFF = (
    "os.environ['OTEL_TRACING'] = ''\n"
    "from pubtools.tracing import get_trace_wrapper\n"
    "get_trace_wrapper()\n"
    "os.environ['OTEL_TRACING'] = 'true'"
)
MISSING = "Tracing is on, but pubtools.tracing cannot be loaded: "


@pytest.mark.parametrize(
    ("hidden", "words"),
    [
        ("sys.modules['opentelemetry'] = None", MISSING),
        ("sys.modules['pubtools.tracing'] = None", MISSING),
        (OFF, ""),  # when it was loaded
    ],
)
def test_what_is_not_there_or_off_is_no_failure(hidden: str, words: str) -> None:
    done = python(WITHOUT.format(hidden=hidden))

    assert (done.code, done.out) == (0, "done\n"), done.err
    assert done.err.startswith(words)
    assert len(done.err.splitlines()) == bool(words)
