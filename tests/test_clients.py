"""What the push step takes from the host's objects."""

from __future__ import annotations

import json
import os
import time
from base64 import b64encode
from pathlib import Path
from types import SimpleNamespace

import pytest
from attrs import define, field
from pubtools.pluggy import hookimpl, pm

from pubtools_mlmerge.core.references import Reference
from pubtools_mlmerge.errors import Unauthorized
from pubtools_mlmerge.host.clients import (
    HostClient,
    connect_like,
    internal_reference,
    make_sides,
)
from pubtools_mlmerge.registry.auth import Credentials
from pubtools_mlmerge.settings import Settings
from tests.programs import write_program
from tests.pushes import registered
from tests.scripted import Reply, ScriptedServer


def client_of(host: str, verify: bool | str = False, user: str | None = "alice") -> HostClient:
    """Make what stands for the host's client."""
    session = SimpleNamespace(hostname=host, session=SimpleNamespace(verify=verify))
    password = user and "wonderland"
    return SimpleNamespace(username=user, password=password, session=session)


@define
class HostPusher:
    """Stands for the host's pusher."""

    quay_host: str
    src_quay_client: HostClient
    dest_quay_client: HostClient
    target_settings: dict[str, object] = field(factory=lambda: {"quay_namespace": "ns"})
    copies: list[object] = field(factory=list)

    def run_tag_images(
        self,
        source_ref: str,
        dest_refs: list[str],
        all_arch: bool,
        target_settings: dict[str, object],
    ) -> None:
        """Copy nothing, and fire the host's event."""
        self.copies.append((source_ref, dest_refs, all_arch, target_settings))
        pm.hook.quay_images_tagged(source_ref=source_ref, dest_refs=dest_refs)


def pusher_of(host: str) -> HostPusher:
    return HostPusher(host, client_of(host), client_of(host))


@pytest.fixture
def pusher() -> HostPusher:
    return pusher_of("quay.io")


@pytest.mark.parametrize(("external", "internal"), [("a/app", "a----app"), ("tool", "tool")])
def test_tags_are_named_as_the_host_names_them(
    pusher: HostPusher, external: str, internal: str
) -> None:
    assert str(internal_reference(pusher, external, "1")) == f"quay.io/ns/{internal}:1"


@pytest.mark.parametrize(("settings", "threads"), [({}, 5), ({"num_thread_container_push": 2}, 2)])
def test_tags_are_merged_in_as_many_threads_as_items_are_pushed_in(
    pusher: HostPusher, settings: dict[str, object], threads: int
) -> None:
    pusher.target_settings.update(settings)

    assert make_sides(pusher, Settings()).threads == threads


@pytest.mark.parametrize(
    ("verify", "expected"), [(False, False), (True, True), ("/etc/ca.pem", "/etc/ca.pem")]
)
def test_our_client_connects_as_the_host_s_does(verify: bool | str, expected: bool | str) -> None:
    client = connect_like(client_of("quay.example.com", verify), Settings())

    session = client.session(Reference.parse("elsewhere.example.com/app:1"))
    assert session.host == "quay.example.com"
    assert client.credentials == Credentials("alice", "wonderland")
    assert client.options.verify == expected


def test_both_sides_send_a_refused_login_once() -> None:
    """Registries lock accounts."""
    challenge = Reply(401, {"WWW-Authenticate": 'Basic realm="registry"'})
    with ScriptedServer(challenge) as server:
        sides = make_sides(pusher_of(server.host), Settings())
        for side in (sides.source, sides.destination):
            with pytest.raises(Unauthorized, match="the login of alice was refused"):
                side.pull(TAG)

    assert len([each for each in server.authorizations if each]) == 1


def test_both_sides_keep_one_pace(monkeypatch: pytest.MonkeyPatch) -> None:
    naps: list[float] = []
    monkeypatch.setattr(time, "sleep", naps.append)
    held = Reply(200, {"Docker-Content-Digest": DIGEST})
    with ScriptedServer(Reply(429, {"Retry-After": "9"}), held) as server:
        sides = make_sides(pusher_of(server.host), Settings())
        sides.source.digest(TAG)
        before = len(naps)
        sides.destination.digest(TAG)

    assert before >= 1
    assert naps[before:]
    assert all(nap > 8 for nap in naps)  # the pause that the other side was asked for


def test_certificates_are_verified_as_the_host_does_unless_the_settings_say(
    caplog: pytest.LogCaptureFixture,
) -> None:
    cases = [(False, True), (True, False), (True, None), (False, None)]

    clients = [connect_like(client_of("q", theirs), Settings(tls_verify=v)) for theirs, v in cases]
    connect_like(client_of("q"), Settings(), clients[0])

    assert [client.options.verify for client in clients] == [True, False, True, False]
    assert caplog.messages == [
        f"Certificates of the registries are not verified ({reason})"
        for reason in ("tls_verify is false", "as in pubtools-quay")
    ]


class Listening:
    """Hears of copies, as the plugins of sites do."""

    def __init__(self) -> None:
        self.heard: list[list[str]] = []

    @hookimpl
    def quay_images_tagged(self, source_ref: str, dest_refs: list[str]) -> None:
        self.heard.append(dest_refs)


def test_the_host_copies_with_its_own_settings_and_fires_its_event_for_tags_alone(
    pusher: HostPusher,
) -> None:
    source, tag, by_digest = map(
        Reference.parse, ("q.io/a:1", "q.io/b:1", f"q.io/b@sha256:{'0' * 64}")
    )
    copy = make_sides(pusher, Settings()).copy

    with registered(site := Listening()):
        copy(source, [by_digest])
        copy(source, [tag])

    assert pusher.copies == [
        (str(source), [str(to)], True, pusher.target_settings) for to in (by_digest, tag)
    ]
    assert site.heard == [[str(tag)]]


DIGEST = f"sha256:{'1' * 64}"
TAG = Reference.parse("quay.io/ns/app:1-kept")


def test_no_login_and_no_certificate_of_the_worker_s_user_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither an auth file nor what it names is looked at, nor certs.d."""
    challenge = Reply(401, {"WWW-Authenticate": 'Basic realm="registry"'})
    write_program(tmp_path / "docker-credential-own", f"touch {tmp_path}/was-run")
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    with ScriptedServer(challenge) as server:
        certificates = tmp_path / ".config/containers/certs.d" / server.host
        certificates.mkdir(parents=True)
        (certificates / "ca.crt").write_text("broken")
        for logins in (
            {"auths": {server.host: {"auth": b64encode(b"worker:secret").decode()}}},
            {"credHelpers": {server.host: "own"}, "credsStore": "own"},
        ):
            (tmp_path / "containers").mkdir(exist_ok=True)
            (tmp_path / "containers/auth.json").write_text(json.dumps(logins))
            theirs = client_of(server.host, user=None)

            with pytest.raises(Unauthorized, match="the target's settings have no login"):
                connect_like(theirs, Settings()).pull(TAG)

        assert set(server.authorizations) == {""}
    assert not (tmp_path / "was-run").exists()
