"""The HTML page of an inspection: what an index lists, and what is odd about it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

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
from pubtools_mlmerge.inspection import Inspection
from pubtools_mlmerge.inspection_report import Row, problem_text, rows_of
from pubtools_mlmerge.markup import Content, Markup, element
from pubtools_mlmerge.page_file import Failure, Making
from pubtools_mlmerge.phrases import count_text, size_text

_CAPTION = "Images in their order, each with its attestations below it"


def inspection_page(results: Sequence[Inspection | Failure], making: Making) -> str:
    """Write the page of an inspection.

    Args:
        results (Sequence[Inspection | Failure]):
            The inspection, or what kept it from being made.
        making (Making):
            How the page came to be.

    Returns:
        str: The page.
    """
    parts = [part for result in results for part in _parts(result)]
    names = [r.name if isinstance(r, Failure) else r.reference for r in results]
    return document(f"Inspection: {', '.join(names)}", making, *parts)


def _parts(result: Inspection | Failure) -> Iterator[Markup]:
    if isinstance(result, Failure):
        yield heading("Inspection", result.name, mark("failed", "bad"))
        yield failure_list([result])
        return
    yield heading("Inspection", result.reference, *_marks(result))
    if result.problems:
        items = (element("li", problem_text(problem)) for problem in result.problems)
        title = element("strong", "Worth a look", class_="title")
        yield element("div", title, element("ul", *items), class_="callout bad")
    elif result.is_checked:
        yield note("All that is listed is in the repository.", "good")
    header = ("Platform", "Digest", "Size", "Type", *(("Age",) if result.has_ages else ()), "Flags")
    yield grid(_CAPTION, header, map(_row, rows_of(result)))
    yield facts(
        [
            ("Reference", element("bdi", result.reference)),
            ("Digest", full_digest(result.index.digest)),
            ("Media type", result.index.media_type),
            ("Size of the manifests", size_text(result.size)),
            ("Looked for all of them", "yes" if result.is_checked else "no"),
        ]
    )


def _marks(inspection: Inspection) -> Iterator[Markup]:
    yield mark(count_text(len(inspection.images), "image"), "plain")
    yield mark(count_text(inspection.attestation_count, "attestation"), "plain")
    if any(row.is_old for row in rows_of(inspection)):
        yield mark("old parts", "old")
    if inspection.problems:
        yield mark(count_text(len(inspection.problems), "problem"), "bad")


def _row(row: Row) -> TableRow:
    name: Content = element("bdi", row.name)
    kind = "old" if row.is_old else "odd" if row.flags else None
    if row.depth:
        name = element("span", row.name, class_="below")
    flags = element("strong", row.flags, class_="flags") if row.flags else NOTHING
    cells = [fact or NOTHING for fact in row.facts]
    return TableRow([name, full_digest(row.digest), *cells, flags], kind)
