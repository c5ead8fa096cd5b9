"""A registry that repeats every login it is given, in every place that it can write to.

What the programs show, log and keep has none of them, at every level of debugging. The same
registry writes what steers a terminal: that has no effect, either.
"""

from __future__ import annotations

import json
import traceback
from collections.abc import Callable
from functools import cache
from html import unescape
from pathlib import Path
from urllib.parse import unquote

import pytest
from attrs import evolve

from pubtools_mlmerge.core.manifests import OCI_INDEX, Image, digest_of
from pubtools_mlmerge.errors import InvalidIndex, RegistryError
from pubtools_mlmerge.registry.adapter import ClientRegistry
from pubtools_mlmerge.registry.auth import WITHHELD
from pubtools_mlmerge.registry.quay_history import TagHistory
from pubtools_mlmerge.testing import RegistryServer, make_image, make_index
from tests.factories import content_of, document
from tests.hostile.helpers import (
    GOOD,
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
    refused,
    wants_password,
    wants_token,
)
from tests.programs import Done, run_here
from tests.scripted import (
    Received,
    Reply,
    ScriptedServer,
    bearer,
    json_reply,
    manifest_reply,
    refusal,
)
from tests.servers import free_port, require

ESCAPES = "\x1b[31m\x1b]0;title\x07\x9b2J\rERROR: \x08\u202e\u2028"
Log = pytest.LogCaptureFixture
TOLD = f"Authorization: Basic {LOGIN} {PASSWORD} Bearer {TOKEN} {LOGIN.rstrip('=')}"
CHILD = make_image()
SOURCE = make_index([CHILD]).content
LEVELS = ["", "-d", "-dd", "-ddd"]


def escaped(text: str) -> str:
    """Write a text as JSON may, too."""
    return "".join(f"\\u{ord(c):04X}" for c in text)


def error(**fields: object) -> Reply:
    return json_reply({"errors": [{"code": "DENIED", **fields}]}, 403)


# What is said in each repository, before its tag is written.
SAID: dict[str, Reply] = {
    "message": error(message=f"no: {TOLD}{ESCAPES}"),
    "code": json_reply({"errors": [{"code": f"no: {TOLD}{ESCAPES}"}]}, 403),
    "detail": error(detail={"message": f"no: {TOLD}{ESCAPES}"}),
    "escaped": Reply(403, {}, f'{{"errors": [{{"message": "no: {escaped(TOLD)}"}}]}}'.encode()),
    "cut": Reply(403, {}, f'{{"errors": [{{"message": "no: {escaped(TOLD)}'.encode()),
    "text": Reply(403, {}, f"no: {TOLD}{ESCAPES}".encode()),
    "html": Reply(403, {"Content-Type": "text/html"}, f"<p>no: {TOLD}{ESCAPES}".encode()),
    "reason": Reply(403, {}, reason=f"no: {TOLD}\x1b[31m\rERROR: no"),
    "headers": Reply(403, {"Set-Cookie": TOLD, "Warning": TOLD, "Retry-After": TOLD}, b"no"),
    "colour": error(message=f"no: {ESCAPES}"),
    "code-colour": json_reply({"errors": [{"code": f"no: {ESCAPES}"}]}, 403),
    "detail-colour": error(detail={"message": f"no: {ESCAPES}"}),
    "text-colour": Reply(403, {}, f"no: {ESCAPES}".encode()),
    "nowhere": Reply(307, {"Location": f"http://[{TOLD}\x1b[31m"}),
    "astray": Reply(307, {"Location": f"/v2/far/{TOLD}\x1b[31m?{TOLD}"}),
    "malformed": Reply(403, {"X": f"y\r\n{TOLD.replace(':', '')}\x1b[31m"}, b"no"),
    "far": Reply(403),  # where the one before leads
    "digest": manifest_reply(GOOD, OCI_INDEX, Docker_Content_Digest=TOLD),
    "type": manifest_reply(GOOD, f"application/{LOGIN}-{TOKEN}"),
    "type-of-login": manifest_reply(GOOD, f"application/{LOGIN}"),
    "page": Reply(200, {"Content-Type": "text/html"}, TOLD.encode()),
    "key": good(f'{{"{TOKEN}": 1, "{TOKEN}": 2}}'.encode()),
    "kind": good(f'{{"schemaVersion": 2, "mediaType": "x/{LOGIN}"}}'.encode()),
    "encoding": Reply(200, {"Content-Encoding": TOKEN}, GOOD),
    "token": Reply(200),  # its token is refused
    "upload": Reply(404),  # its upload is refused
    "mount": Reply(404),  # nothing is mounted
    # The last one, as the place that it names is where all other tokens would be asked for.
    "challenge": refusal(401, message=TOLD, WWW_Authenticate=f'Bearer realm="{TOLD}", {TOLD}'),
}


def answer(request: Received) -> Reply:
    """Hold a good source, and say something about each other repository."""
    name, target = request.target.split("/")[2], request.target.rpartition("/")[2]
    if target == CHILD.digest and name != "mount":
        return manifest_reply(CHILD.content, CHILD.media_type, Docker_Content_Digest=CHILD.digest)
    if request.method in ("PUT", "POST"):
        return error(message=f"no: {TOLD}")
    if name == "source":
        return good(SOURCE)
    return SAID.get(name, refusal(404, message=TOLD))


def token(request: Received) -> Reply:
    if "token" in request.target.partition("?")[2]:
        return refusal(401, message=f"no: {TOLD} {request.authorization}{ESCAPES}")
    return json_reply({"token": TOKEN})


@cache
def merged(level: str) -> Done:
    """Merge into each repository, without a skopeo to help."""
    with ScriptedServer(Reply()) as server:
        wants_token(server, answer, token=token)
        tags = ",".join(f"{server.host}/{name}:1" for name in SAID)
        return run_here(
            *("merge", "--source-ref", f"{server.host}/source:1", "--dest-ref", tags),
            *("--source-quay-user", USER, "--dest-quay-user", USER, "--output", "json"),
            *("--threads", "1"),  # the last one comes last
            *([level] if level else []),
            env={**environment(), "PATH": ""},
        )


@pytest.mark.parametrize("level", LEVELS)
def test_what_a_registry_repeats_shows_up_nowhere(level: str) -> None:
    shown = merged(level).out + merged(level).err

    assert [secret for secret in SECRETS if secret in shown] == []
    assert [name for name in SAID if name not in shown] == []
    assert shown.count(WITHHELD) >= 7


@pytest.mark.parametrize("level", LEVELS)
def test_what_a_registry_says_does_not_steer_a_terminal(level: str) -> None:
    shown = merged(level).out + merged(level).err

    assert "[31m" in shown
    assert {c for c in shown if not c.isprintable()} == {"\n"}


def test_each_failure_is_a_line_of_its_own() -> None:
    """None is made up by what a registry says."""
    lines = merged("").err.splitlines()

    assert len([line for line in lines if line.startswith("ERROR: ")]) == len(SAID)
    assert not any(line.startswith("ERROR: no") for line in lines)


def test_a_config_that_repeats_a_login_is_not_quoted() -> None:
    config = f'{{"{PASSWORD}": 1, "{PASSWORD}": 2}}'.encode()
    stated = {"mediaType": "a/b", "size": len(config), "digest": digest_of(config)}
    image = Image.from_bytes(json.dumps({**json.loads(CHILD.content), "config": stated}).encode())
    with ScriptedServer(Reply()) as server:
        wants_token(server, Reply(200, {}, config))
        with pytest.raises(InvalidIndex) as caught:
            client_of(server).pull_config(REFERENCE, image)

    lines = traceback.format_exception(type(caught.value), caught.value, caught.value.__traceback__)
    assert WITHHELD in str(caught.value)
    assert PASSWORD not in "".join(lines)


@pytest.mark.parametrize("status", [200, 403, 500])
def test_a_login_that_quays_api_repeats_is_withheld(status: int, caplog: Log) -> None:
    told = {"tags": "none", "error_type": "x", "detail": f"no: {PASSWORD}"}
    twice = f'{{"{PASSWORD}": 1, "{PASSWORD}": 2}}'.encode()
    with ScriptedServer(Reply()) as server:
        wants_password(server, refusal(404))
        client = client_of(server)
        assert client.digest(REFERENCE) is None
        history = TagHistory(client, "opens it")
        server.then(
            json_reply(told) if status != 500 else json_reply(told, 500),
            Reply(200, {}, twice) if status == 200 else json_reply(told, status),
        )
        history.warn(REFERENCE)

    assert WITHHELD in caplog.text
    assert PASSWORD not in caplog.text


# Output that is no error


def test_a_record_of_a_change_has_no_login_in_it(tmp_path: Path) -> None:
    held = {"source": good(SOURCE), "app": good(content_of(document("linux/s390x")))}

    def store(request: Received) -> Reply:
        name, target = request.target.split("/")[2], request.target.rpartition("/")[2]
        if request.method == "PUT":
            held[name] = good(request.body)
            return Reply(201, {"X-Echo": TOLD, "Set-Cookie": TOLD})
        is_child = target == CHILD.digest
        return manifest_reply(CHILD.content, CHILD.media_type) if is_child else held[name]

    with ScriptedServer(Reply()) as server:
        wants_token(server, store)
        done = run_here(
            *("merge", "--source-ref", f"{server.host}/source:1", "--copy", "never"),
            *("--dest-ref", f"{server.host}/app:1", "--audit", str(tmp_path)),
            *("--source-quay-user", USER, "--dest-quay-user", USER, "-ddd", "--output", "json"),
            env=environment(),
        )

    assert done.code == 0, done.err
    (record,) = tmp_path.iterdir()
    shown = record.read_text() + done.out + done.err
    assert json.loads(record.read_text())
    assert [secret for secret in SECRETS if secret in shown] == []


@pytest.mark.parametrize("level", ["", "-ddd"])
@pytest.mark.parametrize("place", ["token", "manifest"])
def test_what_skopeo_repeats_shows_up_nowhere(place: str, level: str) -> None:
    """It tells what the registry said, and tokens of its own are known to nobody else."""
    require("skopeo")

    def respond(request: Received) -> Reply:
        is_skopeo = "skopeo" in request.headers.get("user-agent", "")
        told = error(message=f"no: {TOLD} {request.authorization}")
        if request.target.startswith("/token"):
            refused = is_skopeo and place == "token"
            return evolve(told, status=401) if refused else json_reply({"token": TOKEN})
        if request.authorization != f"Bearer {TOKEN}":
            return bearer(f"{server.url}/token")
        return told if is_skopeo else answer(request)

    with ScriptedServer(Reply()) as server, RegistryServer() as destination:
        server.then(respond)
        done = run_here(
            *("merge", "--source-ref", f"{server.host}/source:1", "--copy", "skopeo"),
            *("--dest-ref", f"{destination.host}/app:1", "--source-quay-user", USER),
            *([level] if level else []),
            env=environment(),
        )

    assert WITHHELD in done.err
    assert [secret for secret in SECRETS if secret in done.out + done.err] == []


# Errors as values


def test_the_query_of_a_redirect_is_not_in_a_traceback() -> None:
    """It may be the signature that gives access to storage."""
    place = f"http://127.0.0.1:{free_port()}/blob?signature={TOKEN}"
    for location in (place, f"http://{'a' * 64}.test/blob?signature={TOKEN}", f"http://?{TOKEN}"):
        caught = refused(Reply(307, {"Location": location}))
        shown = traceback.format_exception(type(caught), caught, caught.__traceback__)
        assert TOKEN not in "".join(shown)


# All other forms are in tests/test_refusals.py.
FORMS: list[Callable[[str], str]] = [
    escaped,
    lambda text: "".join(f"&#x{ord(c):X};" for c in text),
    lambda text: "".join(f"%{ord(c):02x}" for c in text),
]


@pytest.mark.parametrize("form", FORMS)
def test_an_error_shows_no_login_however_it_is_looked_at(form: Callable[[str], str]) -> None:
    with ScriptedServer(Reply()) as server:
        wants_token(server, Reply(403, {}, f"no: {form(TOLD)}".encode(), reason=TOLD))
        caught = failure_of(server)

    cause = caught.__cause__
    looks = [str(caught), repr(caught), repr(vars(caught)), repr(cause), repr(caught.args)]
    looks += traceback.format_exception(type(caught), caught, caught.__traceback__)
    response = getattr(cause, "response")  # noqa: B009 - typed as any
    looks += [response.text, response.reason, response.url]
    assert isinstance(caught, RegistryError)
    assert caught.message == WITHHELD
    shown = unquote(unescape("\n".join(looks)))
    assert [secret for secret in SECRETS if secret in shown] == []


def test_a_login_that_only_the_hosts_client_knows_is_taken_out_by_its_form() -> None:
    told = f"no: Authorization: Basic {LOGIN}, or Bearer {TOKEN}"
    response = failure_response(error(message=told).body)

    class Client:
        def get_manifest(self, *_: object, **__: object) -> object:
            raise response

        upload_manifest = get_manifest

    with pytest.raises(RegistryError) as caught:
        ClientRegistry(Client()).pull(REFERENCE)

    assert caught.value.message == "no: Authorization: Basic ***, or Bearer ***"


def failure_response(body: bytes) -> Exception:
    """Make the error with which the host's client lets a refusal out."""
    with ScriptedServer(Reply(403, {}, body)) as server:
        cause = failure_of(server).__cause__
    assert isinstance(cause, Exception)
    return cause
