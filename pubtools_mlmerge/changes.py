"""Changes: what becomes of a tag, and the record that tells how to undo it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import datetime, timezone
from pathlib import Path

from attrs import field, frozen

from pubtools_mlmerge.core.manifests import Manifest, read_manifest
from pubtools_mlmerge.core.plan import Entry
from pubtools_mlmerge.core.references import Reference
from pubtools_mlmerge.core.strict_json import LARGEST
from pubtools_mlmerge.errors import DigestMismatch, InvalidRecord, MergeError
from pubtools_mlmerge.reports.report import entry_document

_FORMAT = 1
# Two manifests, each at most three times as long as JSON text, and the entries of both.
_LARGEST_RECORD = 16 * LARGEST


def _entries(values: Iterable[Entry]) -> tuple[Entry, ...]:
    return tuple(values)


def _texts(values: Iterable[str]) -> tuple[str, ...]:
    return tuple(values)


@frozen(kw_only=True, eq=False, repr=False)
class Change:
    """A change of a tag that is about to be made, or was.

    Attributes:
        time (datetime):
            When, with its time zone.
        source (Reference | None):
            Where the new entries came from; none where they came from nowhere else.
        destination (Reference):
            The tag.
        source_digest (str | None):
            What the source held.
        previous (Manifest | None):
            What the tag held before; none if it did not exist.
        new (Manifest):
            What it is to hold.
        entries (tuple[PlannedEntry, ...]):
            The plan. It is recorded for people, and not read back.
        missing (tuple[str, ...]):
            Names that were asked for and matched nothing. They are not read back, either.
    """

    time: datetime
    source: Reference | None
    destination: Reference
    source_digest: str | None
    previous: Manifest | None
    new: Manifest
    entries: tuple[Entry, ...] = field(default=(), converter=_entries)
    missing: tuple[str, ...] = field(default=(), converter=_texts)


def to_document(change: Change) -> dict[str, object]:
    """Write a change as a JSON document.

    Args:
        change (Change):
            The change.

    Returns:
        dict[str, object]: The document. There is no secret in it, as no reference has one.
    """
    return {
        "format": _FORMAT,
        "time": change.time.astimezone(timezone.utc).isoformat(timespec="microseconds"),
        "source": None if change.source is None else str(change.source),
        "destination": str(change.destination),
        "source_digest": change.source_digest,
        "previous": None if change.previous is None else _held(change.previous),
        "new": _held(change.new),
        "entries": [entry_document(entry) for entry in change.entries],
        "missing": list(change.missing),
    }


def _held(manifest: Manifest) -> dict[str, object]:
    # Whatever is a manifest was decoded as UTF-8, so the text stands for the exact bytes.
    content = manifest.content.decode("utf-8")
    return {"digest": manifest.digest, "media_type": manifest.media_type, "content": content}


def read_change(file: str) -> Change:
    """Read a record, and make sure that its manifests are what their digests say.

    Args:
        file (str):
            Name of the file.

    Returns:
        Change: The change, without its plan.

    Raises:
        InvalidRecord: When the file cannot be read, is no record, or was altered.
    """
    try:
        with Path(file).open("rb") as stream:
            return _read(stream.read(_LARGEST_RECORD + 1))
    except OSError as error:
        raise InvalidRecord(file, error.strerror or str(error)) from error
    except RecursionError as error:
        raise InvalidRecord(file, "nests too deep") from error
    except (MergeError, ValueError) as error:
        raise InvalidRecord(file, str(error)) from error


def _read(content: bytes) -> Change:
    if len(content) > _LARGEST_RECORD:
        raise ValueError(f"has more than {_LARGEST_RECORD} bytes")
    fields = _object(json.loads(content), "document")
    if fields.get("format") != _FORMAT:
        raise ValueError(f"format: expected {_FORMAT}")
    destination = Reference.parse(_text(fields, "destination"))
    if not destination.tag or destination.digest:
        raise ValueError("destination: expected a tag")
    if "previous" not in fields:  # null would say that the tag did not exist
        raise ValueError("previous: expected an object or null")
    source = _optional_text(fields, "source")
    return Change(
        time=_time(_text(fields, "time")),
        source=None if source is None else Reference.parse(source),
        destination=destination,
        source_digest=_optional_text(fields, "source_digest"),
        previous=None if fields["previous"] is None else _manifest(fields, "previous", destination),
        new=_manifest(fields, "new", destination),
    )


def _object(value: object, name: str) -> Mapping[str, object]:
    if not isinstance(value, dict):
        raise ValueError(f"{name}: expected an object")  # noqa: TRY004 - the file is wrong
    return value


def _text(fields: Mapping[str, object], name: str) -> str:
    value = fields.get(name)
    if not isinstance(value, str):
        raise ValueError(f"{name}: expected text")  # noqa: TRY004 - as above
    return value


def _optional_text(fields: Mapping[str, object], name: str) -> str | None:
    return None if fields.get(name) is None else _text(fields, name)


def _time(text: str) -> datetime:
    time = datetime.fromisoformat(text)
    if time.tzinfo is None:
        raise ValueError("time: expected one with its zone")
    return time


def _manifest(fields: Mapping[str, object], name: str, reference: Reference) -> Manifest:
    held = _object(fields.get(name), name)
    content = _text(held, "content").encode("utf-8")
    manifest = read_manifest(reference, content, _text(held, "media_type"))
    expected = _text(held, "digest")
    if manifest.digest != expected:
        raise DigestMismatch(name, expected, manifest.digest)
    return manifest
