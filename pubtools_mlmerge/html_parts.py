"""Parts of HTML pages: marks, digests, lists and tables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from attrs import frozen

from pubtools_mlmerge.markup import Content, Markup, element, joined
from pubtools_mlmerge.page_file import Failure
from pubtools_mlmerge.report import short

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
    """Write a few words in a frame.

    Args:
        text (str):
            The words.
        kind (str):
            How they look.

    Returns:
        Markup: The frame.
    """
    return joined([element("span", text, class_=f"mark {kind}"), " "])


def note(text: Content, kind: str) -> Markup:
    """Write a paragraph that catches the eye.

    Args:
        text (str | Markup):
            The text.
        kind (str):
            ``old`` or ``bad``.

    Returns:
        Markup: The paragraph.
    """
    return element("p", text, class_=f"callout {kind}")


def full_digest(digest: str | None) -> Markup:
    """Write a digest in short, and in full on demand.

    Args:
        digest (str | None):
            The digest; none if there is none.

    Returns:
        Markup: Both.
    """
    if digest is None:
        return NOTHING
    return element(
        "details",
        element("summary", element("code", short(digest) or digest)),
        element("code", digest),
        class_="digest",
    )


def facts(named: Iterable[tuple[str, Content]]) -> Markup:
    """List facts.

    Args:
        named (Iterable[tuple[str, str | Markup | None]]):
            Name and fact; one that is none is left out.

    Returns:
        Markup: The list.
    """
    pairs = (
        element("div", element("dt", name), element("dd", fact))
        for name, fact in named
        if fact is not None
    )
    return element("dl", *pairs, class_="facts")


def grid(caption: str, header: Sequence[str], rows: Iterable[TableRow]) -> Markup:
    """Write a table; on a narrow screen each row is a card of its own.

    Args:
        caption (str):
            What it shows.
        header (Sequence[str]):
            Names of the columns.
        rows (Iterable[TableRow]):
            The rows.

    Returns:
        Markup: The table. Its roles are stated, as the look of a card takes them away.
    """
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
    """List failures.

    Args:
        failures (Iterable[Failure]):
            At least one.

    Returns:
        Markup: A section.
    """
    items = (element("li", element("strong", f.name), element("pre", f.problem)) for f in failures)
    return element("section", element("h2", "Failures"), element("ul", *items), class_="failures")
