"""Certificates of one registry: from certs.d, from options, and to no other place."""

from __future__ import annotations

from pathlib import Path

import pytest

from pubtools_mlmerge.core.references import Reference
from pubtools_mlmerge.errors import InvalidCredentials, RegistryError
from pubtools_mlmerge.registry.certificates import Certificates
from pubtools_mlmerge.registry.client import RegistryClient
from pubtools_mlmerge.registry.http import ConnectOptions
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

APP = Reference.parse("registry.test/app:1")
DIGEST = f"sha256:{'0' * 64}"
HELD = Reply(200, {"Docker-Content-Digest": DIGEST})


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Be a user without logins."""
    for name in ("XDG_RUNTIME_DIR", "HOME"):
        monkeypatch.setenv(name, str(tmp_path))
    return tmp_path


def certs_of(home: Path, host: str) -> Path:
    """Make the directory of a registry."""
    place = home / ".config/containers/certs.d" / host
    place.mkdir(parents=True)
    return place


def client_of(server: ScriptedServer, options: ConnectOptions | None = None) -> RegistryClient:
    options = options or ConnectOptions(retries=QUICK)
    return RegistryClient(host=server.url, options=options)


def test_an_authority_of_a_registry_counts_for_it_and_where_it_leads(home: Path) -> None:
    """A token server often has a certificate of the same authority; others are none of it."""
    with ScriptedServer(HELD, tls=True) as registry, ScriptedServer(HELD, tls=True) as other:
        other.then(json_reply({"token": "t0ken"}))
        registry.then(bearer(f"{other.url}/token"), HELD)
        ca_bundle(certs_of(home, registry.host), "ca.crt")

        assert client_of(registry).digest(APP) == DIGEST
        with pytest.raises(RegistryError, match="do not know the certificate"):
            client_of(other).digest(APP)

    assert len(other.received) == 1


def test_a_client_shows_its_certificate_to_the_registry_alone(home: Path) -> None:
    with ScriptedServer(HELD, tls=True) as registry, ScriptedServer(HELD, tls=True) as other:
        other.then(json_reply({"token": "t0ken"}))
        registry.then(bearer(f"{other.url}/token"), HELD)
        place = certs_of(home, registry.host)
        ca_bundle(place, "ca.crt")
        write_client(place, "client.cert", "client.key")
        client_of(registry).digest(APP)

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
