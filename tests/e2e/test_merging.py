"""Merges on a real registry, by the program, within one repository."""

from __future__ import annotations

import json

import pytest

from pubtools_mlmerge.testing import Image, make_attestation, make_image, make_index
from tests.e2e.conftest import Shelf, image_index, images, merge, merged
from tests.peers import DOCKER_LIST, OCI_INDEX
from tests.programs import Done, run, run_here

OLD = images("linux/amd64", "linux/arm64", "linux/s390x", seed="old")
NEW = images("linux/amd64", "linux/arm64", seed="new")
SINGLE = make_image("linux/s390x", seed="single")


def fates(done: Done) -> list[tuple[object, object]]:
    """List platform and fate of each entry in a report."""
    return [(entry["platform"], entry["fate"]) for entry in done.entries]


@pytest.mark.parametrize(("docker", "media_type"), [(True, DOCKER_LIST), (False, OCI_INDEX)])
def test_the_union_takes_five_requests_of_which_two_make_sure(
    shelf: Shelf, docker: bool, media_type: str
) -> None:
    old = images("linux/amd64", "linux/arm64", "linux/s390x", seed="old", docker=docker)
    new = images("linux/amd64", "linux/arm64", seed="new", docker=docker)
    shelf.hold(stable=make_index(old, docker=docker), new=make_index(new, docker=docker))
    record = shelf.mark()

    done = shelf.merge()

    path = f"/v2/{shelf.repository}/manifests"
    *pulls, look, put, check = record
    assert sorted(pulls) == [f"GET {path}/new 200", f"GET {path}/stable 200"]
    assert (look, put) == (f"HEAD {path}/stable 200", f"PUT {path}/stable 201")
    assert check == look
    held = shelf.get("stable")
    assert held.content == merged(*new, old[2], media_type=media_type)
    assert held.media_type == media_type
    assert done.report["digest"] == held.digest


def test_without_verifying_the_union_takes_three_requests(shelf: Shelf) -> None:
    shelf.hold(stable=OLD, new=NEW)
    record = shelf.mark()

    shelf.merge("--no-verify")

    assert sorted(line.split()[0] for line in record) == ["GET", "GET", "PUT"]


def test_nothing_to_do_writes_nothing(shelf: Shelf) -> None:
    shelf.hold(stable=OLD, new=OLD[:2])
    record, before = shelf.mark(), shelf.get("stable")

    done = shelf.merge("--anchor-tag", "kept")

    assert [line.partition(" ")[0] for line in record][:2] == ["GET", "GET"]
    assert record.writes == []
    assert shelf.get("stable") == before
    assert (done.report["changed"], done.report["anchor_tag"]) == (False, None)
    assert done.report["digest"] == done.report["previous_digest"] == before.digest
    assert shelf.find("kept") is None


def test_an_oci_index_may_come_without_a_media_type(shelf: Shelf) -> None:
    bare = (make_index(children, media_type_field=False) for children in (OLD, NEW))
    shelf.hold(**dict(zip(("stable", "new"), bare)))

    shelf.merge()

    held = shelf.get("stable")
    assert (held.media_type, held.content) == (OCI_INDEX, merged(*NEW, OLD[2]))


@pytest.mark.parametrize("docker", [False, True])
def test_docker_and_oci_images_are_listed_together_in_an_oci_index(
    shelf: Shelf, docker: bool
) -> None:
    old = images("linux/amd64", "linux/s390x", seed="old", docker=not docker)
    new = images("linux/amd64", seed="new", docker=docker)
    shelf.hold(stable=make_index(old, docker=not docker), new=make_index(new, docker=docker))

    refused = shelf.merge("--mixed-types", "fail", code=1)
    assert "would mix Docker manifests" in refused.err
    shelf.merge()

    held = shelf.get("stable")
    assert (held.media_type, held.content) == (OCI_INDEX, merged(new[0], old[1]))


@pytest.mark.parametrize("artifact", [False, True])
def test_attestations_go_with_their_images(shelf: Shelf, artifact: bool) -> None:
    def attested(children: list[Image]) -> list[Image]:
        return [*children, *(make_attestation(child, artifact=artifact) for child in children)]

    old, new = attested(OLD), attested(NEW)
    shelf.hold(stable=old, new=new)

    done = shelf.merge()

    assert shelf.get("stable").content == merged(*new, OLD[2], old[5])
    kept = next(entry for entry in done.entries if entry["digest"] == old[5].digest)
    assert (kept["platform"], kept["fate"], kept["attests"]) == (None, "kept", OLD[2].digest)


def test_unknown_fields_annotations_and_text_survive(shelf: Shelf) -> None:
    note = {"org.example.note": "Grüße"}
    old = make_index([OLD[2]], annotations={"of the": "destination"})
    shelf.hold(stable=old, new=make_index(NEW, annotations=note))

    shelf.merge()

    assert shelf.get("stable").content == merged(*NEW, OLD[2], annotations=note)


def test_a_dry_run_tells_what_the_real_run_does(shelf: Shelf) -> None:
    shelf.hold(stable=OLD, new=NEW)
    before, record = shelf.get("stable"), shelf.mark()

    dry = shelf.merge("--dry-run", "--anchor-tag", "{tag}-kept").report

    assert record.writes == []
    assert shelf.get("stable") == before
    real = shelf.merge().report
    same = ("digest", "entries", "media_type", "previous_digest", "source_digest", "changed")
    assert [dry[key] for key in same] == [real[key] for key in same]
    assert (dry["dry_run"], dry["anchor_tag"], real["dry_run"]) == (True, None, False)
    assert shelf.find("stable-kept") is None


def test_one_source_goes_into_many_tags_and_is_pulled_once(shelf: Shelf) -> None:
    shelf.hold(new=NEW, one=OLD, two=OLD)
    one, two, three = map(shelf.ref, ("one", "two", "three"))
    record = shelf.mark()

    done = merge(shelf.ref("new"), f"{one},{two}", "--dest-ref", three)

    assert [line for line in record if "manifests/new" in line] == [
        f"GET /v2/{shelf.repository}/manifests/new 200"
    ]
    assert [r["destination"] for r in done.reports] == [one, two, three]
    # A HEAD that finds nothing is repeated as GET, until a HEAD has found something.
    assert 1 + 4 + 4 + 4 <= len(list(record)) <= 1 + 4 + 4 + 5
    assert shelf.get("one").content == shelf.get("two").content == merged(*NEW, OLD[2])
    assert shelf.get("three").content == make_index(NEW).content


@pytest.mark.parametrize("by_digest", [False, True])
def test_four_images_go_into_a_tag_by_twelve_requests_and_one_write(
    shelf: Shelf, by_digest: bool
) -> None:
    """As jobs push them that build one architecture each."""
    four = images("linux/amd64", "linux/arm64", "linux/ppc64le", "linux/s390x")
    sources = [shelf.put(f"job{number}", image) for number, image in enumerate(four)]
    kept = images("linux/riscv64")
    shelf.put("stable", kept)
    if by_digest:
        sources = [f"{shelf.ref('x')[:-2]}@{image.digest}" for image in four]
    record = shelf.mark()

    done = merge(",".join(sources), shelf.ref("stable"), "--strict")

    asked = list(record)
    assert len(asked) <= 12
    assert record.writes == [f"PUT /v2/{shelf.repository}/manifests/stable 201"]
    assert shelf.get("stable").digests == [image.digest for image in (*four, *kept)]
    assert done.report["sources"] == sources


def test_an_anchor_tag_holds_the_same(shelf: Shelf) -> None:
    shelf.hold(stable=OLD, new=NEW)

    done = shelf.merge("--anchor-tag", "{tag}-{timestamp}-{digest}")

    tag = str(done.report["anchor_tag"])
    name, timestamp, digest = tag.split("-")
    assert (name, len(timestamp), digest) == ("stable", 14, str(done.report["digest"])[7:19])
    assert shelf.get(tag) == shelf.get("stable")


def test_a_single_image_is_merged_on_either_side(shelf: Shelf) -> None:
    shelf.hold(stable=OLD, new=SINGLE, single=SINGLE, index=NEW)

    done = shelf.merge()

    assert shelf.get("stable").content == merged(SINGLE, *OLD[:2])
    assert fates(done)[0] == ("linux/s390x", "replaced")
    merge(shelf.ref("index"), shelf.ref("single"))
    assert shelf.get("single").content == merged(*NEW, SINGLE)


# Removals


ARM = images("linux/amd64", "linux/arm/v6", "linux/arm/v7")


def remove(shelf: Shelf, *options: str) -> Done:
    """Remove architectures from the tag `stable`."""
    return run_here("remove-archs", "--ref", shelf.ref("stable"), "--output", "json", *options)


@pytest.mark.parametrize("artifact", [False, True])
def test_attestations_go_along_and_entries_without_platform_stay(
    shelf: Shelf, artifact: bool
) -> None:
    attestations = [make_attestation(image, artifact=artifact) for image in ARM]
    nested = image_index("linux/s390x")
    reference = shelf.put("stable", make_index([*ARM, nested, *attestations]))
    record = shelf.mark()

    done = remove(shelf, "--arch", "linux/arm/v6", "--arch", "x86_64,riscv64")

    assert len(list(record)) == 5  # one of them of the nested index
    held = shelf.get("stable")
    assert held.content == merged(ARM[2], nested, attestations[2])
    assert (done.code, done.report["digest"]) == (0, held.digest)
    assert f"{reference} has no riscv64" in done.err
    assert len(record.writes) == 1
    assert done.report["source"] is done.report["source_digest"] is None


def test_an_index_is_not_emptied_unless_that_is_wanted(shelf: Shelf) -> None:
    whole = make_index([*ARM, make_attestation(ARM[0])])
    shelf.hold(stable=whole)

    refused = remove(shelf, "--arch", "amd64,arm")

    assert (refused.code, refused.reports) == (1, [])
    assert "would leave an empty index" in refused.err
    assert shelf.get("stable").content == whole.content
    assert remove(shelf, "--arch", "amd64,arm", "--allow-empty").code == 0
    assert shelf.get("stable").content == merged()


def test_a_digest_and_what_piles_up_are_removed_from_several_tags(shelf: Shelf) -> None:
    first, second = images("linux/amd64", "linux/s390x")
    piled = make_index([first, second, second, make_attestation(SINGLE)])
    shelf.hold(one=piled, two=[first, second])
    references = f"{shelf.ref('one')},{shelf.ref('two')}"
    named = ("--arch", first.digest[7:19], "--prune", "--annotation", "org.example=1")

    done = run_here("remove-archs", "--ref", references, *named, "--output", "json")

    assert done.code == 0, done.err
    assert shelf.get("one").digests == shelf.get("two").digests == [second.digest]
    raw = run("inspect", shelf.ref("one"), "--raw")
    assert raw.out.encode() == shelf.get("one").content
    assert json.loads(raw.out)["annotations"] == {"org.example": "1"}
    planned = run(
        "remove-archs", "--ref", shelf.ref("two"), "--prune", *named[3:], "-n", "-o", "raw"
    )
    assert planned.out == raw.out  # it has that already
