"""Merges on a real registry, by the program, within one repository."""

from __future__ import annotations

import pytest

from pubtools_mlmerge.testing import Image, make_attestation, make_image, make_index
from tests.e2e.conftest import Shelf, image_index, images, merged
from tests.peers import DOCKER_LIST, OCI_INDEX
from tests.programs import Done
from tests.programs import run_here as run

OLD = images("linux/amd64", "linux/arm64", "linux/s390x", seed="old")
NEW = images("linux/amd64", "linux/arm64", seed="new")


def merge(source: str, destination: str, *options: str) -> Done:
    """Merge, and require that it went well."""
    done = run(
        *("merge", "--source-ref", source, "--dest-ref", destination, "--output", "json"),
        *options,
    )
    assert done.code == 0, done.err
    return done


def fates(done: Done) -> list[tuple[object, object]]:
    """List platform and fate of each entry in a report."""
    entries = done.report["entries"]
    assert isinstance(entries, list)
    return [(entry["platform"], entry["fate"]) for entry in entries]


@pytest.mark.parametrize(("docker", "media_type"), [(True, DOCKER_LIST), (False, OCI_INDEX)])
def test_the_union_takes_five_requests_of_which_two_make_sure(
    shelf: Shelf, docker: bool, media_type: str
) -> None:
    old = images("linux/amd64", "linux/arm64", "linux/s390x", seed="old", docker=docker)
    new = images("linux/amd64", "linux/arm64", seed="new", docker=docker)
    destination = shelf.put("stable", make_index(old, docker=docker))
    source = shelf.put("new", make_index(new, docker=docker))
    record = shelf.mark()

    done = merge(source, destination)

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
    destination, source = shelf.put("stable", make_index(OLD)), shelf.put("new", make_index(NEW))
    record = shelf.mark()

    done = merge(source, destination, "--no-verify")

    assert sorted(line.split()[0] for line in record) == ["GET", "GET", "PUT"]
    assert done.code == 0, done.err


@pytest.mark.parametrize("name", ["arm64", "linux/arm64/v8"])
def test_only_the_selected_architecture_is_taken(shelf: Shelf, name: str) -> None:
    destination = shelf.put("stable", make_index(OLD))
    source = shelf.put("new", make_index(NEW))

    done = merge(source, destination, "--arch", name)

    assert shelf.get("stable").content == merged(NEW[1], OLD[0], OLD[2])
    assert fates(done) == [
        ("linux/arm64", "replaced"),
        ("linux/amd64", "kept"),
        ("linux/s390x", "kept"),
        ("linux/amd64", "excluded"),
    ]


def test_architectures_are_selected_in_any_spelling_and_number(shelf: Shelf) -> None:
    old = images("linux/amd64", "linux/arm/v6", "linux/arm/v7", "linux/s390x", seed="old")
    new = images("linux/amd64", "linux/arm/v6", "linux/arm/v7", "linux/s390x", seed="new")
    destination, source = shelf.put("stable", make_index(old)), shelf.put("new", make_index(new))

    merge(source, destination, "--arch", "x86_64,riscv64", "--arch", "linux/arm/v7")

    assert shelf.get("stable").content == merged(new[0], new[2], old[1], old[3])


def test_a_source_that_covers_all_goes_up_as_it_is(shelf: Shelf) -> None:
    destination = shelf.put("stable", make_index(OLD))
    new = image_index("linux/amd64", "linux/arm64", "linux/s390x", "linux/ppc64le", seed="new")
    source = shelf.put("new", new)

    done = merge(source, destination)

    held = shelf.get("stable")
    assert held.content == new.content
    assert held.digest == done.report["digest"] == done.report["source_digest"] == new.digest


def test_nothing_to_do_writes_nothing(shelf: Shelf) -> None:
    destination = shelf.put("stable", make_index(OLD))
    before = shelf.get("stable")
    source = shelf.put("new", make_index(OLD[:2]))
    record = shelf.mark()

    done = merge(source, destination)

    assert [line.partition(" ")[0] for line in record] == ["GET", "GET"]
    assert shelf.get("stable") == before
    assert done.report["changed"] is False
    assert done.report["digest"] == done.report["previous_digest"] == before.digest


def test_merging_again_writes_nothing(shelf: Shelf) -> None:
    destination = shelf.put("stable", make_index(OLD))
    source = shelf.put("new", make_index(NEW))
    first = merge(source, destination).report
    record = shelf.mark()

    again = merge(source, destination).report

    assert record.writes == []
    assert (again["changed"], again["digest"]) == (False, first["digest"])


def test_a_tag_that_does_not_exist_becomes_the_source(shelf: Shelf) -> None:
    new = make_index(NEW)
    source = shelf.put("new", new)

    done = merge(source, shelf.ref("stable"))

    assert shelf.get("stable").content == new.content
    assert done.report["previous_digest"] is None
    assert [fate for _, fate in fates(done)] == ["added", "added"]


def test_a_tag_that_does_not_exist_becomes_the_selected_part(shelf: Shelf) -> None:
    source = shelf.put("new", make_index(NEW))

    done = merge(source, shelf.ref("stable"), "--arch", "arm64")

    assert shelf.get("stable").content == merged(NEW[1])
    assert fates(done) == [("linux/arm64", "added"), ("linux/amd64", "excluded")]


def test_an_oci_index_may_come_without_a_media_type(shelf: Shelf) -> None:
    destination = shelf.put("stable", make_index(OLD, media_type_field=False))
    source = shelf.put("new", make_index(NEW, media_type_field=False))

    merge(source, destination)

    held = shelf.get("stable")
    assert (held.media_type, held.content) == (OCI_INDEX, merged(*NEW, OLD[2]))


def test_an_oci_index_without_a_media_type_goes_up_as_it_is(shelf: Shelf) -> None:
    destination = shelf.put("stable", make_index(OLD[:2]))
    new = make_index(NEW, media_type_field=False)
    source = shelf.put("new", new)

    merge(source, destination)

    assert shelf.get("stable").content == new.content


@pytest.mark.parametrize("docker", [False, True])
def test_docker_and_oci_images_are_listed_together_in_an_oci_index(
    shelf: Shelf, docker: bool
) -> None:
    old = images("linux/amd64", "linux/s390x", seed="old", docker=not docker)
    new = images("linux/amd64", seed="new", docker=docker)
    destination = shelf.put("stable", make_index(old, docker=not docker))
    source = shelf.put("new", make_index(new, docker=docker))

    merge(source, destination)

    held = shelf.get("stable")
    assert (held.media_type, held.content) == (OCI_INDEX, merged(new[0], old[1]))


def test_a_mix_of_types_can_be_refused(shelf: Shelf) -> None:
    old = make_index(images("linux/s390x", docker=True), docker=True)
    destination, source = shelf.put("stable", old), shelf.put("new", make_index(NEW))

    done = run(
        *("merge", "--source-ref", source, "--dest-ref", destination, "--mixed-types", "fail")
    )

    assert done.code == 1
    assert "would mix Docker manifests" in done.err
    assert shelf.get("stable").content == old.content


@pytest.mark.parametrize("artifact", [False, True])
def test_attestations_go_with_their_images(shelf: Shelf, artifact: bool) -> None:
    def attested(children: list[Image]) -> list[Image]:
        return [*children, *(make_attestation(child, artifact=artifact) for child in children)]

    old, new = attested(OLD), attested(NEW)
    destination, source = shelf.put("stable", make_index(old)), shelf.put("new", make_index(new))

    done = merge(source, destination)

    assert shelf.get("stable").content == merged(*new, OLD[2], old[5])
    entries = done.report["entries"]
    assert isinstance(entries, list)
    kept = next(entry for entry in entries if entry["digest"] == old[5].digest)
    assert (kept["platform"], kept["fate"], kept["attests"]) == (None, "kept", OLD[2].digest)


def test_variants_are_told_apart(shelf: Shelf) -> None:
    old = images("linux/amd64", "linux/arm/v6", "linux/arm/v7", seed="old")
    new = images("linux/amd64", "linux/arm", seed="new")
    destination, source = shelf.put("stable", make_index(old)), shelf.put("new", make_index(new))

    done = merge(source, destination)

    assert shelf.get("stable").content == merged(*new, old[1])
    replaced = ("linux/arm/v7", "replaced")
    assert fates(done)[1:] == [replaced, ("linux/arm/v6", "kept")]


def test_architectures_alone_can_be_matched(shelf: Shelf) -> None:
    old = images("linux/arm/v6", "linux/arm/v7", "linux/s390x", seed="old")
    new = images("linux/arm/v7", seed="new")
    destination, source = shelf.put("stable", make_index(old)), shelf.put("new", make_index(new))

    refused = run(
        *("merge", "--source-ref", source, "--dest-ref", destination),
        *("--match", "architecture"),
    )
    assert (refused.code, "would lose linux/arm/v6" in refused.err) == (1, True)
    merge(source, destination, "--match", "architecture", "--drop", "linux/arm/v6")

    assert shelf.get("stable").content == merged(new[0], old[2])


@pytest.mark.parametrize(
    "options",
    [
        ("--drop", "s390x", "--drop", "windows/*"),
        ("--drop", "s390x,windows/*"),
        ("--keep", "ppc64le"),
    ],
)
def test_what_stays_of_the_destination_can_be_chosen(
    shelf: Shelf, options: tuple[str, ...]
) -> None:
    names = ("linux/amd64", "linux/s390x", "linux/ppc64le", "windows/arm64")
    old = images(*names, seed="old")
    destination, source = shelf.put("stable", make_index(old)), shelf.put("new", make_index(NEW))

    done = merge(source, destination, *options)

    assert shelf.get("stable").content == merged(*NEW, old[2])
    assert fates(done)[-2:] == [("linux/s390x", "dropped"), ("windows/arm64", "dropped")]


def test_unknown_fields_annotations_and_text_survive(shelf: Shelf) -> None:
    note = {"org.example.note": "Grüße"}
    old = make_index([OLD[2]], annotations={"of the": "destination"})
    destination = shelf.put("stable", old)
    source = shelf.put("new", make_index(NEW, annotations=note))

    merge(source, destination)

    assert shelf.get("stable").content == merged(*NEW, OLD[2], annotations=note)


def test_a_dry_run_tells_what_the_real_run_does(shelf: Shelf) -> None:
    destination = shelf.put("stable", make_index(OLD))
    source = shelf.put("new", make_index(NEW))
    before, record = shelf.get("stable"), shelf.mark()

    dry = merge(source, destination, "--dry-run", "--anchor-tag", "{tag}-kept").report

    assert record.writes == []
    assert shelf.get("stable") == before
    real = merge(source, destination).report
    same = ("digest", "entries", "media_type", "previous_digest", "source_digest", "changed")
    assert [dry[key] for key in same] == [real[key] for key in same]
    assert (dry["dry_run"], dry["anchor_tag"], real["dry_run"]) == (True, None, False)
    assert shelf.find("stable-kept") is None


def test_one_source_goes_into_many_tags_and_is_pulled_once(shelf: Shelf) -> None:
    source = shelf.put("new", make_index(NEW))
    one, two = shelf.put("one", make_index(OLD)), shelf.put("two", make_index(OLD))
    record = shelf.mark()
    tags = ["--dest-ref", f"{one},{two}", "--dest-ref", shelf.ref("three")]

    done = run("merge", "--source-ref", source, *tags, "--output", "json")

    assert [line for line in record if "manifests/new" in line] == [
        f"GET /v2/{shelf.repository}/manifests/new 200"
    ]
    assert [r["destination"] for r in done.reports] == [one, two, shelf.ref("three")]
    assert len(list(record)) == 4 + 4 + 5
    assert shelf.get("one").content == shelf.get("two").content == merged(*NEW, OLD[2])
    assert shelf.get("three").content == make_index(NEW).content


def test_a_source_can_be_named_by_digest(shelf: Shelf) -> None:
    destination = shelf.put("stable", make_index(OLD))
    new = make_index(NEW)
    shelf.put("new", new)
    source = f"{shelf.registry.host}/{shelf.repository}@{new.digest}"

    done = merge(source, destination)

    assert done.report["source"] == source
    assert shelf.get("stable").content == merged(*NEW, OLD[2])


def test_an_anchor_tag_holds_the_same(shelf: Shelf) -> None:
    destination = shelf.put("stable", make_index(OLD))
    source = shelf.put("new", make_index(NEW))

    done = merge(source, destination, "--anchor-tag", "{tag}-{timestamp}-{digest}")

    tag = str(done.report["anchor_tag"])
    name, timestamp, digest = tag.split("-")
    assert (name, len(timestamp), digest) == ("stable", 14, str(done.report["digest"])[7:19])
    assert shelf.get(tag) == shelf.get("stable")


def test_an_anchor_tag_is_not_made_where_nothing_is_written(shelf: Shelf) -> None:
    destination = shelf.put("stable", make_index(OLD))

    done = merge(destination, destination, "--anchor-tag", "kept")

    assert done.report["anchor_tag"] is None
    assert shelf.find("kept") is None


SINGLE = make_image("linux/s390x", seed="single")


def test_a_single_image_as_source_replaces_the_index(shelf: Shelf) -> None:
    destination, source = shelf.put("stable", make_index(OLD)), shelf.put("new", SINGLE)

    replace = ("--single-image", "replace")
    refused = run("merge", "--source-ref", source, "--dest-ref", destination, *replace)
    assert (refused.code, "would lose linux/amd64, " in refused.err) == (1, True)
    done = merge(source, destination, *replace, "--drop", "*/*")

    held = shelf.get("stable")
    assert (held.content, held.media_type) == (SINGLE.content, SINGLE.media_type)
    assert "WARNING" in done.err
    assert [fate for _, fate in fates(done)] == ["replaced", "dropped", "dropped"]


def test_an_index_replaces_a_single_image(shelf: Shelf) -> None:
    new = make_index(NEW)
    destination, source = shelf.put("stable", SINGLE), shelf.put("new", new)

    done = merge(source, destination, "--single-image", "replace", "--drop", "s390x")

    assert shelf.get("stable").content == new.content
    assert "WARNING" in done.err
    assert fates(done)[-1] == ("linux/s390x", "dropped")


def test_a_single_image_is_merged(shelf: Shelf) -> None:
    destination, source = shelf.put("stable", make_index(OLD)), shelf.put("new", SINGLE)

    done = merge(source, destination)

    assert shelf.get("stable").content == merged(SINGLE, *OLD[:2])
    assert fates(done)[0] == ("linux/s390x", "replaced")


def test_a_single_image_in_the_destination_is_kept(shelf: Shelf) -> None:
    destination, source = shelf.put("stable", SINGLE), shelf.put("new", make_index(NEW))

    merge(source, destination)

    assert shelf.get("stable").content == merged(*NEW, SINGLE)


@pytest.mark.parametrize("made", ["wrap", "index"])
def test_one_image_is_written_alone_or_as_an_index(shelf: Shelf, made: str) -> None:
    source = shelf.put("new", SINGLE)

    merge(source, shelf.ref("stable"), "--single-image", made)

    expected = SINGLE.content if made == "wrap" else merged(SINGLE)
    assert shelf.get("stable").content == expected


@pytest.mark.parametrize("single", ["new", "stable"])
def test_a_single_image_can_be_refused(shelf: Shelf, single: str) -> None:
    for tag in ("new", "stable"):
        shelf.put(tag, SINGLE if tag == single else make_index(NEW))
    before = shelf.get("stable")

    done = run(
        *("merge", "--source-ref", shelf.ref("new"), "--dest-ref", shelf.ref("stable")),
        *("--single-image", "fail"),
    )

    assert done.code == 1
    assert f"{shelf.ref(single)} holds {SINGLE.media_type}, expected" in done.err
    assert shelf.get("stable") == before
