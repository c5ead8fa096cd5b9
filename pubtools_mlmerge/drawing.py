"""Drawing: a merge as a picture, source and destination flowing into the result.

Places along a line are percentages and text has its own size, so a picture fits every width.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from attrs import frozen

from pubtools_mlmerge.core.ages import is_noteworthy
from pubtools_mlmerge.core.plan import Entry, Report
from pubtools_mlmerge.errors import brief
from pubtools_mlmerge.fates import SIGNS, age_words
from pubtools_mlmerge.markup import Markup, element
from pubtools_mlmerge.report import label_of, platform_name, short

_MOST = 40  # entries; more than that is a table and no picture
_LABEL = 60  # characters
_HEAD, _IMAGE, _ATTESTATION, _GAP = 34, 40, 22, 8
_EXTRA = 26  # below a picture that does not show all
_FROM_SOURCE = ("added", "replaced", "same", "excluded")
_IN_RESULT = ("added", "replaced", "same", "kept")


@frozen
class _Column:
    """A column, or a gap: its left edge and its width in percent."""

    left: float
    width: float


@frozen
class _Columns:
    """Where things are from left to right."""

    source: _Column
    first_gap: _Column
    result: _Column
    second_gap: _Column
    destination: _Column


_THREE = _Columns(
    _Column(0, 29), _Column(29, 6.5), _Column(35.5, 29), _Column(64.5, 6.5), _Column(71, 29)
)
_NOWHERE = _Column(0, 0)
# Where nothing comes from a source.
_TWO = _Columns(_NOWHERE, _NOWHERE, _Column(0, 40), _Column(40, 20), _Column(60, 40))


@frozen
class _Row:
    """An entry, and how far down it is in the columns that it is in."""

    entry: Entry
    source: int | None
    result: int | None
    destination: int | None

    @property
    def is_small(self) -> bool:
        return self.entry.descriptor.attests is not None

    @property
    def height(self) -> int:
        return _ATTESTATION if self.is_small else _IMAGE

    @property
    def bottom(self) -> int:
        tops = (self.source, self.result, self.destination)
        return self.height + max(top for top in tops if top is not None)

    @property
    def stays(self) -> bool:
        """Whether what the destination had there is in the result."""
        return self.entry.fate in ("same", "kept")

    @property
    def kind(self) -> str:
        """The classes that say how it looks."""
        return f"{self.entry.fate} old" if is_noteworthy(self.entry) else self.entry.fate


def draw(report: Report, name: str) -> Markup:
    """Draw what became of a tag.

    Args:
        report (MergeReport):
            The report.
        name (str):
            Begins the identifiers in the picture, which are unique on a page.

    Returns:
        Markup: An ``svg`` element as wide as its place.
    """
    rows = _rows(_chosen(report.entries))
    columns = _THREE if any(row.source is not None for row in rows) else _TWO
    height = max((row.bottom for row in rows), default=_HEAD) + 4
    hidden = len(report.entries) - len(rows)
    more = _text("more", "50%", height + 16, f"and {hidden} more, see the table")
    return element(
        "svg",
        element("title", f"What became of {brief(str(report.destination), 200)}", id=f"{name}-t"),
        element("desc", "; ".join(_told(row.entry) for row in rows), id=f"{name}-d"),
        *_heads(columns, "Source" if report.source else "Record"),
        *_gaps(rows, columns, height),
        *(part for row in rows for part in _cards(row, columns)),
        more if hidden else None,
        class_="drawing",
        role="img",
        aria_labelledby=f"{name}-t {name}-d",
        width="100%",
        height=height + (_EXTRA if hidden else 0),
    )


def _chosen(entries: Sequence[Entry]) -> list[Entry]:
    """Choose what is drawn, old parts first of all, and put attestations below their images."""
    order = sorted(range(len(entries)), key=lambda i: (not is_noteworthy(entries[i]), i))
    groups: dict[str, list[Entry]] = {}
    for entry in (entries[i] for i in sorted(order[:_MOST])):
        group = groups.setdefault(entry.descriptor.attests or entry.descriptor.digest, [])
        group.append(entry)
    return [
        entry
        for group in groups.values()
        for entry in sorted(group, key=lambda entry: entry.descriptor.attests is not None)
    ]


def _rows(entries: Sequence[Entry]) -> list[_Row]:
    """Stack entries up in each column, without holes."""
    rows, tops = [], [_HEAD] * 3
    for entry in entries:
        fate = entry.fate
        is_there = (fate in _FROM_SOURCE, fate in _IN_RESULT, entry.previous_digest is not None)
        row = _Row(entry, *(top if there else None for top, there in zip(tops, is_there)))
        tops = [top + (row.height + _GAP) * there for top, there in zip(tops, is_there)]
        rows.append(row)
    return rows


def _heads(columns: _Columns, source: str) -> Iterator[Markup]:
    names = [(columns.result, "Result"), (columns.destination, "Destination")]
    if columns is _THREE:
        names.insert(0, (columns.source, source))
    for column, name in names:
        yield _text("head", f"{column.left + column.width / 2}%", 16, name)


def _gaps(rows: Sequence[_Row], columns: _Columns, height: int) -> Iterator[Markup]:
    """Draw the bands between columns; one that leads nowhere becomes thin and ends."""
    left = [_band(row, row.source, row.result) for row in rows if row.source is not None]
    right = [
        _band(row, row.destination, row.result if row.stays else None, turned=True)
        for row in rows
        if row.destination is not None
    ]
    for gap, bands in ((columns.first_gap, left), (columns.second_gap, right)):
        if not bands:
            continue
        yield element(
            "svg",
            *bands,
            x=f"{gap.left}%",
            width=f"{gap.width}%",
            height=height,
            viewBox=f"0 0 100 {height}",
            preserveAspectRatio="none",
        )


def _band(row: _Row, start: int, end: int | None, *, turned: bool = False) -> Markup:
    """Draw a band through a gap that is 100 wide, from its left edge or, turned, its right."""
    x = [100, 50, 0] if turned else [0, 50, 100]
    inset = row.height // 5
    top, bottom = start + inset, start + row.height - inset
    if end is None:
        tip = f"{45 if turned else 55} {start + row.height // 2}"
        outline = f"M{x[0]} {top}L{tip}L{x[0]} {bottom}Z"
    else:
        there, back = end + inset, end + row.height - inset
        outline = (
            f"M{x[0]} {top}C{x[1]} {top} {x[1]} {there} {x[2]} {there}"
            f"V{back}C{x[1]} {back} {x[1]} {bottom} {x[0]} {bottom}Z"
        )
    kind = row.kind if end is not None else f"{row.kind} gone"
    return element("path", class_=f"band {kind}", d=outline)


def _cards(row: _Row, columns: _Columns) -> Iterator[Markup]:
    entry, fate = row.entry, row.entry.fate
    sign = f"{SIGNS[fate]} {fate}"
    if row.source is not None:
        note = short(entry.descriptor.digest) if row.result is not None else sign
        yield _card(row, columns.source, row.source, note)
    if row.result is not None:
        if is_noteworthy(entry) and entry.age_days is not None:
            sign += f", {age_words(entry.age_days)}"
        yield _card(row, columns.result, row.result, sign)
    if row.destination is not None:
        note = sign if fate == "dropped" else short(entry.previous_digest or "")
        kind = "" if row.stays else " gone"
        yield _card(row, columns.destination, row.destination, note, kind)


def _card(row: _Row, column: _Column, top: int, note: str, more: str = "") -> Markup:
    label = platform_name(row.entry.descriptor) or "no platform"
    if row.is_small:
        texts = [_text("small", 12, 15, "attestation")]
    else:
        texts = [_text("label", 12, 17, brief(label, _LABEL)), _text("note", 12, 32, note)]
    return element(
        "svg",
        element("rect", class_="box", width="100%", height="100%", rx=6),
        element("rect", class_="bar", width=4, height="100%"),
        *texts,
        class_=f"card {row.kind}{more}",
        x=f"{column.left}%",
        y=top,
        width=f"{column.width}%",
        height=row.height,
    )


def _text(kind: str, x: float | str, y: int, text: str) -> Markup:
    return element("text", text, class_=kind, x=x, y=y)


def _told(entry: Entry) -> str:
    """Say what the picture shows of an entry."""
    name = brief(label_of(entry.descriptor), _LABEL)
    age = f", {age_words(entry.age_days)} old" if entry.age_days is not None else ""
    return f"{name} {entry.fate}{age}"
