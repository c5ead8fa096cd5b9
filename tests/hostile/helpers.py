"""Registries that mean no good, and those who deal with them."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Mapping

import pytest

from pubtools_mlmerge.core.manifests import OCI_INDEX, Manifest
from pubtools_mlmerge.core.references import Reference
from pubtools_mlmerge.core.strict_json import LARGEST
from pubtools_mlmerge.errors import MergeError
from pubtools_mlmerge.registry.client import RegistryClient
from pubtools_mlmerge.registry.http import ConnectOptions
from tests.factories import content_of, document
from tests.scripted import (
    HURRIED,
    Received,
    Reply,
    ScriptedServer,
    Step,
    bearer,
    json_reply,
    manifest_reply,
    refusal,
)

USER = "alice"
PASSWORD = "wonder-land&<77>"
LOGIN = b64encode(f"{USER}:{PASSWORD}".encode()).decode()
TOKEN = "t0ken-of-alice.0123456789"
SECRETS = (PASSWORD, LOGIN, LOGIN.rstrip("="), TOKEN)
ASKS_FOR_PASSWORD = refusal(401, WWW_Authenticate='Basic realm="registry"')

REFERENCE = Reference.parse("registry.test/app:1")
GOOD = content_of(document("linux/amd64", "linux/arm64"))
TOO_LARGE = GOOD[:-1] + b" " * LARGEST + b"}"


def good(content: bytes = GOOD) -> Reply:
    """Answer with an index."""
    return manifest_reply(content, OCI_INDEX)


def with_field(name: str, text: str) -> bytes:
    """Make an index with one more field, whose value is any text."""
    return GOOD[:-1] + f", {json.dumps(name, ensure_ascii=False)}: {text}}}".encode()


def client_of(server: ScriptedServer, options: ConnectOptions = HURRIED) -> RegistryClient:
    """Connect to a registry, whatever references name, with a login at hand."""
    return RegistryClient(server.url, username=USER, password=PASSWORD, options=options)


def pull(reply: Step) -> Manifest:
    """Read from a registry that answers this."""
    with ScriptedServer(reply) as server:
        return client_of(server).pull(REFERENCE)


def failure_of(
    server: ScriptedServer, reference: Reference = REFERENCE, options: ConnectOptions = HURRIED
) -> MergeError:
    """Read what must be refused, and give the error."""
    with pytest.raises(MergeError) as caught:
        client_of(server, options).pull(reference)
    return caught.value


def refused(
    reply: Step, reference: Reference = REFERENCE, options: ConnectOptions = HURRIED
) -> MergeError:
    """Read what must be refused from a registry that answers this, and give the error."""
    with ScriptedServer(reply) as server:
        return failure_of(server, reference, options)


def wants_token(
    server: ScriptedServer, then: Step, realm: str = "", token: Step | None = None
) -> None:
    """Let a server want a token, which it gives itself unless it names another place."""

    def answer(request: Received) -> Reply:
        step = then
        if request.target.startswith("/token"):
            step = token or json_reply({"token": TOKEN})
        elif request.authorization != f"Bearer {TOKEN}":
            return bearer(realm or f"{server.url}/token")
        return step(request) if callable(step) else step

    server.then(answer)


def wants_password(server: ScriptedServer, then: Step) -> None:
    """Let a server want user and password with each request."""

    def answer(request: Received) -> Reply:
        if not request.authorization:
            return ASKS_FOR_PASSWORD
        return then(request) if callable(then) else then

    server.then(answer)


def environment() -> Mapping[str, str]:
    """Give a program the password for both sides."""
    return {"SOURCE_QUAY_PASSWORD": PASSWORD, "DEST_QUAY_PASSWORD": PASSWORD}
