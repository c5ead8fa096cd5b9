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


@pytest.mark.parametrize("text", ["{tag}-{date}", "{}", "{tag}-{Tag}"])
def test_an_unknown_field_is_refused(text: str) -> None:
    with pytest.raises(InvalidReference, match=r"the fields are \{tag\}"):
        AnchorTag.parse(text)


@pytest.mark.parametrize("text", ["", "a b", "-{tag}", "{{tag}}", "{tag", "a/b", "x" * 129, "é"])
def test_what_makes_no_tag_is_refused(text: str) -> None:
    with pytest.raises(InvalidReference, match="tag: expected 1 to 128"):
        AnchorTag.parse(text)


def test_the_tag_itself_is_no_anchor() -> None:
    with pytest.raises(InvalidReference, match="the destination's own tag"):
        AnchorTag.parse("{tag}")


def test_a_name_that_happens_to_be_the_tag_is_no_anchor() -> None:
    with pytest.raises(InvalidReference, match="the destination's own tag"):
        AnchorTag.parse("stable").apply(STABLE, DIGEST)


def test_a_tag_that_grows_too_long_is_refused() -> None:
    long = Reference("", "app", tag="x" * 120)

    with pytest.raises(InvalidReference, match="tag: expected 1 to 128"):
        AnchorTag.parse("{tag}-{timestamp}").apply(long, DIGEST)


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
