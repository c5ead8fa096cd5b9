"""Credentials from the files in which container tools keep them.

The format is that of containers-auth.json and of Docker's config.json.
"""

from __future__ import annotations

import binascii
import json
import os
from base64 import b64decode
from collections.abc import Iterator, Mapping
from pathlib import Path

from attrs import evolve

from pubtools_mlmerge.errors import InvalidCredentials, brief
from pubtools_mlmerge.registry.auth import Credentials

_BLANK = "\0 \t\r\n"
_SHOWN = 5  # registries of a file that has no login


def find_credentials(host: str, repository: str = "") -> Credentials | None:
    """Look for a login in the auth files of this user; the most specific entry wins."""
    for path in _files():
        found = _find(path.name, _read(path) or {}, host, repository)
        if found is not None:
            return evolve(found, place=f"{_shown(path)} ({found.place})")
    return None


def say_none_found(host: str) -> str:
    """Say which files were searched for a login, and for which registries they have one."""
    found = []
    for path in _files():
        fields = _read(path)
        entries = (fields or {}).get("auths")
        keys = [brief(key, 80) for key in entries] if isinstance(entries, dict) else []
        more = f" and {len(keys) - _SHOWN} more" if len(keys) > _SHOWN else ""
        state = f"has {', '.join(keys[:_SHOWN])}{more}" if keys else "has none"
        found.append(f"{_shown(path)} {'does not exist' if fields is None else state}")
    return f"no login for {host} was given, and none was found: {', '.join(found)}"


def _read(path: Path) -> Mapping[str, object] | None:
    """Read an auth file, if there is one; tools leave empty ones behind."""
    try:
        text = path.read_text(encoding="utf-8").strip(_BLANK)
        document: object = json.loads(text) if text else {}
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidCredentials(path.name, "cannot be read") from error
    except (ValueError, RecursionError) as error:
        raise InvalidCredentials(path.name, "is not JSON") from error
    return document if isinstance(document, dict) else {}


def _shown(path: Path) -> str:
    """Write a path for a message, the home directory as a tilde."""
    try:
        return f"~/{path.relative_to(Path.home())}"
    except (ValueError, RuntimeError):
        return str(path)


def _files() -> Iterator[Path]:
    environment = {name: value for name, value in os.environ.items() if value}
    if "REGISTRY_AUTH_FILE" in environment:
        yield Path(environment["REGISTRY_AUTH_FILE"])
        return
    if "XDG_RUNTIME_DIR" in environment:
        yield Path(environment["XDG_RUNTIME_DIR"]) / "containers" / "auth.json"
    try:
        home = Path.home()
    except RuntimeError:  # a user that no list has, as in some containers
        home = Path("/")
    yield Path(environment.get("XDG_CONFIG_HOME", home / ".config")) / "containers" / "auth.json"
    yield Path(environment.get("DOCKER_CONFIG", home / ".docker")) / "config.json"


def _find(
    place: str, fields: Mapping[str, object], host: str, repository: str
) -> Credentials | None:
    helpers, entries = fields.get("credHelpers") or {}, fields.get("auths") or {}
    if not isinstance(helpers, dict) or not isinstance(entries, dict):
        return None
    for key in _keys(host, repository):
        entry = entries.get(key)
        if isinstance(entry, dict) and (entry.get("auth") or entry.get("identitytoken")):
            return _decode(place, key, entry)
        # Docker leaves an empty entry where a helper keeps the login.
        if key in helpers or (isinstance(entry, dict) and fields.get("credsStore")):
            raise InvalidCredentials(
                place,
                f"a credential helper keeps the login for {key}, which is not supported; "
                "give user and password, or an auth file that holds them",
            )
    return None


def _keys(host: str, repository: str) -> Iterator[str]:
    parts = repository.split("/") if repository else []
    for length in range(len(parts), 0, -1):
        yield "/".join([host, *parts[:length]])
    yield from (host, f"https://{host}", f"https://{host}/v2/", f"https://{host}/v1/")


def _decode(place: str, key: str, entry: Mapping[str, object]) -> Credentials:
    # Beside a token the user means nothing and the password is empty.
    if entry.get("identitytoken"):
        raise InvalidCredentials(place, f"{key} has an identity token, which is not supported")
    try:
        username, colon, password = b64decode(str(entry["auth"])).decode("utf-8").partition(":")
    except (binascii.Error, ValueError) as error:
        raise InvalidCredentials(place, f"the entry of {key} is not base64") from error
    if not colon:
        raise InvalidCredentials(place, f"the entry of {key} has no user and password")
    return Credentials(username, password.rstrip("\0"), key)
