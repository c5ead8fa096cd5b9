"""The HTML page of merges: what became of one tag, or of many."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Union

from pubtools_mlmerge.core.ages import is_noteworthy
from pubtools_mlmerge.core.plan import Entry, Report
from pubtools_mlmerge.drawing import draw
from pubtools_mlmerge.fates import SIGNS, age_words
from pubtools_mlmerge.html_page import document, heading
from pubtools_mlmerge.html_parts import (
    NOTHING,
    TableRow,
    facts,
    failure_list,
    full_digest,
    grid,
    mark,
    note,
)
from pubtools_mlmerge.markup import Content, Markup, element, joined
from pubtools_mlmerge.page_file import Failure, Making
from pubtools_mlmerge.phrases import count_text
from pubtools_mlmerge.report import label_of, short, summary_of

_MOST_OPEN = 3  # merges that are shown without being asked for
_MOST_OLD = 20  # old parts that the head of a page names
_MOST_TAGS = 3  # tags that it names for each of them
_ALL = "In the order in which they were asked for; each name leads to more about it"

Result = Union[Report, Failure]


def merge_page(results: Sequence[Result], making: Making) -> str:
    """Write the page of one merge or of several, also of removals and of what was restored.

    Args:
        results (Sequence[MergeReport | Failure]):
            What came of each, in order.
        making (Making):
            How the page came to be.

    Returns:
        str: The page.
    """
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
            ("Requests", str(report.requests)),
            ("Time", f"{report.seconds:.1f} s"),
        ]
    )


def _source(report: Report) -> Content:
    if report.source is None:
        return None
    digest = full_digest(report.source_digest) if report.source_digest else None
    return joined([element("bdi", str(report.source)), digest])
