"""Logins stay with the registry that they are for, whatever it, an image or a file says."""

from __future__ import annotations

import json
import sys
from base64 import b64encode
from collections.abc import Callable
from pathlib import Path

import pytest

from pubtools_mlmerge.cli.parsers import merge_main
from pubtools_mlmerge.core.manifests import OCI_INDEX, OCI_MANIFEST, Image, digest_of
from pubtools_mlmerge.errors import RegistryError, Unauthorized
from pubtools_mlmerge.registry.client import RegistryClient
from pubtools_mlmerge.registry.quay_history import TagHistory
from pubtools_mlmerge.testing import RegistryServer, make_image, make_index
from tests.factories import content_of, digest, document, entry
from tests.hostile.helpers import (
    ASKS_FOR_PASSWORD,
    LOGIN,
    PASSWORD,
    REFERENCE,
    SECRETS,
    TOKEN,
    USER,
    client_of,
    environment,
    failure_of,
    good,
    pull,
    wants_password,
    wants_token,
)
from tests.programs import call, put, run_here, write_program
from tests.scripted import (
    HURRIED,
    Received,
    Reply,
    ScriptedServer,
    bearer,
    ca_bundle,
    json_reply,
    manifest_reply,
    redirect,
    refusal,
)

pytestmark = pytest.mark.usefixtures("nobody")
CONFIG = b'{"os": "linux", "architecture": "amd64"}'
IMAGE = Image(b"", "", digest("image"), digest_of(CONFIG), ())
GUARDS = pytest.mark.parametrize("guard", [wants_token, wants_password])
FAR = digest("far")
RECORD = "import json, os, sys; json.dump(sys.argv, open(os.environ['RECORD'], 'w')); sys.exit(1)"


def headers_of(received: list[Received]) -> str:
    """Show all that came with some requests, save what all have."""
    return "\n".join(f"{r.target} {dict(r.headers)} {r.body!r}" for r in received)


def heard(server: ScriptedServer) -> str:
    """Show all requests to a server that must get no secret."""
    assert server.received, "it was not asked at all"
    return headers_of(server.received)


def no_secret_in(text: str) -> bool:
    return not any(secret in text for secret in SECRETS) and "authorization" not in text


# Redirects


@GUARDS
@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_no_login_and_no_name_follow_a_redirect_to_another_place(guard: type, status: int) -> None:
    """A Host header that stays the same lets a server pass for the registry that it is not."""
    with ScriptedServer(Reply(200, {}, CONFIG)) as storage, ScriptedServer(Reply()) as registry:
        guard(registry, redirect(f"{storage.url}/blob?signature=1", status))
        assert client_of(registry).pull_config(REFERENCE, IMAGE)["os"] == "linux"

    assert any(registry.authorizations)
    assert no_secret_in(heard(storage))
    assert [request.host for request in storage.received] == [storage.host]


@GUARDS
def test_a_303_which_names_something_else_is_not_followed(guard: type) -> None:
    with ScriptedServer(Reply()) as other, ScriptedServer(Reply()) as registry:
        guard(registry, redirect(other.url, 303))
        failure_of(registry)

    assert other.received == []


@GUARDS
def test_no_login_comes_back_by_way_of_another_place(guard: type) -> None:
    with ScriptedServer(Reply()) as other, ScriptedServer(Reply()) as registry:
        other.then(redirect(f"{registry.url}/stolen"))
        guard(registry, lambda r: good() if r.target == "/stolen" else redirect(other.url))
        failure_of(registry)

    assert no_secret_in(heard(other))
    assert [r.authorization for r in registry.received if r.target == "/stolen"] == [""]


def test_a_user_and_a_password_in_a_location_are_not_sent_either() -> None:
    with ScriptedServer(good()) as other, ScriptedServer(Reply()) as registry:
        registry.then(redirect(f"http://{USER}:{PASSWORD[:4]}@{other.host}/"))
        client_of(registry).pull(REFERENCE)

    assert other.authorizations == [""]


def test_a_token_of_quays_api_does_not_follow_a_redirect() -> None:
    tags = json_reply({"tags": []})
    with ScriptedServer(tags) as other, ScriptedServer(Reply()) as quay:
        quay.then(tags, redirect(f"{other.url}/api"))
        assert TagHistory(client_of(quay), TOKEN, quay.url).rows(REFERENCE) == ()

    assert quay.authorizations == ["", f"Bearer {TOKEN}"]
    assert no_secret_in(heard(other))


# Challenges from elsewhere


@pytest.mark.parametrize("guard", [ScriptedServer.then, wants_token, wants_password])
@pytest.mark.parametrize(
    "challenge",
    [
        ASKS_FOR_PASSWORD,
        bearer("http://127.0.0.1:1/token", scope="repository:x:pull"),
        refusal(403, "DENIED"),
    ],
)
def test_a_challenge_from_another_place_is_not_answered(guard: type, challenge: Reply) -> None:
    """Neither before a login nor after it, and it does not mean that there is nothing."""
    with ScriptedServer(challenge) as other, ScriptedServer(Reply()) as registry:
        guard(registry, redirect(other.url))
        for look in (RegistryClient.pull_if_present, RegistryClient.digest):
            with pytest.raises(RegistryError, match="redirects to a host that refuses this"):
                look(client_of(registry), REFERENCE)

    assert no_secret_in(heard(other))
    assert any(registry.authorizations) is (guard is not ScriptedServer.then)


# Uploads


@GUARDS
@pytest.mark.parametrize("challenge", [Reply(204), ASKS_FOR_PASSWORD])
def test_an_upload_that_was_opened_elsewhere_is_not_cancelled(
    guard: type, challenge: Reply
) -> None:
    with ScriptedServer(challenge) as other, ScriptedServer(Reply()) as registry:
        guard(registry, Reply(202, {"Location": f"{other.url}/v2/app/blobs/uploads/7"}))
        assert not client_of(registry).mount_blob(REFERENCE, digest("blob"), "base")

    assert any(registry.authorizations)
    assert other.received == []  # a DELETE without a login can do harm, too


def test_a_manifest_is_not_written_to_another_place() -> None:
    index = pull(good())
    with ScriptedServer(Reply(201)) as other, ScriptedServer(redirect(other.url)) as registry:
        client = client_of(registry)
        with pytest.raises(RegistryError, match="written to another host or scheme"):
            client.push(REFERENCE, index)

    assert other.received == []


# What images say


def lenient(held: dict[str, Reply]) -> Callable[[Received], Reply]:
    """Be a registry that keeps any manifest and mounts any blob, save one that it has not."""

    def answer(request: Received) -> Reply:
        if request.method == "PUT":
            held[request.target] = manifest_reply(request.body, OCI_INDEX)
        is_there = request.method in ("PUT", "POST") and FAR[7:] not in request.target
        return Reply(201) if is_there else held.get(request.target, Reply(404))

    return answer


def test_layers_and_entries_that_live_elsewhere_are_not_fetched() -> None:
    """Neither is `data` taken for the content that it claims to be."""
    with ScriptedServer(Reply(200, {}, b"evil")) as elsewhere, ScriptedServer(Reply()) as registry:
        far = {"urls": [f"{elsewhere.url}/far"], "data": b64encode(b"evil").decode()}
        layer = {"mediaType": "x/y", "digest": FAR, "size": 4, **far}
        fields = json.loads(make_image().content)
        image = content_of({**fields, "layers": [*fields["layers"], layer]})
        child = {**entry(), "digest": digest_of(image), "size": len(image), **far}
        held = {
            "/v2/base/manifests/1": good(content_of(document(child))),
            f"/v2/base/manifests/{digest_of(image)}": manifest_reply(image, OCI_MANIFEST),
        }
        registry.then(lenient(held))
        names = ("--source-ref", "registry.test/base:1", "--dest-ref", "registry.test/app:1")
        code = call(merge_main, *names, "--quay-host", registry.url)

    assert (code, elsewhere.received) == (0, [])
    assert held[f"/v2/app/manifests/{digest_of(image)}"].body == image


# What the user's own files say


def test_a_netrc_file_gives_no_login_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text(f"default login {USER} password {PASSWORD}\n", encoding="utf-8")
    monkeypatch.setenv("NETRC", str(netrc))
    with ScriptedServer(good()) as other, ScriptedServer(redirect(other.url)) as registry:
        RegistryClient(host=registry.url, options=HURRIED).pull(REFERENCE)

    assert no_secret_in(heard(other) + heard(registry))


def test_a_login_for_one_registry_is_not_given_to_another_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = ["127.0.0.1", "127.0.0.1:1", "https://127.0.0.1", "127", "registry.test"]
    path = tmp_path / "auth.json"
    path.write_text(json.dumps({"auths": {key: {"auth": LOGIN} for key in keys}}))
    monkeypatch.setenv("REGISTRY_AUTH_FILE", str(path))

    with ScriptedServer(ASKS_FOR_PASSWORD) as registry, pytest.raises(Unauthorized):
        RegistryClient(host=registry.url, options=HURRIED).pull(REFERENCE)

    assert no_secret_in(heard(registry))


def test_each_side_gets_its_own_login() -> None:
    """Whichever way a side asks for it, and even if one refuses."""
    with ScriptedServer(Reply()) as source, ScriptedServer(Reply()) as dest:
        wants_password(source, good())
        wants_token(dest, refusal(403, "DENIED"))
        code = call(
            merge_main,
            *("--source-ref", "registry.test/app:1", "--dest-ref", "registry.test/app:1"),
            *("--source-quay-host", source.url, "--quay-host", dest.url),
            *("--source-quay-user", "one", "--source-quay-password", "s3cr3t"),
            *("--dest-quay-user", USER, "--dest-quay-password", PASSWORD),
        )

    own = b64encode(b"one:s3cr3t").decode()
    assert code == 1
    assert set(source.authorizations) == {"", f"Basic {own}"}
    assert set(dest.authorizations) == {"", f"Basic {LOGIN}", f"Bearer {TOKEN}"}


def test_cookies_are_not_carried_from_one_place_to_another() -> None:
    """Those of one port would go to every other port of the same host."""
    cookie = {"Set-Cookie": f"session={TOKEN}; Path=/"}
    with ScriptedServer(Reply(200, {}, CONFIG)) as storage, ScriptedServer(Reply()) as registry:
        registry.then(
            refusal(401, WWW_Authenticate='Basic realm="x"', **cookie),
            Reply(307, {**cookie, "Location": storage.url}),
        )
        client_of(registry).pull_config(REFERENCE, IMAGE)

    assert "cookie" not in headers_of(registry.received) + heard(storage)


# Other programs


def test_skopeo_gets_no_secret_on_its_command_line(
    tmp_path: Path, registry_server: RegistryServer
) -> None:
    """Everybody on a machine can read command lines."""
    write_program(tmp_path / "skopeo", RECORD, f"{sys.executable} -ISE")
    put(registry_server, "1", make_index([make_image()]))
    host = registry_server.host

    done = run_here(
        *("merge", "--source-ref", f"{host}/app:1", "--dest-ref", f"{host}/other:1"),
        *("--copy", "skopeo", "--source-quay-user", USER, "--dest-quay-user", USER),
        env={**environment(), "PATH": str(tmp_path), "RECORD": str(tmp_path / "record")},
    )

    arguments = (tmp_path / "record").read_text()
    assert done.code == 1
    assert "--src-authfile=" in arguments
    assert "--dest-authfile=" in arguments
    assert not any(secret in arguments for secret in SECRETS)


def test_a_place_that_is_reached_by_tls_is_not_asked_in_the_clear(tmp_path: Path) -> None:
    """Not even once it has asked for a login."""
    with ScriptedServer(json_reply({})) as plain, ScriptedServer(Reply(), tls=True) as registry:
        wants_password(registry, redirect(plain.url))
        options = type(HURRIED)(ca_bundle=ca_bundle(tmp_path), retries=HURRIED.retries)
        assert "redirects to plain http" in str(failure_of(registry, options=options))

    assert plain.received == []
