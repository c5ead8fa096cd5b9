"""Page files: where a page goes, found out early, and what it tells beside the results."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime, timezone
from pathlib import Path
from typing import Generic, TypeVar

from attrs import define, field, frozen

_Item = TypeVar("_Item")


@frozen
class Making:
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
        """Make sure now that a page can be written, and leave what is there.

        Args:
            name (str):
                Name of the file.

        Returns:
            PageFile: The file.

        Raises:
            ValueError: When it cannot be written.
        """
        found = cls(Path(os.path.realpath(name)))
        try:
            found.check()
        except OSError as error:
            raise ValueError(f"--output html: {name}: {error.strerror or error}") from error
        return found

    def check(self) -> None:
        """Try to write, without an effect.

        Raises:
            OSError: When that fails.
        """
        if self.path.is_file() or self.path.is_dir():
            self.path.open("ab").close()
        if self._is_replaced:  # who reads a pipe would take a try for all there is
            temporary = self._temporary()
            temporary.open("xb").close()
            temporary.unlink()

    def write(self, page: str) -> None:
        """Write a page; until it is there as a whole, the file holds what it held.

        Args:
            page (str):
                The page.

        Raises:
            OSError: When that fails.
        """
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
    make: Callable[[Sequence[_Item | Failure], Making], str]
    _told: list[_Item | Failure] = field(factory=list, init=False)

    def note(self, item: _Item) -> None:
        """Put a result on the page.

        Args:
            item (object):
                The result.
        """
        self._told.append(item)

    def note_failure(self, name: str, error: Exception) -> None:
        """Put a failure on the page.

        Args:
            name (str):
                What failed.
            error (Exception):
                Why.
        """
        self._told.append(Failure(name, str(error) or type(error).__name__))

    def made(self, *, complete: bool) -> str:
        """Make the page of what is known by now.

        Args:
            complete (bool):
                Whether nothing kept the program from going on to its end.

        Returns:
            str: The page.
        """
        return self.make(self._told, Making(datetime.now(timezone.utc), complete))
