"""Merges, removals and restores as one HTML page, made by `page.html.jinja` and `page.css`."""

from __future__ import annotations

import base64
import hashlib
import os
import re
import secrets
from collections.abc import Iterable, Sequence
from datetime import datetime, timezone
from functools import partial
from operator import itemgetter
from pathlib import Path

from attrs import frozen

from pubtools_mlmerge.concurrency import STOP
from pubtools_mlmerge.core.plan import Entry, Report
from pubtools_mlmerge.errors import harmless
from pubtools_mlmerge.reports import report as text


@frozen
class Failure:
    """A tag, or a line of a batch, that failed, and why."""

    name: str
    problem: str


def check_html(path: Path) -> None:
    """Raise ValueError now, before anything is merged, if a page cannot be made or written."""
    try:
        import jinja2  # noqa: F401, PLC0415 - comes with an extra

        if path.is_file() or path.is_dir():
            path.open("ab").close()
        if (temporary := _temporary(path)) is not None:
            temporary.open("xb").close()
            temporary.unlink()
    except ImportError as error:
        raise ValueError("--html needs jinja2: pip install pubtools-mlmerge[html]") from error
    except OSError as error:
        raise ValueError(f"--html: {path}: {error.strerror or error}") from error


def write_page(
    path: Path, results: Sequence[Report | Failure], time: datetime, *, complete: bool = True
) -> None:
    """Replace a file by the page of these results; it never holds half a page."""
    with STOP.computing():
        page = page_of(results, time, complete=complete) + "\n"
        content = page.encode("ascii", "xmlcharrefreplace")
    temporary = _temporary(path)
    if temporary is None:
        path.write_bytes(content)
        return
    try:
        with temporary.open("xb") as stream:
            stream.write(content)
        temporary.replace(os.path.realpath(path))  # a link stays a link
    finally:
        temporary.unlink(missing_ok=True)


def _temporary(path: Path) -> Path | None:
    """Name a file that is to replace the one at a path; none for a device or a pipe."""
    if path.exists() and not path.is_file():
        return None
    target = Path(os.path.realpath(path))
    return target.with_name(f".{target.name[:100]}.{secrets.token_hex(4)}.part")


def page_of(results: Sequence[Report | Failure], time: datetime, *, complete: bool = True) -> str:
    """Make a page; its policy (CSP) allows its own style and nothing else.

    It says when it was made, and whether the run came to its end.
    """
    from jinja2 import Environment, StrictUndefined  # noqa: PLC0415 - comes with an extra

    style = Path(__file__).with_name("page.css").read_text(encoding="ascii")
    template = Path(__file__).with_name("page.html.jinja").read_text(encoding="ascii")
    environment = Environment(
        autoescape=True, finalize=_shown, trim_blocks=True, undefined=StrictUndefined
    )
    environment.filters.update(age=text.days_text, label=text.label_of, short=text.short)
    environment.filters.update(grouped=_grouped, old=_old_images, summary=text.summary_of)
    # Where a narrow window may fold a name: between the parts of references.
    environment.filters["parts"] = partial(re.split, r"(?<=/)|(?<!sha256)(?=:\w)")
    environment.tests["old"] = text.is_noteworthy
    return environment.from_string(template).render(
        complete=complete,
        failures=[result for result in results if isinstance(result, Failure)],
        reports=[result for result in results if isinstance(result, Report)],
        sha256=base64.b64encode(hashlib.sha256(style.encode()).digest()).decode(),
        signs=text.SIGNS,
        style=style,
        time=f"{time.astimezone(timezone.utc):%Y-%m-%d %H:%M:%S UTC}",
    )


def _shown(value: object) -> object:
    """Make a value harmless, except markup from a macro or the style."""
    return value if hasattr(value, "__html__") else harmless(str(value))


def _old_images(reports: Iterable[Report]) -> dict[str, list[str]]:
    """Name each old image that is kept, with its age and the tags that keep it."""
    found: dict[str, list[str]] = {}
    for report in reports:
        for entry in filter(text.is_noteworthy, report.entries):
            age = text.days_text(entry.age_days or 0)
            name = f"{text.label_of(entry.descriptor)} is {age} old"
            found.setdefault(name, []).append(str(report.destination))
    return found


def _grouped(entries: Sequence[Entry]) -> list[Entry]:
    """Move attestations to their images."""
    places = {entry.descriptor.digest: place for place, entry in enumerate(entries)}
    images = (entry.descriptor.attested or entry.descriptor.digest for entry in entries)
    order = (places.get(image, len(places)) for image in images)
    return [entry for _, entry in sorted(zip(order, entries), key=itemgetter(0))]
