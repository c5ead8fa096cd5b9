"""Logins and certificates: found where container tools keep them, for their registry alone."""

from __future__ import annotations

import json
import os
import time
from base64 import b64encode
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from pubtools_mlmerge.core.references import Reference
from pubtools_mlmerge.errors import InvalidCredentials, RegistryError
from pubtools_mlmerge.registry.auth import Credentials
from pubtools_mlmerge.registry.client import RegistryClient
from pubtools_mlmerge.registry.credentials import AuthFiles, Certificates, auth_files
from pubtools_mlmerge.registry.http import ConnectOptions
from tests.factories import Json
from tests.programs import run_here
from tests.scripted import (
    QUICK,
    Reply,
    ScriptedServer,
    bearer,
    ca_bundle,
    json_reply,
    write_client,
)

HOST = "quay.io"
SECRET = "s3cr3t"
OURS = (
    *("MLMERGE_LOCK", "MLMERGE_SRC_PASSWORD"),
    *("DEST_QUAY_PASSWORD", "QUAY_PASSWORD", "QUAY_API_TOKEN"),
)
VARIABLES = ("REGISTRY_AUTH_FILE", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME", "DOCKER_CONFIG")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Be a user who has nothing yet."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "absent"))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def encoded(text: str) -> str:
    return b64encode(text.encode()).decode()


def login(username: str, password: str = SECRET) -> Json:
    return {"auth": encoded(f"{username}:{password}")}


def write(path: Path, document: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(document if isinstance(document, str) else json.dumps(document), "utf-8")
    return path


def auths(entries: Mapping[str, object]) -> Json:
    return {"auths": entries}


def held(home: Path, document: object) -> None:
    """Have this in the file that docker keeps."""
    write(home / ".docker/config.json", document)


def find_credentials(host: str = HOST, repository: str = "") -> Credentials | None:
    return AuthFiles().find(host, repository)


def found_user(repository: str = "", host: str = HOST) -> str | None:
    found = find_credentials(host, repository)
    return found.username if found else None


USUAL = [
    f"/run/containers/{os.getuid()}/auth.json",
    "/h/.config/containers/auth.json",
    "/h/.docker/config.json",
]
ALL = {"XDG_RUNTIME_DIR": "/r", "XDG_CONFIG_HOME": "/c", "DOCKER_CONFIG": "/d"}


@pytest.mark.parametrize(
    ("variables", "files"),
    [
        ({}, USUAL),
        *(({name: ""}, USUAL) for name in VARIABLES),  # not the directory one happens to be in
        (ALL, ["/r/containers/auth.json", "/c/containers/auth.json", "/d/config.json"]),
        ({"REGISTRY_AUTH_FILE": "/own.json", **ALL}, ["/own.json"]),
    ],
)
@pytest.mark.usefixtures("home")
def test_files_are_where_other_tools_have_them(
    variables: dict[str, str], files: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a runtime directory root in a container has its logins in `/run`."""
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    for name, value in {"HOME": "/h", **variables}.items():
        monkeypatch.setenv(name, value)

    assert [str(path) for path in auth_files()] == files


@pytest.mark.usefixtures("home")
def test_files_are_tried_in_their_order_for_a_host() -> None:
    places, users = list(auth_files()), []
    for place in places:
        write(place, auths({HOST: login(str(place))}))
    for place in places:
        users.append(found_user())
        write(place, auths({"example.com": login("other")}))

    assert users == list(map(str, places))
    assert found_user() is None


def test_a_user_without_a_home_is_anonymous(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", homeless)

    assert find_credentials("no.such.host.test") is None


@pytest.mark.parametrize(
    ("repository", "user"),
    [
        ("org/team/app", "app"),
        ("org/team/other", "team"),
        ("org/app", "org"),
        ("organization/app", "host"),
        ("", "host"),
    ],
)
def test_the_most_specific_entry_wins(home: Path, repository: str, user: str) -> None:
    users = {HOST: "host", "quay.io/org": "org", "quay.io/org/team": "team"}
    users["quay.io/org/team/app"] = "app"
    held(home, auths({place: login(name) for place, name in users.items()}))

    assert found_user(repository) == user


IDENTITY = Credentials("", SECRET, is_token=True)


@pytest.mark.parametrize(
    ("entry", "found"),
    [
        *((login("alice", text), Credentials("alice", text)) for text in ("a:b:c", "pässwörd", "")),
        (login("alice", "padded\0\0"), Credentials("alice", "padded")),
        ({"username": "alice", "password": SECRET}, Credentials("alice", SECRET)),
        ({"identitytoken": SECRET}, IDENTITY),
        ({"identitytoken": SECRET, "auth": encoded("00000000-0000:")}, IDENTITY),
    ],
)
def test_an_entry_has_many_forms(home: Path, entry: Json, found: Credentials) -> None:
    """A password is all that follows the first colon."""
    held(home, auths({HOST: entry}))
    credentials = find_credentials()

    assert credentials == found
    assert credentials is not None
    assert credentials.place == "~/.docker/config.json (quay.io)"  # as an error names it
    assert SECRET not in f"{credentials} {credentials.name}"


@pytest.mark.parametrize(
    ("key", "host", "found"),
    [
        *((f"quay.io{path}", HOST, True) for path in ("", "/", "/v1", "/v1/", "/v2", "/v2/")),
        *((f"https://quay.io{path}", HOST, True) for path in ("", "/", "/v1/", "/v2/", "/any/x")),
        *((key, HOST, True) for key in ("http://quay.io/v1/", "Quay.IO")),
        *((key, HOST, False) for key in ("quay.io/v3", "quay.io:8443")),
        ("quay.io", "quay.io:8443", False),
        ("https://quay.io:8443/v2/", "quay.io:8443", True),
        *((key, "registry-1.docker.io", True) for key in ("docker.io", "index.docker.io")),
        ("https://index.docker.io/v1/", "registry-1.docker.io", True),
        ("docker.io/library", "registry-1.docker.io", True),
    ],
)
def test_a_key_has_many_forms(home: Path, key: str, host: str, *, found: bool) -> None:
    held(home, auths({key: login("alice")}))

    assert (found_user("library/app", host) == "alice") is found


def test_of_two_keys_for_one_host_the_plain_one_wins(home: Path) -> None:
    keys = {"https://quay.io": login("url"), HOST: login("host"), "http://quay.io": login("http")}
    held(home, auths(keys))

    assert found_user() == "host"


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (f'{{"auths": "{SECRET}', "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        (auths({HOST: {"auth": f"{SECRET}!"}}), "not base64|no user and password"),
        *((auths({HOST: {"auth": auth}}), "not base64") for auth in ("/w==", "x", 5)),
        (auths({HOST: {"auth": encoded(SECRET)}}), "no user and password"),
        *((content, r"config\.json: cannot be read") for content in (None, b"\xff\xfe")),
    ],
)
def test_a_malformed_file_is_an_error_without_secrets(
    home: Path, content: object, problem: str
) -> None:
    path = home / ".docker/config.json"
    if content is None:
        path.mkdir(parents=True)
    elif isinstance(content, bytes):
        write(path, "").write_bytes(content)
    else:
        write(path, content)

    with pytest.raises(InvalidCredentials, match=problem) as caught:
        find_credentials()

    shown = f"{caught.value} {caught.value!r} {caught.value.__cause__}"
    assert SECRET not in shown
    assert encoded(SECRET) not in shown


@pytest.mark.parametrize(
    "document",
    [
        *([], "5", {}, {"auths": []}, {"auths": {HOST: "x"}}, {"auths": {HOST: {"auth": None}}}),
        *("", "\0", " \n"),  # tools leave these behind
    ],
)
def test_a_file_that_says_nothing_is_passed_over(home: Path, document: object) -> None:
    held(home, document)

    assert find_credentials() is None


def test_a_file_in_the_way_of_a_directory_is_no_error(home: Path) -> None:
    write(home / ".docker", "")

    assert find_credentials() is None


@pytest.mark.parametrize(
    ("document", "state"),
    [
        (None, "does not exist"),
        ("", "has none"),
        (auths({"docker.io": login("alice")}), "has docker.io"),
        (auths(dict.fromkeys("abcdefgh", login("alice"))), "has a, b, c, d, e and 3 more"),
    ],
)
def test_the_files_that_were_searched_are_named_with_what_they_have(
    home: Path, document: object, state: str
) -> None:
    if document is not None:
        held(home, document)

    files = "~/absent/containers/auth.json does not exist, "
    files += f"~/.config/containers/auth.json does not exist, ~/.docker/config.json {state}"
    words = f"no login for {HOST} was given, and none was found: {files}"
    assert AuthFiles().say_none_found(HOST) == words
    assert SECRET not in words


# Credential helpers

GOOD = {"ServerURL": HOST, "Username": "helen", "Secret": SECRET}
Install = Callable[..., Path]


@pytest.fixture
def helper(home: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Have a helper on PATH, and learn which servers and secrets of ours it is told."""
    for name in OURS:
        monkeypatch.setenv(name, SECRET)

    def install(said: object = GOOD, code: int = 0, then: str = "") -> Path:
        asked, text = home / "asked", said if isinstance(said, str) else json.dumps(said)
        lines = [
            "#!/bin/sh",
            f'cat >> "{asked}"; echo " $1 {"".join(f"${name}" for name in OURS)}" >> "{asked}"',
            f"cat <<'END'\n{text}\nEND\n{then}\nexit {code}",
        ]
        path = write(home / "bin/docker-credential-own", "\n".join(lines))
        path.chmod(0o700)
        monkeypatch.setenv("PATH", f"{path.parent}:{os.environ['PATH']}")
        return asked

    return install


@pytest.mark.parametrize(
    ("document", "host", "server"),
    [
        ({"credHelpers": {HOST: "own"}}, HOST, HOST),
        ({"credHelpers": {"https://quay.io": "own"}, **auths({HOST: {}})}, HOST, "https://quay.io"),
        ({"credHelpers": {HOST: "own"}, **auths({HOST: login("alice")})}, HOST, HOST),
        ({"credHelpers": {HOST: "own"}, "credsStore": "absent"}, HOST, HOST),
        ({"credsStore": "own"}, HOST, HOST),
        ({"credsStore": "own", **auths({HOST: {}})}, HOST, HOST),
        ({"credsStore": "own"}, "registry-1.docker.io", "https://index.docker.io/v1/"),
        ({"credHelpers": {"docker.io": "own"}}, "registry-1.docker.io", "docker.io"),
    ],
)
def test_a_helper_is_asked_once_for_the_key(
    home: Path, helper: Install, document: Json, host: str, server: str
) -> None:
    """It is told none of our secrets."""
    asked = helper()
    held(home, document)
    files = AuthFiles()

    found = [files.find(host, "org/app")]
    (home / ".docker/config.json").unlink()  # it is read once
    found += [files.find(host, "org/other")]

    assert found == [Credentials("helen", SECRET)] * 2
    assert asked.read_text("utf-8") == f"{server} get \n"
    assert found[0] is not None
    assert found[0].place == f"~/.docker/config.json (docker-credential-own for {server})"


def test_a_helper_may_give_an_identity_token(home: Path, helper: Install) -> None:
    helper({**GOOD, "Username": "<token>"})
    held(home, {"credsStore": "own"})

    assert find_credentials() == Credentials("", SECRET, is_token=True)


@pytest.mark.parametrize(
    ("document", "user"),
    [
        ({"credHelpers": {"gcr.io": "own"}}, None),
        ({"credHelpers": {HOST: ""}, **auths({HOST: login("alice")})}, "alice"),
        ({"credsStore": "own", **auths({HOST: login("alice")})}, "alice"),
    ],
)
def test_a_helper_that_is_not_for_the_host_is_not_run(
    home: Path, helper: Install, document: Json, user: str | None
) -> None:
    asked = helper()
    held(home, document)

    assert found_user() == user
    assert not asked.exists()


HAS_NONE = "docker-credential-own for quay.io has none"
BAD_NAME = "auth.json names a credential helper by other characters than A-Z"


@pytest.mark.parametrize(
    ("name", "said", "problem"),
    [
        ("own", ("credentials not found in native keychain", 1), HAS_NONE),
        ("own", ({**GOOD, "Secret": ""},), HAS_NONE),
        ("own", ("[" * 100_000,), HAS_NONE),
        ("own", (f"cannot open {SECRET}", 3), "own for quay.io failed (exit code 3)"),
        ("absent", (), "absent for quay.io cannot be run (No such file or directory)"),
        ("../own", (), BAD_NAME),
        ("own;id", (), BAD_NAME),
    ],
)
def test_a_helper_without_a_login_does_not_end_the_search(
    home: Path, helper: Install, name: str, said: tuple[object, ...], problem: str
) -> None:
    helper(*said)
    write(home / ".config/containers/auth.json", {"credHelpers": {HOST: name}})
    files = AuthFiles()

    assert files.find(HOST) is None
    assert problem in files.say_none_found(HOST)
    assert problem not in files.say_none_found("example.com")
    held(home, auths({HOST: login("alice")}))
    assert found_user() == "alice"


@pytest.mark.parametrize("code", [0, 3])
def test_what_a_helper_says_is_in_no_log_and_no_error(
    home: Path, helper: Install, caplog: pytest.LogCaptureFixture, code: int
) -> None:
    caplog.set_level("DEBUG")
    helper(f"no: {SECRET}", code, then=f"echo {SECRET} >&2")
    held(home, {"credsStore": "own"})
    files = AuthFiles()

    assert files.find(HOST) is None
    assert SECRET not in files.say_none_found(HOST) + caplog.text
    assert ("failed (exit code 3)" in caplog.text) is (code == 3)


@pytest.mark.parametrize("limit", ["patience", "ends"])
def test_a_helper_that_does_not_answer_is_ended(home: Path, helper: Install, limit: str) -> None:
    """After a minute, or when the run ends."""
    helper(then="exec sleep 600")
    held(home, {"credsStore": "own"})
    files = AuthFiles(**{limit: 0.3 + (time.monotonic() if limit == "ends" else 0.0)})

    assert files.find(HOST) is None
    assert "own for quay.io gave no answer within 0." in files.say_none_found(HOST)


# Certificates

APP = Reference.parse("registry.test/app:1")
DIGEST = f"sha256:{'0' * 64}"
HELD = Reply(200, {"Docker-Content-Digest": DIGEST})


def certs_of(home: Path, host: str) -> Path:
    """Make the directory of a registry."""
    place = home / ".config/containers/certs.d" / host
    place.mkdir(parents=True)
    return place


def client_of(server: ScriptedServer) -> RegistryClient:
    return RegistryClient(host=server.url, options=ConnectOptions(retries=QUICK))


def test_an_authority_counts_where_a_registry_leads_and_a_client_for_it_alone(home: Path) -> None:
    """A token server often has a certificate of the same authority; others are none of it."""
    with ScriptedServer(HELD, tls=True) as registry, ScriptedServer(HELD, tls=True) as other:
        other.then(json_reply({"token": "t0ken"}))
        registry.then(bearer(f"{other.url}/token"), HELD)
        place = certs_of(home, registry.host)
        ca_bundle(place, "ca.crt")
        write_client(place, "client.cert", "client.key")

        assert client_of(registry).digest(APP) == DIGEST
        with pytest.raises(RegistryError, match="do not know the certificate"):
            client_of(other).digest(APP)

    assert [each.shows_certificate for each in registry.received] == [True, True]
    assert [each.shows_certificate for each in other.received] == [False]


@pytest.mark.parametrize("together", [True, False])
@pytest.mark.usefixtures("no_variables")
def test_options_win_over_certs_d(home: Path, *, together: bool) -> None:
    """Certificate and key may be one file."""
    write_client(home, "one.pem", "key.pem")
    files = [str(home / "one.pem"), str(home / "key.pem")]
    if together:
        text = "".join(Path(file).read_text("ascii") for file in files)
        Path(files[0]).write_text(text, "ascii")
    with ScriptedServer(HELD, tls=True) as registry:
        place = certs_of(home, registry.host)
        for name in ("ca.crt", "client.cert", "client.key"):
            (place / name).write_text("broken")
        done = run_here(
            *("inspect", f"{registry.host}/app:1", "--ca-bundle", ca_bundle(home)),
            *("--cert", files[0], *([] if together else ["--key", files[1]])),
            env={"HOME": str(home)},
        )

    assert "registry.test" not in done.err
    assert [each.shows_certificate for each in registry.received] == [True]


@pytest.mark.parametrize(
    ("files", "problem"),
    [
        (["client.cert"], r"client\.cert: there is no client\.key beside it"),
        (["ca.crt"], r"ca\.crt: cannot be read as a certificate"),
        (["client.cert", "client.key"], r"client\.cert: cannot be read as a certificate"),
    ],
)
def test_what_cannot_be_read_is_an_error(home: Path, files: list[str], problem: str) -> None:
    place = certs_of(home, "registry.test")
    for name in files:
        (place / name).write_text("broken")

    with pytest.raises(InvalidCredentials, match=problem):
        RegistryClient().digest(APP)


def test_the_first_directory_of_a_registry_counts(home: Path) -> None:
    own, *others = ConnectOptions().certs_d
    assert own == home / ".config/containers/certs.d"
    assert [str(each) for each in others] == ["/etc/containers/certs.d", "/etc/docker/certs.d"]
    second = home / "second" / "registry.test"
    second.mkdir(parents=True)
    (second / "ca.crt").touch()
    client = RegistryClient(options=ConnectOptions(certs_d=(own, second.parent)))

    assert client.certificates("other.test") is None
    assert client.certificates("registry.test") == Certificates((second / "ca.crt",))
    certs_of(home, "registry.test")
    assert client.certificates("registry.test") == Certificates()


def test_a_user_without_a_home_has_none_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.path.expanduser", lambda path: path)

    assert all(each.is_absolute() for each in ConnectOptions().certs_d)


def test_without_an_authority_the_store_of_the_system_is_named(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Path(ca_bundle(home))
    monkeypatch.setenv("SSL_CERT_FILE", str(store))
    with ScriptedServer(HELD, tls=True) as server:
        with pytest.raises(RegistryError) as caught:
            client_of(server).digest(APP)
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(store))
        assert client_of(server).digest(APP) == DIGEST

    advice = f"where the system's do, set REQUESTS_CA_BUNDLE={store}, else give --ca-bundle"
    assert advice in caught.value.message
