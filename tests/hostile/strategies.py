"""Text that a fuzzer begins with: what is right, and then changed a little here and there."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial

from hypothesis import strategies as st

from pubtools_mlmerge.core.manifests import DOCKER_LIST, OCI_INDEX, OCI_MANIFEST, digest_of
from pubtools_mlmerge.testing import make_image
from tests.factories import attestation, content_of, digest, document, entry, platform
from tests.hostile.test_forged_records import signed

_AUTH = b64encode(b"alice:wonder:land").decode()
_INDEX = document(
    entry("linux/arm/v7", annotations={"a": "b"}, urls=["https://x.test"], data="eA=="),
    {**entry(), "platform": {**platform("windows/amd64"), "os.version": "10.0", "os.features": []}},
    entry(None, seed="nested", media_type=OCI_INDEX),
    attestation(digest("linux/amd64")),
    annotations={"é": "ü"},
    subject=entry(None, seed="subject"),
)
_ERROR = {
    "errors": [
        {"code": "MANIFEST_INVALID", "message": "no", "detail": {"message": "child manifest"}},
        {"code": "MANIFEST_BLOB_UNKNOWN", "message": "?", "detail": digest("child")},
    ]
}
_CONFIG = {"os": "windows", "architecture": "arm", "os.version": "1.2.3", "os.features": ["x"]}
_AUTHS: Mapping[str, object] = {
    "auths": {"quay.io/org": {"auth": _AUTH}, "quay.io": {"identitytoken": "x"}},
    "credHelpers": {"https://quay.io": "helper"},
    "credsStore": "desktop",
}
_HELD = content_of(document("linux/amd64"))
_RECORD = {
    "format": 1,
    "time": "2024-01-01T00:00:00+00:00",
    "source": "quay.io/org/app:1",
    "destination": "quay.io/org/app:2",
    "source_digest": digest("source"),
    "previous": None,
    "new": {"digest": digest_of(_HELD), "media_type": OCI_INDEX, "content": _HELD.decode()},
}
_ROW = {"name": "1", "manifest_digest": digest("x"), "start_ts": 1, "end_ts": 2}
VALID: Mapping[str, Sequence[object]] = {
    "index": [_INDEX, document("linux/amd64", docker=True), document()],
    "image": [json.loads(make_image().content), json.loads(make_image(docker=True).content)],
    "config": [_CONFIG],
    "token": [{"token": "abc", "expires_in": 300}, {"access_token": "x", "issued_at": "now"}],
    "error": [_ERROR],
    "echo": [{"errors": [{"message": "no: s3cr3t and p&a\\ss"}]}],
    "history": [{"tags": [_ROW, {**_ROW, "name": "2"}, {**_ROW, "end_ts": None}], "page": 1}],
    "record": [
        signed(each) for each in (_RECORD, {**_RECORD, "source": None, "previous": _RECORD["new"]})
    ],
    "auth file": [_AUTHS, *({"auths": {"quay.io": {"auth": text}}} for text in ("/w==", "é", "x"))],
}
"""Documents that the targets of these names take."""
LINES: Mapping[str, Sequence[str]] = {
    "reference": [
        "quay.io:443/org/app.x__y/z--1:v1.0@" + digest("x"),
        "[::1]:5000/app@sha512:" + "a" * 128,
        "localhost/a:1",
    ],
    "pattern": ["linux/arm/v7", "windows/*", "arm64", "*/[ab]*/v?"],
    "challenges": [
        'Basic realm="x", Bearer realm="https://a.test/t?x=\\"1\\"",service=b,scope="r:x:pull"',
        "Negotiate, Digest qop=1",
    ],
    "retry after": ["120", "Fri, 31 Dec 1999 23:59:59 GMT", "Sun Nov  6 08:49:37 1994 -0800"],
    "created": ["2024-01-01T00:00:00.123456789Z", "0001-01-01T00:00:00+23:59", "2024-01-01"],
    "location": ["https://s3.test:8443/b?sig=1#x", "//h/p", "../up?x", "/v2/x", "HTTP://u:p@h/"],
}
"""Lines of text that the targets of these names take."""
_TYPES = (OCI_INDEX, DOCKER_LIST, OCI_MANIFEST, f"{OCI_INDEX}; charset=utf-8", "text/html", "")

# What JSON cannot say, or says only to confuse; each stands in the text where its name stood.
_RAW = {
    "@nan": "NaN",
    "@infinite": "-Infinity",
    "@huge": "9" * 5000,
    "@exponent": "1e999",
    "@deep": "[" * 40 + "]" * 40,
    "@bomb": '{"a":' * 2000 + "0" + "}" * 2000,
    "@twice": '{"digest": 1, "digest": 2}',
    "@torn": '"\\ud800"',
    "@latin": '"\\u00e9\udce9"',
}
_VALUES: Sequence[object] = (
    *(None, True, False, 0, -1, 2**63, 10**300, 1.5, "", " ", "\0", "\x1b[31m", "x" * 3000),
    *([], {}, [[]], [None], {"": {}}, "../..", "\u202e", "é", "sha256:abc", digest("x")),
    *_RAW,
)
_OPERATIONS = ("drop", "replace", "replace", "rename", "repeat", "wrap", "copy")
_Path = tuple[object, ...]
_Members = dict[object, object]


def _paths(value: object, path: _Path = ()) -> Iterator[_Path]:
    """Name each place in a document."""
    members = value.items() if isinstance(value, dict) else ()
    for key, member in enumerate(value) if isinstance(value, list) else members:
        yield (*path, key)
        yield from _paths(member, (*path, key))


def _edited(value: object, path: _Path, edit: Callable[[_Members, object], None]) -> object:
    """Edit the object or array that holds the place which a path names; the original stays."""
    assert isinstance(value, (dict, list))
    members: _Members = dict(value if isinstance(value, dict) else enumerate(value))
    key, *rest = path
    if rest:
        members[key] = _edited(members[key], tuple(rest), edit)
    else:
        edit(members, key)
    return members if isinstance(value, dict) else list(members.values())


def _change(draw: st.DrawFn, members: _Members, key: object) -> None:
    operation, member = draw(st.sampled_from(_OPERATIONS)), members.pop(key)
    if operation == "replace":
        members[key] = draw(st.sampled_from(_VALUES))
    elif operation == "rename":
        members[draw(st.sampled_from([str(key).upper(), f"{key} ", "manifests"]))] = member
    elif operation == "repeat":
        members.update({key: member, f"{key}{key}": member})
    elif operation == "wrap":
        members[key] = [member]
    elif operation == "copy":
        members[key] = members["config"] = member


def _written(document: object, *, ascii_only: bool = True) -> bytes:
    text = json.dumps(document, ensure_ascii=ascii_only)
    for name, raw in _RAW.items():
        text = text.replace(f'"{name}"', raw)
    return text.encode("utf-8", "surrogateescape")


@st.composite
def _documents(draw: st.DrawFn, valid: Sequence[object]) -> bytes:
    document: object = draw(st.sampled_from(valid))
    for _ in range(draw(st.integers(0, 4))):
        path = draw(st.sampled_from([*_paths(document), ()]))
        whole = not path or not isinstance(document, (dict, list))
        edit = partial(_change, draw)
        document = draw(st.sampled_from(_VALUES)) if whole else _edited(document, path, edit)
    return _written(document, ascii_only=draw(st.booleans()))


def replaced(target: str) -> Iterator[bytes]:
    """Put each odd value into each place of each document that a target takes."""
    for valid in VALID.get(target, ()):
        for path in _paths(valid):
            for value in _VALUES:
                yield _written(_edited(valid, path, partial(_set, value)))


def _set(value: object, members: _Members, key: object) -> None:
    members[key] = value


@st.composite
def _garbled(draw: st.DrawFn, contents: st.SearchStrategy[bytes]) -> bytes:
    """Cut bytes out, put others in, or leave all as it is."""
    content = draw(contents)
    for _ in range(draw(st.sampled_from([0, 0, 0, 0, 1, 3]))):
        begin = draw(st.integers(0, len(content)))
        end = begin + draw(st.sampled_from([0, 1, 1, 5, 1000]))
        content = content[:begin] + draw(_BYTES) + content[end:]
    return content


_MARKS = b'" \\ , { ] : / .. @ \xc3\xa9 %2e'.split()
_BYTES = st.binary(max_size=4) | st.sampled_from([*_MARKS, b"\r\n", b"[" * 99])


def fuzzed(target: str) -> st.SearchStrategy[bytes]:
    """Make what a target is fed with: mostly what it knows, changed, and any bytes at times."""
    return st.integers(0, 9).flatmap(lambda n: _known(target) if n else st.binary(max_size=200))


def _known(target: str) -> st.SearchStrategy[bytes]:
    if target in LINES:
        return _garbled(st.sampled_from([line.encode() for line in LINES[target]]))
    if target == "manifest":
        types = st.sampled_from(_TYPES).map(str.encode)
        bodies = _known("index") | _known("image")
        return st.builds(lambda kind, body: b"\n".join((kind, body)), types, bodies)
    return _garbled(_documents(VALID[target]))


def seeds(target: str) -> list[bytes]:
    """Give what a target takes, for a fuzzer that makes its own changes."""
    if target == "manifest":
        bodies = (*VALID["index"], *VALID["image"])
        return [f"{kind}\n".encode() + content_of(body) for kind in _TYPES for body in bodies]
    return [*map(content_of, VALID.get(target, ())), *(s.encode() for s in LINES.get(target, ()))]
