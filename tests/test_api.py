"""merge_tags: what Python programs get, and what the command line calls."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from pubtools_mlmerge.core.plan import Policy
from pubtools_mlmerge.core.references import Reference
from pubtools_mlmerge.errors import (
    InvalidIndex,
    InvalidReference,
    MergesFailed,
    MissingChild,
    NotFound,
)
from pubtools_mlmerge.hooks import TagLocks
from pubtools_mlmerge.merging.api import Ordered, TagMerger, in_order, merge_tags
from pubtools_mlmerge.merging.decision import AnchorTag, StepOptions
from pubtools_mlmerge.merging.writer import Writer
from pubtools_mlmerge.registry.client import RegistryClient
from pubtools_mlmerge.testing import RegistryServer, make_image, make_index
from tests.programs import put, run_here

AMD64, ARM64 = make_image("linux/amd64"), make_image("linux/arm64")
OLD = make_index([make_image("linux/amd64", seed="old"), make_image("linux/s390x")])


@pytest.fixture
def app(registry_server: RegistryServer) -> str:
    """Hold an image for each of two platforms, and an index."""
    for tag, item in (("amd64", AMD64), ("arm64", ARM64), ("stable", OLD), ("other", OLD)):
        put(registry_server, tag, item)
    return f"{registry_server.host}/app"


def test_it_does_what_the_command_does(
    app: str, registry_server: RegistryServer, tmp_path: Path
) -> None:
    sources: list[str | Reference] = [f"{app}:amd64", Reference.parse(f"{app}:arm64")]
    tags = f"{app}:stable", f"{app}:other"
    locks, records = f"file://{tmp_path}/locks", str(tmp_path / "records")

    reports = merge_tags(sources, tags, lock=locks, audit=records)

    digests = [registry_server.manifest("app", name).digest for name in ("stable", "other")]
    assert [report.digest for report in reports] == digests
    assert [str(report.destination) for report in reports] == list(tags)
    assert len(list((tmp_path / "records").iterdir())) == 2
    assert list((tmp_path / "locks").iterdir())
    named = ("--source-ref", f"{app}:amd64,{app}:arm64", "--dest-ref", f"{app}:third")
    put(registry_server, "third", OLD)
    assert run_here("merge", *named, "--output", "json").report["digest"] == digests[0]


def test_one_of_each_is_enough_and_a_dry_run_writes_nothing(app: str) -> None:
    with RegistryClient() as client:
        (report,) = merge_tags(
            f"{app}:amd64",
            Reference.parse(f"{app}:stable"),
            client=client,
            policy=Policy(drop=["s390x"]),
            dry_run=True,
        )
        assert report.counts == {"replaced": 1, "dropped": 1}
        assert client.digest(report.destination) == OLD.digest


def test_each_side_may_have_a_client(app: str, registry_server: RegistryServer) -> None:
    name = app.partition("/")[2]
    with RegistryServer() as other, RegistryClient(registry_server.url) as reader:
        put(other, "stable", make_index([ARM64]))
        with RegistryClient(other.url) as writer:
            (report,) = merge_tags(
                f"{name}:amd64", f"{name}:stable", client=writer, source_client=reader, dry_run=True
            )

    assert report.counts == {"added": 1, "kept": 1}


def test_images_need_not_be_copied(app: str, registry_server: RegistryServer) -> None:
    with pytest.raises(MissingChild, match="copying is disabled"):
        merge_tags(f"{app}:amd64", f"{registry_server.host}/else:x", copy="never")


def test_signatures_come_with_the_images_that_are_taken(
    app: str, registry_server: RegistryServer, caplog: pytest.LogCaptureFixture
) -> None:
    """Those of images within a nested index too, and later on if nothing else is to do."""
    source = make_index([make_index([AMD64])])
    stem, whole = (each.digest.replace(":", "-") for each in (AMD64, source))
    for name, item in (("nested", source), (f"{stem}.sig", ARM64), (f"{whole}.sig", ARM64)):
        put(registry_server, name, item)
    tag = put(registry_server, "x", make_index([make_image("linux/s390x")]), "else")

    merge_tags(f"{app}:nested", tag, referrers="copy")
    put(registry_server, f"{stem}.att", ARM64)
    (report,) = merge_tags(f"{app}:nested", tag, referrers="copy")

    assert not report.changed
    assert registry_server.tags("else") == (f"{stem}.att", f"{stem}.sig", "x")
    unfit = f"{app}:nested: 1 that refer to the index itself do not fit the merged one"
    assert [message.partition(";")[0] for message in caplog.messages] == [unfit]


def test_a_client_closes_its_connections_at_the_end() -> None:
    class Noted(RegistryClient):
        closed = False

        def close(self) -> None:
            self.closed = True
            super().close()

    with Noted() as client:
        assert not client.closed
    assert client.closed


def test_the_failure_of_the_only_tag_is_raised(app: str) -> None:
    with pytest.raises(NotFound):
        merge_tags([f"{app}:none"], [f"{app}:stable"])


def test_after_a_failure_the_others_go_on_and_no_report_is_lost(
    app: str, registry_server: RegistryServer
) -> None:
    registry_server.put_manifest("app", "odd", b"{", OLD.media_type)
    tags = [f"{app}:stable", f"{app}:odd", f"{app}:new", f"{app}:other"]

    with pytest.raises(MergesFailed, match=f"1 of 4 merges failed: {app}:odd: ") as caught:
        merge_tags(f"{app}:arm64", tags)

    ((tag, error),) = caught.value.failures
    assert (str(tag), type(error)) == (f"{app}:odd", InvalidIndex)
    assert [str(r.destination) for r in caught.value.reports] == [tags[0], *tags[2:]]
    held = [registry_server.manifest("app", name).digest for name in ("stable", "new", "other")]
    assert [report.digest for report in caught.value.reports] == held


def test_a_tag_that_is_read_as_well_is_written_before_or_after(
    app: str, registry_server: RegistryServer
) -> None:
    registry_server.forget_requests()
    merge_tags([f"{app}:arm64", f"{app}:stable"], [f"{app}:stable", f"{app}:other"])

    calls = [f"{each.method} {each.path}" for each in registry_server.requests]
    first = next(number for number, call in enumerate(calls) if call.endswith("/other"))
    assert calls.index("PUT /v2/app/manifests/stable") < first


def test_no_thread_is_left(app: str, registry_server: RegistryServer) -> None:
    before = threading.enumerate()

    merge_tags(f"{app}:amd64", [f"{registry_server.host}/else:{tag}" for tag in "ab"])

    left = [each.name for each in threading.enumerate() if each not in before]
    assert [name for name in left if name.startswith("mlmerge")] == []


def test_one_client_and_what_was_read_may_serve_several_calls(
    app: str, registry_server: RegistryServer
) -> None:
    with RegistryClient() as client:
        merger = TagMerger(client, client, Writer(client, StepOptions()), TagLocks())
        registry_server.forget_requests()
        for tag, dropped in (("stable", "s390x"), ("other", "amd64")):
            (report,) = merge_tags(
                f"{app}:arm64", f"{app}:{tag}", policy=Policy(drop=[dropped]), merger=merger
            )
            assert report.counts == {"added": 1, "kept": 1, "dropped": 1}
        merger.close()

    reads = [r.path for r in registry_server.requests if r.method == "GET"]
    assert reads.count("/v2/app/manifests/arm64") == 1


def test_an_anchor_tag_that_cannot_be_is_refused_before_the_first_write(
    app: str, registry_server: RegistryServer
) -> None:
    with RegistryClient() as client:
        writer = Writer(client, StepOptions(anchor_tag=AnchorTag.parse("{tag}-kept")))
        merger = TagMerger(client, client, writer, TagLocks())
        with pytest.raises(InvalidReference, match="tag: expected 1 to 128"):
            merge_tags(f"{app}:amd64", [f"{app}:{tag}" for tag in ("a", "x" * 126)], merger=merger)
        merger.close()

    assert "a" not in registry_server.tags("app")


@pytest.mark.parametrize("tag", ["app@sha256:" + "0" * 64, []])
def test_a_destination_is_a_tag(tag: str | list[str]) -> None:
    with pytest.raises((InvalidReference, ValueError)):
        merge_tags(["quay.io/app:1"], [f"quay.io/{tag}"] if tag else [])


def test_no_url_passes_as_a_user_name() -> None:
    with pytest.raises(ValueError, match="the user name is a URL"):
        RegistryClient(username="https://quay.io", password="x")


@pytest.mark.parametrize(
    ("first", "last"),
    [
        (("new", "one"), ("one", "two")),
        (("old", "one"), ("new", "old")),
        (("old", "one"), ("new", "one")),
    ],
)
def test_a_merge_waits_for_one_under_way_that_it_depends_on(
    first: tuple[str, str], last: tuple[str, str]
) -> None:
    merges = [
        Ordered(tag, frozenset([source]), frozenset([tag]))
        for source, tag in (first, ("other", "else"), last)
    ]

    assert [*in_order(merges, 2)] == [first[1], "else", None, last[1]]
    assert [*in_order(merges, 1)] == [first[1], "else", last[1]]  # the first has ended by then


def test_what_came_before_a_barrier_is_not_waited_for_again() -> None:
    read = {"one": "source", "two": "one", "three": "one"}
    merges = [Ordered(tag, frozenset([read[tag]]), frozenset([tag])) for tag in read]

    assert [*in_order(merges, 3)] == ["one", None, "two", "three"]
