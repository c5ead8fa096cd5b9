"""Real Redis servers for the tests, with or without password and TLS."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import trustme
from attrs import field, frozen
from redis import Redis

from tests.servers import free_port, require, running


@frozen(kw_only=True)
class RealRedis:
    """A running redis-server, which forgets everything when it ends."""

    port: int
    process: subprocess.Popen[bytes]
    password: str | None = field(default=None, repr=False)
    ca_file: Path | None = None

    @property
    def url(self) -> str:
        """Its URL as a lock takes it, with the login."""
        scheme = "rediss" if self.ca_file else "redis"
        login = f":{self.password}@" if self.password else ""
        options = f"?ssl_ca_certs={self.ca_file}" if self.ca_file else ""
        return f"{scheme}://{login}127.0.0.1:{self.port}/0{options}"

    @contextmanager
    def client(self) -> Iterator[Redis]:
        """Connect to it."""
        with Redis.from_url(self.url, decode_responses=True, socket_timeout=60) as client:
            yield client
            client.connection_pool.disconnect()

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Let it hang: it takes connections and answers nothing."""
        self.process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """End it at once."""
        self.process.kill()
        self.process.wait()


@contextmanager
def redis_server(
    directory: Path, *, password: str | None = None, tls: bool = False
) -> Iterator[RealRedis]:
    """Run redis-server on the loopback interface, with its files in a directory."""
    program = require("redis-server")
    port = free_port()
    lines = ["bind 127.0.0.1", 'save ""', "appendonly no", f"dir {directory}"]
    lines += [f"requirepass {password}"] if password else []
    lines += _tls(directory, port) if tls else [f"port {port}"]
    config, log = directory / "redis.conf", directory / "redis.log"
    config.write_text("\n".join(lines), encoding="utf-8")
    ca_file = directory / "ca.pem" if tls else None
    with running([program, str(config)], f"127.0.0.1:{port}", log) as process:
        yield RealRedis(port=port, process=process, password=password, ca_file=ca_file)


def _tls(directory: Path, port: int) -> list[str]:
    """Make a certificate for the address alone, and the lines that use it."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(directory / "ca.pem"))
    certificate = authority.issue_cert("127.0.0.1")
    certificate.private_key_and_cert_chain_pem.write_to_path(str(directory / "redis.pem"))
    return [
        *("port 0", f"tls-port {port}", "tls-auth-clients no"),
        *(f"{key} {directory / 'redis.pem'}" for key in ("tls-cert-file", "tls-key-file")),
        f"tls-ca-cert-file {directory / 'ca.pem'}",
    ]
