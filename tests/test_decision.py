"""Anchor tags, made from templates."""

from __future__ import annotations

from datetime import datetime, timezone

import pytest

from pubtools_mlmerge.core.references import Reference
from pubtools_mlmerge.errors import InvalidReference
from pubtools_mlmerge.merging.decision import AnchorTag
from tests.factories import digest

STABLE = Reference("quay.io", "org/app", tag="stable")
DIGEST = digest("index")


def test_fields_are_filled_in() -> None:
    before = datetime.now(timezone.utc).replace(microsecond=0)

    anchor = AnchorTag.parse("{tag}.{timestamp}.{digest}").apply(STABLE, DIGEST)

    name, timestamp, start = anchor.tag.split(".")
    made = datetime.strptime(timestamp + "+0000", "%Y%m%d%H%M%S%z")
    assert (name, start) == ("stable", DIGEST[7:19])
    assert 0 <= (made - before).total_seconds() < 60
    assert (anchor.name, anchor.digest) == ("quay.io/org/app", "")


@pytest.mark.parametrize("text", ["{digest}", "kept", "tag", "{tag}{tag}"])
def test_a_template_may_use_any_of_the_fields(text: str) -> None:
    anchor = AnchorTag.parse(text).apply(STABLE, DIGEST)

    assert anchor.tag == text.replace("{tag}", "stable").replace("{digest}", DIGEST[7:19])


NO_FIELD, NO_TAG = r"the fields are \{tag\}", "tag: expected 1 to 128"
OWN = "the destination's own tag"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        *((text, NO_FIELD) for text in ("{tag}-{date}", "{}", "{tag}-{Tag}")),
        *((text, NO_TAG) for text in ("", "a b", "-{tag}", "{{tag}}", "{tag", "a/b", "é")),
        ("x" * 129, NO_TAG),
        ("{tag}", OWN),
    ],
)
def test_a_template_that_can_make_no_other_tag_is_refused(text: str, problem: str) -> None:
    with pytest.raises(InvalidReference, match=problem):
        AnchorTag.parse(text)


@pytest.mark.parametrize(
    ("text", "tag", "problem"),
    [("stable", "stable", OWN), ("{tag}-{timestamp}", "x" * 120, NO_TAG)],
)
def test_a_template_may_make_no_other_tag_of_some_tags(text: str, tag: str, problem: str) -> None:
    with pytest.raises(InvalidReference, match=problem):
        AnchorTag.parse(text).apply(STABLE.tagged(tag), DIGEST)


@pytest.mark.parametrize(
    ("text", "locked"),
    [
        ("kept", ["kept"]),
        ("{tag}-kept", ["stable-kept"]),
        ("kept-{timestamp}", ["kept-time"]),
        ("{tag}-{timestamp}", []),
        ("kept-{digest}", []),
        ("{timestamp}-{digest}", []),
    ],
)
def test_what_several_destinations_may_have_in_common_is_locked(
    text: str, locked: list[str]
) -> None:
    assert [each.tag for each in AnchorTag.parse(text).to_lock(STABLE)] == locked
