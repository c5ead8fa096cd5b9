"""Reports to write pages of, and pages read back as text."""

from __future__ import annotations

from datetime import datetime, timezone
from html.parser import HTMLParser
from xml.etree import ElementTree as ET

from attrs import evolve

from pubtools_mlmerge.core.manifests import Index
from pubtools_mlmerge.core.merge import merge
from pubtools_mlmerge.core.plan import Age, Entry, Policy, Report
from pubtools_mlmerge.core.references import Reference
from tests.factories import attestation, digest, index

NOW = datetime(2026, 3, 1, 12, 30, tzinfo=timezone.utc)
MADE = datetime(2023, 3, 2, tzinfo=timezone.utc)
SOURCE = Reference("quay.io", "org/app", tag="1.1")
STABLE = Reference("quay.io", "org/app", tag="stable")
OLD = index("linux/amd64@old", "linux/riscv64", "linux/s390x", "windows/amd64")
NEW = index(
    *("linux/amd64@new", "linux/riscv64", "linux/arm64", "linux/ppc64le"),
    attestation(digest("linux/amd64@new")),
)
POLICY = Policy(drop=["windows/*"], eligible=["amd64", "riscv64", "arm64"])


def report_of(new: Index, old: Index, policy: Policy | None = None, **fields: object) -> Report:
    """Report a merge that was carried out."""
    plan = merge(new, old, policy or Policy())
    made = Report.of(plan, SOURCE, STABLE)
    return evolve(made, **fields)  # type: ignore[arg-type]  # each has the type of its field


def example(**fields: object) -> Report:
    """Report a merge in which there is each fate, and an s390x that is three years old."""
    made = report_of(NEW, OLD, POLICY, anchor_tag="stable-1", seconds=1.25)
    made = evolve(made, entries=map(_aged, made.entries))
    return evolve(made, **fields)  # type: ignore[arg-type]  # as above


def _aged(entry: Entry) -> Entry:
    if entry.fate != "kept":
        return entry
    reason = f"{entry.reason}; older than 365 days"
    return evolve(entry, age=Age(MADE, 1095), reason=reason, is_stale=True)


def tree_of(page: str) -> ET.Element:
    """Read a page as XML, which is strict."""
    page = page.replace("<wbr/>", "")  # where a name may be folded
    return ET.fromstring(page.removeprefix("<!DOCTYPE html>"))  # noqa: S314 - our own page


def text_of(page: str) -> str:
    """Read the text of a page as XML does, without its style; white space is one space."""
    body = tree_of(page).find("body")
    assert body is not None
    return " ".join(" ".join(body.itertext()).split())


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.tags: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def read_as_html(page: str) -> tuple[list[str], str]:
    """Read a page as HTML: the tags in order, and the text; white space is one space."""
    reader = _Reader()
    reader.feed(page.replace("<wbr/>", ""))
    reader.close()
    return reader.tags, " ".join(" ".join(reader.texts).split())
