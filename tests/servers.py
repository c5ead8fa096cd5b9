"""Real registries for the tests: Debian's docker-registry, with or without TLS and tokens."""

from __future__ import annotations

import base64
import json
import os
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import final
from urllib.parse import parse_qs, urlsplit

import pytest
import trustme
from attrs import frozen
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from tests.scripted import Received, Reply, ScriptedServer, json_reply

READY_SECONDS = 20
TOKEN_USER = "alice"
TOKEN_PASSWORD = "wonderland"
HTPASSWD = "alice:$2b$04$abcdefghijklmnopqrstuujZkTwHUiJ9XdZPwKfcfDo7dMp5DjlTu\n"  # the same login

Config = dict[str, dict[str, object]]


def require(program: str) -> str:
    """Return the path of a program; without it skip the test, or fail it where CI runs."""
    found = shutil.which(program)
    if found is None:
        reason = f"{program} is not installed"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    return found


def free_port() -> int:
    """Return a port on the loopback interface that nothing else gets for a minute.

    A connection that was closed here leaves it in TIME_WAIT: only who asks for this very port, with
    SO_REUSEADDR as servers do, can have it. Several runs of the tests go on at once.
    """
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = int(server.getsockname()[1])
        with socket.create_connection(("127.0.0.1", port)), server.accept()[0] as closed_first:
            closed_first.close()
        return port


@contextmanager
def running(
    command: Sequence[str], host: str, log: Path, env: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a server that listens at a host and port, and writes a log."""
    with (
        log.open("wb") as output,
        subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, env=env) as process,
    ):
        try:
            give_up = time.monotonic() + READY_SECONDS
            while not _listens(host):
                if time.monotonic() > give_up or process.poll() is not None:
                    text = log.read_text(encoding="utf-8")
                    pytest.fail(f"{command[0]} did not start:\n{text}")
                time.sleep(0.02)
            yield process
        finally:
            process.kill()


def _listens(host: str) -> bool:
    name, _, port = host.partition(":")
    with suppress(OSError), socket.create_connection((name, int(port)), timeout=1):
        return True
    return False


class Signer:
    """A key, and the certificate that makes docker-registry trust its tokens."""

    def __init__(self) -> None:
        authority = trustme.CA(key_type=trustme.KeyType.RSA)
        self.pem = authority.cert_pem.bytes()
        self._key = load_pem_private_key(authority.private_key_pem.bytes(), password=None)

    def sign(self, claims: Mapping[str, object]) -> str:
        der = ssl.PEM_cert_to_DER_cert(self.pem.decode())
        header = {"typ": "JWT", "alg": "RS256", "x5c": [base64.b64encode(der).decode()]}
        signed = ".".join(_segment(json.dumps(part).encode()) for part in (header, claims))
        assert isinstance(self._key, rsa.RSAPrivateKey)
        signature = self._key.sign(signed.encode(), padding.PKCS1v15(), hashes.SHA256())
        return f"{signed}.{_segment(signature)}"


def _segment(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


@final
class TokenServer:
    """Issues tokens that docker-registry accepts, and notes what they were asked for.

    Users may do everything; nobody in particular may pull from `public/...`.
    """

    service = "tests"
    issuer = "token server"

    def __init__(self, users: Mapping[str, str]) -> None:
        self.users = users
        self.signer = Signer()
        self.scopes: list[tuple[str, ...]] = []
        self._server = ScriptedServer(self._answer)
        self.realm = f"{self._server.url}/token"

    def __enter__(self) -> TokenServer:
        self._server.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.__exit__()

    def issue(self, user: str, scopes: Iterable[str]) -> dict[str, object]:
        """Return the reply with a token for what the user may do of what was asked."""
        now, seconds = int(time.time()), 300
        claims = {
            "iss": self.issuer,
            "sub": user,
            "aud": self.service,
            "nbf": now - 5,
            "exp": now + seconds,
            "access": [access for scope in scopes for access in _access(user, scope)],
        }
        return {"token": self.signer.sign(claims), "expires_in": seconds}

    def _answer(self, request: Received) -> Reply:
        self.scopes.append(tuple(parse_qs(urlsplit(request.target).query).get("scope", ())))
        encoded = request.authorization.partition(" ")[2]
        user, _, password = base64.b64decode(encoded).decode().partition(":")
        if user and self.users.get(user) != password:
            return Reply(401)
        return json_reply(self.issue(user, self.scopes[-1]))


def _access(user: str, scope: str) -> list[dict[str, object]]:
    if " " in scope:
        return [access for one in scope.split(" ") for access in _access(user, one)]
    kind, _, rest = scope.partition(":")
    name, _, actions = rest.rpartition(":")
    allowed = [
        action
        for action in actions.split(",")
        if user or (action == "pull" and name.startswith("public/"))
    ]
    return [{"type": kind, "name": name, "actions": allowed}] if allowed else []


@frozen(kw_only=True)
class RealRegistry:
    """A running docker-registry."""

    url: str
    host: str
    process: subprocess.Popen[bytes]
    log: Path
    ca_file: Path | None = None
    tokens: TokenServer | None = None

    @property
    def verify(self) -> str | bool:
        """What requests has to verify the server's certificate with."""
        return str(self.ca_file) if self.ca_file else True

    @property
    def credentials(self) -> tuple[str, str] | None:
        """A user who may do everything, where the registry wants one."""
        return next(iter(self.tokens.users.items())) if self.tokens else None


@contextmanager
def docker_registry(
    directory: Path,
    *,
    tls: bool = False,
    tokens: TokenServer | None = None,
    passwords: bool = False,
    address: str | None = None,
) -> Iterator[RealRegistry]:
    """Run docker-registry on the loopback interface, with its files in a directory."""
    program = require("docker-registry")
    host = address or f"127.0.0.1:{free_port()}"
    config = _config(directory, host)
    ca_file = _add_tls(config, directory, host) if tls else None
    if tokens:
        _add_tokens(config, directory, tokens)
    if passwords:
        (directory / "htpasswd").write_text(HTPASSWD, encoding="ascii")
        config["auth"] = {"htpasswd": {"realm": "tests", "path": str(directory / "htpasswd")}}
    # YAML is a superset of JSON.
    config_file = directory / "config.yml"
    config_file.write_text(json.dumps({"version": "0.1", **config}), encoding="utf-8")
    environment = {k: v for k, v in os.environ.items() if not k.startswith("REGISTRY_")}
    command, log = [program, "serve", str(config_file)], directory / "registry.log"
    with running(command, host, log, environment) as process:
        yield RealRegistry(
            url=f"{'https' if tls else 'http'}://{host}",
            host=host,
            process=process,
            log=log,
            ca_file=ca_file,
            tokens=tokens,
        )


def _config(directory: Path, host: str) -> Config:
    return {
        "log": {"level": "error", "accesslog": {"disabled": False}},
        "storage": {
            "filesystem": {"rootdirectory": str(directory / "storage")},
            "delete": {"enabled": True},
        },
        "http": {"addr": host, "secret": "of no use to anyone"},
    }


def _add_tls(config: Config, directory: Path, host: str) -> Path:
    authority = trustme.CA()
    certificate = authority.issue_cert(host.partition(":")[0], "localhost")
    key_file, certificate_file = directory / "server.key", directory / "server.pem"
    certificate.private_key_pem.write_to_path(str(key_file))
    for blob in certificate.cert_chain_pems:
        blob.write_to_path(str(certificate_file), append=True)
    config["http"]["tls"] = {"certificate": str(certificate_file), "key": str(key_file)}
    ca_file = directory / "ca.pem"
    authority.cert_pem.write_to_path(str(ca_file))
    return ca_file


def _add_tokens(config: Config, directory: Path, tokens: TokenServer) -> None:
    bundle = directory / "tokens.pem"
    bundle.write_bytes(tokens.signer.pem)
    parts = {
        "realm": tokens.realm,
        "service": tokens.service,
        "issuer": tokens.issuer,
        "rootcertbundle": str(bundle),
    }
    config["auth"] = {"token": parts}


@pytest.fixture(scope="session")
def docker_registry_plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealRegistry]:
    """A real registry, open to all."""
    with docker_registry(tmp_path_factory.mktemp("plain")) as registry:
        yield registry


@pytest.fixture(scope="session")
def docker_registry_tls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealRegistry]:
    """A real registry that speaks TLS."""
    with docker_registry(tmp_path_factory.mktemp("tls"), tls=True) as registry:
        yield registry


@pytest.fixture(scope="session")
def docker_registry_token(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealRegistry]:
    """A real registry that wants tokens."""
    users = {TOKEN_USER: TOKEN_PASSWORD}
    directory = tmp_path_factory.mktemp("token")
    with TokenServer(users) as tokens, docker_registry(directory, tokens=tokens) as registry:
        yield registry
