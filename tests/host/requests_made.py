"""What a registry was asked for, from its access log."""

from __future__ import annotations

import re
import time
from pathlib import Path

import requests
from attrs import frozen

from tests.servers import RealRegistry

_LINE = re.compile(
    r'"(?P<method>[A-Z]+) (?P<path>\S+) HTTP/[0-9.]+" \d+ \d+ "[^"]*" "(?P<by>[^"]*)"'
)
_UPLOAD = re.compile(r"/blobs/uploads/.+")
_SECONDS = 5
# A connection of the tests that is kept: a new one with TLS takes ten times as long as a request.
SESSION = requests.Session()
SESSION.trust_env = False


@frozen(order=True)
class Made:
    """A request: by whom, and for what; the names of uploads left out, as chance makes them."""

    method: str
    path: str
    by: str

    @property
    def is_write(self) -> bool:
        return self.method not in ("GET", "HEAD")

    @property
    def is_by_skopeo(self) -> bool:
        return "skopeo" in self.by


class AccessLog:
    """The log of a registry since this was made, or since `forget`."""

    def __init__(self, registry: RealRegistry) -> None:
        self._registry = registry
        self._log: Path = registry.log
        self._start = self._log.stat().st_size
        self._marks = 0
        self.forget()

    def forget(self) -> None:
        """Begin anew."""
        self._settle()
        self._start = self._log.stat().st_size

    def made(self) -> list[Made]:
        """List the requests, in the order of their ends."""
        self._settle()
        found = (_LINE.search(line) for line in self._text().splitlines())
        return [
            Made(match["method"], _UPLOAD.sub("/blobs/uploads/...", match["path"]), match["by"])
            for match in found
            if match and "mark=" not in match["path"]
        ]

    def writes(self) -> list[Made]:
        """List the requests that are no mere questions."""
        return [made for made in self.made() if made.is_write]

    def puts(self, repository: str) -> list[str]:
        """List what manifests were written to a repository, by tag or digest."""
        prefix = f"/v2/{repository}/manifests/"
        written = (made.path for made in self.made() if made.method == "PUT")
        return [path.removeprefix(prefix) for path in written if path.startswith(prefix)]

    def _text(self) -> str:
        with self._log.open("rb") as log:
            log.seek(self._start)
            return log.read().decode()

    def _settle(self) -> None:
        """Wait until the log holds a request of our own: it is written after the answer is sent."""
        self._marks += 1
        mark = f"mark={id(self)}.{self._marks}&"
        SESSION.get(
            f"{self._registry.url}/v2/?{mark}", verify=self._registry.verify, timeout=_SECONDS
        )
        give_up = time.monotonic() + _SECONDS
        while mark not in self._text() and time.monotonic() < give_up:
            time.sleep(0.01)
