"""Outputs: what a program prints of its results, and the page that it writes of all of them."""

from __future__ import annotations

import os
import sys
from argparse import Namespace
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Generic, TypeVar

from attrs import frozen

from pubtools_mlmerge.core.plan import Report
from pubtools_mlmerge.reports.report import to_json
from pubtools_mlmerge.reports.terminal import text_of

if TYPE_CHECKING:  # pages are seldom asked for
    from pubtools_mlmerge.reports.html import Failure, Page, PageInfo

Item = TypeVar("Item")


@frozen(eq=False, repr=False)
class Output(Generic[Item]):
    """Prints results, and writes a page in the end if one is asked for.

    Attributes:
        render (Callable[[object], str]):
            Writes a result as text.
        page (Page | None):
            The page; none for none.
    """

    render: Callable[[Item], str]
    page: Page[Item] | None = None

    def tell(self, item: Item) -> None:
        """Print a result, unless the page goes there.

        Args:
            item (object):
                The result.
        """
        if self.page is not None:
            self.page.note(item)
        if self.page is None or self.page.file is not None:
            _print(self.render(item))

    def fail(self, name: str, error: Exception) -> None:
        """Note a failure for the page; the log has it, too.

        Args:
            name (str):
                What failed.
            error (Exception):
                Why.
        """
        if self.page is not None:
            self.page.note_failure(name, error)

    def close(self, *, complete: bool) -> None:
        """Write the page.

        Args:
            complete (bool):
                Whether nothing kept the program from going on to its end.

        Raises:
            OSError: When it cannot be written.
        """
        if self.page is None:
            return
        page = self.page.made(complete=complete)
        if self.page.file is None:
            _print(page)
        else:
            self.page.file.write(page)


def output_of_reports(arguments: Namespace) -> Output[Report]:
    """Choose how reports are written.

    Args:
        arguments (Namespace):
            Arguments as parsed.

    Returns:
        Output[MergeReport]: Writes them.

    Raises:
        ValueError: When a page is asked for where it cannot be written.
    """
    return Output(renderer_of(arguments.output), page_of(arguments, _merge_page))


def page_of(
    arguments: Namespace, make: Callable[[Sequence[Item | Failure], PageInfo], str]
) -> Page[Item] | None:
    """Tell where a page goes.

    Args:
        arguments (Namespace):
            Arguments as parsed.
        make (Callable):
            Makes the page.

    Returns:
        Page | None: The page; none if none is asked for.

    Raises:
        ValueError: When it cannot be written there.
    """
    name = arguments.output_file
    if name is None:
        return None
    from pubtools_mlmerge.reports.html import Page, PageFile  # noqa: PLC0415 - see above

    return Page(None if name == "-" else PageFile.at(name), make)


def renderer_of(output: str) -> Callable[[Report], str]:
    """Choose how reports are printed.

    Args:
        output (str):
            ``json``, ``text`` or ``html``; with the last, what is printed is text.

    Returns:
        Callable[[MergeReport], str]: Writes a report.
    """
    return to_json if output == "json" else text_of


def _merge_page(told: Sequence[Report | Failure], making: PageInfo) -> str:
    # Many modules, for what is seldom asked for.
    from pubtools_mlmerge.reports.html import merge_page  # noqa: PLC0415

    return merge_page(told, making)


def _print(text: str) -> None:
    try:
        print(text, flush=True)  # noqa: T201 - the output of a program
    except BrokenPipeError:
        # The reader has seen enough. What is left to do is done, and not told to anyone.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
