"""The targets of the fuzzers: everything that reads text from outside, fed with any bytes.

Each target ends without an error, or with one of ours that is turned into text as people get to see
it. Any other error is a finding.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Optional
from unittest import mock
from urllib.parse import urlsplit

from pubtools_mlmerge.core.ages import age_of
from pubtools_mlmerge.core.manifests import Image, Index, digest_of, read_manifest
from pubtools_mlmerge.core.merge import merge
from pubtools_mlmerge.core.platforms import PlatformPattern
from pubtools_mlmerge.core.references import Reference
from pubtools_mlmerge.core.strict_json import decode
from pubtools_mlmerge.errors import MergeError, MissingChild
from pubtools_mlmerge.merging.audit import read_change
from pubtools_mlmerge.registry import auth, http, quay_history
from pubtools_mlmerge.registry.auth import failure, parse_challenges
from pubtools_mlmerge.registry.credentials import AuthFiles
from pubtools_mlmerge.registry.http import Answer, Request, Retries
from pubtools_mlmerge.reports.inspection import Inspection, inspection_sheet, inspection_to_json
from tests.factories import content_of

Target = Callable[[bytes], Optional[MergeError]]
_REFERENCE = Reference.parse("registry.test/app:1")
_IMAGE = Image.from_bytes(
    content_of({"schemaVersion": 2, "config": {"digest": "a:b"}, "layers": []})
)
_REQUEST = Request(method="GET", url="https://registry.test/v2/app", subject="app:1")
_LONGEST_ERROR = 2000


def checked(read: Callable[[bytes], None]) -> Target:
    """Give our own errors back, if people can read them, and let all others out."""

    def target(content: bytes) -> MergeError | None:
        try:
            read(content)
        except MergeError as error:
            shown = str(error)
            assert shown.isprintable(), repr(shown)
            assert len(shown) < _LONGEST_ERROR
            return error
        return None

    return target


def _text(content: bytes) -> str:
    return content.decode("utf-8", "surrogateescape")


def _header(content: bytes) -> str:
    """Read a header as the http library does."""
    return content.decode("latin-1")


def _index(content: bytes) -> None:
    found = Index.from_bytes(content)
    assert (found.content, found.digest) == (content, digest_of(content))
    assert Index.from_fields(found.fields).manifests == found.manifests
    assert not merge(found, found).changed
    inspection = Inspection("app:1", found)
    shown = inspection_sheet(inspection).text + inspection_to_json(inspection)
    assert all(c.isprintable() or c == "\n" for c in shown)


def _manifest(content: bytes) -> None:
    """Read what comes with a content type, which is the first line."""
    content_type, _, body = content.partition(b"\n")
    read_manifest(_REFERENCE, body, _header(content_type) or None)


def _image(content: bytes) -> None:
    found = Image.from_bytes(content)
    assert (found.content, found.digest) == (content, digest_of(content))


def _config(content: bytes) -> None:
    assert len(_IMAGE.wrap(decode(content)).manifests) == 1


def _reference(content: bytes) -> None:
    found = Reference.parse(_text(content))
    assert str(found) == _text(content)
    assert not set("?#%\\ \r\n") & set(str(found))
    assert not {".", ".."} & set(found.repository.split("/"))
    url = urlsplit(f"https://{found.host or 'registry.test'}/v2/{found.repository}")
    assert url.netloc.isascii()
    assert (url.username, url.path) == (None, f"/v2/{found.repository}")
    assert url.port != 0


def _pattern(content: bytes) -> None:
    PlatformPattern.parse(_text(content))


def _challenges(content: bytes) -> None:
    for challenge in parse_challenges(_header(content)):
        assert challenge.scheme == challenge.scheme.lower() != ""


def _retry_after(content: bytes) -> None:
    assert 0 <= Retries().wait(0, {"Retry-After": _header(content)}) <= 60


def _token(content: bytes) -> None:
    answer = Answer(200, {}, content, "https://auth.test/token")
    header = auth._read_token(answer, "login", 0.0).header
    assert header.isascii()
    assert header.isprintable()


def _error(content: bytes) -> None:
    for status in (400, 401, 403, 404, 409, 500):
        raised = failure("app:1", status, content)
        assert str(raised).isprintable()
        assert len(str(raised)) < _LONGEST_ERROR or isinstance(raised, MissingChild)


def _echo(content: bytes) -> None:
    """Look for a login in any text, which is withheld if there is one."""
    secrets = auth.Secrets(["s3cr3t", "p&a\\ss"])
    cleaned = auth.redacted(Answer(403, {}, content, "", _header(content)), secrets)
    assert b"s3cr3t" not in cleaned.content
    assert "p&a\\ss" not in cleaned.reason
    cleaned.as_http_error()


def _location(content: bytes) -> None:
    answer = Answer(302, {"Location": _header(content)}, b"", _REQUEST.url)
    request = http._redirected(_REQUEST, answer)
    assert request is None or request.url.lower().startswith("https:")


def _created(content: bytes) -> None:
    """Read when an image was created, as its config or an annotation says."""
    age_of(_text(content), datetime.now(timezone.utc))


def _history(content: bytes) -> None:
    rows = quay_history._read(content, "1")
    assert all(len(row.digest) > len("sha256:") for row in rows)


def _record(content: bytes) -> None:
    with tempfile.NamedTemporaryFile() as file:
        Path(file.name).write_bytes(content)
        change = read_change(file.name)
    assert json.dumps(change.to_document())


def _auth_file(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "auth.json"
        path.write_bytes(content)
        with mock.patch.dict(os.environ, REGISTRY_AUTH_FILE=str(path)):
            AuthFiles().find("quay.io", "org/app")


_READERS = (
    *(_index, _manifest, _image, _config, _reference, _pattern, _challenges, _retry_after),
    *(_token, _error, _echo, _location, _created, _history, _record, _auth_file),
)
TARGETS: dict[str, Target] = {
    read.__name__[1:].replace("_", " "): checked(read) for read in _READERS
}
