"""Records that somebody made up or changed: none restores a tag, and none crashes the program."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Callable

import pytest

from pubtools_mlmerge.core.manifests import DOCKER_LIST, OCI_INDEX, digest_of
from pubtools_mlmerge.core.references import Reference
from pubtools_mlmerge.core.strict_json import LARGEST
from pubtools_mlmerge.testing import RegistryServer
from tests.factories import Json, digest
from tests.programs import Done, put, run_here
from tests.stress.counts import Counts
from tests.test_restore import NEW, OLD, OTHER, change_of

Forge = Callable[[Json], object]
LOGIN = ("--dest-quay-user", "alice")
PASSWORD = {"DEST_QUAY_PASSWORD": "wonderland"}


@pytest.fixture
def server() -> Iterator[RegistryServer]:
    """Run a registry whose tag was merged into."""
    with RegistryServer() as server:
        for tag, item in (("stable", OLD), ("other", OTHER), ("stable", NEW)):
            put(server, tag, item)
        yield server


def signed(document: Json) -> Json:
    """Let a document state its own digest, as who knows how it is computed can do."""
    rest = {name: value for name, value in document.items() if name != "digest"}
    content = json.dumps(rest, sort_keys=True, indent=4).encode()
    return {**rest, "digest": digest_of(content)}


def held(content: object, media_type: str = OCI_INDEX) -> Json:
    """Make what a record says of a manifest, whose digest fits its content."""
    text = content if isinstance(content, str) else json.dumps(content)
    stated = digest_of(text.encode("utf-8", "surrogatepass"))
    return {"digest": stated, "media_type": media_type, "content": text}


def with_(**changes: object) -> Forge:
    return lambda record: signed({**record, **changes})


def previous(content: object, media_type: str = OCI_INDEX) -> Forge:
    return with_(previous=held(content, media_type))


def twice(name: str) -> Forge:
    """State something first that another reader may take for it."""
    return lambda r: f'{{"{name}": null, {json.dumps(r)[1:]}'


def part(name: str, **changes: object) -> Forge:
    def forge(record: Json) -> object:
        inner = record[name]
        assert isinstance(inner, dict)
        return signed({**record, name: {**inner, **changes}})

    return forge


def listing(value: object) -> Json:
    entry = {"mediaType": OCI_INDEX, "size": 2, "digest": value}
    return {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [entry]}


def elsewhere(text: str) -> Forge:
    return lambda r: signed({**r, "destination": text.format(host=r["destination"])})


INDEX = json.loads(OLD.content)
FORGED: dict[str, Forge] = {
    "nothing": lambda _: "",
    "cut": lambda r: json.dumps(r)[:-40],
    "two in one": lambda r: json.dumps(r) * 2,
    "a list of records": lambda r: [r],
    "another encoding": lambda r: json.dumps(r).encode("utf-16"),
    "format as a boolean": with_(format=True),
    "format as a fraction": with_(format=1.0),
    "format as text": with_(format="1"),
    "format of the future": with_(format=2),
    "format twice": twice("format"),
    "previous twice": twice("previous"),
    "destination twice": twice("destination"),
    "no number": lambda r: json.dumps(r).replace('"format": 1', '"format": NaN'),
    "an unknown key": with_(Previous=held(INDEX)),
    "no zone": with_(time="2024-02-29T12:00:00"),
    "no time": with_(time="9" * 5000),
    "nothing before": with_(previous=None),
    "another before": lambda r: {**r, "previous": held(OTHER.content.decode())},
    "another tag": lambda r: {**r, "destination": str(r["destination"]).replace("stable", "other")},
    "another tag, with its digest": lambda r: signed(
        {**r, "destination": str(r["destination"]).replace("stable", "other")}
    ),
    "a tag by digest": elsewhere(f"{{host}}@{digest('x')}"),
    "a path": elsewhere("127.0.0.1:1/../v2/app:stable"),
    "a login": elsewhere("alice:wonderland@{host}"),
    "a query": elsewhere("{host}?tag=stable"),
    "no host": elsewhere("app:stable"),
    "what the tag does not hold": with_(new=held(OTHER.content.decode())),
    "content changed": part("previous", content=OTHER.content.decode()),
    "new content changed": part("new", content=OLD.content.decode()),
    "digest changed": part("previous", digest=digest("x")),
    "another type": part("previous", media_type=DOCKER_LIST),
    "no type": part("previous", media_type="text/plain"),
    "more than a manifest": part("previous", urls=["https://evil.test"]),
    "half a character": part("previous", content="\ud800"),
    "an image as well": previous({**INDEX, "config": {}, "layers": []}),
    "keys in another case": previous({**INDEX, "Manifests": []}),
    "keys twice within": previous('{"manifests": [], ' + OLD.content.decode()[1:]),
    "too deep": previous('{"manifests":' * 100_000),
    "too large": previous({**INDEX, "annotations": {"x": "x" * LARGEST}}),
    "images that are not there": previous(listing(digest("absent"))),
    "a digest that is none": previous(listing("sha256:../../x")),
    "a digest of no use": previous(listing("md5:0123")),
}


def restore(file: Path, *options: str) -> Done:
    return run_here("restore", str(file), *options, env=PASSWORD)


def record_of(server: RegistryServer) -> Json:
    return change_of(Reference.parse(f"{server.host}/app:stable")).to_document()


def write(directory: Path, document: object) -> Path:
    file = directory / "record.json"
    text = document if isinstance(document, (str, bytes)) else json.dumps(document)
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    file.chmod(0o600)
    return file


@pytest.mark.parametrize("forge", FORGED.values(), ids=list(FORGED))
def test_no_forged_record_restores_or_crashes(
    server: RegistryServer, tmp_path: Path, forge: Forge, counts: Counts
) -> None:
    done = restore(write(tmp_path, forge(record_of(server))))

    assert done.code in (1, 2)
    assert done.out == ""
    assert "Traceback" not in done.err
    assert [line for line in done.err.splitlines() if "rror: " in line or "ERROR: " in line]
    assert server.manifest("app", "stable").digest == NEW.digest
    assert server.manifest("app", "other").digest == OTHER.digest
    assert not [r for r in server.requests if r.method == "PUT" and r.status == 201]
    counts.survived("forged records of a change", 1, of=1)


def test_the_record_that_they_are_made_from_restores(
    server: RegistryServer, tmp_path: Path
) -> None:
    assert restore(write(tmp_path, record_of(server))).code == 0
    assert server.manifest("app", "stable").digest == OLD.digest


class Terminal(io.StringIO):
    """What somebody types."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("options", "typed", "code"),
    [
        ((), None, 2),
        (("--yes",), None, 0),
        ((), "y\n", 0),
        ((), "YES\n", 0),
        ((), "\n", 1),
        ((), "", 1),
        ((), "no\n", 1),
        (("--quay-host", "{host}"), None, 0),
        (("--quay-host", "http://{host}"), None, 0),
        (("--quay-host", "other.test"), None, 2),
    ],
)
def test_a_login_of_the_options_goes_nowhere_unconfirmed(  # noqa: PLR0917
    server: RegistryServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    options: tuple[str, ...],
    typed: str | None,
    code: int,
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO() if typed is None else Terminal(typed))
    file, tag = write(tmp_path, record_of(server)), f"{server.host}/app:stable"

    done = restore(file, *LOGIN, *(option.format(host=server.host) for option in options))

    assert (done.code, bool(server.requests)) == (code, code == 0)
    assert (f"used for {tag}" in done.err) is (code != 0 or typed is not None)
    assert ("no terminal to ask at: give --yes" in done.err) is (code == 2)


def test_a_place_that_others_may_write_to_is_warned_of(
    server: RegistryServer, tmp_path: Path
) -> None:
    file = write(tmp_path, record_of(server))
    tmp_path.chmod(0o777)

    done = run_here("restore", str(file), str(file), "--dry-run")

    assert done.code == 0
    assert done.err.count(f"{tmp_path}: others may write to it") == 1
