"""Several runs of the tests start servers at the same time."""

from __future__ import annotations

import socket
from contextlib import ExitStack

from tests.servers import free_port


def test_a_port_goes_to_nobody_else_who_wants_any_port() -> None:
    ports = {free_port() for _ in range(200)}

    with ExitStack() as stack:
        anybody = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(200)]
        taken = {server.getsockname()[1] for server in anybody}

    assert len(ports) == 200
    assert not ports & taken


def test_a_server_gets_the_port_that_was_found_for_it() -> None:
    port = free_port()

    with socket.create_server(("127.0.0.1", port)) as server:
        assert server.getsockname()[1] == port
