"""A headless browser, driven through pipes by the DevTools protocol."""

from __future__ import annotations

import fcntl
import json
import os
import select
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from attrs import define, field

Json = dict[str, object]

_PATIENCE = 60  # seconds
_OPTIONS = (
    "--headless=new",
    "--no-sandbox",  # tests may run as root in a container, where there is none
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
    "--no-first-run",
    "--disable-extensions",
    "--disable-background-networking",
    "--host-resolver-rules=MAP * ~NOTFOUND",  # there is no network
    "--remote-debugging-pipe",
)
_CONSOLE = ("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded")


@define(eq=False)
class Browser:
    """A browser with one tab; messages end with a zero byte."""

    _output: int
    _input: int
    _events: list[Json] = field(factory=list)
    _session: str | None = None
    _number: int = 0
    _rest: bytes = b""

    def call(self, method: str, **parameters: object) -> Json:
        """Call a method, and wait for its result."""
        self._number += 1
        message: Json = {"id": self._number, "method": method, "params": parameters}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._output, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._read()
            if answer.get("id") == self._number:
                assert "error" not in answer, answer["error"]
                return _object(answer["result"])
            self._events.append(answer)

    def attach(self) -> None:
        """Open the tab, and listen to what happens in it."""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        found = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = str(found["sessionId"])
        for domain in ("Page", "Runtime", "Log"):
            self.call(f"{domain}.enable")

    def close(self) -> None:
        """End the browser by itself, as that leaves no process behind."""
        self._session = None
        self.call("Browser.close")

    def open(self, url: str, width: int) -> None:
        """Load a page in a window of this width."""
        size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": False}
        self.call("Emulation.setDeviceMetricsOverride", **size)
        for address in ("about:blank", url):
            self._events.clear()
            self.call("Page.navigate", url=address)
            while not any(seen.get("method") == "Page.loadEventFired" for seen in self._events):
                self._events.append(self._read())

    def console(self) -> list[Json]:
        """List what the page wrote to the console, errors and warnings included."""
        return [event for event in self._events if event.get("method") in _CONSOLE]

    def evaluate(self, expression: str) -> object:
        """Compute something in the page."""
        found = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in found, found
        return _object(found["result"]).get("value")

    def _read(self) -> Json:
        give_up = time.monotonic() + _PATIENCE
        while b"\0" not in self._rest:
            ready, _, _ = select.select([self._input], [], [], max(0, give_up - time.monotonic()))
            assert ready, "the browser does not answer"
            piece = os.read(self._input, 1 << 20)
            assert piece, "the browser ended"
            self._rest += piece
        message, _, self._rest = self._rest.partition(b"\0")
        return _object(json.loads(message))


def _object(value: object) -> Json:
    assert isinstance(value, dict)
    return value


@contextmanager
def browser(program: str, directory: Path) -> Iterator[Browser]:
    """Run a browser that has its files in a directory."""
    its_in, to = os.pipe()
    from_, its_out = os.pipe()
    # It reads from descriptor 3 and writes to 4; ours must not be in their way.
    high = [fcntl.fcntl(low, fcntl.F_DUPFD, 10) for low in (its_in, its_out)]
    script = f'exec "$0" "$@" 3<&{high[0]} 4>&{high[1]}'
    command = ["bash", "-c", script, program, *_OPTIONS, f"--user-data-dir={directory}/profile"]
    with (directory / "browser.log").open("wb") as log:
        process = subprocess.Popen(
            command,
            pass_fds=high,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env={**os.environ, "HOME": str(directory)},
        )
    for descriptor in (its_in, its_out, *high):
        os.close(descriptor)
    try:
        started = Browser(to, from_)
        started.attach()
        yield started
        started.close()
        process.wait(_PATIENCE)
    finally:
        os.close(to)
        os.close(from_)
        process.kill()
        process.wait()
