"""Copying: what an index lists comes into the destination repository before the index."""

from __future__ import annotations

import json
import os
import socket
import socketserver
import sys
import threading
import time
import tracemalloc
from base64 import b64decode
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from hashlib import sha256
from pathlib import Path

import pytest
import requests
from attrs import define, evolve, field, frozen

from pubtools_mlmerge.concurrency import Watch, unwatched
from pubtools_mlmerge.core.manifests import OCI_INDEX, Image, digest_of
from pubtools_mlmerge.core.references import Reference
from pubtools_mlmerge.errors import (
    CopyFailed,
    DigestMismatch,
    Forbidden,
    InvalidIndex,
    MergeError,
    MissingChild,
    NotFound,
    OutOfTime,
    RegistryError,
    Unauthorized,
)
from pubtools_mlmerge.registry.auth import Credentials
from pubtools_mlmerge.registry.client import RegistryClient
from pubtools_mlmerge.registry.copying import Children, Copy, copy_by_skopeo, stream_blob
from pubtools_mlmerge.registry.http import PIECE, ConnectOptions
from pubtools_mlmerge.testing import (
    RegistryServer,
    make_attestation,
    make_image,
    make_index,
    upload,
)
from tests.factories import Json, content_of, digest
from tests.growth import growth
from tests.peers import SCHEMA_1
from tests.programs import write_program
from tests.quay import QuayDialect
from tests.scripted import (
    HANG_UP,
    HURRIED,
    Received,
    Reply,
    ScriptedServer,
    bearer,
    ca_bundle,
    json_reply,
    manifest_reply,
    raw_server,
    redirect,
    refusal,
    write_client,
)

ONE, TWO = make_image("linux/amd64"), make_image("linux/arm64")
BOTH = (ONE.digest, TWO.digest)
BLOBS = {**ONE.blobs, **TWO.blobs}


@define
class Copies:
    """Stands for skopeo, and records its calls."""

    asked: list[tuple[Reference, Reference]] = field(factory=list)

    def __call__(self, source: Reference, destination: Reference) -> None:
        """Note it, after a moment for those that others refer to."""
        time.sleep(0.05 if source.digest in BOTH else 0)
        self.asked.append((source, destination))

    @property
    def digests(self) -> list[str]:
        return [destination.digest for _, destination in self.asked]


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


@pytest.fixture
def server(registry_server: RegistryServer) -> RegistryServer:
    """A registry that has both images in the source repository."""
    upload(registry_server.url, "from/app", make_index([ONE, TWO]))
    registry_server.forget_requests()
    return registry_server


@pytest.fixture
def other() -> Iterator[RegistryServer]:
    with RegistryServer() as server:
        yield server


@pytest.fixture
def copies() -> Copies:
    return Copies()


def asked(server: RegistryServer, *methods: str) -> list[str]:
    """List the requests by what they name, uploads by the blob that is to be mounted.

    A GET that follows a HEAD of the same manifest only makes sure that it is absent.
    """
    lines = []
    for request in server.requests:
        if request.method == "GET" and "/to/" in request.path:
            continue
        target = request.path.rpartition("/")[2] or request.query.partition("&")[0]
        if not methods or request.method in methods:
            lines.append(f"{request.method} {target}".replace("%3A", ":"))
    return lines


def written(server: RegistryServer) -> list[str]:
    return [line.removeprefix("PUT ") for line in asked(server, "PUT")]


def sent(server: RegistryServer) -> list[str]:
    """List how each request for a blob began, and how it ended."""
    found = [r for r in server.requests if "/blobs/" in r.path]
    return [f"{r.method} {r.query.partition('=')[0]}".rstrip() + f" {r.status}" for r in found]


def tags(server: RegistryServer, to: RegistryServer | None = None) -> tuple[Reference, Reference]:
    """Name a tag of each of the two repositories."""
    hosts = server.host, (to or server).host
    return Reference.parse(f"{hosts[0]}/from/app:1"), Reference.parse(f"{hosts[1]}/to/app:1")


def bring(
    server: RegistryServer,
    *digests: str,
    to: RegistryServer | None = None,
    copy: Copy = "auto",
    copies: Callable[[Reference, Reference], None] | None = None,
    watch: Watch = unwatched,
) -> Children:
    """Bring manifests from one repository into the other, with one client."""
    client = RegistryClient()
    children = Children(client, client, copy, copies, watch)
    children.ensure(*tags(server, to), digests)
    return children


def test_nothing_is_asked_within_one_repository(server: RegistryServer) -> None:
    client, twin = RegistryClient(host=server.url), RegistryClient(host=server.url)
    names = [Reference.parse(name) for name in ("quay.io/app:1", "registry.test/app:2")]

    Children(client, client, "never").ensure(names[0], names[1], BOTH)
    Children(client, twin, "never").ensure(names[0], names[0].tagged("2"), BOTH)

    assert asked(server) == []


def test_blobs_are_mounted_and_the_manifest_follows(server: RegistryServer, copies: Copies) -> None:
    bring(server, ONE.digest, copies=copies)

    head, get, *posts, put = asked(server)
    assert [head, get, put] == [f"{method} {ONE.digest}" for method in ("HEAD", "GET", "PUT")]
    assert sorted(posts) == sorted(f"POST mount={blob}" for blob in ONE.blobs)  # side by side
    assert server.manifest("to/app", ONE.digest).content == ONE.content
    assert copies.asked == []


def test_nothing_is_asked_twice(server: RegistryServer) -> None:
    twin = evolve(ONE, content=ONE.content + b"\n")  # has the same layers
    both = make_index([ONE, TWO])
    for item in (twin, make_index([both, ONE])):
        upload(server.url, "from/app", item)
    server.forget_requests()
    children = bring(server, *BOTH, twin.digest, ONE.digest, both.digest)
    lines = asked(server)
    server.forget_requests()

    children.ensure(tags(server)[0], tags(server)[1].tagged("2"), [*BOTH, twin.digest])

    assert len(lines) == len(set(lines))
    assert asked(server) == []


PROOFS = [make_attestation(image, artifact=True) for image in (ONE, TWO)]


@pytest.mark.parametrize("copy", ["auto", "skopeo"])
def test_an_image_comes_before_what_names_it_as_its_subject(
    server: RegistryServer, copies: Copies, copy: Copy
) -> None:
    upload(server.url, "from/app", make_index([*PROOFS, ONE, TWO]))
    server.forget_requests()
    wanted = [*(proof.digest for proof in PROOFS), *BOTH]

    bring(server, *wanted, copy=copy, copies=copies)

    order = written(server) if copy == "auto" else copies.digests
    assert sorted(written(server) + copies.digests) == sorted(order) == sorted(wanted)
    for image, proof in zip((ONE, TWO), PROOFS):
        assert order.index(image.digest) < order.index(proof.digest)
    assert bool(asked(server, "POST")[1:]) is (copy == "auto")  # one asks for the right to write


def test_a_nested_index_comes_after_what_it_lists_of_which_some_is_there(
    server: RegistryServer,
) -> None:
    inner = make_index([PROOFS[1], TWO])
    nested = make_index([ONE, inner])
    for repository, item in (("from/app", nested), ("to/app", ONE)):
        upload(server.url, repository, item)
    server.forget_requests()

    bring(server, nested.digest)

    assert written(server) == [TWO.digest, PROOFS[1].digest, inner.digest, nested.digest]


def test_a_long_chain_of_subjects_comes_to_an_end(server: RegistryServer) -> None:
    fields, subject, chain = json.loads(ONE.content), ONE.digest, []
    for _ in range(300):
        described = {"mediaType": ONE.media_type, "digest": subject, "size": 1}
        content = json.dumps({**fields, "subject": described}).encode()
        subject = server.put_manifest("from/app", digest_of(content), content, ONE.media_type)
        chain.append(subject)
    server.forget_requests()

    bring(server, *reversed(chain))

    assert sorted(written(server)) == sorted(chain)


@pytest.mark.parametrize(("levels", "width"), [(4, 1), (5, 1), (2, 63), (2, 64)])
def test_indexes_are_within_each_other_as_in_a_merge(
    server: RegistryServer, levels: int, width: int
) -> None:
    nested = [make_index([ONE], annotations={"number": str(n)}) for n in range(width)]
    for level in range(levels):
        for item in nested:
            server.put_manifest("from/app", item.digest, item.content, item.media_type)
        nested = [make_index(nested)] if level < levels - 1 else nested

    is_refused = levels > 4 or width > 63
    refused = pytest.raises(InvalidIndex, match="at most 4 levels and 64 nested indexes are read")
    with refused if is_refused else nullcontext():
        bring(server, nested[0].digest)


@pytest.mark.parametrize("is_quay", [True, False])
@pytest.mark.parametrize("streams", [True, False])
def test_what_a_registry_does_not_mount_is_streamed_or_copied(
    is_quay: bool, streams: bool, copies: Copies
) -> None:
    grants: Mapping[str, list[str]] = {"bob": ["from/*"], "alice": ["to/*"]}
    users = {"bob": "builder", "alice": "wonderland"}
    dialect = QuayDialect() if is_quay else None
    with RegistryServer(dialect=dialect, auth="token", users=users, grants=grants) as server:
        upload(server.url, "from/app", ONE, credentials=("bob", "builder"))
        reader, writer = (RegistryClient(username=u, password=users[u]) for u in users)
        source, destination = tags(server)

        children = Children(reader, writer, copy_one=None if streams else copies)
        children.ensure(source, destination, [ONE.digest])

        puts = [r for r in server.requests if r.method == "PUT" and "to/app/manif" in r.path]
        assert len(puts) == streams
    expected = [] if streams else [(source.at(ONE.digest), destination.at(ONE.digest))]
    assert copies.asked == expected


@pytest.mark.parametrize("copy", ["auto", "skopeo"])
@pytest.mark.parametrize("upload", [401, 403, 202])
def test_only_who_may_write_gets_a_copy(copies: Copies, upload: int, copy: Copy) -> None:
    def refuse_mounts(request: Received) -> Reply:
        if request.method == "POST":
            return refusal(403 if "mount=" in request.target else upload, "DENIED", "sorry")
        if request.method == "GET" and "/from/" in request.target:
            return manifest_reply(ONE.content, ONE.media_type)
        return Reply(404)

    may_not = "this login may not write to the repository to/app|not authorized"
    refused = pytest.raises((Unauthorized, Forbidden), match=may_not)
    with ScriptedServer(refuse_mounts) as server:
        client = RegistryClient(host=server.url, options=HURRIED)
        names = Reference.parse("r.test/from/app:1"), Reference.parse("r.test/to/app:1")
        with nullcontext() if upload == 202 else refused:
            Children(client, client, copy, copies).ensure(*names, [ONE.digest])

    assert len(copies.asked) == (upload == 202)


def test_another_registry_gets_copies(
    server: RegistryServer, other: RegistryServer, copies: Copies
) -> None:
    source, destination = tags(server, other)

    bring(server, *BOTH, to=other, copies=copies)

    assert set(copies.asked) == {(source.at(d), destination.at(d)) for d in BOTH}
    assert set(asked(server)) == {f"GET {d}" for d in BOTH}
    assert set(asked(other, "HEAD")) == {f"HEAD {d}" for d in BOTH}
    # Whether it may be written is asked once.
    assert len(asked(other, "POST")) == len(asked(other, "DELETE")) == 1


def test_four_are_copied_at_a_time(server: RegistryServer, other: RegistryServer) -> None:
    images = [make_image(seed=str(n)) for n in range(8)]
    upload(server.url, "from/app", make_index(images))
    four, under_way, most = threading.Barrier(4), set[str](), set[int]()

    def copy(source: Reference, _destination: Reference) -> None:
        under_way.add(source.digest)
        most.add(len(under_way))
        four.wait(30)
        under_way.remove(source.digest)

    bring(server, *(image.digest for image in images), to=other, copies=copy)

    assert max(most) == 4


@pytest.mark.parametrize(
    ("is_there", "requests"),
    [(False, ["HEAD 404", "POST 202", "PUT _state 201"]), (True, ["HEAD 200"])],
)
def test_between_registries_images_are_streamed_unless_they_are_there(
    server: RegistryServer, other: RegistryServer, is_there: bool, requests: list[str]
) -> None:
    for blob in BLOBS.values() if is_there else ():
        other.put_blob("to/app", blob)

    bring(server, *BOTH, to=other)

    for image in (ONE, TWO):
        assert other.manifest("to/app", image.digest).content == image.content
    assert sorted(sent(other)) == sorted(requests * len(BLOBS))
    assert len(sent(server)) == (0 if is_there else len(BLOBS))


def test_blobs_of_a_repository_of_this_run_are_mounted_into_the_next(
    server: RegistryServer, other: RegistryServer
) -> None:
    children = bring(server, *BOTH, to=other)
    children.ensure(tags(server)[0], Reference.parse(f"{other.host}/to/too:1"), BOTH)
    children.close()

    assert sent(other)[-len(BLOBS) :] == ["POST mount 201"] * len(BLOBS)
    assert len(sent(server)) == len(BLOBS)
    assert other.manifest("to/too", ONE.digest).content == ONE.content


def put_changed(server: RegistryServer, config: Json, *layers: Json) -> str:
    """Store an image with another config and more layers, and return its digest."""
    document = json.loads(ONE.content)
    document["config"].update(config)
    document["layers"] += layers
    return server.put_manifest("from/app", "1", json.dumps(document).encode(), ONE.media_type)


def test_layers_that_are_elsewhere_are_left_alone(
    server: RegistryServer, other: RegistryServer
) -> None:
    far = {"urls": ["http://127.0.0.1:1/far"], "digest": digest("far"), "size": 7}
    name = put_changed(server, {}, {"mediaType": "application/vnd.oci.image.layer.v1.tar", **far})

    bring(server, name, to=other)

    assert other.manifest("to/app", name).digest == name
    assert len(sent(server)) == len(ONE.blobs)


@pytest.mark.parametrize("size", ["7", 2**63])
def test_a_blob_without_a_size_is_an_error(
    server: RegistryServer, other: RegistryServer, size: object
) -> None:
    name = put_changed(server, {"size": size})

    with pytest.raises(InvalidIndex, match=rf"{name}: size: expected the number of bytes"):
        bring(server, name, to=other)


def test_sizes_are_read_once_for_all_blobs() -> None:
    def image(number: int) -> Image:
        blobs = [{"digest": digest(str(n)), "size": n} for n in range(number)]
        return Image.from_bytes(content_of({"config": blobs[0], "layers": blobs[1:]}))

    def look_up(number: int) -> object:
        found = image(number)
        return [found.sizes[blob] for blob in found.blobs]

    assert growth(look_up, 150) < 9


def test_a_failed_copy_is_not_taken_for_done(server: RegistryServer, other: RegistryServer) -> None:
    attempts: list[Reference] = []

    def fail(source: Reference, destination: Reference) -> None:
        attempts.append(source)
        raise CopyFailed(str(source), str(destination), "no")

    client = RegistryClient()
    children = Children(client, client, copy_one=fail)
    for _ in range(2):
        with pytest.raises(CopyFailed):
            children.ensure(*tags(server, other), [ONE.digest])

    assert len(attempts) == 2


def test_a_child_of_another_type_is_left_to_the_copy(
    registry_server: RegistryServer, copies: Copies
) -> None:
    """Not what lists it."""
    content = b'{"schemaVersion": 1}'
    digest = registry_server.put_manifest("from/app", "1", content, SCHEMA_1)
    listed = {"mediaType": SCHEMA_1, "digest": digest, "size": len(content)}
    index = json.dumps({**json.loads(make_index([]).content), "manifests": [listed]}).encode()
    nested = registry_server.put_manifest("from/app", "2", index, OCI_INDEX)
    registry_server.forget_requests()

    def copy(source: Reference, destination: Reference) -> None:
        copies(source, destination)
        registry_server.put_manifest("to/app", digest, content, SCHEMA_1)

    bring(registry_server, nested, copies=copy)

    assert (copies.digests, written(registry_server)) == ([digest], [nested])


@pytest.mark.parametrize("by", ["mount", "stream", "copy"])
def test_each_child_brought_is_an_event(
    server: RegistryServer,
    other: RegistryServer,
    copies: Copies,
    caplog: pytest.LogCaptureFixture,
    by: str,
) -> None:
    caplog.set_level("INFO", "pubtools.mlmerge")
    to = server if by == "mount" else other
    names = [str(tag.at(ONE.digest)) for tag in tags(server, to)]

    bring(server, ONE.digest, to=to, copies=copies if by == "copy" else None)

    (record,) = (r for r in caplog.records if r.levelname == "INFO")
    assert record.getMessage().endswith(f" by {by}")
    expected = {"type": "mlmerge-child", "source": names[0], "destination": names[1], "by": by}
    assert vars(record)["event"] == expected


def test_what_is_brought_or_there_is_counted_and_copying_can_be_ruled_out(
    server: RegistryServer,
) -> None:
    upload(server.url, "to/app", ONE)
    watched, destination = Watched(), tags(server)[1]

    with pytest.raises(MissingChild, match="copying is disabled") as caught:
        bring(server, *BOTH, copy="never", watch=watched)
    assert (caught.value.digests, caught.value.reference) == ((TWO.digest,), str(destination))
    assert watched.done == 1
    children = bring(server, *BOTH, *BOTH, watch=watched)
    children.ensure(*tags(server), BOTH)  # when all of them are known to be there

    assert watched.shown == [(f"images for {destination}", 2)] * 3
    assert watched.done == 1 + 2 + 2


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
class Called:
    """How skopeo was called."""

    arguments: list[str]
    files: dict[str, str]
    links: dict[str, list[int]]  # and modes
    stdin: str
    environment: dict[str, str]

    @classmethod
    def read(cls) -> Called:
        return cls(*json.loads(Path(os.environ["RECORD"]).read_text()))

    def named(self, option: str) -> list[str]:
        """Return the values that an option was given."""
        return [a.partition("=")[2] for a in self.arguments if a.startswith(option)]

    def authorities(self, option: str) -> list[str]:
        """Return what was in the directory that an option named, if it was given."""
        return [self.files[f"{directory}/authorities.crt"] for directory in self.named(option)]


def install(directory: Path, code: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a program named skopeo on PATH, and nothing else."""
    script = directory / "bin" / "skopeo"
    script.parent.mkdir()
    write_program(script, code, f"{sys.executable} -ISE")
    monkeypatch.setenv("PATH", str(script.parent))
    monkeypatch.setenv("RECORD", str(directory / "record"))


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A skopeo that writes down how it was called."""
    install(tmp_path, RECORD, monkeypatch)


def client_of(
    host: str = "one.test",
    login: Credentials | None = None,
    options: ConnectOptions | None = None,
) -> RegistryClient:
    """Make a client of one side; nothing is asked of it but where it connects, and how."""
    user, password = (login.username, login.password) if login else (None, None)
    return RegistryClient(host, username=user, password=password, options=options)


def copy(source: RegistryClient | None = None, destination: RegistryClient | None = None) -> Called:
    sides = source or client_of(), destination or client_of("two.test")
    copy_by_skopeo(*sides, SOURCE, DESTINATION)
    return Called.read()


@pytest.mark.usefixtures("fake")
def test_everything_is_copied_under_the_same_digest() -> None:
    called = copy(destination=client_of("two.test:5000", login=ALICE))

    *arguments, login, source, destination = called.arguments
    assert arguments == ["copy", "--quiet", "--all", "--preserve-digests"]
    assert login.startswith("--dest-authfile=")
    assert source == f"docker://one.test/from/app@{CHILD}"
    assert destination == f"docker://two.test:5000/to/app@{CHILD}"


def test_without_skopeo_the_copy_fails(
    server: RegistryServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(CopyFailed, match="skopeo is not installed") as caught:
        bring(server, ONE.digest, copy="skopeo")

    assert caught.value.source == str(tags(server)[0].at(ONE.digest))


@pytest.mark.usefixtures("fake")
@pytest.mark.parametrize("umask", [0o000, 0o022])
def test_logins_are_in_files_that_have_no_name(
    umask: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Nobody else can open them, and whatever ends us, they are gone."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    at, to = client_of(login=Credentials("bob", "builder")), client_of("two.test", login=ALICE)
    before = os.umask(umask)
    try:
        called = copy(at, to)
    finally:
        os.umask(before)

    (path,), (other,) = called.named("--dest-authfile"), called.named("--src-authfile")
    entry = json.loads(called.files[path])["auths"]["two.test"]
    assert b64decode(entry["auth"]) == b"alice:wonder:land"
    assert called.links[path] == called.links[other] == [0, 0o600]
    assert path != other
    assert called.stdin == ""
    assert list((tmp_path / "temporary").iterdir()) == []
    for secret in ("alice", "wonder:land", "bob", "builder", ALICE.basic.split()[1]):
        assert secret not in str(called.arguments)


@pytest.mark.usefixtures("fake")
def test_the_environment_of_skopeo_has_no_secret_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
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

    environment = copy(destination=client_of("two.test", login=ALICE)).environment

    assert needed.items() <= environment.items()
    assert [name for name in ours if name in environment] == []


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (ConnectOptions(silence=0.3), "skopeo made no progress for 0.3 seconds"),
        (ConnectOptions(time_limit=0.3), "not done within 0.3 seconds"),
    ],
)
def test_skopeo_that_hangs_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: ConnectOptions, problem: str
) -> None:
    install(tmp_path, "import time; time.sleep(600)", monkeypatch)

    with pytest.raises((CopyFailed, OutOfTime), match=problem):
        copy(destination=client_of("two.test", options=options))


def test_skopeo_with_progress_may_take_any_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads = "for _ in range(20): time.sleep(0.1); open('/proc/self/stat').read()"
    install(tmp_path, f"import time\n{reads}", monkeypatch)
    options = ConnectOptions(silence=1.5)

    copy_by_skopeo(client_of(), client_of("two.test", options=options), SOURCE, DESTINATION)


@pytest.mark.parametrize("entry", [ALICE.entry, {"identitytoken": "1dentity"}])
def test_a_login_is_handed_on_and_withheld_found_or_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, entry: Mapping[str, str]
) -> None:
    """So is that of a proxy, which skopeo repeats where it cannot read the URL."""
    install(tmp_path, f"{RECORD}\nsys.exit(os.environ['SAYS'])", monkeypatch)
    monkeypatch.setenv("https_proxy", "http://user:hidden@proxy.test:port")
    monkeypatch.setenv("REGISTRY_AUTH_FILE", str(tmp_path / "own.json"))
    with ScriptedServer(refusal(401, WWW_Authenticate='Bearer realm="x"')) as server:
        (tmp_path / "own.json").write_text(json.dumps({"auths": {server.host: entry}}))
        client = RegistryClient(host=server.url, options=HURRIED)
        with pytest.raises(Unauthorized):
            client.pull(DESTINATION)
        for secret in (entry.get("identitytoken", "wonder:land"), "hidden"):
            monkeypatch.setenv("SAYS", f"no: {secret}")
            with pytest.raises(CopyFailed, match="text withheld"):
                copy(destination=client)

    monkeypatch.setenv("SAYS", f"no: {ALICE.password}")
    with pytest.raises(CopyFailed, match="text withheld"):
        copy(client_of(login=ALICE), client)

    called = Called.read()
    (path,) = called.named("--dest-authfile")
    (found,) = json.loads(called.files[path])["auths"].values()
    assert {**found, **entry} == found


@pytest.mark.usefixtures("fake")
@pytest.mark.parametrize(("scheme", "insecure"), [("http", False), ("https", True), ("http", True)])
def test_each_side_is_verified_or_not_by_itself(scheme: str, insecure: bool) -> None:
    called = copy(client_of(f"{scheme}://one.test", options=ConnectOptions(insecure=insecure)))

    assert [a for a in called.arguments if "tls" in a] == ["--src-tls-verify=false"]


@pytest.mark.usefixtures("fake")
@pytest.mark.parametrize("named_by", ["option", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
@pytest.mark.parametrize("names", [["ca.pem"], ["certs/a.pem", "certs/b.pem", "certs/README"]])
def test_authorities_are_handed_on_as_one_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named_by: str, names: list[str]
) -> None:
    (tmp_path / "certs").mkdir()
    for name in names:
        begin = "-----BEGIN CERTIFICATE-----\n" if name.endswith(".pem") else "about "
        (tmp_path / name).write_text(f"{begin}{name}\n")
    (tmp_path / "certs/0a1b2c3d.0").symlink_to("a.pem")
    bundle = str(tmp_path / names[0].partition("/")[0])
    if named_by != "option":
        monkeypatch.setenv(named_by, bundle)
    options = ConnectOptions(ca_bundle=bundle if named_by == "option" else None)

    called = copy(
        client_of("http://one.test", options=options), client_of("two.test", options=options)
    )

    assert called.authorities("--src-cert-dir") == []
    (content,) = called.authorities("--dest-cert-dir")
    assert content.count("BEGIN CERTIFICATE") == len(names[:2])
    assert "about" not in content


@pytest.mark.usefixtures("fake")
def test_a_client_s_certificate_is_handed_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the authorities beside it; the key is linked to."""
    place = tmp_path / ".config/containers/certs.d/two.test"
    place.mkdir(parents=True)
    write_client(place, "own.cert", "own.key")
    ca_bundle(place, "ca.crt")
    monkeypatch.setenv("HOME", str(tmp_path))

    called = copy()

    (directory,) = called.named("--dest-cert-dir")
    handed = [called.files[f"{directory}/{name}"] for name in ("0.crt", "0.cert", "0.key")]
    assert handed == [(place / name).read_text() for name in ("ca.crt", "own.cert", "own.key")]
    assert called.named("--src-cert-dir") == []


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
        copy()

    assert str(caught.value).startswith(f"cannot copy {SOURCE} to {DESTINATION}: {problem}; ")


# Streaming: a blob arrives whole and right, or not at all


BLOB = os.urandom(3 * PIECE + 5)
DIGEST = digest_of(BLOB)
CUT = Reply(200, {}, BLOB, cut=PIECE + 7)


@define
class Front:
    """Stands before a registry, and answers some requests itself: each of these once."""

    server: RegistryServer
    replies: list[tuple[str, Reply]] = field(factory=list)

    def __call__(self, request: Received) -> Reply:
        for number, (method, reply) in enumerate(self.replies):
            if method == request.method:
                del self.replies[number]
                return reply
        dropped = ("host", "connection", "content-length")
        kept = {name: value for name, value in request.headers.items() if name not in dropped}
        url = self.server.url + request.target
        got = requests.request(request.method, url, headers=kept, data=request.body, timeout=60)
        headers = {n: v.replace(self.server.url, "") for n, v in got.headers.items()}
        headers = {n: v for n, v in headers.items() if n not in ("Connection", "Date")}
        return Reply(got.status_code, headers, got.content)


@pytest.fixture
def held(registry_server: RegistryServer) -> RegistryServer:
    """A registry that has the blob."""
    registry_server.put_blob("from/app", BLOB)
    return registry_server


def stream(
    source: str,
    destination: str,
    *,
    digest: str = DIGEST,
    size: int = len(BLOB),
    options: ConnectOptions = HURRIED,
    watch: Watch = unwatched,
    **login: str,
) -> None:
    """Stream a blob between two URLs."""
    names = [Reference("quay.io", f"{side}/app", digest=digest) for side in ("from", "to")]
    reader = RegistryClient(host=source, options=options, **login)
    writer = RegistryClient(host=destination, options=options)
    stream_blob(reader, names[0], writer, names[1], size=size, watch=watch)


def has_blob(server: RegistryServer, digest: str = DIGEST) -> bool:
    got = requests.head(f"{server.url}/v2/to/app/blobs/{digest}", timeout=60)
    return got.status_code == 200


@pytest.mark.parametrize("content", [BLOB, b""])
def test_a_blob_is_sent_in_one_request(
    held: RegistryServer, other: RegistryServer, content: bytes
) -> None:
    held.put_blob("from/app", content)
    stream(held.url, other.url, digest=digest_of(content), size=len(content))

    assert has_blob(other, digest_of(content))
    assert [request.method for request in other.requests] == ["POST", "PUT", "HEAD"]
    assert other.requests[1].body_size == len(content)
    assert "transfer-encoding" not in other.requests[1].headers


@pytest.mark.parametrize(
    "fault",
    [
        *(HANG_UP, CUT, Reply(200, {}, BLOB[:-1]), Reply(503), Reply(500)),
        *(Reply(429), redirect("/v2/from/app/blobs/broken")),
    ],
)
def test_what_breaks_at_the_source_begins_anew(
    held: RegistryServer, other: RegistryServer, fault: Reply
) -> None:
    front = Front(held, [("GET", fault), *([("GET", CUT)] if fault.status == 307 else [])])
    with ScriptedServer(front) as source:
        stream(source.url, other.url)

    assert has_blob(other)
    writes = [request.method for request in other.requests[:-1]]
    assert writes[-2:] == ["POST", "PUT"]
    # What an upload has got so far is not added to.
    assert writes.count("DELETE") == writes.count("POST") - 1


@pytest.mark.parametrize(
    ("fault", "error", "words"),
    [
        (Reply(200, {}, BLOB[:-1] + b"!"), DigestMismatch, "content has digest"),
        (Reply(200, {}, BLOB + b"!"), RegistryError, f"more than the {len(BLOB)} bytes"),
        (Reply(200, {}, BLOB[:-1]), RegistryError, f"{len(BLOB) - 1} of {len(BLOB)} bytes"),
        (CUT, RegistryError, "connection broken|bytes came"),
        (Reply(404), NotFound, "from/app@sha256:"),
        (Reply(503), RegistryError, "HTTP 503"),
        (HANG_UP, RegistryError, "connection broken"),
    ],
)
def test_what_is_wrong_or_stays_broken_never_arrives(
    other: RegistryServer, fault: Reply, error: type[MergeError], words: str
) -> None:
    with ScriptedServer(fault) as source, pytest.raises(error, match=words) as caught:
        stream(source.url, other.url)

    assert not has_blob(other)
    assert "quay.io/from/app@" in str(caught.value)
    writes = [request.method for request in other.requests[:-1]]
    assert writes[-1] == "DELETE"
    is_final = error in (DigestMismatch, NotFound) or "more than" in words
    assert writes.count("POST") == (1 if is_final else 1 + HURRIED.retries.most)


ANEW = "POST PUT DELETE POST PUT"


@pytest.mark.parametrize(
    ("fault", "sent", "error"),
    [
        (Reply(404), ANEW, None),  # so is an upload answered that expired
        (refusal(404, "BLOB_UPLOAD_UNKNOWN"), ANEW, None),
        (Reply(416), ANEW, None),
        (Reply(408), ANEW, None),
        (Reply(500), ANEW, None),
        (Reply(503), ANEW, None),
        (HANG_UP, ANEW, None),
        (Reply(429), "POST PUT PUT", None),
        (redirect("/v2/to/app/blobs/uploads/lost"), "POST PUT PUT DELETE POST PUT", None),
        (refusal(400, "DIGEST_INVALID", "no"), "POST PUT DELETE", RegistryError),
        (Reply(403), "POST PUT DELETE", Forbidden),
    ],
)
def test_what_breaks_at_the_destination_begins_anew_unless_it_was_refused(
    held: RegistryServer,
    other: RegistryServer,
    fault: Reply,
    sent: str,
    error: type[MergeError] | None,
) -> None:
    refused = pytest.raises(error, match=r"quay\.io/to/app@") if error else nullcontext()
    with ScriptedServer(Front(other, [("PUT", fault)])) as front, refused:
        stream(held.url, front.url)

    assert [request.method for request in front.received] == sent.split()
    assert has_blob(other) is (error is None)


@pytest.mark.parametrize(("time_limit", "wait"), [(None, 90.0), (60.0, 60.0)])
def test_the_registry_says_how_long_to_wait_within_the_time_limit(
    held: RegistryServer,
    other: RegistryServer,
    monkeypatch: pytest.MonkeyPatch,
    time_limit: float | None,
    wait: float,
) -> None:
    waits: list[float] = []
    monkeypatch.setattr(time, "sleep", waits.append)
    retries = evolve(HURRIED.retries, longest_wait=99.0)
    with ScriptedServer(Front(other, [("PUT", Reply(503, {"Retry-After": "90"}))])) as front:
        stream(held.url, front.url, options=evolve(HURRIED, retries=retries, time_limit=time_limit))

    assert has_blob(other)
    assert wait - 30 < max(waits) <= wait


@pytest.mark.parametrize(
    ("location", "target"),
    [
        ("/v2/to/app/blobs/uploads/7?state=a%3D", "/v2/to/app/blobs/uploads/7?state=a%3D&"),
        ("{url}/somewhere/7", "/somewhere/7?"),
        ("7", "/v2/to/app/blobs/uploads/7?"),
        ("../uploads/7?a=b", "/v2/to/app/blobs/uploads/7?a=b&"),
        ("?session=7", "/v2/to/app/blobs/uploads/?session=7&"),
    ],
)
def test_a_location_has_any_form(held: RegistryServer, location: str, target: str) -> None:
    with ScriptedServer(Reply()) as front:
        front.then(Reply(202, {"Location": location.format(url=front.url)}), Reply(201))
        stream(held.url, front.url)

    assert front.lines[1] == f"PUT {target}digest={DIGEST.replace(':', '%3A')}"
    assert front.received[1].body == BLOB


@pytest.mark.parametrize(
    ("begun", "error", "words"),
    [
        (refusal(403, "DENIED"), Forbidden, "this login may not write to the repository to/app"),
        (Reply(202), RegistryError, "URL"),
        (Reply(202, {"Location": "http://127.0.0.1:1/upload"}), RegistryError, "URL"),
        (Reply(202, {"Location": "http://[::1"}), RegistryError, "URL"),
    ],
)
def test_without_a_place_to_write_to_nothing_is_read(
    held: RegistryServer, begun: Reply, error: type[MergeError], words: str
) -> None:
    held.forget_requests()
    with ScriptedServer(begun) as front, pytest.raises(error, match=words):
        stream(held.url, front.url)

    assert [request.method for request in front.received] == ["POST"]
    assert held.requests == ()


def test_a_token_that_expires_meanwhile_is_renewed(held: RegistryServer) -> None:
    held.forget_requests()
    with ScriptedServer(Reply()) as front:
        begun, token = Reply(202, {"Location": "/upload/7"}), json_reply({"token": "fresh"})
        front.then(begun, bearer(f"{front.url}/token"), token, Reply(201))
        stream(held.url, front.url)

    assert [request.method for request in front.received] == ["POST", "PUT", "GET", "PUT"]
    assert front.received[-1].body == BLOB
    assert len(held.requests) == 2  # it is read again


def test_a_store_that_the_source_redirects_to_gets_no_login(other: RegistryServer) -> None:
    compressed = Reply(200, {"Content-Encoding": "gzip"}, BLOB)
    with ScriptedServer(compressed) as store, ScriptedServer(Reply()) as source:
        source.then(bearer(f"{source.url}/t"), json_reply({"token": "x"}), redirect(store.url))
        stream(source.url, other.url, username="alice", password="wonderland")

    assert has_blob(other)
    assert source.authorizations[-1] == "Bearer x"
    assert store.authorizations == [""]


@contextmanager
def serving(handler: type[socketserver.StreamRequestHandler], buffer: int = PIECE) -> Iterator[str]:
    """Run a server that takes in only so much ahead of what it reads."""
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), handler) as server:
        server.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


@pytest.mark.parametrize("side", ["source", "destination"])
def test_who_makes_no_progress_is_given_up(
    held: RegistryServer, other: RegistryServer, side: str
) -> None:
    """The source sends nothing, or the destination takes nothing."""
    options = evolve(HURRIED, silence=0.1, retries=evolve(HURRIED.retries, most=0))
    ended = threading.Event()

    class Silent(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            method = self.rfile.readline().split()[0]
            if method == b"POST":
                self.wfile.write(b"HTTP/1.1 202 A\r\nLocation: /7\r\nContent-Length: 0\r\n\r\n")
            if method in (b"GET", b"PUT"):
                ended.wait(60)

    with serving(Silent, 4096) as silent:
        urls = (silent, other.url) if side == "source" else (held.url, silent)
        with pytest.raises(RegistryError, match=r"no answer in time|connection broken"):
            stream(*urls, options=options)
        ended.set()


def test_the_time_limit_of_the_run_counts(other: RegistryServer) -> None:
    """Though the registry goes on to send."""
    head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(BLOB)
    parts = head + BLOB[:PIECE], BLOB[PIECE : 2 * PIECE], BLOB[2 * PIECE :]

    with raw_server(*parts, pause=0.2) as url, pytest.raises(OutOfTime):
        stream(url, other.url, options=evolve(HURRIED, time_limit=0.3))

    assert not has_blob(other)


LARGE = 64 * PIECE


def pieces() -> Iterator[bytes]:
    """Make a large blob that is nowhere kept."""
    piece = bytes(PIECE)
    for number in range(LARGE // PIECE):
        yield number.to_bytes(8, "big") + piece[8:]


class LargeBlobs(socketserver.StreamRequestHandler):
    """Serves the large blob, and takes blobs that it only hashes."""

    taken: tuple[str, int] = ("", 0)

    def handle(self) -> None:
        method, length = self.rfile.readline().split()[0], 0
        while line := self.rfile.readline().strip().lower():
            length = int(line.split()[1]) if line.startswith(b"content-length:") else length
        head = b"HTTP/1.1 %s\r\nLocation: /7\r\nConnection: close\r\nContent-Length: %d\r\n\r\n"
        if method == b"GET":
            self.wfile.write(head % (b"200 OK", LARGE))
            for piece in pieces():
                self.wfile.write(piece)
            return
        digest, buffer = sha256(), bytearray(PIECE)
        for start in range(0, length, PIECE):
            size = self.rfile.readinto(memoryview(buffer)[: length - start])
            digest.update(buffer[:size])
        if method == b"PUT":
            type(self).taken = f"sha256:{digest.hexdigest()}", length
        self.wfile.write(head % (b"202 Accepted" if method == b"POST" else b"201 Created", 0))


def test_memory_stays_flat() -> None:
    """Server and client are both in this process, and neither holds more than a few pieces."""
    whole = sha256()
    for piece in pieces():
        whole.update(piece)
    digest = f"sha256:{whole.hexdigest()}"
    with serving(LargeBlobs) as url:
        tracemalloc.start()
        try:
            stream(url, url, digest=digest, size=LARGE)
            most = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    assert LargeBlobs.taken == (digest, LARGE)
    assert most < LARGE / 4


def test_progress_is_shown_in_mebibytes_and_never_goes_back(
    held: RegistryServer, other: RegistryServer
) -> None:
    watched = Watched()
    with ScriptedServer(Front(held, [("GET", CUT)])) as source:
        stream(source.url, other.url, watch=watched)

    assert watched.shown == [(f"quay.io/to/app {DIGEST[:19]}, MiB", 4)]
    assert watched.done == 3
