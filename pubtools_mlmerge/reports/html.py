"""Reports as an HTML page."""

from __future__ import annotations

import base64
import hashlib
import html
import os
import secrets
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from datetime import datetime, timezone
from importlib.resources import files
from pathlib import Path
from typing import Generic, TypeVar, Union

from attrs import define, field, frozen

from pubtools_mlmerge.core.manifests import platform_name
from pubtools_mlmerge.core.plan import Entry, Report
from pubtools_mlmerge.errors import brief
from pubtools_mlmerge.reports.inspection import Inspection, Row, problem_text, rows_of
from pubtools_mlmerge.reports.report import (
    SIGNS,
    age_words,
    count_text,
    is_noteworthy,
    label_of,
    short,
    size_text,
    summary_of,
)

_Item = TypeVar("_Item")


@frozen
class PageInfo:
    """How a page came to be.

    Attributes:
        time (datetime):
            When it was made, with its zone.
        complete (bool):
            Whether nothing kept the program from going on to its end.
    """

    time: datetime
    complete: bool = True


@frozen
class Failure:
    """Something that failed.

    Attributes:
        name (str):
            What it was.
        problem (str):
            Why it failed.
    """

    name: str
    problem: str


@frozen
class PageFile:
    """A file that a page replaces as a whole.

    Attributes:
        path (Path):
            The file, whatever links led to it.
    """

    path: Path

    @classmethod
    def at(cls, name: str) -> PageFile:
        """Make sure now that a page can be written, and leave what is there."""
        found = cls(Path(os.path.realpath(name)))
        try:
            found.check()
        except OSError as error:
            raise ValueError(f"--html: {name}: {error.strerror or error}") from error
        return found

    def check(self) -> None:
        """Try to write, without an effect."""
        if self.path.is_file() or self.path.is_dir():
            self.path.open("ab").close()
        if self._is_replaced:  # who reads a pipe would take a try for all there is
            temporary = self._temporary()
            temporary.open("xb").close()
            temporary.unlink()

    def write(self, page: str) -> None:
        """Write a page; until it is there as a whole, the file holds what it held."""
        content = page.encode("utf-8")
        if not self._is_replaced:
            self.path.write_bytes(content)
            return
        temporary = self._temporary()
        try:
            with temporary.open("xb") as stream:  # for whom the umask says; a page is to be read
                stream.write(content)
            temporary.replace(self.path)
        except BaseException:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise

    @property
    def _is_replaced(self) -> bool:
        """Whether it is no device or pipe, which have to stay what they are."""
        return self.path.is_file() or not self.path.exists()

    def _temporary(self) -> Path:
        return self.path.with_name(f".{self.path.name[:100]}.{secrets.token_hex(4)}.part")


@define(eq=False, repr=False)
class Page(Generic[_Item]):
    """A page of all results.

    Attributes:
        file (PageFile | None):
            Where it is written; none for standard output.
        make (Callable):
            Makes it from the results in order, and from how they were made.
    """

    file: PageFile | None
    make: Callable[[Sequence[_Item | Failure], PageInfo], str]
    _told: list[_Item | Failure] = field(factory=list, init=False)

    def note(self, item: _Item) -> None:
        """Put a result on the page."""
        self._told.append(item)

    def note_failure(self, name: str, error: Exception) -> None:
        """Put a failure on the page."""
        self._told.append(Failure(name, str(error) or type(error).__name__))

    def made(self, *, complete: bool) -> str:
        """Make the page of what is known by now."""
        return self.make(self._told, PageInfo(datetime.now(timezone.utc), complete))


def check_html() -> None:
    """Make sure that a page can be made."""


def write_page(path: Path, results: Sequence[Report | Failure], info: PageInfo) -> None:
    """Write a page of results."""
    PageFile(Path(os.path.realpath(path))).write(merge_page(results, info))


_EMPTY = frozenset({"meta", "br"})  # of those that we use, the elements without content
_LINES = "\n"


@frozen
class Markup:
    """What is written as it is.

    Attributes:
        text (str):
            Elements, and text that is escaped already.
    """

    text: str

    def __str__(self) -> str:
        """Give the text."""
        return self.text


Content = Union[str, Markup, None]


def element(name: str, /, *content: Content, **attributes: str | float | None) -> Markup:
    """Write an element."""
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escaped(str(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    if name in _EMPTY:
        return Markup(f"<{name}{written}/>")
    return Markup(f"<{name}{written}>{joined(content)}</{name}>")


def joined(content: Iterable[Content]) -> Markup:
    """Write one thing after the other."""
    return Markup(
        "".join(
            part.text if isinstance(part, Markup) else escaped(part)
            for part in content
            if part is not None
        )
    )


def escaped(text: str) -> str:
    r"""Escape a text, and show what has no shape or moves other text around."""
    if not (text.isascii() and text.isprintable()):
        text = "".join(c if c.isprintable() or c in _LINES else _shown(c) for c in text)
    return html.escape(text).encode("ascii", "xmlcharrefreplace").decode("ascii")


def _shown(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")


NOTHING = element("span", "-", class_="none")
"""What stands where there is nothing; narrow screens leave it out."""


@frozen
class TableRow:
    """A row of a table.

    Attributes:
        cells (Sequence[str | Markup]):
            As many as there are columns; the first one names the row.
        kind (str | None):
            How it looks; none for nothing special.
    """

    cells: Sequence[Content]
    kind: str | None = None


def mark(text: str, kind: str) -> Markup:
    """Write a few words in a frame."""
    return joined([element("span", text, class_=f"mark {kind}"), " "])


def note(text: Content, kind: str) -> Markup:
    """Write a paragraph that catches the eye."""
    return element("p", text, class_=f"callout {kind}")


def full_digest(digest: str | None) -> Markup:
    """Write a digest in short, and in full on demand."""
    if digest is None:
        return NOTHING
    return element(
        "details",
        element("summary", element("code", short(digest) or digest)),
        element("code", digest),
        class_="digest",
    )


def facts(named: Iterable[tuple[str, Content]]) -> Markup:
    """List facts."""
    pairs = (
        element("div", element("dt", name), element("dd", fact))
        for name, fact in named
        if fact is not None
    )
    return element("dl", *pairs, class_="facts")


def grid(caption: str, header: Sequence[str], rows: Iterable[TableRow]) -> Markup:
    """Write a table; on a narrow screen each row is a card of its own."""
    heads = [element("th", name, scope="col", role="columnheader") for name in header]
    return element(
        "table",
        element("caption", caption),
        element("thead", element("tr", *heads, role="row"), role="rowgroup"),
        element("tbody", *(_row(header, row) for row in rows), role="rowgroup"),
        role="table",
    )


def _row(header: Sequence[str], row: TableRow) -> Markup:
    first, *others = row.cells
    cells = [
        element("td", content, role="cell", data_label=name)
        for name, content in zip(header[1:], others)
    ]
    head = element("th", first, scope="row", role="rowheader")
    return element("tr", head, *cells, role="row", class_=row.kind)


def failure_list(failures: Iterable[Failure]) -> Markup:
    """List failures."""
    items = (element("li", element("strong", f.name), element("pre", f.problem)) for f in failures)
    return element("section", element("h2", "Failures"), element("ul", *items), class_="failures")


PROGRAM = "pubtools-mlmerge"
_STYLES = ("drawing.css", "page.css")


def style_of(names: Iterable[str] = _STYLES) -> str:
    """Read style sheets of the package."""
    found = (files(__package__).joinpath(name) for name in names)
    return "\n" + "".join(file.read_text(encoding="ascii") for file in found)


def document(title: str, making: PageInfo, *body: Content) -> str:
    """Write a page."""
    style = style_of()
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    time = making.time.astimezone(timezone.utc).strftime("%Y-%m-%d %H:%M:%S UTC")
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=policy),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("title", title),
        element("style", Markup(style)),
    )
    interrupted = note("It was interrupted. What was not finished then is not on this page.", "bad")
    main = element("main", None if making.complete else interrupted, *body)
    foot = element("footer", element("p", f"Made by {PROGRAM} on {time}"))
    page = element("html", head, element("body", main, foot), lang="en")
    return f"<!DOCTYPE html>\n{page}\n"


def heading(kicker: str, title: str, *marks: Content) -> Markup:
    """Write the head of a page."""
    return element(
        "header",
        element("p", kicker, class_="kicker"),
        element("h1", element("bdi", title)),
        element("div", *marks, class_="marks"),
    )


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
        return self.entry.descriptor.is_attestation

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
    """Draw what became of a tag."""
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
        group = groups.setdefault(entry.descriptor.attested or entry.descriptor.digest, [])
        group.append(entry)
    return [
        entry
        for group in groups.values()
        for entry in sorted(group, key=lambda entry: entry.descriptor.is_attestation)
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


_MOST_OPEN = 3  # merges that are shown without being asked for
_MOST_OLD = 20  # old parts that the head of a page names
_MOST_TAGS = 3  # tags that it names for each of them
_ALL = "In the order in which they were asked for; each name leads to more about it"

Result = Union[Report, Failure]


def merge_page(results: Sequence[Result], making: PageInfo) -> str:
    """Write the page of one merge or of several, also of removals and of what was restored."""
    if len(results) == 1 and isinstance(results[0], Report):
        report = results[0]
        head = heading(_kind(report), str(report.destination), *_marks(report))
        return document(f"{_kind(report)}: {report.destination}", making, head, *_parts(report, 0))
    title = f"Merge of {count_text(len(results), 'tag')}"
    return document(title, making, *_overview(results))


def _overview(results: Sequence[Result]) -> Iterator[Markup]:
    """Write what is common, the failures, a list of all, and each one."""
    reports = [(i, r) for i, r in enumerate(results) if isinstance(r, Report)]
    failures = [r for r in results if isinstance(r, Failure)]
    title = count_text(len(results), "tag")
    yield heading("Merge", title, *_outcomes(reports, len(failures)))
    if failures:
        yield failure_list(failures)
    old = [(r, e) for _, r in reports for e in r.entries if is_noteworthy(e)]
    if old:
        yield _old_parts(old)
    if reports:
        header = ("Tag", "Outcome", "Before", "After", "Entries", "Oldest kept")
        rows = (_overview_row(i, report) for i, report in reports)
        yield element("section", element("h2", "All tags"), grid(_ALL, header, rows))
        yield element("h2", "One by one")
    for number, report in reports:
        is_open = "open" if len(reports) <= _MOST_OPEN else None
        yield element(
            "details",
            element(
                "summary",
                element("h3", element("bdi", str(report.destination))),
                *_marks(report),
            ),
            # A link to what is in it makes a browser open it.
            element("div", *_parts(report, number), id=f"m{number}"),
            class_="merge",
            open=is_open,
        )


def _outcomes(reports: Sequence[tuple[int, Report]], failed: int) -> Iterator[Markup]:
    outcomes = [_outcome(report) for _, report in reports]
    for outcome in dict.fromkeys(outcomes):
        yield mark(f"{outcomes.count(outcome)} {outcome[0]}", outcome[1])
    if failed:
        yield mark(f"{failed} failed", "bad")


def _outcome(report: Report) -> tuple[str, str]:
    """Say what became of a tag, and how that looks."""
    if not report.changed:
        return "unchanged", "plain"
    return ("would change", "tried") if report.dry_run else ("changed", "good")


def _overview_row(number: int, report: Report) -> TableRow:
    text, kind = _outcome(report)
    ages = [e.age_days for e in report.entries if e.fate == "kept" and e.age_days is not None]
    before = report.previous_digest
    cells: list[Content] = [
        element("a", str(report.destination), href=f"#m{number}"),
        mark(text, kind),
        element("code", short(before)) if before else NOTHING,
        element("code", short(report.digest)),
        ", ".join(f"{n} {fate}" for fate, n in report.counts.items()),
        age_words(max(ages)) if ages else NOTHING,
    ]
    return TableRow(cells, "old" if any(is_noteworthy(e) for e in report.entries) else None)


def _kind(report: Report) -> str:
    return "Merge" if report.source else "Change"


def _marks(report: Report) -> Iterator[Markup]:
    yield mark(*_outcome(report))
    if any(is_noteworthy(entry) for entry in report.entries):
        yield mark("old parts", "old")
    for fate, number in report.counts.items():
        yield mark(f"{SIGNS[fate]} {number} {fate}", f"count {fate}")


def _parts(report: Report, number: int) -> Iterator[Markup]:
    """Write all about one tag."""
    old = [(report, entry) for entry in report.entries if is_noteworthy(entry)]
    yield element("p", summary_of(report), class_="summary")
    if report.dry_run:
        yield note("This was a dry run: nothing was written.", "tried")
    if old:
        yield _old_parts(old)
    if report.missing:
        yield note(f"Asked for and not found: {', '.join(report.missing)}", "bad")
    if report.entries:
        yield element("figure", draw(report, f"p{number}"))
        yield _entries(report.entries)
    yield _facts(report)


def _old_parts(old: Sequence[tuple[Report, Entry]]) -> Markup:
    """Name what stays although it is old, each platform and age once."""
    places: dict[str, list[str]] = {}
    for report, entry in old:
        what = f"{label_of(entry.descriptor)} is {age_words(entry.age_days or 0)} old"
        places.setdefault(what, []).append(str(report.destination))
    items = [_old_part(what, tags) for what, tags in list(places.items())[:_MOST_OLD]]
    if len(places) > _MOST_OLD:
        items.append(element("li", f"and {len(places) - _MOST_OLD} more"))
    title = element("strong", "Old parts stay", class_="title")
    return element("div", title, element("ul", *items), class_="callout old")


def _old_part(what: str, tags: Sequence[str]) -> Markup:
    more = f" and {len(tags) - _MOST_TAGS} more tags" if len(tags) > _MOST_TAGS else ""
    place = f", in {', '.join(tags[:_MOST_TAGS])}{more}"
    return element("li", element("strong", what), place)


def _entries(entries: Iterable[Entry]) -> Markup:
    entries = tuple(entries)
    has_ages = any(entry.age for entry in entries)
    header = ("Platform", "Before", "After", *(("Age",) if has_ages else ()), "Fate", "Reason")
    rows = [_entry(entry, has_ages=has_ages) for entry in entries]
    return grid("Entries: those of the result in their order, then those left out", header, rows)


def _entry(entry: Entry, *, has_ages: bool) -> TableRow:
    gone = entry.fate in ("dropped", "excluded")
    cells: list[Content] = [
        element("bdi", label_of(entry.descriptor)),
        full_digest(entry.previous_digest),
        full_digest(None if gone else entry.descriptor.digest),
    ]
    if has_ages:
        cells.append(_age(entry))
    cells += [mark(f"{SIGNS[entry.fate]} {entry.fate}", f"count {entry.fate}"), entry.reason]
    return TableRow(cells, "old" if is_noteworthy(entry) else None)


def _age(entry: Entry) -> Content:
    age = entry.age
    if age is None or age.days is None:
        return NOTHING if age is None else "unknown"
    made = f", made on {age.created:%Y-%m-%d}" if age.created else ""
    return f"{age_words(age.days)}{made}"


def _facts(report: Report) -> Markup:
    attempts = str(report.attempts) if report.attempts > 1 else None
    return facts(
        [
            ("Source", _source(report)),
            ("Tag", element("bdi", str(report.destination))),
            ("Before", full_digest(report.previous_digest) if report.previous_digest else "absent"),
            ("After", full_digest(report.digest)),
            ("Media type", report.media_type),
            ("Anchor tag", report.anchor_tag),
            ("Times planned", attempts),
            ("Time", f"{report.seconds:.1f} s"),
        ]
    )


def _source(report: Report) -> Content:
    if report.source is None:
        return None
    digest = full_digest(report.source_digest) if report.source_digest else None
    return joined([element("bdi", str(report.source)), digest])


_CAPTION = "Images in their order, each with its attestations below it"


def inspection_page(results: Sequence[Inspection | Failure], making: PageInfo) -> str:
    """Write the page of an inspection."""
    parts = [part for result in results for part in _inspection_parts(result)]
    names = [r.name if isinstance(r, Failure) else r.reference for r in results]
    return document(f"Inspection: {', '.join(names)}", making, *parts)


def _inspection_parts(result: Inspection | Failure) -> Iterator[Markup]:
    if isinstance(result, Failure):
        yield heading("Inspection", result.name, mark("failed", "bad"))
        yield failure_list([result])
        return
    yield heading("Inspection", result.reference, *_inspection_marks(result))
    if result.problems:
        items = (element("li", problem_text(problem)) for problem in result.problems)
        title = element("strong", "Worth a look", class_="title")
        yield element("div", title, element("ul", *items), class_="callout bad")
    elif result.is_checked:
        yield note("All that is listed is in the repository.", "good")
    header = ("Platform", "Digest", "Size", "Type", *(("Age",) if result.has_ages else ()), "Flags")
    yield grid(_CAPTION, header, map(_inspection_row, rows_of(result)))
    yield facts(
        [
            ("Reference", element("bdi", result.reference)),
            ("Digest", full_digest(result.index.digest)),
            ("Media type", result.index.media_type),
            ("Size of the manifests", size_text(result.size)),
            ("Looked for all of them", "yes" if result.is_checked else "no"),
        ]
    )


def _inspection_marks(inspection: Inspection) -> Iterator[Markup]:
    yield mark(count_text(len(inspection.images), "image"), "plain")
    yield mark(count_text(inspection.attestation_count, "attestation"), "plain")
    if any(row.is_old for row in rows_of(inspection)):
        yield mark("old parts", "old")
    if inspection.problems:
        yield mark(count_text(len(inspection.problems), "problem"), "bad")


def _inspection_row(row: Row) -> TableRow:
    name: Content = element("bdi", row.name)
    kind = "old" if row.is_old else "odd" if row.flags else None
    if row.name == "attestation":
        name = element("span", row.name, class_="below")
    flags = element("strong", row.flags, class_="flags") if row.flags else NOTHING
    cells = [fact or NOTHING for fact in row.facts]
    return TableRow([name, full_digest(row.digest), *cells, flags], kind)
