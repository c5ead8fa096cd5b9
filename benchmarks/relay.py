"""A relay that makes a server on this machine look as far away as a round trip says."""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from functools import partial

Address = tuple[str, int]


class Distance:
    """How long a round trip takes, in seconds; may be changed between measurements."""

    def __init__(self) -> None:
        self.seconds = 0.0


class _Late:
    """Hands data on as late as it is told, in the order in which it came."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._waiting: deque[bytes | None] = deque()

    def send(self, data: bytes | None, seconds: float) -> None:
        """Hand data on after some seconds; none stands for the end of the connection."""
        self._waiting.append(data)
        if seconds > 0:
            asyncio.get_running_loop().call_later(seconds, self._send_next)
        else:
            self._send_next()

    def _send_next(self) -> None:
        data = self._waiting.popleft()
        if data is None:
            self._transport.close()
        elif not self._transport.is_closing():
            self._transport.write(data)


class _Server(asyncio.Protocol):
    """The side of the server: its answers travel for a whole round trip."""

    def __init__(self, client: _Late, distance: Distance) -> None:
        self._client = client
        self._distance = distance

    def data_received(self, data: bytes) -> None:
        """Pass an answer on."""
        self._client.send(data, self._distance.seconds)

    def connection_lost(self, _reason: Exception | None) -> None:
        """Pass the end on."""
        self._client.send(None, self._distance.seconds)


class _Client(asyncio.Protocol):
    """The side of the client: what it sends first waits for a connection to be made."""

    def __init__(self, upstream: Address, distance: Distance) -> None:
        self._upstream = upstream
        self._distance = distance
        self._early: list[bytes] = []
        self._server: asyncio.Transport | None = None
        self._opening: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Connect to the server, which takes a round trip as well."""
        assert isinstance(transport, asyncio.Transport)
        self._opening = asyncio.ensure_future(self._open(transport))

    async def _open(self, client: asyncio.Transport) -> None:
        make = partial(_Server, _Late(client), self._distance)
        loop = asyncio.get_running_loop()
        if self._distance.seconds:
            await asyncio.sleep(self._distance.seconds)
        try:
            self._server, _ = await loop.create_connection(make, *self._upstream)
        except OSError:
            client.close()
            return
        self._server.write(b"".join(self._early))
        if client.is_closing():
            self._server.close()

    def data_received(self, data: bytes) -> None:
        """Pass a request on."""
        if self._server is None:
            self._early.append(data)
        else:
            self._server.write(data)

    def connection_lost(self, _reason: Exception | None) -> None:
        """Pass the end on."""
        if self._server is not None:
            self._server.close()


async def listen(
    upstream: Address, distance: Distance, certificate: ssl.SSLContext | None = None
) -> str:
    """Relay connections to a server, on a port of its own.

    Args:
        upstream (tuple[str, int]):
            Where the server is.
        distance (Distance):
            How far away it is to look.
        certificate (ssl.SSLContext | None):
            Ends TLS here, for a server that speaks plain http; none to pass on what comes.

    Returns:
        str: Host and port to connect to.
    """
    loop = asyncio.get_running_loop()
    make = partial(_Client, upstream, distance)
    server = await loop.create_server(make, "127.0.0.1", 0, ssl=certificate, backlog=512)
    return f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
