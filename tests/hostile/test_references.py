"""Text that becomes part of a URL, a header or a command line smuggles nothing in."""

from __future__ import annotations

import json
from urllib.parse import unquote, urlsplit

import pytest

from pubtools_mlmerge.cli.parsers import inspect_main, merge_main, remove_archs_main
from pubtools_mlmerge.core.manifests import OCI_INDEX, OCI_MANIFEST
from pubtools_mlmerge.core.references import Reference
from pubtools_mlmerge.errors import InvalidIndex, InvalidReference
from pubtools_mlmerge.registry.client import RegistryClient
from pubtools_mlmerge.testing import make_image
from tests.factories import content_of, digest, document, entry
from tests.hostile.helpers import REFERENCE, client_of, good, refused
from tests.programs import call
from tests.scripted import Reply, ScriptedServer, manifest_reply

TEXTS = {
    "another line": "app:1\r\nX-Injected: 1",
    "another line in the name": "app\r\nX-Injected: 1/app:1",
    "a null byte": "app\0:1",
    "a query": "app:1?n=1",
    "a query in the name": "app?x=/y:1",
    "a fragment": "app:1#x",
    "up": "../app:1",
    "up within": "a/../../api/v1/app:1",
    "up by tag": "app:..",
    "up by tag, and down": "app:../../app/manifests/2",
    "here": "a/./app:1",
    "up, encoded": "a/%2e%2e/app:1",
    "up by tag, encoded": "app:%2e%2e",
    "a slash, encoded": "a%2fb:1",
    "up in another script": "a/\uff0e\uff0e/app:1",
    "nothing between slashes": "a//app:1",
    "a backslash": "a\\app:1",
    "a space": "app:1 2",
    "a tab": "app\t:1",
    "a user": "user:secret@evil.test/app:1",
    "a user before a digest": f"user:secret@evil.test/app@{digest('x')}",
    "a scheme": "https://evil.test/app:1",
    "digits of another script": "app:\u0661",
    "a port of another script": "registry.test:\u0668\u0660/app:1",
    "no address": "[1::2::3]:5000/app:1",
    "an address of one part": "[1]:5000/app:1",
    "letters of another script": "\u0430pp:1",
    "capitals": "App:1",
    "an option": "--insecure:1",
    "a long name": "a" * 256 + ":1",
    "a long tag": "app:" + "1" * 129,
    "a long name with its host": f"registry.test/{'a' * 250}:1",
    "a path as digest": "app@sha256:../../../api/v1/x",
    "a short digest": "app@sha256:abc",
    "a digest in capitals": f"app@{digest('x').upper()}",
    "a digest of another script": "app@sha256:" + "\u0661" * 64,
    "a line after the digest": f"app@{digest('x')}\n",
    "a query after the digest": f"app@{digest('x')}?n=1",
}


@pytest.mark.parametrize("text", TEXTS.values(), ids=list(TEXTS))
def test_what_would_change_a_request_is_asked_of_nobody(
    text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with ScriptedServer(good()) as server:
        host = ("--quay-host", server.url)
        codes = {
            call(inspect_main, f"--quay-host={server.url}", "--", text),
            call(merge_main, f"--source-ref={text}", "--dest-ref=app:1", *host),
            call(merge_main, "--source-ref=app:1", f"--dest-ref={text}", *host),
            call(remove_archs_main, f"--ref={text}", "--arch=s390x", *host),
        }

    assert (codes, server.received) == ({2}, [])
    assert "secret" not in capsys.readouterr().err


HOSTS = {
    "a path": "registry.test/api",
    "a query": "registry.test?x=",
    "a fragment": "registry.test#",
    "a user": "user@registry.test",
    "another line": "registry.test\r\nX-Injected: 1",
    "a backslash": "evil.test\\.registry.test",
    "a port of another script": "registry.test:\u0668\u0660",
    "no port": "registry.test:0",
    "no address": "[1::2::3]:5000",
    "another scheme": "file://registry.test",
}


@pytest.mark.parametrize("host", HOSTS.values(), ids=list(HOSTS))
def test_what_is_no_host_is_not_connected_to(host: str) -> None:
    with pytest.raises(InvalidReference):
        RegistryClient(host=host).pull(REFERENCE)
    assert call(inspect_main, "app:1", "--quay-host", host) == 2


@pytest.mark.parametrize(
    "text",
    [
        *("app:1", "a/b/c:V1._-x", f"app@{digest('x')}", f"app:1@{digest('x')}"),
        *("app@md5+x.y:A=_-", "a__b/c--d/e.f:" + "1" * 128),
    ],
)
def test_what_passes_is_asked_for_letter_by_letter(text: str) -> None:
    reference = Reference.parse(text)
    with ScriptedServer(Reply(404)) as server:
        assert not client_of(server).has_manifest(reference)

    request, again = server.received
    assert request.target == f"/v2/{reference.repository}/manifests/{reference.target}"
    assert again.target == request.target
    assert unquote(urlsplit(request.target).path) == request.target


# Names in documents

DIGESTS = [
    *("sha256:../../x", "../x", "sha256:a?x", "sha256:a#x", "md5:a/b"),
    *("md5:\r\nX: 1", "", "x:"),
]


@pytest.mark.parametrize("name", DIGESTS)
def test_a_digest_in_a_document_is_one(name: str) -> None:
    listed = {**entry(), "digest": name}
    image = {**json.loads(make_image().content), "config": {"digest": name}}

    for content, kind in ((document(listed), OCI_INDEX), (image, OCI_MANIFEST)):
        error = refused(manifest_reply(content_of(content), kind))
        assert isinstance(error, InvalidIndex)
        assert ".digest: expected algorithm:encoded" in str(error)


@pytest.mark.parametrize("name", ["sha256:abc", "sha256:" + "A" * 64, "sha512:" + "a" * 64])
def test_a_digest_of_another_form_than_its_algorithm_is_not_asked_for(name: str) -> None:
    """A descriptor may have one, so that what is not understood is carried on; requests may not."""
    image = {**json.loads(make_image().content), "config": {"digest": name}}
    with ScriptedServer(manifest_reply(content_of(image), OCI_MANIFEST)) as server:
        options = ("--single-image", "wrap", "--quay-host", server.url)
        code = call(merge_main, "--source-ref", "x/app:1", "--dest-ref", "x/app:2", *options)

    assert code == 1
    assert not any("/blobs/" in line for line in server.lines)


@pytest.mark.parametrize("media_type", ["x/y\r\nX-Injected: 1", "x" * 5000, f"{OCI_INDEX}\n"])
def test_a_media_type_in_a_document_adds_no_header(media_type: str) -> None:
    """The type that a PUT states is one of four."""
    content = content_of({**document("linux/amd64"), "mediaType": media_type})

    assert isinstance(refused(manifest_reply(content)), InvalidIndex)


@pytest.mark.parametrize("template", ["../{tag}", "{tag}\r\n", "{tag}?x", "{tag}/x", "{x}", "%2e"])
def test_an_anchor_tag_is_a_tag(template: str) -> None:
    with ScriptedServer(good()) as server:
        code = call(
            merge_main,
            *("--source-ref", "app:1", "--dest-ref", "app:2", "--quay-host", server.url),
            *("--anchor-tag", template),
        )

    assert (code, server.received) == (2, [])
