"""What refers to images: found in each way that registries have, counted, and copied."""

from __future__ import annotations

import json
import re
import tracemalloc
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests

from pubtools_mlmerge.core.manifests import OCI_INDEX, Referrer, digest_of
from pubtools_mlmerge.core.references import Reference
from pubtools_mlmerge.errors import ConflictError, MergeError, MissingChild, RegistryError
from pubtools_mlmerge.merging.api import merge_tags
from pubtools_mlmerge.registry.client import RegistryClient
from pubtools_mlmerge.registry.copying import Children, Copy
from pubtools_mlmerge.registry.referrers import Mode, ReferrerLists, Referrers, schema_tag
from pubtools_mlmerge.testing import Image, RegistryServer, make_image, make_index
from pubtools_mlmerge.testing.registry import Dialect
from tests.factories import Json, digest
from tests.peers import SCHEMA_1
from tests.programs import put
from tests.quay import ListingDialect, QuayDialect
from tests.scripted import (
    HURRIED,
    Received,
    Reply,
    ScriptedServer,
    json_reply,
    manifest_reply,
    redirect,
)

Log = pytest.LogCaptureFixture

AMD64, ARM64 = make_image("linux/amd64"), make_image("linux/arm64")
PAYLOAD = "application/vnd.dev.cosign.simplesigning.v1+json"
SIGNATURE = "dev.cosignproject.cosign/signature"
FROM, TO = "from/app", "to/app"


class Listing(ListingDialect):
    """Has the referrers API, with two on each page."""

    referrers_page = 2


DIALECTS = {"no API": Dialect, "API": Listing, "Quay": QuayDialect}


@pytest.fixture(params=DIALECTS.values(), ids=list(DIALECTS))
def server(request: pytest.FixtureRequest) -> Iterator[RegistryServer]:
    with RegistryServer(dialect=request.param()) as server:
        put(server, "1", make_index([AMD64, ARM64]), FROM)
        put(server, "1", make_index([AMD64, ARM64]), TO)
        yield server


def blob(content: bytes, media_type: str, **more: object) -> Json:
    return {"mediaType": media_type, "digest": digest_of(content), "size": len(content), **more}


def manifest(config: bytes, layers: list[tuple[bytes, Json]], /, **more: object) -> Image:
    """Make a manifest of what is not to run."""
    document = {
        "schemaVersion": 2,
        "mediaType": AMD64.media_type,
        "config": blob(config, "application/vnd.oci.image.config.v1+json"),
        "layers": [entry for _, entry in layers],
        **more,
    }
    blobs = {digest_of(content): content for content in (config, *(each for each, _ in layers))}
    content = json.dumps(document).encode()
    return Image(content=content, media_type=AMD64.media_type, platform={}, blobs=blobs)


def referrer(subject: Image, name: str = "sbom") -> Image:
    kind = f"application/{name}+json"
    content = name.encode()
    described = blob(subject.content, subject.media_type)
    layers = [(content, blob(content, kind))]
    return manifest(b"{}", layers, artifactType=kind, subject=described)


def signed(*keys: str, of: Image = AMD64, text: str = "") -> Image:
    """Make what cosign stores: all signatures of one image have the same content."""
    payload = f"I saw {of.digest}{text}".encode()
    layers = [(payload, blob(payload, PAYLOAD, annotations={SIGNATURE: key})) for key in keys]
    ids = [entry["digest"] for _, entry in layers]
    config = {"rootfs": {"type": "layers", "diff_ids": ids}, "history": [{"by": k} for k in keys]}
    return manifest(json.dumps(config).encode(), layers)


def attach(server: RegistryServer, item: Image, subject: Image, repository: str = FROM) -> None:
    """Store a referrer, and keep the tag schema where the registry has no API."""
    put(server, item.digest, item, repository)
    tag = schema_tag(subject.digest)
    if not has_api(server):
        held: list[object] = []
        if tag in server.tags(repository):
            held = json.loads(server.manifest(repository, tag).content)["manifests"]
        listed = listing(*held, blob(item.content, item.media_type))
        server.put_manifest(repository, tag, listed, OCI_INDEX)


def listing(*entries: object) -> bytes:
    document = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}
    return json.dumps(document).encode()


def lists() -> ReferrerLists:
    return ReferrerLists(RegistryClient(options=HURRIED))


def at(server: RegistryServer | ScriptedServer, subject: Image, repository: str) -> Reference:
    return Reference.parse(f"{server.host}/{repository}@{subject.digest}")


def has_api(server: RegistryServer) -> bool:
    return lists().by_api(at(server, AMD64, FROM)) is not None


def reference(server: RegistryServer | ScriptedServer, name: str) -> Reference:
    return Reference.parse(f"{server.host}/{name}:1")


def tend(
    server: RegistryServer | ScriptedServer,
    mode: Mode = "copy",
    *subjects: Image,
    copy: Copy = "auto",
    merged: str | None = None,
    into: str = TO,
    dry_run: bool = False,
    writes: bool = True,
) -> None:
    client = RegistryClient(options=HURRIED)
    referrers = Referrers(client, client, Children(client, client, copy), mode)
    digests = [each.digest for each in subjects or (AMD64, ARM64)]
    source, destination = reference(server, FROM), reference(server, into)
    referrers.tend(source, destination, digests, merged, dry_run=dry_run, writes=writes)


def found(server: RegistryServer, subject: Image, repository: str = TO) -> set[tuple[str, str]]:
    """List what refers to an image, as a client that reads later sees it."""
    referrers = lists().of(at(server, subject, repository))
    return {(each.tag.rpartition(".")[2], each.digest) for each in referrers}


def cosign(image: Image, suffix: str = "sig") -> str:
    return f"{schema_tag(image.digest)}.{suffix}"


def test_all_that_refers_to_an_image_comes_along_once(server: RegistryServer) -> None:
    items = [referrer(AMD64, name) for name in ("sbom", "scan", "provenance")]
    signature, sbom = signed("alice"), manifest(b"{}", [(b"sbom", blob(b"sbom", "text/spdx"))])
    of_sbom = referrer(items[0], "signature")
    for item in items:
        attach(server, item, AMD64)
    attach(server, of_sbom, items[0])
    put(server, cosign(AMD64), signature, FROM)
    put(server, cosign(ARM64, "sbom"), sbom, FROM)
    put(server, cosign(items[1], "att"), signed("bob", of=items[1]), FROM)

    with pytest.raises(MissingChild, match="copying is disabled"):
        tend(server, copy="never")
    tend(server)

    assert found(server, AMD64) == {*(("", i.digest) for i in items), ("sig", signature.digest)}
    assert found(server, ARM64) == {("sbom", sbom.digest)}
    assert found(server, items[0]) == {("", of_sbom.digest)}
    assert found(server, items[1]) == {("att", signed("bob", of=items[1]).digest)}
    for item in (*items, signature, of_sbom):
        assert server.manifest(TO, item.digest).content == item.content
    if has_api(server):
        assert schema_tag(AMD64.digest) not in server.tags(TO)
    server.forget_requests()
    tend(server)
    assert not [r for r in server.requests if r.method in ("PUT", "POST")]


def test_each_of_several_sources_brings_its_own(registry_server: RegistryServer) -> None:
    for image, repository in ((AMD64, "one/app"), (ARM64, "two/app")):
        put(registry_server, "1", image, repository)
        attach(registry_server, referrer(image), image, repository)
    host = registry_server.host

    merge_tags([f"{host}/one/app:1", f"{host}/two/app:1"], f"{host}/{TO}:both", referrers="copy")

    for image in (AMD64, ARM64):
        assert found(registry_server, image) == {("", referrer(image).digest)}


def test_one_warning_counts_what_stays_behind(server: RegistryServer, caplog: Log) -> None:
    """That is what the destination lacks or has otherwise, unless it is brought as an image."""
    index, proof = make_index([AMD64, ARM64]), referrer(AMD64, "proof")
    for item in (referrer(AMD64), referrer(AMD64, "scan"), proof):
        attach(server, item, AMD64)
    attach(server, referrer(AMD64, "scan"), AMD64, TO)
    put(server, cosign(AMD64), signed("alice"), FROM)
    put(server, cosign(AMD64), signed("bob"), TO)
    put(server, f"{schema_tag(index.digest)}.sig", signed("carol"), FROM)
    server.forget_requests()

    tend(server, "warn", AMD64, ARM64, proof, merged=index.digest)

    (line,) = (r.getMessage() for r in caplog.records if r.levelname == "WARNING")
    assert line == (
        f"{server.host}/{FROM}:1: 2 signatures or others that refer to its images stay behind, "
        "1 that refer to the index itself do not fit the merged one; see --referrers"
    )
    assert {r.method for r in server.requests} <= {"GET", "HEAD"}


def test_many_tags_of_a_repository_have_one_warning(
    registry_server: RegistryServer, caplog: Log
) -> None:
    put(registry_server, "1", AMD64, FROM)
    attach(registry_server, referrer(AMD64), AMD64)
    tags = [f"{registry_server.host}/{TO}:{tag}" for tag in "ab"]

    merge_tags(f"{registry_server.host}/{FROM}:1", tags)

    assert caplog.text.count("stay behind") == 1


@pytest.mark.parametrize(("mode", "into"), [("ignore", TO), ("warn", FROM), ("copy", FROM)])
def test_nothing_is_asked_where_nothing_is_to_be_done(
    server: RegistryServer, mode: Mode, into: str
) -> None:
    attach(server, referrer(AMD64), AMD64)
    server.forget_requests()

    tend(server, mode, into=into)

    assert server.requests == ()


def test_a_dry_run_copies_nothing_and_an_unchanged_tag_has_no_warning(
    registry_server: RegistryServer, caplog: Log
) -> None:
    put(registry_server, "1", AMD64, FROM)
    attach(registry_server, referrer(AMD64), AMD64)

    tend(registry_server, "copy", dry_run=True)
    tend(registry_server, "warn", writes=False)

    assert registry_server.tags(TO) == ()
    assert caplog.records == []


@pytest.mark.parametrize(("dialect", "number"), [(Dialect, 2), (Listing, 3)])
def test_images_that_nothing_refers_to_take_few_requests(
    dialect: type[Dialect], number: int, caplog: Log
) -> None:
    """One for all tags; and one for each image, or one that tells that there is no API."""
    with RegistryServer(dialect=dialect()) as server:
        put(server, "1", make_index([AMD64, ARM64]), FROM)

        tend(server, "warn", AMD64, ARM64)

        assert len(server.requests) == number
        assert caplog.records == []


# Cosign's tags at the destination


def layers(server: RegistryServer, tag: str) -> list[str]:
    """Name the keys of the layers, which the config has to fit."""
    held = server.manifest(TO, tag)
    layers, config = (json.loads(held.content)[name] for name in ("layers", "config"))
    content = requests.get(f"{server.url}/v2/{TO}/blobs/{config['digest']}", timeout=60).json()
    keys = keys_of(held.content)
    assert content["rootfs"]["diff_ids"] == [each["digest"] for each in layers]
    assert [each["by"] for each in content["history"]] == keys
    return keys


def keys_of(content: bytes) -> list[str]:
    return [each["annotations"][SIGNATURE] for each in json.loads(content)["layers"] or ()]


EMPTY = manifest(b"{}", [], layers=None)


@pytest.mark.parametrize("suffix", ["sig", "att"])
@pytest.mark.parametrize(
    ("held", "new", "expected"),
    [
        (signed("alice"), signed("bob"), ["alice", "bob"]),
        (signed("alice", "bob"), signed("bob", "carol"), ["alice", "bob", "carol"]),
        (signed("alice", "bob"), signed("bob"), ["alice", "bob"]),
        (signed("alice"), signed("bob", "alice"), ["bob", "alice"]),
        (signed("alice", text="!"), signed("alice"), ["alice", "alice"]),
        (signed("alice"), EMPTY, ["alice"]),
        (EMPTY, signed("alice"), ["alice"]),
    ],
)
def test_no_signature_is_lost(
    registry_server: RegistryServer, suffix: str, held: Image, new: Image, expected: list[str]
) -> None:
    """Two keys sign the same content, so the digest of a layer does not tell them apart."""
    tag = cosign(AMD64, suffix)
    put(registry_server, tag, held, TO)
    put(registry_server, tag, new, FROM)

    for _ in range(2):
        tend(registry_server)
        assert layers(registry_server, tag) == expected
    for item in (held, new):
        if keys_of(item.content) == expected:  # byte for byte
            assert registry_server.manifest(TO, tag).content == item.content


@pytest.mark.parametrize(
    ("suffix", "held"),
    [
        ("sbom", signed("alice")),
        ("sig", make_index([AMD64])),
        ("sig", manifest(b"{}", [], annotations={"of": "something else"})),
        ("sig", Image(content=b'{"schemaVersion": 1}', media_type=SCHEMA_1, platform={}, blobs={})),
    ],
)
def test_what_cannot_be_put_together_is_left_and_said(
    registry_server: RegistryServer, suffix: str, held: Image, caplog: Log
) -> None:
    tag = cosign(AMD64, suffix)
    put(registry_server, tag, held, TO)
    put(registry_server, tag, signed("bob"), FROM)

    tend(registry_server)

    assert registry_server.manifest(TO, tag).content == held.content
    assert re.search(rf"{tag}: it (differs from the one in the source, and )?is left", caplog.text)


@pytest.mark.parametrize("config", [b"{}", b'{"rootfs": {"diff_ids": []}}'])
def test_a_config_that_does_not_fit_its_layers_stays(
    registry_server: RegistryServer, config: bytes
) -> None:
    tag, layer = cosign(AMD64), {"mediaType": PAYLOAD, "digest": digest_of(b"x"), "size": 1}
    for repository, key in ((TO, "alice"), (FROM, "bob")):
        entry = {**layer, "annotations": {SIGNATURE: key}}
        put(registry_server, tag, manifest(config, [(b"x", entry)]), repository)

    tend(registry_server)

    content = registry_server.manifest(TO, tag).content
    assert keys_of(content) == ["alice", "bob"]
    assert json.loads(content)["config"]["digest"] == digest_of(config)


def test_a_destination_that_ignores_writes_is_a_conflict() -> None:
    with RegistryServer(dialect=QuayDialect(caches=TO)) as server:
        put(server, cosign(AMD64), signed("alice"), TO)
        put(server, cosign(AMD64), signed("alice", "bob"), FROM)
        with pytest.raises(ConflictError, match="gave up after 4 tries"):
            tend(server)


def test_referrers_of_referrers_are_copied_to_a_depth(
    registry_server: RegistryServer, caplog: Log
) -> None:
    chain = [AMD64]
    for number in range(5):
        chain.append(referrer(chain[-1], f"on{number}"))
        attach(registry_server, chain[-1], chain[-2])

    tend(registry_server)

    assert [len(found(registry_server, each)) for each in chain] == [1, 1, 1, 1, 0, 0]
    assert "only 4 levels of referrers of referrers are copied" in caplog.text


class Weighed(Children):
    """Weighs what is in memory when it is to copy something, and fails."""

    memory = 0

    def ensure(self, *_: object) -> None:
        self.memory = tracemalloc.get_traced_memory()[0]
        raise MissingChild("", None)


def test_large_referrers_are_not_all_in_memory(registry_server: RegistryServer) -> None:
    described = blob(AMD64.content, AMD64.media_type)
    for number in range(24):
        large = {"number": str(number), "large": "x" * 2**20}
        attach(registry_server, manifest(b"{}", [], subject=described, annotations=large), AMD64)
    client = RegistryClient(options=HURRIED)
    children, to = Weighed(client, client), reference(registry_server, TO)
    tracemalloc.start()
    with pytest.raises(MissingChild):
        Referrers(client, client, children, "copy").tend(
            reference(registry_server, FROM), to, [AMD64.digest]
        )
    tracemalloc.stop()

    assert 0 < children.memory < 12 * 2**20


def test_two_that_copy_at_once_keep_all_signatures(registry_server: RegistryServer) -> None:
    put(registry_server, cosign(AMD64), signed("alice"), TO)
    put(registry_server, cosign(AMD64), signed("bob"), FROM)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: tend(registry_server), range(4)))

    assert layers(registry_server, cosign(AMD64)) == ["alice", "bob"]


def test_the_list_of_the_tag_schema_keeps_what_it_has(caplog: Log) -> None:
    with RegistryServer() as server:
        for name in (FROM, TO):
            put(server, "1", make_index([AMD64]), name)
        attach(server, referrer(AMD64, "theirs"), AMD64, TO)
        attach(server, referrer(AMD64, "ours"), AMD64)

        tend(server)

        expected = {("", referrer(AMD64, name).digest) for name in ("theirs", "ours")}
        assert found(server, AMD64) == expected
        put(server, schema_tag(AMD64.digest), ARM64, TO)
        tend(server)
        assert server.manifest(TO, schema_tag(AMD64.digest)).digest == ARM64.digest
        assert "it holds no list of referrers, and is left unchanged" in caplog.text


def test_what_both_the_api_and_the_tag_list_is_named_by_the_api() -> None:
    item, tag = referrer(AMD64), schema_tag(AMD64.digest)
    with RegistryServer(dialect=Listing()) as server:
        attach(server, item, AMD64)
        server.put_manifest(FROM, tag, make_index([item]).content, OCI_INDEX)

        (only,) = lists().of(at(server, AMD64, FROM))

    assert only == Referrer(AMD64.digest, item.digest, "application/sbom+json")


# Lists that are wrong


def test_what_a_list_says_wrongly_is_left_and_said(caplog: Log) -> None:
    """Entries that are gone, that refer to another image, which keeps them, or in a circle."""
    with RegistryServer() as server:
        put(server, "1", make_index([AMD64, ARM64]), FROM)
        other, sbom = referrer(ARM64), referrer(AMD64)
        for item in (other, sbom):
            put(server, item.digest, item, FROM)
        gone, odd = (
            {"mediaType": AMD64.media_type, "digest": name, "size": 1}
            for name in (digest("gone"), "sha256:short")
        )
        entries = [blob(each.content, each.media_type) for each in (other, sbom, AMD64)]
        for subject, listed in (
            (AMD64, [gone, odd, *entries]),
            (sbom, entries),
            (ARM64, entries[1:2]),
        ):
            server.put_manifest(FROM, schema_tag(subject.digest), listing(*listed), OCI_INDEX)

        tend(server, "copy", AMD64, ARM64)

        assert {r.path.rpartition("/")[2] for r in server.requests if r.method == "PUT"} == {
            sbom.digest,
            schema_tag(AMD64.digest),
        }
    assert f"/{FROM}@{AMD64.digest} is left behind: " in caplog.text
    for item, subject in ((other, AMD64), (sbom, ARM64)):
        words = f"{item.digest} is left behind: it is listed for {subject.digest}, and does not"
        assert words in caplog.text


@pytest.mark.parametrize("content", [AMD64.content, listing({"digest": "x"})])
def test_a_list_that_cannot_be_read_is_said(
    registry_server: RegistryServer, content: bytes, caplog: Log
) -> None:
    tag, media_type = schema_tag(AMD64.digest), json.loads(content)["mediaType"]
    registry_server.put_manifest(FROM, tag, content, media_type)

    assert lists().of(at(registry_server, AMD64, FROM)) == ()
    assert f"No list of referrers: {registry_server.host}/{FROM}:{tag}" in caplog.text


def endless(request: Received) -> Reply:
    """Give one referrer a page, and always another page."""
    if "/referrers/" not in request.target:
        return Reply(404)
    number = int(request.target.partition("page=")[2] or 0)
    entry = {"mediaType": OCI_INDEX, "digest": digest(f"{number}"), "size": 1}
    link = f'<{request.target.partition("?")[0]}?page={number + 1}>; rel="next"'
    return manifest_reply(listing(entry), OCI_INDEX, Link=link)


def test_a_list_without_end_ends(caplog: Log) -> None:
    with ScriptedServer(endless) as server:
        assert len(lists().of(at(server, AMD64, FROM))) == 32
    assert "more than 32 pages of referrers, the rest is ignored" in caplog.text


@pytest.mark.parametrize(("mode", "rest"), [("copy", "left behind"), ("warn", "not counted")])
def test_no_more_than_a_thousand_are_asked_for(mode: Mode, rest: str, caplog: Log) -> None:
    names = [digest(str(number)) for number in range(1001)]
    entries = [{"mediaType": AMD64.media_type, "digest": name, "size": 1} for name in names]

    def answer(request: Received) -> Reply:
        is_list = request.target.endswith(f"/manifests/{schema_tag(AMD64.digest)}")
        return manifest_reply(listing(*entries), OCI_INDEX) if is_list else Reply(404)

    with ScriptedServer(answer) as server:
        tend(server, mode, AMD64)

    assert f"more than 1000 referrers, the rest is {rest}" in caplog.text
    assert (
        len({request.target.rpartition("/")[2] for request in server.received} & {*names}) == 1000
    )


@pytest.mark.parametrize(
    "tags",
    [
        json_reply({"tags": ["1"]}, Link='</v2/from/app/tags/list?last=1>; rel="next"'),
        json_reply({"tags": None}),
        Reply(200, {}, b"<html>tags</html>"),
        Reply(403),
    ],
    ids=["page", "null", "HTML", "403"],
)
def test_each_tag_is_looked_up_where_one_answer_does_not_list_all(tags: Reply) -> None:
    signature = signed("alice")

    def answer(request: Received) -> Reply:
        if request.target.startswith("/v2/from/app/tags/list"):
            return tags
        if request.target.endswith(f"/manifests/{cosign(AMD64)}"):
            return manifest_reply(signature.content, signature.media_type)
        return Reply(404)

    with ScriptedServer(answer) as server:
        (only,) = lists().of(at(server, AMD64, FROM))

    assert only.digest == signature.digest


@pytest.mark.parametrize(
    "second", [Reply(404), Reply(400), Reply(200, {"Content-Type": "text/html"}, b"<html>")]
)
def test_a_page_that_fails_after_the_first_is_an_error(second: Reply) -> None:
    link = '</v2/from/app/referrers/x?last=1>; rel="next"'
    page = manifest_reply(make_index([ARM64]).content, OCI_INDEX, Link=link)

    with ScriptedServer(page, second) as server, pytest.raises(MergeError, match=AMD64.digest):
        lists().of(at(server, AMD64, FROM))


@pytest.mark.parametrize("link", ["{url}/x", "http://[x"])
def test_no_page_is_asked_for_elsewhere(link: str, caplog: Log) -> None:
    with ScriptedServer(Reply(200)) as other, ScriptedServer(Reply()) as server:
        following = f'<{link.format(url=other.url)}>; rel="next"'
        page = manifest_reply(listing(), OCI_INDEX, Link=following)
        server.then(page, Reply(404))
        assert lists().of(at(server, AMD64, FROM)) == ()
        assert other.received == []
    assert "is on another host" in caplog.text


NO_LISTS = {
    "HTML": (Reply(200, {"Content-Type": "text/html"}, b"<html>hello</html>"), 1),
    "JSON": (json_reply({"referrers": []}), 1),
    "an image": (manifest_reply(AMD64.content, AMD64.media_type), 1),
    "a broken list": (manifest_reply(listing({"digest": "x"}), OCI_INDEX), 1),
    "404": (Reply(404), 1),
    "405": (Reply(405), 1),
    "303": (redirect("http://127.0.0.1:1/page", 303), 1),  # GitHub's, to a page with a rate limit
    "400": (Reply(400), 2),  # Quay's word for a digest that it lacks
    "nothing": (manifest_reply(listing(), OCI_INDEX), 2),
}


@pytest.mark.parametrize(("reply", "times"), NO_LISTS.values(), ids=list(NO_LISTS))
def test_where_the_api_is_of_no_use_the_tags_are_looked_at(
    reply: Reply, times: int, caplog: Log
) -> None:
    item, tag = referrer(AMD64), schema_tag(AMD64.digest)

    def answer(request: Received) -> Reply:
        if "/referrers/" in request.target:
            return reply
        if request.target.endswith(f"/manifests/{tag}"):
            return manifest_reply(make_index([item]).content, OCI_INDEX)
        return Reply(404)

    with ScriptedServer(answer) as server:
        asked = lists()
        (only,) = asked.of(at(server, AMD64, FROM))
        assert only == Referrer(AMD64.digest, item.digest, item.media_type)
        assert asked.of(at(server, ARM64, FROM)) == ()
    assert sum("/referrers/" in line for line in server.lines) == times
    assert ("no list of referrers: manifests[0]" in caplog.text) is (b'"x"' in reply.body)


def test_a_registry_that_fails_fails_a_copy_and_not_a_warning(caplog: Log) -> None:
    with ScriptedServer(Reply(403)) as server:
        tend(server, "warn", into="to/other")
        with pytest.raises(RegistryError, match="HTTP 403"):
            tend(server, "copy", into="to/other")
    assert "cannot tell what refers to its images" in caplog.text
