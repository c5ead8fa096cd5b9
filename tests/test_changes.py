"""Changes: to a document, and back from a file that may be anything."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Callable

import pytest

from pubtools_mlmerge.core.manifests import (
    DOCKER_LIST,
    OCI_INDEX,
    OCI_MANIFEST,
    Image,
    Index,
    Manifest,
)
from pubtools_mlmerge.core.merge import merge
from pubtools_mlmerge.core.references import Reference
from pubtools_mlmerge.core.strict_json import LARGEST
from pubtools_mlmerge.errors import InvalidRecord
from pubtools_mlmerge.merging.audit import Change, read_change, to_document
from pubtools_mlmerge.testing import make_image
from tests.factories import Json, digest, index

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
        missing=["riscv64"],
    )


def image(seed: str = "", media_type: str | None = None) -> Image:
    return Image.from_bytes(make_image(seed=seed).content, media_type)


@pytest.fixture
def write(tmp_path: Path) -> Callable[[object], str]:
    """Write a document, or what is none, into a file, and return its name."""

    def write(document: object) -> str:
        file = tmp_path / "record.json"
        content = document if isinstance(document, bytes) else json.dumps(document).encode()
        file.write_bytes(content)
        return str(file)

    return write


def without(document: Json, *path: str) -> Json:
    """Leave out a part of a document."""
    first, *rest = path
    if not rest:
        return {name: value for name, value in document.items() if name != first}
    inner = document[first]
    assert isinstance(inner, dict)
    return {**document, first: without(inner, *rest)}


def with_(document: Json, value: object, *path: str) -> Json:
    """Replace a part of a document."""
    first, *rest = path
    inner = document[first]
    return {**document, first: with_(inner, value, *rest) if isinstance(inner, dict) else value}


def test_the_document_tells_all() -> None:
    document = to_document(change())

    entries = document.pop("entries")
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
    }
    assert isinstance(entries, list)
    assert entries[0] == {
        "platform": "linux/amd64",
        "digest": digest("linux/amd64@new"),
        "fate": "replaced",
        "previous_digest": digest("linux/amd64@old"),
        "reason": "the source has a newer one",
    }
    assert [entry["fate"] for entry in entries] == ["replaced", "kept"]


def test_the_time_is_written_in_utc() -> None:
    abroad = NOON.astimezone(timezone(timedelta(hours=5, minutes=30)))

    assert to_document(change(time=abroad))["time"] == "2024-02-29T12:00:00.000005+00:00"


@pytest.mark.parametrize(
    "held",
    [
        None,
        OLD,
        index("linux/amd64", docker=True),
        index("linux/amd64", media_type_field=False),
        image(),
        image(media_type=OCI_MANIFEST),
    ],
)
def test_what_a_tag_held_is_read_back_byte_for_byte(
    write: Callable[[object], str], held: Manifest | None
) -> None:
    found = read_change(write(to_document(change(held))))

    assert found.previous == held
    assert found.new == PLAN.result
    assert (found.time, found.destination) == (NOON, STABLE)
    assert (str(found.source), found.source_digest) == ("quay.io/org/app:new", SOURCE.digest)


def test_a_type_that_only_the_registry_stated_is_read_back(write: Callable[[object], str]) -> None:
    content = index("linux/amd64", media_type_field=False).content
    stated = Index.from_bytes(content, DOCKER_LIST)

    found = read_change(write(to_document(change(stated))))

    assert found.previous is not None
    assert found.previous.media_type == DOCKER_LIST


def test_a_change_without_a_source_is_read_back(write: Callable[[object], str]) -> None:
    document = {**to_document(change()), "source": None, "source_digest": None}

    found = read_change(write(document))

    assert (found.source, found.source_digest) == (None, None)


def test_the_largest_manifests_fit_into_a_record(write: Callable[[object], str]) -> None:
    room = LARGEST - len(index(annotations={"x": ""}).content)
    largest = index(annotations={"x": "é" * (room // 2)})
    assert len(largest.content) > LARGEST - 2

    assert read_change(write(to_document(change(largest, largest)))).previous == largest


GOOD: Json = to_document(change())


@pytest.mark.parametrize(
    ("document", "problem"),
    [
        (b"", "Expecting value"),
        (b"{", "Expecting"),
        (b"\xff\xfe\xfd", "can't decode"),
        (b"[" * 100_000, "nests too deep"),
        (b" " * (16 * LARGEST + 1), "has more than 67108864 bytes"),
        ([GOOD], "document: expected an object"),
        (without(GOOD, "format"), "format: expected 1"),
        ({**GOOD, "format": 2}, "format: expected 1"),
        (without(GOOD, "time"), "time: expected text"),
        ({**GOOD, "time": "noon"}, "Invalid isoformat string: 'noon'"),
        ({**GOOD, "time": "2024-02-29T12:00:00"}, "time: expected one with its zone"),
        (without(GOOD, "destination"), "destination: expected text"),
        ({**GOOD, "destination": "quay.io/UPPER:1"}, "is no valid image reference"),
        ({**GOOD, "destination": f"quay.io/app@{OLD.digest}"}, "destination: expected a tag"),
        ({**GOOD, "destination": f"quay.io/app:1@{OLD.digest}"}, "destination: expected a tag"),
        ({**GOOD, "source": 1}, "source: expected text"),
        ({**GOOD, "source": "x"}, "is no valid image reference"),
        ({**GOOD, "source_digest": []}, "source_digest: expected text"),
        (without(GOOD, "previous"), "previous: expected an object or null"),
        ({**GOOD, "previous": []}, "previous: expected an object"),
        ({**GOOD, "new": None}, "new: expected an object"),
        (without(GOOD, "new"), "new: expected an object"),
        (without(GOOD, "previous", "content"), "content: expected text"),
        (without(GOOD, "previous", "media_type"), "media_type: expected text"),
        (without(GOOD, "new", "digest"), "digest: expected text"),
        (with_(GOOD, "{}", "previous", "content"), "manifests: is missing"),
        (with_(GOOD, "\ud800", "new", "content"), "surrogates not allowed"),
        (with_(GOOD, DOCKER_LIST, "previous", "media_type"), "contradicts the content type"),
        (with_(GOOD, "text/plain", "new", "media_type"), "came with content type"),
    ],
)
def test_what_is_no_record_is_refused(
    write: Callable[[object], str], document: object, problem: str
) -> None:
    file = write(document)

    with pytest.raises(InvalidRecord, match=problem) as caught:
        read_change(file)

    assert str(caught.value).startswith(f"{file}: no record of a change: ")


@pytest.mark.parametrize("name", ["previous", "new"])
def test_a_record_that_was_altered_is_refused(write: Callable[[object], str], name: str) -> None:
    held = GOOD[name]
    assert isinstance(held, dict)
    altered = with_(GOOD, held["content"] + " ", name, "content")

    with pytest.raises(InvalidRecord, match=f"{name}: content has digest sha256:.*, expected "):
        read_change(write(altered))


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidRecord, match="absent: no record of a change: No such file"):
        read_change(str(tmp_path / "absent"))
    with pytest.raises(InvalidRecord, match="Is a directory"):
        read_change(str(tmp_path))
