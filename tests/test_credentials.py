"""Credentials: found where container tools keep them, and never shown."""

from __future__ import annotations

import json
from base64 import b64encode
from pathlib import Path

import pytest

from pubtools_mlmerge.errors import InvalidCredentials
from pubtools_mlmerge.registry.auth import Credentials
from pubtools_mlmerge.registry.credentials import find_credentials, say_none_found
from tests.factories import Json

HOST = "quay.io"
SECRET = "s3cr3t"
VARIABLES = ("REGISTRY_AUTH_FILE", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME", "DOCKER_CONFIG")
PLACES = (
    "runtime/containers/auth.json",
    "config/containers/auth.json",
    "docker/config.json",
)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Be a user who has nothing yet."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
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


def auths(**entries: object) -> Json:
    """Write entries; two underscores stand for a slash, one for a dot."""
    return {"auths": {k.replace("__", "/").replace("_", "."): v for k, v in entries.items()}}


def found_user(repository: str = "", host: str = HOST) -> str | None:
    found = find_credentials(host, repository)
    return found.username if found else None


@pytest.fixture
def everywhere(home: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Have a login in every place, the user name telling which."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(home / "runtime"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home / "config"))
    monkeypatch.setenv("DOCKER_CONFIG", str(home / "docker"))
    return [write(home / place, auths(quay_io=login(place))) for place in PLACES]


def test_places_are_tried_in_their_order(everywhere: list[Path]) -> None:
    users = []
    for path in everywhere:
        users.append(found_user())
        path.unlink()

    assert users == list(PLACES)
    assert found_user() is None


def test_a_file_for_other_hosts_does_not_end_the_search(everywhere: list[Path]) -> None:
    write(everywhere[0], auths(example_com=login("other")))

    assert found_user() == PLACES[1]


@pytest.mark.parametrize("place", [".config/containers/auth.json", ".docker/config.json"])
def test_the_home_directory_is_where_no_variable_says_otherwise(home: Path, place: str) -> None:
    write(home / place, auths(quay_io=login(place)))

    assert found_user() == place


def test_registry_auth_file_stands_alone(
    everywhere: list[Path], home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(home / "own.json", auths(quay_io=login("own")))
    monkeypatch.setenv("REGISTRY_AUTH_FILE", str(path))

    assert found_user() == "own"
    path.unlink()
    assert found_user() is None


@pytest.mark.parametrize("name", VARIABLES)
def test_an_empty_variable_is_as_good_as_none(
    home: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Above all, it does not stand for the directory one happens to be in."""
    write(home / "containers/auth.json", auths(quay_io=login("trap")))
    write(home / "config.json", auths(quay_io=login("trap")))
    monkeypatch.setenv(name, "")

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
    entries = auths(
        quay_io=login("host"),
        quay_io__org=login("org"),
        quay_io__org__team=login("team"),
        quay_io__org__team__app=login("app"),
    )
    write(home / ".docker/config.json", entries)

    assert found_user(repository) == user


@pytest.mark.parametrize(
    "key", ["quay.io:8443", "https://quay.io:8443", "https://quay.io:8443/v2/"]
)
def test_a_host_is_found_by_its_url_too(home: Path, key: str) -> None:
    write(home / ".docker/config.json", {"auths": {key: login("alice")}})

    assert found_user(host="quay.io:8443") == "alice"
    assert found_user() is None


@pytest.mark.parametrize("password", ["a:b:c", "pässwörd", "", "padded"])
def test_a_password_is_all_that_follows_the_first_colon(home: Path, password: str) -> None:
    padding = "\0\0" if password == "padded" else ""
    write(home / ".docker/config.json", auths(quay_io=login("alice", password + padding)))

    assert find_credentials(HOST) == Credentials("alice", password)


HELPED = [
    {"auths": {}, "credHelpers": {HOST: "secretservice"}},
    {"auths": {HOST: {}}, "credHelpers": {HOST: "secretservice"}},
    {"auths": {HOST: {}}, "credsStore": "desktop"},
    {"auths": {HOST: {"email": "a@example.com"}}, "credsStore": "desktop"},
]


@pytest.mark.parametrize("document", HELPED)
def test_a_credential_helper_is_an_error(home: Path, document: Json) -> None:
    write(home / ".docker/config.json", document)

    with pytest.raises(InvalidCredentials, match=rf"config\.json: a credential helper .* {HOST}"):
        find_credentials(HOST, "org/app")


def test_a_helper_for_another_host_does_not_matter(home: Path) -> None:
    document = {"credHelpers": {"gcr.io": "gcloud"}, "credsStore": "desktop", "auths": {}}
    write(home / ".docker/config.json", document)

    assert find_credentials(HOST) is None


def test_a_login_in_the_file_wins_over_a_helper(home: Path) -> None:
    document = {**auths(quay_io=login("alice")), "credHelpers": {HOST: "x"}, "credsStore": "y"}
    write(home / ".docker/config.json", document)

    found = find_credentials(HOST)

    assert found is not None
    assert (found.username, found.place) == ("alice", f"~/.docker/config.json ({HOST})")


@pytest.mark.parametrize("beside", [{}, {"auth": encoded("00000000-0000:")}])
def test_an_identity_token_is_an_error(home: Path, beside: Json) -> None:
    entry = {"identitytoken": SECRET, **beside}
    write(home / ".docker/config.json", auths(quay_io=entry))

    with pytest.raises(InvalidCredentials, match="identity token") as caught:
        find_credentials(HOST)

    assert SECRET not in f"{caught.value} {caught.value!r}"


@pytest.mark.parametrize(
    ("document", "problem"),
    [
        (f'{{"auths": "{SECRET}', "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        (auths(quay_io={"auth": f"{SECRET}!"}), "not base64|no user and password"),
        (auths(quay_io={"auth": "/w=="}), "not base64"),
        (auths(quay_io={"auth": "x"}), "not base64"),
        (auths(quay_io={"auth": 5}), "not base64"),
        (auths(quay_io={"auth": encoded(SECRET)}), "no user and password"),
    ],
)
def test_a_malformed_file_is_an_error_without_secrets(
    home: Path, document: object, problem: str
) -> None:
    write(home / ".docker/config.json", document)

    with pytest.raises(InvalidCredentials, match=problem) as caught:
        find_credentials(HOST)

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
    write(home / ".docker/config.json", document)

    assert find_credentials(HOST) is None


@pytest.mark.parametrize("content", [None, b"\xff\xfe"])
def test_a_file_that_cannot_be_read_is_an_error(home: Path, content: bytes | None) -> None:
    if content is None:
        (home / ".docker/config.json").mkdir(parents=True)
    else:
        write(home / ".docker/config.json", "").write_bytes(content)

    with pytest.raises(InvalidCredentials, match=r"config\.json: cannot be read"):
        find_credentials(HOST)


def test_a_file_in_the_way_of_a_directory_is_no_error(home: Path) -> None:
    write(home / ".docker", "")

    assert find_credentials(HOST) is None


@pytest.mark.parametrize(
    ("document", "state"),
    [
        (None, "does not exist"),
        ("", "has none"),
        (auths(docker_io=login("alice")), "has docker.io"),
        (auths(**dict.fromkeys("abcdefgh", login("alice"))), "has a, b, c, d, e and 3 more"),
    ],
)
def test_the_files_that_were_searched_are_named_with_what_they_have(
    home: Path, document: object, state: str
) -> None:
    if document is not None:
        write(home / ".docker/config.json", document)

    files = f"~/.config/containers/auth.json does not exist, ~/.docker/config.json {state}"
    words = f"no login for {HOST} was given, and none was found: {files}"
    assert say_none_found(HOST) == words
    assert SECRET not in words
