"""Copying: what an index lists comes into the destination repository before the index."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from base64 import b64decode
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path

import pytest
from attrs import define, evolve, field, frozen

from pubtools_mlmerge.concurrency import STOP, Watch, progress_of, unwatched
from pubtools_mlmerge.core.references import Reference
from pubtools_mlmerge.errors import (
    CopyFailed,
    Forbidden,
    InvalidIndex,
    MissingChild,
    RegistryError,
    Unauthorized,
)
from pubtools_mlmerge.registry import copying
from pubtools_mlmerge.registry.auth import Credentials
from pubtools_mlmerge.registry.client import RegistryClient
from pubtools_mlmerge.registry.copying import Children, Copy
from pubtools_mlmerge.registry.http import ConnectOptions
from pubtools_mlmerge.testing import (
    Image,
    ImageIndex,
    RegistryServer,
    make_attestation,
    make_image,
    make_index,
    upload,
)
from tests.factories import digest
from tests.peers import SCHEMA_1
from tests.quay import QuayDialect
from tests.scripted import (
    HURRIED,
    Received,
    Reply,
    ScriptedServer,
    ca_bundle,
    manifest_reply,
    refusal,
    write_client,
)

ONE, TWO = make_image("linux/amd64"), make_image("linux/arm64")
BOTH = (ONE.digest, TWO.digest)


@define
class Copies:
    """Stands for skopeo, and records its calls."""

    asked: list[tuple[Reference, Reference]] = field(factory=list)

    def __call__(self, source: Reference, destination: Reference) -> None:
        """Note it."""
        self.asked.append((source, destination))


@pytest.fixture
def other_server() -> Iterator[RegistryServer]:
    with RegistryServer() as server:
        yield server


@pytest.fixture
def copies() -> Copies:
    return Copies()


def reference(server: RegistryServer, name: str) -> Reference:
    return Reference.parse(f"{server.host}/{name}")


def asked(server: RegistryServer) -> list[str]:
    """List the requests, uploads by the blob that is to be mounted.

    A GET that follows a HEAD of the same manifest only makes sure that it is absent.
    """
    lines = []
    for request in server.requests:
        if request.method == "GET" and "/to/" in request.path:
            continue
        target = request.path.rpartition("/")[2] or request.query.partition("&")[0]
        lines.append(f"{request.method} {target}".replace("%3A", ":"))
    return lines


def fill(server: RegistryServer, *images: Image, repository: str = "from/app") -> None:
    for image in images:
        upload(server.url, repository, image)
    server.forget_requests()


def tags(server: RegistryServer) -> tuple[Reference, Reference]:
    """Name a tag of each of the two repositories."""
    return reference(server, "from/app:1"), reference(server, "to/app:1")


def bring(
    server: RegistryServer,
    *digests: str,
    copy: Copy = "auto",
    copies: Copies | None = None,
    watch: Watch = unwatched,
) -> None:
    """Bring manifests from one repository into the other, with one client."""
    client = RegistryClient()
    Children(client, client, copy, copies, watch).ensure(*tags(server), digests)


def test_nothing_is_asked_within_one_repository(registry_server: RegistryServer) -> None:
    client = RegistryClient(host=registry_server.url)
    names = [Reference.parse(f"{name}") for name in ("quay.io/app:1", "registry.test/app:2")]

    Children(client, client, "never").ensure(names[0], names[1], BOTH)
    Children(client, RegistryClient(host=registry_server.url), "never").ensure(
        names[0], names[0].tagged("2"), BOTH
    )

    assert asked(registry_server) == []


def test_blobs_are_mounted_and_the_manifest_follows(
    registry_server: RegistryServer, copies: Copies
) -> None:
    fill(registry_server, ONE)

    bring(registry_server, ONE.digest, copies=copies)

    mounts = [f"POST mount={blob}" for blob in ONE.blobs]
    digest = ONE.digest
    head, get, *posts, put = asked(registry_server)
    assert [head, get, put] == [f"{method} {digest}" for method in ("HEAD", "GET", "PUT")]
    assert sorted(posts) == sorted(mounts)  # side by side
    assert registry_server.manifest("to/app", digest).content == ONE.content
    assert copies.asked == []


def test_nothing_is_asked_twice(registry_server: RegistryServer) -> None:
    fill(registry_server, ONE, TWO)
    client = RegistryClient()
    children = Children(client, client)
    there = reference(registry_server, "to/app:1")
    children.ensure(reference(registry_server, "from/app:1"), there, [*BOTH, ONE.digest])
    lines = asked(registry_server)
    registry_server.forget_requests()

    children.ensure(reference(registry_server, "from/app:1"), there.tagged("2"), BOTH)

    assert len(lines) == len(set(lines))
    assert asked(registry_server) == []


def test_a_layer_that_images_share_is_mounted_once(registry_server: RegistryServer) -> None:
    twin = evolve(ONE, content=ONE.content + b"\n")
    fill(registry_server, ONE, twin)

    bring(registry_server, ONE.digest, twin.digest)

    assert registry_server.manifest("to/app", twin.digest).content == twin.content
    mounts = [line for line in asked(registry_server) if line.startswith("POST")]
    assert sorted(mounts) == sorted(f"POST mount={blob}" for blob in ONE.blobs)


def test_what_is_there_is_left_alone(registry_server: RegistryServer, copies: Copies) -> None:
    fill(registry_server, ONE)
    fill(registry_server, ONE, repository="to/app")

    bring(registry_server, ONE.digest, copies=copies)

    assert asked(registry_server) == [f"HEAD {ONE.digest}"]


PROOFS = [make_attestation(image, artifact=True) for image in (ONE, TWO)]


@pytest.mark.parametrize("copy", ["auto", "skopeo"])
def test_an_image_comes_before_what_names_it_as_its_subject(
    registry_server: RegistryServer, copy: Copy
) -> None:
    class InOrder(Copies):
        def __call__(self, source: Reference, destination: Reference) -> None:
            time.sleep(0.05 if source.digest in BOTH else 0)
            super().__call__(source, destination)

    copies = InOrder()
    upload(registry_server.url, "from/app", make_index([*PROOFS, ONE, TWO]))
    registry_server.forget_requests()
    wanted = [*(proof.digest for proof in PROOFS), *BOTH]

    bring(registry_server, *wanted, copy=copy, copies=copies)

    written = [line[4:] for line in asked(registry_server) if line.startswith("PUT")]
    written += [destination.digest for _, destination in copies.asked]
    assert sorted(written) == sorted(wanted)
    for image, proof in zip((ONE, TWO), PROOFS):
        assert written.index(image.digest) < written.index(proof.digest)


def test_what_a_nested_index_lists_comes_after_its_subject(
    registry_server: RegistryServer,
) -> None:
    nested = make_index([PROOFS[0], ONE])
    upload(registry_server.url, "from/app", nested)
    registry_server.forget_requests()

    bring(registry_server, nested.digest)

    puts = [line[4:] for line in asked(registry_server) if line.startswith("PUT")]
    assert puts == [ONE.digest, PROOFS[0].digest, nested.digest]


def test_a_nested_index_comes_after_all_that_it_lists(registry_server: RegistryServer) -> None:
    inner = make_index([TWO, make_attestation(TWO, artifact=True)])
    nested = make_index([ONE, inner])
    upload(registry_server.url, "from/app", nested)
    registry_server.forget_requests()

    bring(registry_server, nested.digest)

    puts = [line.removeprefix("PUT ") for line in asked(registry_server) if "PUT" in line]
    expected = [ONE, *inner.children, inner, nested]
    assert puts == [item.digest for item in expected]


def test_indexes_in_each_other_are_mounted_to_a_depth(registry_server: RegistryServer) -> None:
    nested: Image | ImageIndex = ONE
    for _ in range(5):
        deepest, nested = nested, make_index([nested])
    upload(registry_server.url, "from/app", nested)

    bring(registry_server, deepest.digest)
    with pytest.raises(InvalidIndex, match="at most 4 levels and 64 nested indexes"):
        bring(registry_server, nested.digest)


@pytest.mark.parametrize("dialect", ["distribution", "quay"])
def test_a_refused_mount_becomes_a_copy(dialect: str, copies: Copies) -> None:
    grants: Mapping[str, list[str]] = {"bob": ["from/*"], "alice": ["to/*"]}
    users = {"bob": "builder", "alice": "wonderland"}
    quay = QuayDialect() if dialect == "quay" else None
    with RegistryServer(dialect=quay, auth="token", users=users, grants=grants) as server:
        upload(server.url, "from/app", ONE, credentials=("bob", "builder"))
        reader = RegistryClient(username="bob", password="builder")
        writer = RegistryClient(username="alice", password="wonderland")
        source, destination = reference(server, "from/app:1"), reference(server, "to/app:1")

        Children(reader, writer, copy_one=copies).ensure(source, destination, [ONE.digest])

        assert copies.asked == [(source.at(ONE.digest), destination.at(ONE.digest))]
        puts = [request for request in server.requests if request.method == "PUT"]
        assert [request.path for request in puts if "to/app" in request.path] == []


def refusing(server: ScriptedServer, *, upload: int) -> None:
    """Refuse every mount, and answer an upload so."""

    def answer(request: Received) -> Reply:
        if request.method == "POST":
            return refusal(403 if "mount=" in request.target else upload, "DENIED", "sorry")
        if request.method == "GET" and "/from/" in request.target:
            return manifest_reply(ONE.content, ONE.media_type)
        return Reply(404)

    server.then(answer)


@pytest.mark.parametrize("copy", ["auto", "skopeo"])
@pytest.mark.parametrize("upload", [401, 403, 202])
def test_only_who_may_write_gets_a_copy(copies: Copies, upload: int, copy: Copy) -> None:
    may_not = "this login may not write to the repository to/app|not authorized"
    refused = pytest.raises((Unauthorized, Forbidden), match=may_not)
    with ScriptedServer(Reply(404)) as server:
        refusing(server, upload=upload)
        client = RegistryClient(host=server.url, options=HURRIED)
        names = Reference.parse("r.test/from/app:1"), Reference.parse("r.test/to/app:1")

        with nullcontext() if upload == 202 else refused:
            Children(client, client, copy, copies).ensure(*names, [ONE.digest])

    assert len(copies.asked) == (upload == 202)


def test_another_registry_gets_copies(
    registry_server: RegistryServer, other_server: RegistryServer, copies: Copies
) -> None:
    fill(registry_server, ONE, TWO)
    client = RegistryClient()
    source, destination = tags(registry_server)[0], tags(other_server)[1]

    Children(client, client, copy_one=copies).ensure(source, destination, BOTH)

    assert set(copies.asked) == {(source.at(d), destination.at(d)) for d in BOTH}
    assert set(asked(registry_server)) == {f"GET {d}" for d in BOTH}
    heads, (post, cancel) = asked(other_server)[:2], asked(other_server)[-2:]
    assert set(heads) == {f"HEAD {d}" for d in BOTH}
    assert (post[:5], cancel[:7]) == ("POST ", "DELETE ")  # whether it may be written, once


def streamed(server: RegistryServer, other: RegistryServer, *names: str) -> Children:
    """Bring all images of a repository into others of another registry, one after another."""
    client = RegistryClient()
    children = Children(client, client)
    for name in names:
        children.ensure(tags(server)[0], reference(other, f"{name}:1"), BOTH)
    return children


def sent(server: RegistryServer) -> list[str]:
    """List how each request for a blob began, and how it ended."""
    found = [r for r in server.requests if "/blobs/" in r.path]
    return [f"{r.method} {r.query.partition('=')[0]}".rstrip() + f" {r.status}" for r in found]


def test_between_registries_images_are_streamed(
    registry_server: RegistryServer, other_server: RegistryServer
) -> None:
    fill(registry_server, ONE, TWO)

    streamed(registry_server, other_server, "to/app")

    for image in (ONE, TWO):
        assert other_server.manifest("to/app", image.digest).content == image.content
    blobs = {*ONE.blobs, *TWO.blobs}
    one = ["HEAD 404", "POST 202", "PUT _state 201"]
    assert sorted(sent(other_server)) == sorted(one * len(blobs))


def test_blobs_that_are_there_are_not_sent(
    registry_server: RegistryServer, other_server: RegistryServer
) -> None:
    fill(registry_server, ONE, TWO)
    for image in (ONE, TWO):
        for blob in image.blobs.values():
            other_server.put_blob("to/app", blob)

    streamed(registry_server, other_server, "to/app")

    assert set(sent(other_server)) == {"HEAD 200"}
    assert sent(registry_server) == []


def test_blobs_of_a_repository_of_this_run_are_mounted_into_the_next(
    registry_server: RegistryServer, other_server: RegistryServer
) -> None:
    fill(registry_server, ONE, TWO)
    streamed(registry_server, other_server, "to/app", "to/too").close()

    blobs = len({*ONE.blobs, *TWO.blobs})
    assert sent(other_server)[-blobs:] == ["POST mount 201"] * blobs
    assert len(sent(registry_server)) == blobs
    assert other_server.manifest("to/too", ONE.digest).content == ONE.content


def test_where_the_registry_does_not_mount_images_are_streamed() -> None:
    grants: Mapping[str, list[str]] = {"bob": ["from/*"], "alice": ["to/*"]}
    users = {"bob": "builder", "alice": "wonderland"}
    with RegistryServer(auth="token", users=users, grants=grants) as server:
        upload(server.url, "from/app", ONE, credentials=("bob", "builder"))
        reader, writer = (
            RegistryClient(username=user, password=password) for user, password in users.items()
        )

        Children(reader, writer).ensure(*tags(server), [ONE.digest])

        assert server.manifest("to/app", ONE.digest).content == ONE.content


def test_layers_that_are_elsewhere_are_left_alone(
    registry_server: RegistryServer, other_server: RegistryServer
) -> None:
    document = json.loads(ONE.content)
    far = {"urls": ["http://127.0.0.1:1/far"], "digest": digest("far"), "size": 7}
    document["layers"].append({"mediaType": "application/vnd.oci.image.layer.v1.tar", **far})
    content = json.dumps(document).encode()
    fill(registry_server, ONE)
    name = registry_server.put_manifest("from/app", "1", content, ONE.media_type)
    client = RegistryClient()

    names = tags(registry_server)[0], tags(other_server)[1]
    Children(client, client).ensure(*names, [name])

    assert other_server.manifest("to/app", name).content == content
    assert len(sent(registry_server)) == len(ONE.blobs)


def test_a_blob_without_a_size_is_an_error(
    registry_server: RegistryServer, other_server: RegistryServer
) -> None:
    document = json.loads(ONE.content)
    document["config"]["size"] = "7"
    content = json.dumps(document).encode()
    fill(registry_server, ONE)
    name = registry_server.put_manifest("from/app", "1", content, ONE.media_type)
    client = RegistryClient()
    names = tags(registry_server)[0], tags(other_server)[1]

    with pytest.raises(InvalidIndex, match=rf"{name}: size: expected the number of bytes"):
        Children(client, client).ensure(*names, [name])


@pytest.mark.parametrize(("levels", "width"), [(4, 1), (5, 1), (2, 63), (2, 64)])
def test_indexes_are_within_each_other_as_in_a_merge(
    registry_server: RegistryServer, other_server: RegistryServer, levels: int, width: int
) -> None:
    fill(registry_server, ONE)
    nested = [make_index([ONE], annotations={"number": str(n)}) for n in range(width)]
    for level in range(levels):
        for item in nested:
            registry_server.put_manifest("from/app", item.digest, item.content, item.media_type)
        nested = [make_index(nested)] if level < levels - 1 else nested
    client = RegistryClient()
    children = Children(client, client)
    names = tags(registry_server)[0], tags(other_server)[1]

    is_refused = levels > 4 or width > 63
    refused = pytest.raises(InvalidIndex, match="at most 4 levels and 64 nested indexes are read")
    with refused if is_refused else nullcontext():
        children.ensure(*names, [nested[0].digest])


def test_mounting_can_be_ruled_out(registry_server: RegistryServer, copies: Copies) -> None:
    fill(registry_server, ONE, TWO)
    source, destination = tags(registry_server)

    bring(registry_server, *BOTH, copy="skopeo", copies=copies)

    assert set(copies.asked) == {(source.at(d), destination.at(d)) for d in BOTH}
    assert not any("mount=" in line for line in asked(registry_server))


def test_copying_can_be_ruled_out(registry_server: RegistryServer, copies: Copies) -> None:
    fill(registry_server, ONE, repository="to/app")
    destination = tags(registry_server)[1]

    with pytest.raises(MissingChild, match="copying is disabled") as caught:
        bring(registry_server, *BOTH, copy="never", copies=copies)

    assert (caught.value.digests, caught.value.reference) == ((TWO.digest,), str(destination))
    assert copies.asked == []


def test_a_failed_copy_is_not_taken_for_done(
    registry_server: RegistryServer, other_server: RegistryServer
) -> None:
    attempts: list[Reference] = []

    def fail(source: Reference, destination: Reference) -> None:
        attempts.append(source)
        raise CopyFailed(str(source), str(destination), "no")

    client = RegistryClient()
    children = Children(client, client, copy_one=fail)
    source, destination = reference(registry_server, "app:1"), reference(other_server, "app:1")

    for _ in range(2):
        with pytest.raises(CopyFailed):
            children.ensure(source, destination, [ONE.digest])

    assert len(attempts) == 2


def test_a_child_of_another_type_is_left_to_the_copy(
    registry_server: RegistryServer, copies: Copies
) -> None:
    content = b'{"schemaVersion": 1}'
    digest = registry_server.put_manifest("from/app", "1", content, SCHEMA_1)
    source, destination = tags(registry_server)

    bring(registry_server, digest, copies=copies)

    assert copies.asked == [(source.at(digest), destination.at(digest))]


def test_a_child_that_the_source_lost_is_an_error(registry_server: RegistryServer) -> None:
    with pytest.raises(RegistryError, match="not found"):
        bring(registry_server, ONE.digest)


def test_skopeo_connects_where_the_registries_really_are(
    registry_server: RegistryServer,
    other_server: RegistryServer,
    tmp_path: object,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    reader = RegistryClient(host=registry_server.url)
    writer = RegistryClient(host=other_server.url)
    names = Reference.parse("quay.io/from/app:1"), Reference.parse("quay.io/to/app:1")

    with pytest.raises(CopyFailed, match="skopeo is not installed") as caught:
        Children(reader, writer, "skopeo").ensure(*names, [ONE.digest])

    assert caught.value.source == f"quay.io/from/app@{ONE.digest}"
    assert asked(other_server)[0] == f"HEAD {ONE.digest}"


@pytest.mark.parametrize("by", ["mount", "copy"])
def test_each_child_brought_is_an_event(
    registry_server: RegistryServer, copies: Copies, caplog: pytest.LogCaptureFixture, by: str
) -> None:
    fill(registry_server, ONE)
    caplog.set_level("INFO", "pubtools.mlmerge")
    names = [str(tag.at(ONE.digest)) for tag in tags(registry_server)]

    bring(registry_server, ONE.digest, copy="auto" if by == "mount" else "skopeo", copies=copies)

    (record,) = (r for r in caplog.records if r.levelname == "INFO")
    assert record.getMessage().endswith(f" by {by}")
    expected = {"type": "mlmerge-child", "source": names[0], "destination": names[1], "by": by}
    assert vars(record)["event"] == expected


@define
class Watched:
    """Records what would be shown."""

    shown: list[tuple[str, int | None]] = field(factory=list)
    done: int = 0

    @contextmanager
    def __call__(self, name: str, total: int | None) -> Iterator[Callable[[], None]]:
        """Note what is shown, and count."""
        self.shown.append((name, total))
        yield self._advance

    def _advance(self) -> None:
        self.done += 1


def test_what_is_brought_or_there_is_counted(registry_server: RegistryServer) -> None:
    fill(registry_server, ONE, TWO)
    fill(registry_server, ONE, repository="to/app")
    watched = Watched()

    with pytest.raises(MissingChild):
        bring(registry_server, *BOTH, copy="never", watch=watched)
    assert watched.done == 1
    bring(registry_server, *BOTH, watch=watched)

    assert watched.shown == [(f"images for {tags(registry_server)[1]}", 2)] * 2
    assert watched.done == 1 + 2


# Copies by skopeo: its command line, and the secrets that are not on it


CHILD = digest("child")
SOURCE = Reference("quay.io", "from/app", digest=CHILD)
DESTINATION = Reference("quay.io", "to/app", digest=CHILD)
ALICE = Credentials("alice", "wonder:land")
RECORD = """
import json, os, sys
options = [a.partition("=")[2] for a in sys.argv if "=" in a]
paths = [p for p in options if os.path.exists(p)]
paths += [os.path.join(p, name) for p in paths if os.path.isdir(p) for name in os.listdir(p)]
# As skopeo does, which reads it once for each registry that it asks.
seen = {p: os.path.isfile(p) and [open(p).read() for _ in range(2)][1] for p in paths}
links = {p: [os.stat(p).st_nlink, os.stat(p).st_mode & 0o777] for p in paths}
what = [sys.argv[1:], seen, links, sys.stdin.read(), dict(os.environ)]
json.dump(what, open(os.environ["RECORD"], "w"))
"""


@frozen
class Fake:
    """A skopeo that writes down how it was called."""

    record: Path

    def __iter__(self) -> Iterator[object]:
        """Give arguments, files, their links and modes, standard input, and the environment."""
        found = json.loads(self.record.read_text())
        assert isinstance(found, list)
        return iter(found)

    @property
    def arguments(self) -> list[str]:
        """The command line without the name of the program."""
        found = next(iter(self))
        assert isinstance(found, list)
        return found

    def named(self, option: str) -> list[str]:
        """Return the values that an option was given."""
        return [a.partition("=")[2] for a in self.arguments if a.startswith(option)]

    def content(self, path: str) -> str:
        """Return what was in a file."""
        _, seen, *_ = self
        assert isinstance(seen, dict)
        return str(seen[path])

    def authorities(self, option: str) -> list[str]:
        """Return what was in the directory that an option named, if it was given."""
        return [self.content(f"{directory}/authorities.crt") for directory in self.named(option)]


def install(directory: Path, code: str, monkeypatch: pytest.MonkeyPatch) -> Fake:
    """Put a program named skopeo on PATH, and nothing else."""
    script = directory / "bin" / "skopeo"
    script.parent.mkdir()
    script.write_text(f"#!{sys.executable} -ISE\n{code}")
    script.chmod(0o755)
    monkeypatch.setenv("PATH", str(script.parent))
    monkeypatch.setenv("RECORD", str(directory / "record"))
    return Fake(directory / "record")


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fake:
    return install(tmp_path, RECORD, monkeypatch)


def client_of(
    host: str = "registry.test",
    login: Credentials | None = None,
    *,
    plain: bool = False,
    ca_bundle: Path | None = None,
    insecure: bool = False,
) -> RegistryClient:
    """Make a client of one side; nothing is asked of it but where it connects, and how."""
    options = ConnectOptions(ca_bundle=str(ca_bundle) if ca_bundle else None, insecure=insecure)
    user, password = (login.username, login.password) if login else (None, None)
    return RegistryClient(
        f"{'http' if plain else 'https'}://{host}",
        username=user,
        password=password,
        options=options,
    )


def copy(source: RegistryClient, destination: RegistryClient) -> None:
    copying.copy_by_skopeo(source, destination, SOURCE, DESTINATION)


def test_everything_is_copied_under_the_same_digest(fake: Fake) -> None:
    copy(client_of("one.test"), client_of("two.test:5000"))

    assert fake.arguments == [
        *("copy", "--quiet", "--all", "--preserve-digests"),
        f"docker://one.test/from/app@{CHILD}",
        f"docker://two.test:5000/to/app@{CHILD}",
    ]


@pytest.mark.parametrize("umask", [0o000, 0o022])
def test_logins_are_in_files_that_have_no_name(
    fake: Fake, umask: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Nobody else can open them, and whatever ends us, they are gone."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    at, to = client_of(login=Credentials("bob", "builder")), client_of("two.test", login=ALICE)
    before = os.umask(umask)
    try:
        copy(at, to)
    finally:
        os.umask(before)

    _, _, links, stdin, _ = fake
    (path,), (other,) = fake.named("--dest-authfile"), fake.named("--src-authfile")
    entry = json.loads(fake.content(path))["auths"]["two.test"]
    assert b64decode(entry["auth"]) == b"alice:wonder:land"
    assert isinstance(links, dict)
    assert links[path] == links[other] == [0, 0o600]
    assert path != other
    assert stdin == ""
    assert list((tmp_path / "temporary").iterdir()) == []
    for secret in ("alice", "wonder:land", "bob", "builder", ALICE.basic.split()[1]):
        assert secret not in str(fake.arguments)


def test_the_environment_of_skopeo_has_no_secret_of_ours(
    fake: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = {
        "DEST_QUAY_PASSWORD": "x",
        "QUAY_API_TOKEN": "x",
        "MLMERGE_LOCK": "redis:x",
        "REDIS": "rediss://me:x@redis.test:6379/0",
        "CI_PASSWORD": ALICE.password,
    }
    needed = {"https_proxy": "http://me:x@proxy.test", "AWS_TOKEN": "x", "DOCKER_CONFIG": "/x"}
    for name, value in {**ours, **needed}.items():
        monkeypatch.setenv(name, value)

    copy(client_of(), client_of("two.test", login=ALICE))

    *_, environment = fake
    assert isinstance(environment, dict)
    assert needed.items() <= environment.items()
    assert [name for name in ours if name in environment] == []


def test_skopeo_without_progress_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record = install(tmp_path, "import time; time.sleep(600)", monkeypatch)
    impatient = client_of("two.test")
    impatient.options = evolve(impatient.options, silence=0.3)

    with pytest.raises(CopyFailed, match=r"skopeo made no progress for 0.3 seconds"):
        copy(client_of(), impatient)

    assert not record.record.exists()


def test_what_a_program_reads_or_writes_is_progress() -> None:
    before = progress_of(os.getpid())
    Path(__file__).read_bytes()
    assert progress_of(os.getpid()) != before


class Busy(subprocess.Popen[str]):
    """Makes progress in each second of a minute, and then ends."""

    def __init__(self) -> None:
        self.pid, self.returncode, self.seconds = os.getpid(), 0, 0

    def communicate(
        self,
        input: str | None = None,  # noqa: A002 - the library's name
        timeout: float | None = None,
    ) -> tuple[str, str]:
        self.seconds += 1
        if self.seconds < 60:
            Path(__file__).read_bytes()
            raise subprocess.TimeoutExpired("busy", 1)
        return "", "done"

    def __del__(self) -> None: ...


def test_a_program_with_progress_may_take_any_time(monkeypatch: pytest.MonkeyPatch) -> None:
    program = Busy()
    monkeypatch.setattr(time, "monotonic", lambda: float(program.seconds))

    assert STOP.wait_for(program, silence=3) == "done"


def auth_file(
    directory: Path, monkeypatch: pytest.MonkeyPatch, host: str, entry: Mapping[str, str]
) -> None:
    """Have a login in a file, and no other one."""
    path = directory / "own.json"
    path.write_text(json.dumps({"auths": {host: entry}}))
    monkeypatch.setenv("REGISTRY_AUTH_FILE", str(path))


IDENTITY = {"identitytoken": "1dentity"}


@pytest.mark.parametrize("entry", [ALICE.entry, IDENTITY])
def test_a_login_that_was_found_is_handed_on_and_withheld(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, entry: Mapping[str, str]
) -> None:
    """So is that of a proxy, which skopeo repeats where it cannot read the URL."""
    fake = install(tmp_path, f"{RECORD}\nsys.exit(os.environ['SAYS'])", monkeypatch)
    monkeypatch.setenv("https_proxy", "http://user:hidden@proxy.test:port")
    with ScriptedServer(refusal(401, WWW_Authenticate='Bearer realm="x"')) as server:
        auth_file(tmp_path, monkeypatch, server.host, entry)
        client = RegistryClient(host=server.url, options=HURRIED)
        with pytest.raises(Unauthorized):
            client.pull(DESTINATION)
        for secret in (entry.get("identitytoken", "wonder:land"), "hidden"):
            monkeypatch.setenv("SAYS", f"no: {secret}")
            with pytest.raises(CopyFailed, match="text withheld"):
                copy(client_of(), client)

    (path,) = fake.named("--dest-authfile")
    (found,) = json.loads(fake.content(path))["auths"].values()
    assert {**found, **entry} == found


def test_without_a_login_there_is_no_such_file(fake: Fake) -> None:
    copy(client_of(), client_of("two.test", login=ALICE))

    assert not any(option.startswith("--src-authfile") for option in fake.arguments)


@pytest.mark.parametrize(("plain", "insecure"), [(True, False), (False, True), (True, True)])
def test_each_side_is_verified_or_not_by_itself(fake: Fake, plain: bool, insecure: bool) -> None:
    copy(client_of(plain=plain, insecure=insecure), client_of("two.test"))

    options = [a for a in fake.arguments if "tls" in a]
    assert options == ["--src-tls-verify=false"]


@pytest.mark.parametrize("named_by", ["option", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
def test_authorities_are_handed_on(
    fake: Fake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named_by: str
) -> None:
    bundle = tmp_path / "ca.pem"
    bundle.write_text("an authority")
    option = bundle if named_by == "option" else None
    if option is None:
        monkeypatch.setenv(named_by, str(bundle))

    copy(client_of(plain=True, ca_bundle=option), client_of("two.test", ca_bundle=option))

    assert fake.authorities("--src-cert-dir") == []
    assert fake.authorities("--dest-cert-dir") == ["an authority"]


def test_a_directory_of_authorities_is_handed_on_as_one_file(
    fake: Fake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authorities = tmp_path / "certs"
    authorities.mkdir()
    for name in ("a", "b"):
        text = f"-----BEGIN CERTIFICATE-----\n{name}\n"
        (authorities / f"{name}.pem").write_text(text)
    (authorities / "0a1b2c3d.0").symlink_to(authorities / "a.pem")
    (authorities / "README").write_text("about this directory")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(authorities))

    copy(client_of(), client_of("two.test"))

    (content,) = fake.authorities("--dest-cert-dir")
    assert content.count("BEGIN CERTIFICATE") == 2
    assert "about this directory" not in content


def test_a_client_s_certificate_is_handed_on(
    fake: Fake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the authorities beside it; the key is linked to."""
    place = tmp_path / ".config/containers/certs.d/two.test"
    place.mkdir(parents=True)
    write_client(place, "own.cert", "own.key")
    ca_bundle(place, "ca.crt")
    monkeypatch.setenv("HOME", str(tmp_path))

    copy(client_of(), client_of("two.test"))

    (directory,) = fake.named("--dest-cert-dir")
    handed = [fake.content(f"{directory}/{name}") for name in ("0.crt", "0.cert", "0.key")]
    assert handed == [(place / name).read_text() for name in ("ca.crt", "own.cert", "own.key")]
    assert fake.named("--src-cert-dir") == []


@pytest.mark.parametrize(
    ("code", "problem"),
    [
        ("sys.exit('no such\\nblob')", "no such blob"),
        ("sys.exit(3)", "skopeo failed"),
        ("sys.stderr.buffer.write(b'no \\xff\\x1b[31m'); sys.exit(1)", "no \ufffd?[31m"),
    ],
)
def test_what_skopeo_says_is_in_the_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str, problem: str
) -> None:
    install(tmp_path, f"import sys; {code}", monkeypatch)

    with pytest.raises(CopyFailed) as caught:
        copy(client_of(), client_of("two.test"))

    assert str(caught.value).startswith(f"cannot copy {SOURCE} to {DESTINATION}: {problem}; ")


def test_its_absence_is_reported_plainly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(CopyFailed, match="skopeo is not installed") as caught:
        copy(client_of(login=ALICE), client_of("two.test"))

    assert "wonder" not in str(caught.value)
