"""Records of changes: as documents, in a directory, and for the collector of the host."""

from __future__ import annotations

import json
import logging
import os
import re
import resource
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta, timezone
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Callable

import pytest
from attrs import evolve

from pubtools_mlmerge.core.manifests import (
    DOCKER_LIST,
    OCI_INDEX,
    OCI_MANIFEST,
    Image,
    Index,
    Manifest,
    digest_of,
)
from pubtools_mlmerge.core.merge import merge
from pubtools_mlmerge.core.references import Reference
from pubtools_mlmerge.core.strict_json import LARGEST
from pubtools_mlmerge.errors import InvalidRecord, RecordFailed
from pubtools_mlmerge.host.task import summed_up
from pubtools_mlmerge.merging.audit import (
    AuditDirectory,
    Change,
    collect,
    collect_change,
    find_record,
    read_change,
    task_records,
)
from pubtools_mlmerge.reports.report import short, to_json
from pubtools_mlmerge.testing import make_image
from tests.factories import Json, digest, index
from tests.test_hooks import REPORT

Log = pytest.LogCaptureFixture

OLD = index("linux/amd64@old", "linux/s390x", annotations={"é": "\U0001f600\u2028"})
SOURCE = index("linux/amd64@new")
PLAN = merge(SOURCE, OLD)
NOON = datetime(2024, 2, 29, 12, 0, 0, 5, timezone.utc)
STABLE = Reference.parse("quay.io/org/app:stable")


def change(
    previous: Manifest | None = OLD,
    new: Manifest = PLAN.result,
    destination: Reference = STABLE,
    time: datetime = NOON,
) -> Change:
    """Make the change that a merge of two indexes makes."""
    return Change(
        time=time,
        source=Reference.parse("quay.io/org/app:new"),
        destination=destination,
        source_digest=SOURCE.digest,
        previous=previous,
        new=new,
        entries=PLAN.entries,
        missing=("riscv64",),
    )


def image(seed: str = "", media_type: str | None = None) -> Image:
    return Image.from_bytes(make_image(seed=seed).content, media_type)


@pytest.fixture
def write(tmp_path: Path) -> Callable[[object], str]:
    """Write a document, or bytes, into a file, and return its name."""

    def write(document: object) -> str:
        file = tmp_path / "record.json"
        if isinstance(document, dict):  # as who forges it would do
            document = {k: v for k, v in document.items() if k != "digest"}
            document["digest"] = digest_of(json.dumps(document, sort_keys=True, indent=4).encode())
        content = document if isinstance(document, bytes) else json.dumps(document).encode()
        file.write_bytes(content)
        return str(file)

    return write


def edited(path: str, *values: object) -> Json:
    """Change a part of a good record, or leave it out."""
    part = document = json.loads(change().to_json())
    *outer, last = path.split(".")
    for name in outer:
        part = part[name]
    part.pop(last, None)
    if values:
        (part[last],) = values
    return dict(document)


ALIKE = ("quay.io/my/app:1", "quay.io/in/my/app:1", "quay.io/my/app-1:1", "other.test/my/app:1")


def test_the_newest_record_of_a_tag_is_found_among_those_of_tags_with_similar_names(
    tmp_path: Path,
) -> None:
    tags, records = [Reference.parse(name) for name in ALIKE], AuditDirectory(str(tmp_path))
    times = [NOON + timedelta(days=number) for number in range(2)]
    for moment in times:
        for tag in tags:
            records.record(change(destination=tag, time=moment))
    damaged = change(destination=tags[0], time=times[1] + timedelta(days=1))
    (tmp_path / damaged.file_name).write_text("{}")

    found = [find_record(str(tmp_path), tag, PLAN.result.digest) for tag in tags]

    read = [read_change(str(file)) for file in found]
    assert [(each.destination, each.time) for each in read] == [(tag, times[1]) for tag in tags]
    assert find_record(str(tmp_path), tags[0], OLD.digest) is None


def test_the_document_has_everything() -> None:
    document = change().to_document()

    entries, stated = document.pop("entries"), document.pop("digest")
    whole = {**document, "entries": entries}
    assert stated == digest_of(json.dumps(whole, sort_keys=True, indent=4).encode())
    assert document == {
        "format": 1,
        "time": "2024-02-29T12:00:00.000005+00:00",
        "source": "quay.io/org/app:new",
        "destination": "quay.io/org/app:stable",
        "source_digest": SOURCE.digest,
        "previous": {
            "digest": OLD.digest,
            "media_type": OCI_INDEX,
            "content": OLD.content.decode(),
        },
        "new": {
            "digest": PLAN.result.digest,
            "media_type": OCI_INDEX,
            "content": PLAN.result.content.decode(),
        },
        "missing": ["riscv64"],
        "sources": [],
    }
    assert isinstance(entries, list)
    assert entries[0] == {
        "platform": "linux/amd64",
        "digest": digest("linux/amd64@new"),
        "fate": "replaced",
        "previous_digest": digest("linux/amd64@old"),
        "reason": "in both, the source wins",
    }
    assert [entry["fate"] for entry in entries] == ["replaced", "kept"]


@pytest.mark.parametrize(
    "held",
    [
        None,
        OLD,
        index("linux/amd64", docker=True),
        index("linux/amd64", media_type_field=False),
        image(),
        image(media_type=OCI_MANIFEST),
        # of a type that only the registry stated
        Index.from_bytes(index("linux/amd64", media_type_field=False).content, DOCKER_LIST),
    ],
)
def test_what_a_tag_held_is_read_back_byte_for_byte(
    write: Callable[[object], str], held: Manifest | None
) -> None:
    found = read_change(write(change(held).to_document()))

    assert found.previous == held
    assert found.new == PLAN.result
    assert (found.time, found.destination) == (NOON, STABLE)
    assert (str(found.source), found.source_digest) == ("quay.io/org/app:new", SOURCE.digest)


def test_a_change_without_a_source_is_read_back(write: Callable[[object], str]) -> None:
    document = {**change().to_document(), "source": None, "source_digest": None}

    found = read_change(write(document))

    assert (found.source, found.source_digest) == (None, None)


def test_the_largest_manifests_fit_into_a_record(write: Callable[[object], str]) -> None:
    room = LARGEST - len(index(annotations={"x": ""}).content)
    largest = index(annotations={"x": "é" * (room // 2)})
    assert len(largest.content) > LARGEST - 2

    assert read_change(write(change(largest, largest).to_document())).previous == largest


GOOD: Json = change().to_document()
# Its digest stays that of the whole.
CHANGED: list[tuple[str, object]] = [
    ("time", "2024-02-29T12:00:00.000006+00:00"),
    ("source", None),
    ("destination", "quay.io/org/app:latest"),
    ("source_digest", OLD.digest),
    ("previous", None),
    ("previous", GOOD["new"]),
    ("new", GOOD["previous"]),
    ("entries", []),
    ("missing", []),
    ("digest", None),
    ("digest", OLD.digest),
    ("other", 1),
]


@pytest.mark.parametrize(
    ("document", "problem"),
    [
        *((json.dumps({**GOOD, k: v}).encode(), "digest: does not match") for k, v in CHANGED),
        (b"", "Expecting value"),
        (b"\xff\xfe\xfd", "is not UTF-8"),
        (b"[" * 100_000, "nests deeper than 32"),
        (b" " * (16 * LARGEST + 1), "at most 67108864 are allowed"),
        ([GOOD], "document: expected an object"),
        (json.dumps(GOOD).replace("{", '{"format": 1,', 1).encode(), "'format' more than once"),
        (edited("format", True), "format: expected 1"),
        (edited("Format", 1), "Format: is not a field of a record"),
        (edited("previous.urls", []), "urls: is not a field of a record"),
        (edited("format"), "format: expected 1"),
        (edited("format", 2), "format: expected 1"),
        (edited("time"), "time: expected text"),
        (edited("time", "noon"), "Invalid isoformat string: 'noon'"),
        (edited("time", "2024-02-29T12:00:00"), "time: expected one with its zone"),
        (edited("destination"), "destination: expected text"),
        (edited("destination", "quay.io/UPPER:1"), "invalid reference"),
        (edited("destination", f"quay.io/app@{OLD.digest}"), "destination: expected a tag"),
        (edited("destination", f"quay.io/app:1@{OLD.digest}"), "destination: expected a tag"),
        (edited("source", 1), "source: expected text"),
        (edited("source", "x"), "invalid reference"),
        (edited("source_digest", []), "source_digest: expected text"),
        (edited("previous"), "previous: expected an object or null"),
        (edited("previous", []), "previous: expected an object"),
        (edited("new", None), "new: expected an object"),
        (edited("previous.content"), "content: expected text"),
        (edited("previous.media_type"), "media_type: expected text"),
        (edited("new.digest"), "digest: expected text"),
        (edited("previous.content", "{}"), "manifests: is missing"),
        (edited("new.content", "\ud800"), "new.content: has half of a surrogate pair"),
        (edited("previous.media_type", DOCKER_LIST), "contradicts the content type"),
        (edited("new.media_type", "text/plain"), "came with content type"),
        (edited("previous.content", f"{OLD.content.decode()} "), "previous: content has digest"),
        (edited("new.content", OLD.content.decode()), f"new: .* expected {PLAN.result.digest}"),
    ],
)
def test_what_is_no_record_is_refused(
    write: Callable[[object], str], document: object, problem: str
) -> None:
    file = write(document)

    with pytest.raises(InvalidRecord, match=problem) as caught:
        read_change(file)

    assert str(caught.value).startswith(f"{file}: not a record of a change: ")


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InvalidRecord, match="is not a regular file"):
        read_change(str(tmp_path / "pipe"))
    with pytest.raises(InvalidRecord, match="absent: not a record of a change: No such file"):
        read_change(str(tmp_path / "absent"))
    with pytest.raises(InvalidRecord, match="Is a directory"):
        read_change(str(tmp_path))


# A directory


def records(directory: Path) -> list[Path]:
    return sorted(directory.iterdir())


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@contextmanager
def room_for(size: int) -> Iterator[None]:
    """Limit the size of files that this process writes, as on a disk that is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("hours", [0, -3, 5.5])
def test_a_record_holds_the_change(tmp_path: Path, caplog: Log, hours: float) -> None:
    caplog.set_level(logging.INFO, logger="pubtools.mlmerge")
    abroad = change(time=NOON.astimezone(timezone(timedelta(hours=hours))))

    AuditDirectory(str(tmp_path)).record(abroad)

    (file,) = records(tmp_path)
    assert json.loads(file.read_bytes()) == change().to_document()
    assert read_change(str(file)).previous == change().previous
    expected = rf"20240229T120000\.000005Z-org-app-stable-{short(PLAN.result.digest)}-\w{{8}}\.json"
    assert re.fullmatch(expected, file.name)
    assert caplog.messages == [f"Recorded the change of quay.io/org/app:stable in {file}"]


def test_a_record_is_text_that_no_terminal_minds(tmp_path: Path) -> None:
    AuditDirectory(str(tmp_path)).record(change(index(annotations={"x": "\u2028\x7f\U0001f600"})))

    text = records(tmp_path)[0].read_bytes().decode("ascii")
    assert text.endswith("}\n")
    assert json.loads(text)["previous"]["content"].count("\U0001f600") == 1


def test_records_sort_by_time(tmp_path: Path) -> None:
    times = [NOON.replace(month=m, microsecond=us) for m in (1, 12) for us in (0, 9, 10)]
    for moment in reversed(times):
        AuditDirectory(str(tmp_path)).record(change(time=moment))

    assert [read_change(str(file)).time for file in records(tmp_path)] == times


def test_no_record_replaces_another(tmp_path: Path) -> None:
    recorder = AuditDirectory(str(tmp_path))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(recorder.record, [change()] * 40))

    assert len([read_change(str(file)) for file in records(tmp_path)]) == 40


def test_the_longest_name_and_the_oddest_make_a_file(tmp_path: Path) -> None:
    longest = Reference("quay.io", "/".join(["x" * 123] * 2), tag="t" * 128)
    oddest = Reference("quay.io", "../../é\n\x00", tag="-rf *")  # not as it is parsed

    for destination in (longest, oddest):
        AuditDirectory(str(tmp_path)).record(change(destination=destination))

    assert len(records(tmp_path)) == 2
    assert all(re.fullmatch(r"2024[A-Za-z0-9._-]+", file.name) for file in records(tmp_path))


def test_nobody_else_may_read_it(tmp_path: Path) -> None:
    tmp_path.chmod(0o750)
    before = os.umask(0)
    try:
        AuditDirectory(str(tmp_path / "new" / "audit")).record(change())
        AuditDirectory(str(tmp_path)).record(change())
    finally:
        os.umask(before)

    assert mode(tmp_path) == 0o750  # it was there
    assert mode(tmp_path / "new" / "audit") == 0o700
    assert mode(records(tmp_path / "new" / "audit")[0]) == 0o600


@pytest.mark.parametrize(
    ("permissions", "warns"),
    [(0o700, 0), (0o755, 0), (0o770, 1), (0o777, 1), (0o1777, 1)],
)
def test_a_directory_that_others_may_write_to_is_warned_of(
    tmp_path: Path, caplog: Log, permissions: int, warns: int
) -> None:
    tmp_path.chmod(permissions)

    recorder = AuditDirectory(str(tmp_path))
    recorder.record(change())
    recorder.record(change())

    assert caplog.text.count(f"{tmp_path}: others may write to it") == warns


def test_a_directory_of_another_user_is_warned_of(
    tmp_path: Path, caplog: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    with suppress(PermissionError):  # whose files are no others' already
        os.chown(tmp_path, 12345, -1)
    monkeypatch.setattr(os, "geteuid", lambda: 54321)

    AuditDirectory(str(tmp_path))

    assert f"{tmp_path}: others may write to it" in caplog.text


@pytest.mark.parametrize(
    ("place", "problem"),
    [
        ("file", "Not a directory"),
        ("file/below", "Not a directory"),
        ("x" * 300, "File name too long"),
        ("/proc/audit", ""),  # where not even the superuser makes anything
    ],
)
def test_a_place_for_no_records_is_an_error(tmp_path: Path, place: str, problem: str) -> None:
    (tmp_path / "file").touch()
    words = f"not written, as the change cannot be recorded in .*{problem}; "

    with pytest.raises(RecordFailed, match=words) as caught:
        AuditDirectory(str(tmp_path / place)).record(change())

    assert caught.value.place == str(tmp_path / place)


def test_a_record_is_on_the_disk_before_it_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[tuple[int, list[Path]]] = []

    def fsync(handle: int) -> None:
        synced.append((os.fstat(handle).st_ino, list(tmp_path.glob("*.json"))))

    monkeypatch.setattr(os, "fsync", fsync)

    AuditDirectory(str(tmp_path)).record(change())

    (file,) = records(tmp_path)
    assert synced == [(file.stat().st_ino, []), (tmp_path.stat().st_ino, [file])]


@pytest.mark.parametrize("size", [0, 100, 1000])
def test_half_a_record_is_none(tmp_path: Path, size: int) -> None:
    with pytest.raises(RecordFailed, match="File too large; "), room_for(size):
        AuditDirectory(str(tmp_path)).record(change())

    assert records(tmp_path) == []


def test_a_process_that_is_killed_leaves_whole_records_only(tmp_path: Path) -> None:
    code = (
        "from tests.test_audit import change\n"
        "from pubtools_mlmerge.merging.audit import AuditDirectory\n"
        f"while True: AuditDirectory({str(tmp_path)!r}).record(change())"
    )
    with subprocess.Popen([sys.executable, "-c", code]) as process:
        give_up = time.monotonic() + 20
        while len(list(tmp_path.glob("*.json"))) < 20 and time.monotonic() < give_up:
            time.sleep(0.01)
        process.kill()

    found = [read_change(str(file)) for file in tmp_path.glob("*.json")]
    assert len(found) >= 20


# The collector of a host


class Backend:
    """Keeps files as a host's own backend of pushcollector does."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.error: Exception | None = None
        self.answer: Future[None] = Future()
        self.answer.set_result(None)

    def attach_file(self, filename: str, content: bytes) -> Future[None]:
        if self.error is not None:
            raise self.error
        self.files[filename] = content
        return self.answer


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Backend:
    """Load a fake pushcollector, with a backend of the host as default."""
    backend, library = Backend(), ModuleType("pushcollector")
    proxy = SimpleNamespace(_delegate=backend, attach_file=backend.attach_file)
    library.Collector = SimpleNamespace(get=lambda: proxy)  # type: ignore[attr-defined]  # a module takes any name
    monkeypatch.setitem(sys.modules, "pushcollector", library)
    return backend


@pytest.mark.parametrize("library", [None, ModuleType("pushcollector")], ids=["none", "other"])
def test_without_the_library_nothing_is_collected_or_loaded(
    monkeypatch: pytest.MonkeyPatch, caplog: Log, library: ModuleType | None
) -> None:
    monkeypatch.delitem(sys.modules, "pushcollector", raising=False)
    if library is not None:
        monkeypatch.setitem(sys.modules, "pushcollector", library)

    collect_change(change())

    assert sys.modules.get("pushcollector") is library
    assert caplog.messages == []
    assert task_records(None) is None


def test_the_library_s_own_backend_is_not_used(
    collector: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It writes below the current directory."""
    monkeypatch.setattr(Backend, "__module__", "pushcollector._impl.backend.local")

    collect_change(change())

    assert collector.files == {}
    assert task_records(None) is None


def failed(error: Exception) -> Future[None]:
    future: Future[None] = Future()
    future.set_exception(error)
    return future


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("error", OSError("no\nspace"), "no space"),
        ("error", ValueError(), "ValueError"),
        ("answer", failed(OSError("no space")), "no space"),
        ("answer", None, "'NoneType' object has no attribute 'result'"),
        ("answer", Future(), "TimeoutError"),  # it hangs
    ],
)
def test_a_collector_that_fails_is_a_warning(
    collector: Backend, caplog: Log, name: str, value: object, words: str
) -> None:
    setattr(collector, name, value)

    collect("mlmerge-report.json", b"[]", "report", patience=0.01)

    assert caplog.messages == [f"The report is not collected: {words}"]
    assert caplog.records[0].levelname == "WARNING"


def test_the_reports_of_a_task_are_one_file(collector: Backend) -> None:
    with summed_up([REPORT, evolve(REPORT, anchor_tag="kept")]):
        pass

    (content,) = collector.files.values()
    assert list(collector.files) == ["mlmerge-report.json"]
    assert [report["anchor_tag"] for report in json.loads(content)] == [None, "kept"]
    assert content.decode().splitlines()[1] == to_json(REPORT) + ","


def test_a_task_of_a_host_uses_both(collector: Backend, tmp_path: Path) -> None:
    recorder = task_records(str(tmp_path))
    assert recorder is not None

    recorder(change())

    assert len(records(tmp_path)) == len(collector.files) == 1
