"""A real browser, spoken to through pipes: the DevTools protocol, as far as the tests need it."""

from __future__ import annotations

import base64
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

PATIENCE = 60  # seconds
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


@define(eq=False)
class Browser:
    """A browser with one tab.

    Attributes:
        _orders (int):
            Where messages go, each with a zero byte at its end.
        _answers (int):
            Where they come from.
        events (list[Json]):
            What it told without being asked.
    """

    _orders: int
    _answers: int
    events: list[Json] = field(factory=list)
    _session: str | None = None
    _number: int = 0
    _rest: bytes = b""

    def call(self, method: str, **parameters: object) -> Json:
        """Ask for something, and wait for the answer."""
        self._number += 1
        message: Json = {"id": self._number, "method": method, "params": parameters}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._orders, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._read()
            if answer.get("id") == self._number:
                assert "error" not in answer, answer["error"]
                return _object(answer["result"])
            self.events.append(answer)

    def attach(self) -> None:
        """Open the tab, and listen to all that happens in it."""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        found = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = str(found["sessionId"])
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def close(self) -> None:
        """Let it end by itself, as it then leaves nothing running."""
        self._session = None
        self.call("Browser.close")

    def look_as(self, width: int, *, dark: bool = False) -> None:
        """Be a phone, or a desktop, by day or by night."""
        size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": False}
        self.call("Emulation.setDeviceMetricsOverride", **size)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])

    def open(self, url: str) -> None:
        """Go to a page, and wait until all of it is there."""
        self.events.clear()
        self.call("Page.navigate", url="about:blank")
        self._await("Page.loadEventFired")
        self.events.clear()
        self.call("Page.navigate", url=url)
        self._await("Page.loadEventFired")

    def ask(self, expression: str) -> object:
        """Compute something in the page."""
        found = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in found, found
        return _object(found["result"]).get("value")

    def text(self) -> str:
        """Read what is to be seen on the page."""
        return str(self.ask("document.body.innerText"))

    def requests(self) -> list[str]:
        """List the addresses that the page was made from."""
        sent = [e for e in self.events if e.get("method") == "Network.requestWillBeSent"]
        return [str(_object(_object(e["params"])["request"])["url"]) for e in sent]

    def complaints(self) -> list[Json]:
        """List what the console shows: errors, warnings, and all other words."""
        kinds = ("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded")
        return [event for event in self.events if event.get("method") in kinds]

    def content_width(self) -> int:
        """Tell how many pixels the page takes from left to right."""
        width = self.ask("document.documentElement.scrollWidth")
        assert isinstance(width, int)
        return width

    def accessible(self) -> list[tuple[str, str]]:
        """List what a reader of the screen is told: roles and names."""
        nodes = self.call("Accessibility.getFullAXTree")["nodes"]
        assert isinstance(nodes, list)
        return [
            (str(node["role"]["value"]), str(node.get("name", {}).get("value", "")))
            for node in nodes
            if not node["ignored"]
        ]

    def photograph(self, file: Path) -> None:
        """Keep a picture of the whole page."""
        found = self.call("Page.captureScreenshot", captureBeyondViewport=True)
        file.write_bytes(base64.b64decode(str(found["data"])))

    def _await(self, event: str) -> None:
        while not any(seen.get("method") == event for seen in self.events):
            self.events.append(self._read())

    def _read(self) -> Json:
        give_up = time.monotonic() + PATIENCE
        while b"\0" not in self._rest:
            ready, _, _ = select.select([self._answers], [], [], max(0, give_up - time.monotonic()))
            assert ready, "the browser does not answer"
            piece = os.read(self._answers, 1 << 20)
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
    # It reads from descriptor 3 and writes to 4. Those of higher numbers are not in the way of it.
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
        process.wait(PATIENCE)
    finally:
        os.close(to)
        os.close(from_)
        process.kill()
        process.wait()
