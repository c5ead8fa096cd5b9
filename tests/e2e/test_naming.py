"""Names of what to keep, drop and remove, on a real registry, by the programs."""

from __future__ import annotations

import pytest

from pubtools_mlmerge.testing import make_image
from tests.e2e.conftest import Shelf, image_index
from tests.programs import Done, run_here

OLD = image_index("linux/amd64", "linux/arm64", "linux/ppc64le", "linux/s390x", seed="old")


def merge(shelf: Shelf, *options: str, env: dict[str, str] | None = None) -> Done:
    """Merge a new image for amd64 into a tag of four platforms."""
    source = shelf.put("new", make_image("linux/amd64", seed="new"))
    destination = shelf.put("stable", OLD)
    return run_here("merge", "--source-ref", source, "--dest-ref", destination, *options, env=env)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--keep", "linux/s390,ppc64le"], "keep linux/s390 matches none of its platforms"),
        (["--keep", "riscv64"], "keep riscv64 matches none of its platforms"),
        (["--keep", "s390x,riscv64", "--strict"], "keep riscv64 matches none of its platforms"),
        (["--drop", "linux/s390", "--strict"], "drop linux/s390 matches none of its platforms"),
    ],
)
def test_a_slip_leaves_the_tag_alone(shelf: Shelf, options: list[str], words: str) -> None:
    done = merge(shelf, *options)

    assert (done.code, done.out) == (1, "")
    assert words in done.err
    assert shelf.get("stable").content == OLD.content


def test_one_architecture_after_the_other_and_then_all_give_one_digest(shelf: Shelf) -> None:
    new = image_index("linux/amd64", "linux/arm64", "linux/s390x", seed="new")
    source, tag = shelf.put("new", new), shelf.put("stable", image_index("linux/ppc64le"))
    pair = ("--source-ref", source, "--dest-ref", tag)
    run_here("merge", *pair)
    before, record = shelf.get("stable"), shelf.mark()

    for options in (["--arch", "arm64"], ["--arch", "s390x"], []):
        assert run_here("merge", *pair, *options).code == 0

    assert shelf.get("stable") == before
    assert record.writes == []


def test_a_strict_removal_fails_for_a_name_that_is_not_there(shelf: Shelf) -> None:
    tag = shelf.put("stable", OLD)

    strict = run_here("remove-archs", "--ref", tag, "--arch", "s390x,riscv64", "--strict")
    unknown = run_here("remove-archs", "--ref", tag, "--arch", "s390")

    assert (strict.code, unknown.code) == (1, 2)
    assert "removal riscv64 matches none of its platforms" in strict.err
    assert shelf.get("stable").content == OLD.content
