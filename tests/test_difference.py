"""Differences: what two indexes do not have in common."""

from __future__ import annotations

import json

import pytest

from pubtools_mlmerge.core.manifests import DOCKER_LIST, OCI_INDEX, Index
from pubtools_mlmerge.reports.inspection import (
    Difference,
    compare,
    difference_to_json,
    difference_to_text,
)
from pubtools_mlmerge.reports.report import short
from tests.factories import attestation, digest, entry, index

OLD, NEW = digest("linux/amd64@old"), digest("linux/amd64@new")
A = index("linux/amd64@old", "linux/arm64", "linux/s390x")
B = index("linux/amd64@new", "linux/arm64", "linux/riscv64", attestation(NEW, seed="proof"))


def of(a: Index, b: Index) -> Difference:
    return compare(("app:a", "app:b"), (a, b))


def states(found: Difference) -> list[tuple[str | None, str, str]]:
    return [(slot.platform, slot.state, slot.note) for slot in found.slots]


def fields(found: Difference) -> list[tuple[str, object, object]]:
    return [(f.name, f.a, f.b) for f in found.fields]


def test_each_platform_is_the_same_or_not() -> None:
    found = of(A, B)

    assert states(found) == [
        ("linux/amd64", "changed", ""),
        ("linux/arm64", "same", ""),
        ("linux/s390x", "only-a", ""),
        ("linux/riscv64", "only-b", ""),
    ]
    assert found.slots[0].digests == ((OLD,), (NEW,))
    assert found.slots[0].attestations == (0, 1)
    assert (fields(found), found.is_same) == ([], False)


def test_an_index_does_not_differ_from_itself() -> None:
    found = of(B, B)

    assert {slot.state for slot in found.slots} == {"same"}
    assert (found.fields, found.is_same) == ((), True)


def test_platforms_go_by_their_usual_names() -> None:
    found = of(index(entry("linux/arm64", seed="x")), index(entry("linux/aarch64/v8", seed="x")))

    assert states(found) == [("linux/arm64", "same", "the same image, listed otherwise")]


def test_two_images_of_one_platform_are_compared_together() -> None:
    twice = index("linux/amd64@old", "linux/amd64@new")

    assert states(of(twice, twice)) == [("linux/amd64", "same", "")]
    (slot,) = of(twice, index("linux/amd64@new")).slots
    assert (slot.state, slot.digests) == ("changed", ((OLD, NEW), (NEW,)))


def test_images_without_platform_go_by_their_digest() -> None:
    found = of(index(entry(None, seed="1")), index(entry(None, seed="2"), entry(None, seed="1")))

    assert states(found) == [(None, "same", ""), (None, "only-b", "")]


def test_other_attestations_of_the_same_image_are_told() -> None:
    bare = index("linux/amd64@new")
    proven = index("linux/amd64@new", attestation(NEW, seed="proof"))

    assert states(of(bare, proven)) == [("linux/amd64", "same", "other attestations")]


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        (index(), index(docker=True), [("mediaType", OCI_INDEX, DOCKER_LIST)]),
        (index(), index(media_type_field=False), []),
        (index(annotations={"x": "1"}), index(), [("annotations.x", "1", None)]),
        (
            index(annotations={"x": "1", "y": "2"}),
            index(annotations={"x": "3", "y": "2"}),
            [("annotations.x", "1", "3")],
        ),
        (index(annotations=None), index(annotations={}), []),
        (index(), index(annotations=["odd"]), [("annotations", None, ["odd"])]),
        (index(), index(subject={"digest": "x"}), [("subject", None, {"digest": "x"})]),
    ],
)
def test_what_differs_of_the_indexes_themselves(
    a: Index, b: Index, expected: list[tuple[str, object, object]]
) -> None:
    assert fields(of(a, b)) == expected


def test_text_is_a_table_with_a_summary() -> None:
    first, second, _, header, *rows, _, summary = difference_to_text(of(A, B)).splitlines()

    assert first == f"A: app:a {A.digest} {OCI_INDEX}"
    assert second == f"B: app:b {B.digest} {OCI_INDEX}"
    assert header.split() == ["PLATFORM", "A", "B", "STATE", "ATTESTATIONS", "NOTE"]
    assert rows[0].split() == ["linux/amd64", short(OLD), short(NEW), "changed", "0", "->", "1"]
    assert rows[2].split() == [
        "linux/s390x",
        short(digest("linux/s390x")),
        *["-", "only", "in", "A", "0"],
    ]
    assert summary == "1 changed, 1 only in A, 1 only in B, 1 same"


def test_text_has_what_differs_of_the_indexes_themselves() -> None:
    hostile = index("linux/amd64", annotations={"a\x1b[2J": "b\n" + "c" * 500})

    *_, line, summary = difference_to_text(of(index("linux/amd64"), hostile)).splitlines()

    assert line.startswith('annotations.a [2J: - -> "b\\nccc')
    assert line.isprintable()
    assert len(line) < 300
    assert summary == "1 same"


@pytest.mark.parametrize(
    ("a", "b", "summary"),
    [
        (A, A, "A and B are the same, byte for byte"),
        (
            index("linux/amd64", "linux/arm64"),
            index("linux/arm64", "linux/amd64"),
            "2 same; the order of the entries or the encoding differs",
        ),
        (index(), index(subject=1), "nothing is listed"),
        (index("linux/amd64"), index(entry("linux/amd64", x=1)), "1 same"),
    ],
)
def test_the_last_line_sums_up(a: Index, b: Index, summary: str) -> None:
    assert difference_to_text(of(a, b)).splitlines()[-1] == summary


def test_json_has_each_platform() -> None:
    document = json.loads(
        difference_to_json(of(A, index(*(e.fields for e in B.manifests), subject=None)))
    )

    assert document["a"] == {"reference": "app:a", "digest": A.digest, "media_type": OCI_INDEX}
    assert (document["b"]["reference"], document["same"]) == ("app:b", False)
    assert document["platforms"][0] == {
        "platform": "linux/amd64",
        "state": "changed",
        "a": [OLD],
        "b": [NEW],
        "attestations_a": 0,
        "attestations_b": 1,
        "note": "",
    }
    assert [slot["state"] for slot in document["platforms"][1:]] == ["same", "only-a", "only-b"]
    assert document["fields"] == []


def test_json_has_what_differs_of_the_indexes_themselves() -> None:
    document = json.loads(difference_to_json(of(A, index(subject={"digest": "x"}))))

    assert document["fields"] == [{"name": "subject", "a": None, "b": {"digest": "x"}}]
