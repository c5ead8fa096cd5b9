"""As much as a document may hold, numbers without measure, and names without end."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pubtools_mlmerge.core.manifests import OCI_INDEX, Index
from pubtools_mlmerge.core.merge import check_shrink, merge
from pubtools_mlmerge.core.plan import Policy
from pubtools_mlmerge.core.references import Reference
from pubtools_mlmerge.errors import InvalidIndex, InvalidReference
from pubtools_mlmerge.registry.quay_history import TagHistory
from pubtools_mlmerge.reports.html import page_of
from pubtools_mlmerge.reports.inspection import Inspection, inspection_sheet, inspection_to_json
from tests.factories import attestation, content_of, digest, document, entry, index
from tests.growth import growth
from tests.hostile.helpers import REFERENCE, client_of
from tests.paper import NOW, OLD, report_of
from tests.scripted import ScriptedServer, json_reply

LISTED: dict[str, Callable[[int], object]] = {
    "images": lambda n: entry(f"linux/cpu{n}", seed=str(n)),
    "one platform": lambda n: entry(seed=str(n)),
    "one image": lambda _: entry(),
    "no platform": lambda n: entry(None, seed=str(n)),
    "nested indexes": lambda n: entry(f"linux/cpu{n}", seed=str(n), media_type=OCI_INDEX),
    "attestations": lambda n: attestation(digest("linux/amd64"), seed=str(n)),
    "orphans": lambda n: attestation(digest(str(n)), seed=str(n)),
}
WORK: dict[str, tuple[Callable[[Index], object], int]] = {
    "text": (lambda found: inspection_sheet(Inspection("app:1", found)).text, 200),
    "json": (lambda found: inspection_to_json(Inspection("app:1", found)), 200),
    "merge": (lambda found: (merge(found, OLD), merge(OLD, found)), 200),
    "page": (lambda found: page_of([report_of(found, OLD)], NOW), 40),
}


@pytest.mark.parametrize(
    ("work", "kind"),
    [(work, kind) for work in WORK for kind in LISTED if work != "page" or "images" in kind]
    + [("page", "attestations")],
)
def test_work_grows_in_proportion_to_what_is_listed(work: str, kind: str) -> None:
    do, size = WORK[work]
    found = {n: _listing(kind, n) for n in (size, 4 * size)}

    assert growth(lambda number: do(found[number]), size) < 9


def test_the_guard_takes_time_in_proportion_to_what_is_listed() -> None:
    plans = {n: merge(index(), _listing("images", n)) for n in (1000, 4000)}

    assert growth(lambda number: check_shrink(REFERENCE, plans[number], Policy()), 1000) < 9


def _listing(kind: str, number: int) -> Index:
    entries = [LISTED[kind](each) for each in range(number)]
    return Index.from_bytes(content_of({**document(), "manifests": [entry(), *entries]}))


def test_one_long_name_does_not_widen_each_row() -> None:
    images = [entry(f"linux/cpu{n}", seed=str(n)) for n in range(100)]
    found = index(entry(f"linux/{'x' * 100_000}"), *images)

    assert len(inspection_sheet(Inspection("app:1", found)).text) < 100_000


@pytest.mark.parametrize("size", [2**63, 9 * 10**307, 1e308, -1, 1.0, True])
def test_a_size_has_at_most_63_bits(size: object) -> None:
    """Two of the others add up to more than a number may be."""
    with pytest.raises(InvalidIndex, match=r"manifests\[0\]\.size: expected a number of bytes"):
        index(*[entry(seed=str(n), size=size) for n in range(20)])


def test_the_largest_sizes_are_added_and_shown() -> None:
    found = Inspection("app:1", index(*[entry(seed=str(n), size=2**63 - 1) for n in range(20)]))

    assert "184467.4 PB" in inspection_sheet(found).text


def test_no_moment_of_a_history_is_beyond_the_calendar(caplog: pytest.LogCaptureFixture) -> None:
    row = {"name": "1", "manifest_digest": digest("a"), "start_ts": 1, "end_ts": 9 * 10**307}
    with ScriptedServer(json_reply({"tags": [row], "has_additional": False})) as server:
        TagHistory(client_of(server), "token").warn(REFERENCE)

    assert "expected whole seconds" in caplog.text


@pytest.mark.parametrize(
    "text", [":", "a:", "/:", "@:", "a/", "::1@", "a.", "a-", "a__", "-", "[:"]
)
def test_a_reference_is_refused_in_proportion_to_its_length(text: str) -> None:
    def refuse(number: int) -> None:
        with pytest.raises(InvalidReference) as caught:
            Reference.parse(text * number)
        assert len(str(caught.value)) < 400

    assert growth(refuse, 10_000 // len(text)) < 9
