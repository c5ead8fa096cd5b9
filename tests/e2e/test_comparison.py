"""Other programs on the case that the documentation compares them by, on a real registry."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest
from attrs import frozen

from pubtools_mlmerge.testing import Image, make_attestation, make_index
from tests.e2e.conftest import Shelf, images
from tests.programs import run_here
from tests.servers import require

PAGE = Path(__file__).parents[2] / "docs" / "comparison.rst"
OLD = images("linux/amd64", "linux/arm64", "linux/s390x", "linux/ppc64le", seed="old")
NEW = images("linux/amd64", "linux/arm64", seed="new")
REFERS = "vnd.docker.reference.digest"


def name(image: Image) -> str:
    """Name an image by its age and architecture."""
    return f"{'old' if image in OLD else 'new'} {image.platform['architecture']}"


KNOWN = {each.digest: name(each) for each in (*OLD, *NEW)}


@frozen
class Case:
    """The tags `new` and `stable` of a repository, as the page describes them."""

    shelf: Shelf

    @property
    def image(self) -> str:
        return f"{self.shelf.registry.host}/{self.shelf.repository}"

    def images(self) -> list[str]:
        """Tell the images that the tag lists, in their order."""
        listed = map(str, self.shelf.get("stable").digests)
        return [KNOWN[digest] for digest in listed if digest in KNOWN]

    def attested(self) -> list[str]:
        """Tell of each attestation what it belongs to, in their order, or that it does not say."""
        others = [m for m in self.shelf.get("stable").manifests if m["digest"] not in KNOWN]
        notes = [other.get("annotations") for other in others]
        told = [note.get(REFERS) if isinstance(note, dict) else None for note in notes]
        return [KNOWN.get(str(digest), "nothing") for digest in told]


def names(*lists: list[Image]) -> list[str]:
    return [name(image) for each in lists for image in each]


@pytest.fixture
def case(shelf: Shelf) -> Case:
    for tag, listed in (("stable", OLD), ("new", NEW)):
        shelf.put(tag, make_index([*listed, *map(make_attestation, listed)]))
    return Case(shelf)


@pytest.fixture
def shell(tmp_path: Path) -> dict[str, str]:
    """Make an environment in which these programs keep to a directory."""
    storage = tmp_path / "storage.conf"
    storage.write_text(
        f'[storage]\ndriver = "vfs"\ngraphroot = "{tmp_path}/graph"\nrunroot = "{tmp_path}/run"\n',
        encoding="utf-8",
    )
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "BUILDAH_ISOLATION": "chroot",
        "CONTAINERS_STORAGE_CONF": str(storage),
    }


def commands(program: str) -> str:
    """Take what the page says was run."""
    blocks = re.findall(r":class: comparison\n\n((?:   .+\n)+)", PAGE.read_text(encoding="utf-8"))
    (found,) = (block for block in blocks if block.strip().startswith(f"{program} "))
    return str(found)


def perform(program: str, case: Case, shell: dict[str, str]) -> None:
    """Run what the page says, but on plain http."""
    require(program)
    host = case.shelf.registry.host
    settings = Path(shell["HOME"]) / ".config" / "containers"
    settings.mkdir(parents=True)
    text = f'[[registry]]\nlocation = "{host}"\ninsecure = true\n'
    (settings / "registries.conf").write_text(text, encoding="utf-8")
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", commands(program)],
        env={**shell, "IMAGE": case.image},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_this_project_takes_what_is_new_and_keeps_the_rest(case: Case) -> None:
    tags = "--source-ref", f"{case.image}:new", "--dest-ref", f"{case.image}:stable"

    assert run_here("merge", *tags).code == 0

    assert sorted(case.images()) == sorted(names(NEW, OLD[2:]))
    assert sorted(case.attested()) == sorted(names(NEW, OLD[2:]))


def test_a_tag_of_44_platforms_takes_five_requests(shelf: Shelf) -> None:
    platforms = [f"linux/arm64/v{number}" for number in range(1, 45)]
    old, new = (images(*part, seed=seed) for part, seed in ((platforms, "a"), (platforms[1:], "b")))
    shelf.hold(stable=old, new=new)
    record = shelf.mark()

    shelf.merge()

    assert len(list(record)) == 5
    assert shelf.get("stable").digests == [image.digest for image in (*new, old[0])]


def test_one_merge_repairs_what_was_appended(case: Case) -> None:
    """Both lists one after the other, as `crane index append` leaves them, and an orphan."""
    orphan = make_attestation(images("linux/riscv64")[0])
    both = [*NEW, *map(make_attestation, NEW), *OLD, *map(make_attestation, OLD), orphan]
    case.shelf.put("stable", make_index(both))

    case.shelf.merge()

    assert case.images() == names(NEW, OLD[2:])
    assert case.attested() == names(NEW, OLD[2:])


def test_skopeo_loses_what_the_source_lacks(case: Case, shell: dict[str, str]) -> None:
    perform("skopeo", case, shell)

    assert case.images() == names(NEW)
    assert case.attested() == names(NEW)


def test_buildah_lists_platforms_twice_and_does_not_tell_what_is_attested(
    case: Case, shell: dict[str, str]
) -> None:
    perform("buildah", case, shell)

    assert case.images() == names(NEW, OLD)
    assert case.attested() == ["nothing"] * 6
