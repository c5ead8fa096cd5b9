"""Reports of merges as text and JSON."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

from attrs import frozen

from pubtools_mlmerge.core.manifests import (
    DOCKER_LIST,
    DOCKER_MANIFEST,
    OCI_INDEX,
    OCI_MANIFEST,
    Descriptor,
    platform_name,
)
from pubtools_mlmerge.core.plan import Age, Entry, Fate, Report
from pubtools_mlmerge.errors import one_line

VERSION = 1
SIGNS: dict[Fate, str] = {
    "added": "+",
    "replaced": "\u21c4",
    "same": "=",
    "kept": "\u2022",
    "dropped": "\u00d7",
    "excluded": "\u2013",
}
"""A sign for each fate, for those who cannot see its colour."""

TYPES = {
    DOCKER_LIST: "Docker list",
    DOCKER_MANIFEST: "Docker manifest",
    OCI_INDEX: "OCI index",
    OCI_MANIFEST: "OCI manifest",
}
"""Names of media types for people."""

_STEP = 1000  # of the units of sizes
_LEAST_ROUNDED_UP = 999.95  # to one place
_WIDEST = 500  # characters of a cell
_SHORT = 12  # hexadecimal digits of a digest that people get to see
_NOTHING = "-"
_GONE = frozenset[Fate]({"dropped", "excluded"})
_YEAR = 365


def report_schema() -> dict[str, object]:
    """Read the JSON Schema (draft 2020-12) of reports of merges, removals and restores."""
    return _read("report.schema.json")


def inspection_schema() -> dict[str, object]:
    """Read the JSON Schema (draft 2020-12) of inspections of one reference."""
    return _read("inspection.schema.json")


def _read(name: str) -> dict[str, object]:
    text = Path(__file__).with_name(name).read_text(encoding="utf-8")
    schema: dict[str, object] = json.loads(text)
    return schema


def is_old(days: int | None) -> bool:
    """Whether an image is so old that people should know, whatever the rule for ages."""
    return days is not None and days > _YEAR


def is_noteworthy(entry: Entry) -> bool:
    """Whether an image is kept that is old, by the rule or after a year."""
    return entry.fate == "kept" and (entry.is_stale or is_old(entry.age_days))


def size_text(size: int) -> str:
    """Write a number of bytes for people."""
    if size < _STEP:
        return f"{size} B"
    amount, unit = float(size), "B"
    for unit in ("kB", "MB", "GB", "TB", "PB"):  # noqa: B007 - the last one is used
        amount /= _STEP
        if amount < _LEAST_ROUNDED_UP:
            break
    return f"{amount:.1f} {unit}"


def age_text(age: Age | None) -> str:
    """Write an age and a date, or why it is unknown."""
    if age is None:
        return ""
    if age.created is None or age.days is None:
        return f"age unknown: {age.problem}"
    return f"{days_text(age.days)} old ({age.created:%Y-%m-%d})"


def days_text(days: int) -> str:
    """Write an age."""
    return count_text(days, "day")


def count_text(number: int, thing: str) -> str:
    """Write a count with its noun."""
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"


def to_json(report: Report) -> str:
    """Write a report as one JSON object on one line."""
    return json_line(
        {
            "schema": VERSION,
            "source": str(report.source) if report.source is not None else None,
            "sources": [str(source) for source in report.sources],
            "destination": str(report.destination),
            "source_digest": report.source_digest,
            "previous_digest": report.previous_digest,
            "digest": report.digest,
            "media_type": report.media_type,
            "changed": report.changed,
            "dry_run": report.dry_run,
            "destination_state": report.destination_state,
            "anchor_tag": report.anchor_tag,
            "error": None if report.error is None else str(report.error),
            "attempts": report.attempts,
            "seconds": round(report.seconds, 3),
            "entries": [entry_document(entry) for entry in report.entries],
        }
    )


def failure_to_json(error: BaseException, about: Mapping[str, object], message: str) -> str:
    """Write a failure as one JSON object on one line; `about` names what failed."""
    status = getattr(error, "status", None)
    kind = {"type": type(error).__name__, "message": message, "status": status}
    return json_line({**about, "error": kind})


def json_line(document: Mapping[str, object]) -> str:
    """Write a JSON object on one line, in which Azure finds no command such as `##vso[`."""
    return json.dumps(document).replace("##", r"#\u0023")


def entry_document(entry: Entry) -> dict[str, object]:
    """Write an entry as a JSON object."""
    facts = {
        "fate": entry.fate,
        "previous_digest": entry.previous_digest,
        "reason": entry.reason,
    }
    written = listed_document(entry.descriptor, entry.age, facts)
    return written if entry.age is None else {**written, "stale": entry.is_stale}


def listed_document(
    descriptor: Descriptor, age: Age | None, facts: Mapping[str, object]
) -> dict[str, object]:
    """Write what an index lists as a JSON object, with facts about it."""
    platform = descriptor.platform
    written = {"platform": platform_name(descriptor), "digest": descriptor.digest, **facts}
    if platform is not None and platform.os_version:
        written["os_version"] = platform.os_version
    if descriptor.is_attestation:
        written["attests"] = descriptor.attested or ""
    if descriptor.is_index:
        written["platforms"] = sorted(map(str, descriptor.slots))
    if age is not None:
        written["created"] = age.created and age.created.strftime("%Y-%m-%dT%H:%M:%SZ")
        written["age_days"] = age.days
    return written


@frozen
class Row:
    """A row of a table or tree: its cells, and the branch that leads to it in a tree."""

    cells: tuple[str, ...]
    is_alarming: bool = False
    branch: str = ""


@frozen(kw_only=True)
class Sheet:
    """What people get to see: a table or tree between some lines."""

    titles: tuple[str, ...] = ()
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    closing: tuple[str, ...]  # a summary, and problems
    is_tree: bool = False  # which is shown without the names of its columns

    @property
    def text(self) -> str:
        """The plain text."""
        cells = [(row.branch + row.cells[0], *row.cells[1:]) for row in self.rows]
        head = [""] if self.titles and not self.is_tree else []
        lines = table(cells if self.is_tree else [self.columns, *cells])
        return "\n".join(map(one_line, [*self.titles, *head, *lines, "", *self.closing]))


def to_text(report: Report, *, every: bool = False) -> str:
    """Write a report as a table and a summary line."""
    return report_sheet(report, every=every).text


def report_sheet(report: Report, *, every: bool = False) -> Sheet:
    """Show a report as a table and a summary.

    An attestation is a mark on the row of its image, unless `every` entry is to have a row.
    """
    has_ages = any(entry.age for entry in report.entries)
    rows = []
    for entry, mark in fold(report.entries, every=every):
        cells = (
            label_of(entry.descriptor) + mark,
            short(entry.previous_digest or "") or _NOTHING,
            _NOTHING if entry.fate in _GONE else short(entry.descriptor.digest),
            *([_age(entry)] if has_ages else []),
            entry.fate,
            entry.reason,
        )
        rows.append(Row(cells, is_noteworthy(entry)))
    return Sheet(
        columns=("PLATFORM", "BEFORE", "AFTER", *(["AGE"] if has_ages else []), "FATE", "REASON"),
        rows=tuple(rows),
        closing=(summary_of(report),),
    )


def fold(
    entries: Sequence[Entry], gone: Collection[Fate] = _GONE, *, every: bool
) -> list[tuple[Entry, str]]:
    """Return the entries that have rows, each with a mark of the attestations that have none.

    Unless `every` entry is to have a row, an attestation has none where its image has one.
    """
    images: dict[str, Entry] = {}
    for entry in reversed(entries):  # the first one of a digest counts
        if not entry.descriptor.is_attestation:
            images[entry.previous_digest or ""] = images[entry.descriptor.digest] = entry
    rows, signs = [], dict[int, list[str]]()
    for entry in entries:
        image = images.get(entry.descriptor.attested or "")
        if every or image is None or not entry.descriptor.is_attestation:
            rows.append(entry)
        else:
            goes = entry.fate in gone and image.fate not in gone
            signs.setdefault(id(image), []).append("-" if goes else "+")
    return [(entry, _mark(signs.get(id(entry), ()))) for entry in rows]


def _mark(signs: Sequence[str]) -> str:
    counts = [f" {sign}{signs.count(sign)}" for sign in "+-" if sign in signs]
    noun = " attestation" if len(signs) == 1 else " attestations"
    return "".join([*counts, noun]) if signs else ""


def summary_of(report: Report) -> str:
    """Summarise a report in one line."""
    if not report.changed:
        return f"{report.destination}: nothing to do, it stays {report.digest}"
    verb = "would become" if report.dry_run else "is now"
    before = short(report.previous_digest) if report.previous_digest else report.destination_state
    counts = ", ".join(f"{number} {fate}" for fate, number in report.counts.items())
    anchor = f", anchor tag {report.anchor_tag}" if report.anchor_tag else ""
    return f"{report.destination} {verb} {report.digest} (was {before}): {counts}{anchor}"


def short(digest: str) -> str:
    """Shorten a digest for people."""
    return digest.partition(":")[2][:_SHORT]


def table(rows: Iterable[Sequence[str]]) -> list[str]:
    """Align cells in columns."""
    lines = [[one_line(cell) for cell in row] for row in rows]
    lines = [[c if len(c) <= _WIDEST else f"{c[:_WIDEST]} …" for c in line] for line in lines]
    widths = [max(map(len, column)) for column in zip(*lines)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip() for line in lines
    ]


def label_of(descriptor: Descriptor) -> str:
    """Name an entry for people."""
    if descriptor.is_attestation:
        return f"attestation of {short(descriptor.attested or '') or 'nothing'}"
    if descriptor.is_index:
        names = ", ".join(sorted(map(str, descriptor.slots)))
        return f"index of {names}" if names else "index"
    return platform_name(descriptor) or _NOTHING


def _age(entry: Entry) -> str:
    if entry.age_days is not None:
        return days_text(entry.age_days)
    return "unknown" if entry.age else _NOTHING
