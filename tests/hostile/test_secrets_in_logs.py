"""A registry that repeats every login it is given, in every place that it can write to.

What the programs show, log and keep has none of them, at every level of debugging. The same
registry writes what steers a terminal: that has no effect, either.
"""

from __future__ import annotations

import json
import traceback
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Callable
from functools import cache
from html import escape, unescape
from pathlib import Path
from secrets import token_urlsafe
from urllib.parse import quote, quote_plus, unquote

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from pubtools_mlmerge.core.manifests import OCI_INDEX, Image, digest_of
from pubtools_mlmerge.errors import InvalidIndex, RegistryError
from pubtools_mlmerge.registry.adapter import ClientRegistry
from pubtools_mlmerge.registry.auth import WITHHELD, Secrets, redact, redacted
from pubtools_mlmerge.registry.http import Answer
from pubtools_mlmerge.registry.quay_history import TagHistory
from pubtools_mlmerge.testing import RegistryServer, make_image, make_index
from tests.factories import content_of, digest, document
from tests.growth import growth
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
    units = text.encode("utf-16-be").hex().upper()
    return "".join(f"\\u{units[at : at + 4]}" for at in range(0, len(units), 4))


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


# A text that shows a secret in any reading is withheld, and no text takes long


SECRET = 'p"a\\s/s <w&rd> 100% \U0001f511'
FORMS: dict[str, Callable[[str], str]] = {
    "as it is": str,
    "in JSON": lambda text: json.dumps(text)[1:-1],
    "in JSON, unescaped": lambda text: json.dumps(text, ensure_ascii=False)[1:-1],
    "in JSON, escaped": escaped,
    "in HTML": escape,
    "in HTML by numbers": lambda text: "".join(f"&#{ord(c)};" for c in text),
    "in HTML by hexadecimals": lambda text: "".join(f"&#x{ord(c):X};" for c in text),
    "in a URL": quote,
    "in a URL, all": lambda text: "".join(f"%{byte:02x}" for byte in text.encode()),
    "in a form": quote_plus,
    "in JSON in JSON": lambda text: json.dumps(json.dumps({"a": text})),
    "in HTML in JSON": lambda text: json.dumps(escape(text)),
    "in JSON in a URL": lambda text: quote(json.dumps(text)),
    "in HTML in HTML": lambda text: escape(escape(text)),
}
PRINTABLE = st.text(min_size=1).filter(str.isprintable)


@pytest.mark.parametrize("form", FORMS.values(), ids=list(FORMS))
def test_a_text_that_shows_a_secret_is_withheld(form: Callable[[str], str]) -> None:
    text = f'{{"a": "\\n&lt;%41 {form(SECRET)}!"}}'

    assert redact(text, ["", "another", SECRET]) == WITHHELD
    assert redact(text, ["", "another"]) == text


@pytest.mark.parametrize("secrets", [(), ("",), ("absent",)])
def test_an_answer_without_a_secret_stays_as_it_is(secrets: tuple[str, ...]) -> None:
    harmless = Answer(403, {"X": "harmless"}, b"\xff\x00", "https://quay.io/", "no")

    assert redacted(harmless, Secrets(secrets)) == harmless


def test_each_part_of_an_answer_that_repeats_a_secret_is_withheld() -> None:
    repeats = {"X-Echo": "s3cr3t", "X": "harmless"}
    found = Answer(403, repeats, b"s3cr3t", "https://quay.io/?s3cr3t", "no s3cr3t here")

    cleaned = redacted(found, Secrets(["s3cr3t"]))

    assert cleaned.headers == {"x-echo": WITHHELD, "x": "harmless"}
    assert (cleaned.content, cleaned.url, cleaned.reason) == (WITHHELD.encode(), WITHHELD, WITHHELD)


@given(PRINTABLE, st.sampled_from(list(FORMS)))
def test_no_way_to_write_a_secret_hides_it(secret: str, form: str) -> None:
    assert redact(FORMS[form](secret), [secret]) == WITHHELD


@given(st.binary(max_size=8), st.text(min_size=6).filter(str.isprintable), st.binary(max_size=8))
def test_base64_hides_no_secret_wherever_it_begins(before: bytes, secret: str, end: bytes) -> None:
    content = before + secret.encode() + end

    for encode in (b64encode, urlsafe_b64encode):
        encoded = encode(content).decode()
        for text in (encoded, encoded.rstrip("="), json.dumps(encoded).replace("/", "\\/")):
            assert redact(f"no: {text}!", [secret]) == WITHHELD


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Authorization: Bearer 0123456789abcdef.x-y, sorry", "Authorization: Bearer ***, sorry"),
        ("basic+QWxhZGRpbjpvcGVuIHNlc2FtZQ==!", "basic ***!"),
        ("basic authentication is required", "basic authentication is required"),
    ],
)
def test_a_login_that_is_not_known_is_blanked_by_its_form(text: str, expected: str) -> None:
    assert redact(text) == expected


@given(st.text(), st.lists(PRINTABLE, max_size=2))
def test_a_text_without_a_secret_stays_as_it_is(text: str, secrets: list[str]) -> None:
    if set(text).isdisjoint("\\&%+") and not any(secret in text for secret in secrets):
        assert redact(text, secrets) in (text, redact(text))


@pytest.mark.parametrize("piece", ["a", "\\", "\\u0061", "&#97;", "%61", "&", "%", "\\u00", "+"])
def test_no_text_takes_longer_than_its_length(piece: str) -> None:
    def work(size: int) -> None:
        text, half = piece * (size // len(piece)), size // 2
        redact(text, [text[:-1] + "b", "a" * half + "b", "\\" * half + "b"])

    assert growth(work, 15_000) < 9


@pytest.mark.parametrize("others", [0, 500])
@pytest.mark.parametrize("form", FORMS.values(), ids=list(FORMS))
def test_one_of_many_tokens_is_found_until_it_is_replaced(
    form: Callable[[str], str], others: int
) -> None:
    token = token_urlsafe(300)
    tokens = Secrets([token_urlsafe(300) for _ in range(others)], beside=Secrets([SECRET]))
    tokens.add(token)
    tokens.add(token)

    tokens.add("another", replaced=token)
    assert tokens.withhold(f"no: {form(token)}!") == WITHHELD
    assert tokens.withhold(f"no: {form(SECRET)}!") == WITHHELD

    tokens.add("a third", replaced=token)
    assert tokens.withhold(f"no: {form(token)}!") != WITHHELD


def test_many_tokens_take_no_longer_than_a_few() -> None:
    text = "Docker-Content-Digest: " + digest("a") * 5
    known = {n: Secrets([token_urlsafe(24) for _ in range(n)]) for n in (500, 2000)}

    assert growth(lambda size: [known[size].shown_in(text) for _ in range(100)], 500) < 2


# Errors as values


def test_the_query_of_a_redirect_is_not_in_a_traceback() -> None:
    """It may be the signature that gives access to storage."""
    place = f"http://127.0.0.1:{free_port()}/blob?signature={TOKEN}"
    for location in (place, f"http://{'a' * 64}.test/blob?signature={TOKEN}", f"http://?{TOKEN}"):
        caught = refused(Reply(307, {"Location": location}))
        shown = traceback.format_exception(type(caught), caught, caught.__traceback__)
        assert TOKEN not in "".join(shown)


@pytest.mark.parametrize("form", ["in JSON, escaped", "in HTML by hexadecimals", "in a URL, all"])
def test_an_error_shows_no_login_however_it_is_looked_at(form: str) -> None:
    with ScriptedServer(Reply()) as server:
        wants_token(server, Reply(403, {}, f"no: {FORMS[form](TOLD)}".encode(), reason=TOLD))
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
    caught_by_host = Answer(403, {}, error(message=told).body, "https://quay.io/").as_http_error()

    class Client:
        def get_manifest(self, *_: object, **__: object) -> object:
            raise caught_by_host

        upload_manifest = get_manifest

    with pytest.raises(RegistryError) as caught:
        ClientRegistry(Client()).pull(REFERENCE)

    assert caught.value.message == "no: Authorization: Basic ***, or Bearer ***"
