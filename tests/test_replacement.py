"""Plans where one side is a single image."""

from __future__ import annotations

from pubtools_mlmerge.core.manifests import Image
from pubtools_mlmerge.core.merge import replace_by_image, replace_image
from pubtools_mlmerge.core.plan import Policy
from pubtools_mlmerge.testing import make_image
from tests.factories import digests, index


def image(seed: str = "") -> Image:
    made = make_image("linux/arm64", seed=seed)
    return Image.from_bytes(made.content, made.media_type)


def test_an_image_is_added_where_nothing_was() -> None:
    new = image()

    plan = replace_by_image(new, None)

    (entry,) = plan.entries
    assert (plan.result, plan.changed) == (new, True)
    assert (entry.fate, entry.previous_digest) == ("added", None)
    assert (entry.descriptor.digest, entry.descriptor.size) == (new.digest, len(new.content))
    assert entry.descriptor.media_type == new.media_type


def test_the_same_image_changes_nothing() -> None:
    new = image()

    plan = replace_by_image(new, image())

    (entry,) = plan.entries
    assert not plan.changed
    assert (entry.fate, entry.previous_digest) == ("same", new.digest)


def test_an_image_replaces_another_one() -> None:
    old = image("old")

    plan = replace_by_image(image("new"), old)

    (entry,) = plan.entries
    assert plan.changed
    assert (entry.fate, entry.previous_digest) == ("replaced", old.digest)


def test_an_image_drops_all_that_an_index_listed() -> None:
    old = index("linux/amd64", "linux/s390x")

    plan = replace_by_image(image(), old)

    assert [e.fate for e in plan.entries] == ["replaced", "dropped", "dropped"]
    assert [e.previous_digest for e in plan.entries] == [old.digest, *digests(old)]


def test_an_index_drops_the_image() -> None:
    new, old = index("linux/amd64", "linux/arm64"), image()

    plan = replace_image(new, old, Policy())

    assert (plan.result, plan.changed) == (new, True)
    assert [e.fate for e in plan.entries] == ["added", "added", "dropped"]
    assert plan.entries[-1].previous_digest == plan.entries[-1].descriptor.digest == old.digest


def test_the_eligible_part_of_an_index_drops_the_image() -> None:
    new = index("linux/amd64", "linux/arm64")

    plan = replace_image(new, image(), Policy(eligible=["arm64", "s390x"]))

    assert digests(plan.result) == digests(new)[1:]
    assert [e.fate for e in plan.entries] == ["added", "excluded", "dropped"]
    assert plan.missing == ("s390x",)
