"""Restoring a tag on the embedded registry, in both dialects."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Callable, Union

import pytest
from attrs import frozen

from pubtools_mlmerge.core.manifests import Manifest, read_manifest
from pubtools_mlmerge.core.references import Reference
from pubtools_mlmerge.errors import (
    CannotRestore,
    ConflictError,
    LockLost,
    MergeError,
    MissingChild,
    RecordFailed,
    RegistryError,
)
from pubtools_mlmerge.merging.audit import AuditDirectory, Change, read_change
from pubtools_mlmerge.merging.restore import restore
from pubtools_mlmerge.registry.client import RegistryClient
from pubtools_mlmerge.reports.report import to_text
from pubtools_mlmerge.testing import (
    Image,
    ImageIndex,
    RegistryServer,
    make_attestation,
    make_image,
    make_index,
)
from tests.programs import put
from tests.quay import QuayDialect
from tests.scripted import HURRIED, Clock, Reply, ScriptedServer, refusal
from tests.test_audit import NOON

Item = Union[Image, ImageIndex]

AMD64, ARM64, S390X = (make_image(f"linux/{name}") for name in ("amd64", "arm64", "s390x"))
NEWER = make_image("linux/amd64", seed="new")
PROOF = make_attestation(AMD64)
OLD = make_index([AMD64, ARM64, PROOF])
NEW = make_index([NEWER, ARM64, S390X])
OTHER = make_index([make_image("linux/ppc64le")])
DOCKER = make_index([make_image("linux/amd64", docker=True)], docker=True)
UNTYPED = make_index([AMD64, ARM64], media_type_field=False)


def manifest(item: Item) -> Manifest:
    return read_manifest(Reference("", "app", tag="1"), item.content, item.media_type)


def change_of(tag: Reference, previous: Item | None = OLD, new: Item = NEW) -> Change:
    """Make the change of a tag from one item to another."""
    return Change(
        time=NOON,
        source=None,
        destination=tag,
        source_digest=None,
        previous=None if previous is None else manifest(previous),
        new=manifest(new),
    )


@frozen
class Place:
    """A tag that held one thing and holds another since."""

    server: RegistryServer
    clock: Clock
    client: RegistryClient

    @property
    def tag(self) -> Reference:
        return Reference.parse(f"{self.server.host}/app:stable")

    @property
    def held(self) -> str:
        return self.server.manifest("app", "stable").digest

    @property
    def asked(self) -> list[str]:
        """Method, target and status of each request, digests by their first digits."""
        return [
            f"{r.method} {r.path.rpartition('/')[2][:12]} {r.status}" for r in self.server.requests
        ]

    @property
    def writes(self) -> list[str]:
        return [line for line in self.asked if line.startswith("PUT")]

    def put(self, item: Item) -> None:
        put(self.server, "stable", item)

    def hold(self, item: Item | None) -> None:
        """Let somebody else write the tag, or delete it."""
        if item is None:
            self.server.delete_tag("app", "stable")
        else:
            self.put(item)

    def changed(self, previous: Item | None = OLD, new: Item = NEW) -> Change:
        """Let the tag hold one thing and then the other, and much later forget all requests."""
        for item in (previous, new):
            if item is not None:
                self.put(item)
        self.clock.now += 7200  # what was uploaded by digest is hidden again
        self.server.forget_requests()
        return change_of(self.tag, previous, new)


def run(dialect: QuayDialect | None) -> Iterator[Place]:
    """Run a registry whose clock can be set."""
    clock = Clock()
    with RegistryServer(dialect=dialect, clock=clock) as server:
        client = RegistryClient(options=HURRIED)
        yield Place(server, clock, client)
        client.close()


@pytest.fixture(params=["distribution", "quay"])
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    """A registry of either kind."""
    yield from run(QuayDialect() if request.param == "quay" else None)


@pytest.fixture
def quay() -> Iterator[Place]:
    yield from run(QuayDialect())


def short(item: Item) -> str:
    return item.digest[:12]


# What is put back


@pytest.mark.parametrize("previous", [OLD, DOCKER, UNTYPED, AMD64])
@pytest.mark.parametrize("new", [NEW, S390X])
def test_the_tag_gets_its_old_bytes_and_all_that_they_list(
    place: Place, previous: Item, new: Item
) -> None:
    change = place.changed(previous, new)

    report = restore(place.client, change)

    held = place.server.manifest("app", "stable")
    assert (held.content, held.media_type) == (previous.content, previous.media_type)
    assert (report.digest, report.media_type) == (previous.digest, previous.media_type)
    assert (report.previous_digest, report.changed, report.dry_run) == (new.digest, True, False)
    assert (report.source, report.source_digest) == (None, None)
    assert 0 < report.seconds < 60
    for child in previous.children if isinstance(previous, ImageIndex) else ():
        assert place.client.pull(place.tag.at(child.digest)).content == child.content


def test_what_quay_hides_is_brought_back_before_the_tag_moves(quay: Place) -> None:
    change = quay.changed()

    restore(quay.client, change)

    assert quay.asked == [
        "HEAD stable 200",
        f"HEAD {short(AMD64)} 404",
        f"HEAD {short(ARM64)} 200",
        f"HEAD {short(PROOF)} 404",
        f"PUT {short(OLD)} 201",
        f"HEAD {short(AMD64)} 200",
        f"HEAD {short(PROOF)} 200",
        "HEAD stable 200",
        "PUT stable 201",
        "HEAD stable 200",
    ]


def test_where_nothing_is_hidden_only_the_tag_is_written(place: Place) -> None:
    change = place.changed()
    put(place.server, "anchor", OLD)

    restore(place.client, change)

    assert place.writes == ["PUT stable 201"]


def test_what_is_there_already_is_left_alone(place: Place) -> None:
    change = place.changed()
    place.put(OLD)

    report = restore(place.client, change)

    assert place.asked == ["HEAD stable 200"]
    assert (report.changed, report.digest) == (False, OLD.digest)
    assert {(entry.fate, entry.reason) for entry in report.entries} == {
        ("same", "both have this digest")
    }
    assert to_text(report).endswith(f"nothing to do, it stays {OLD.digest}")


def test_two_changes_of_a_tag_are_undone_newest_first(place: Place) -> None:
    first, second = place.changed(), place.changed(NEW, OTHER)

    with pytest.raises(CannotRestore):
        restore(place.client, first)
    for change in (second, first):
        restore(place.client, change)

    assert place.held == OLD.digest


# What is reported


def fates(place: Place, change: Change) -> list[tuple[str, str, str | None, str]]:
    """List digest, fate, previous digest and reason of each entry of a dry run."""
    return [
        (e.descriptor.digest, e.fate, e.previous_digest, e.reason)
        for e in restore(place.client, change, dry_run=True).entries
    ]


def test_the_report_compares_two_indexes(place: Place) -> None:
    assert fates(place, place.changed()) == [
        (AMD64.digest, "replaced", NEWER.digest, "this one was listed before"),
        (ARM64.digest, "same", ARM64.digest, "both have this digest"),
        (PROOF.digest, "added", None, "it was listed before"),
        (S390X.digest, "dropped", S390X.digest, "it was not listed before"),
    ]


def test_the_report_keeps_nothing_that_states_no_platform(place: Place) -> None:
    nested, proof = make_index([S390X]), make_attestation(AMD64, artifact=True)
    change = place.changed(make_index([AMD64]), make_index([AMD64, nested, proof]))

    assert [fate for _, fate, _, _ in fates(place, change)] == ["same", "dropped", "dropped"]


def test_the_report_compares_single_images(place: Place) -> None:
    over_index = [fate for _, fate, _, _ in fates(place, place.changed(AMD64, NEW))]
    over_image = [fate for _, fate, _, _ in fates(place, place.changed(NEW, AMD64))]
    image_over_image = fates(place, place.changed(S390X, AMD64))

    assert over_index == ["replaced", "dropped", "dropped", "dropped"]
    assert over_image == ["added", "added", "added", "dropped"]
    assert image_over_image == [
        (S390X.digest, "replaced", AMD64.digest, "this one was listed before")
    ]


# What is refused


def test_a_tag_that_did_not_exist_is_left_to_people(place: Place) -> None:
    change = place.changed(None)

    with pytest.raises(CannotRestore, match=r"it did not exist before.* delete it by hand$"):
        restore(place.client, change, force=True)

    assert (place.asked, place.held) == ([], NEW.digest)


@pytest.mark.parametrize("now", [OTHER, None])
def test_a_tag_that_was_changed_or_deleted_since_is_left_alone(
    place: Place, now: Item | None
) -> None:
    change = place.changed()
    place.hold(now)

    with pytest.raises(CannotRestore) as caught:
        restore(place.client, change)

    assert place.writes == []
    assert caught.value.reference == str(place.tag)
    holds = now.digest if now else "nothing"
    words = f"it was changed since: it holds {holds}, not {NEW.digest}; to overwrite that, use"
    assert caught.value.problem == f"{words} --force"


@pytest.mark.parametrize(("force", "kind"), [(False, CannotRestore), (True, MissingChild)])
def test_an_image_that_is_really_gone_is_named(
    place: Place, *, force: bool, kind: type[MergeError]
) -> None:
    gone = make_image("linux/riscv64")
    whole = make_index([AMD64, gone])
    place.changed(make_index([AMD64]))

    with pytest.raises(kind, match=f"^{place.tag}: .*the repository lacks {gone.digest}"):
        restore(place.client, change_of(place.tag, whole), force=force)

    assert place.held == NEW.digest


def test_an_image_without_its_layers_is_refused_by_the_registry(place: Place) -> None:
    broken = make_image("linux/amd64", seed="never uploaded")
    place.changed()

    with pytest.raises(RegistryError, match=f"^{place.tag}: "):
        restore(place.client, change_of(place.tag, broken))

    assert place.held == NEW.digest


def test_a_registry_that_checks_nothing_does_not_get_half_an_index() -> None:
    """Quay with sparse indexes takes what lists absent images, and they stay absent."""
    held = {"Docker-Content-Digest": NEW.digest}
    head, absent = Reply(200, held), refusal(404, "MANIFEST_UNKNOWN")
    with ScriptedServer(head, *[absent] * 3, Reply(201), absent) as server:
        change = change_of(Reference.parse(f"{server.host}/app:stable"))

        with pytest.raises(CannotRestore, match=f"lacks {AMD64.digest}, {ARM64.digest}, "):
            restore(RegistryClient(options=HURRIED), change)

        puts = [line for line in server.lines if line.startswith("PUT")]
    assert [line.rpartition("/")[2] for line in puts] == [OLD.digest]


# Force


@pytest.mark.parametrize("now", [OTHER, None])
def test_force_overwrites_what_is_there_since(
    place: Place, tmp_path: Path, now: Item | None
) -> None:
    change = place.changed()
    place.hold(now)

    report = restore(
        place.client, change, force=True, recorder=AuditDirectory(str(tmp_path)).record
    )

    assert place.held == OLD.digest
    assert report.previous_digest == (now.digest if now else None)
    expected = ["added", "added", "added", *(["dropped"] if now else [])]
    assert [entry.fate for entry in report.entries] == expected
    (file,) = tmp_path.iterdir()
    assert read_change(str(file)).previous == (manifest(now) if now else None)


def test_force_asks_for_no_images(place: Place) -> None:
    restore(place.client, place.changed(), force=True)

    assert place.asked == [
        "HEAD stable 200",
        "HEAD stable 200",
        "PUT stable 201",
        "HEAD stable 200",
    ]


# A dry run


@pytest.mark.parametrize("force", [True, False])
def test_a_dry_run_reports_the_outcome_and_writes_nothing(place: Place, *, force: bool) -> None:
    change = place.changed()

    dry = restore(place.client, change, force=force, dry_run=True)

    assert (place.writes, place.held) == ([], NEW.digest)
    real = restore(place.client, change, force=force)
    assert (dry.digest, dry.entries, dry.changed) == (real.digest, real.entries, True)
    assert (dry.dry_run, real.dry_run) == (True, False)


def test_a_dry_run_warns_of_what_it_cannot_see(
    quay: Place, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, logger="pubtools.mlmerge")
    change = quay.changed()

    restore(quay.client, change, dry_run=True)

    (message,) = caplog.messages
    assert message.startswith(f"{quay.tag}: {AMD64.digest}, {PROOF.digest} cannot be read; ")


def test_a_dry_run_asks_for_no_right_to_write(quay_server: RegistryServer) -> None:
    tag = Reference.parse(put(quay_server, "stable", NEW, "alice/app"))
    client = RegistryClient(username="alice", password="wonderland")

    restore(client, change_of(tag), dry_run=True)

    scopes = [request.query for request in quay_server.requests if request.path == "/v2/auth"]
    assert scopes
    assert not any("push" in scope for scope in scopes)


# Two writers


class Interrupted(RegistryClient):
    """A client whose requests give somebody else the time to write."""

    def __init__(self, before: Callable[[], None], *, after_push: bool) -> None:
        super().__init__(options=HURRIED)
        self._somebody_writes = before
        self._after_push = after_push

    def has_manifest(self, reference: Reference) -> bool:
        if not self._after_push:
            self._somebody_writes()
        return super().has_manifest(reference)

    def push(self, reference: Reference, manifest: Manifest, *, repeat: bool = True) -> str:
        digest = super().push(reference, manifest, repeat=repeat)
        if self._after_push and reference.tag:
            self._somebody_writes()
        return digest


@pytest.mark.parametrize(("after_push", "puts"), [(False, 0), (True, 1)])
def test_another_writer_is_not_overwritten(place: Place, *, after_push: bool, puts: int) -> None:
    change = place.changed()
    client = Interrupted(lambda: place.put(OTHER), after_push=after_push)

    with pytest.raises(ConflictError) as caught:
        restore(client, change)

    assert place.held == OTHER.digest
    assert caught.value.found == OTHER.digest
    assert caught.value.expected == (OLD if after_push else NEW).digest
    assert place.writes.count("PUT stable 201") == puts


def test_force_puts_back_the_very_bytes_over_those_of_another_writer(place: Place) -> None:
    """The other writer's index serves the same, in another order."""
    change, theirs = place.changed(), [make_index([ARM64, AMD64, PROOF])]

    def write_once() -> None:
        if theirs:
            place.put(theirs.pop())

    report = restore(Interrupted(write_once, after_push=True), change, force=True)

    assert place.held == report.digest == OLD.digest


def test_nothing_is_written_once_the_lock_is_lost_or_without_a_record(
    place: Place, tmp_path: Path
) -> None:
    change = place.changed()
    (tmp_path / "file").touch()

    def check() -> None:
        raise LockLost(str(place.tag), "the server went away")

    with pytest.raises(LockLost):
        restore(place.client, change, check=check)
    with pytest.raises(RecordFailed):
        restore(place.client, change, recorder=AuditDirectory(str(tmp_path / "file")).record)

    assert place.held == NEW.digest
    assert "PUT stable 201" not in place.asked


# Records


def test_putting_back_is_recorded_and_can_be_undone(place: Place, tmp_path: Path) -> None:
    change = place.changed()

    restore(place.client, change, recorder=AuditDirectory(str(tmp_path)).record)
    (file,) = tmp_path.iterdir()
    recorded = read_change(str(file))
    restore(place.client, recorded)

    assert place.held == NEW.digest
    assert (recorded.source, recorded.destination) == (None, place.tag)
    assert (recorded.previous, recorded.new) == (manifest(NEW), manifest(OLD))


@pytest.mark.parametrize("dry_run", [True, False])
def test_no_change_is_no_record(place: Place, tmp_path: Path, *, dry_run: bool) -> None:
    change = place.changed()
    if not dry_run:
        place.put(OLD)

    restore(place.client, change, dry_run=dry_run, recorder=AuditDirectory(str(tmp_path)).record)

    assert list(tmp_path.iterdir()) == []
