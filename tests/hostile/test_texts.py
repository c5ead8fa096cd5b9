"""One hostile text in every place that text comes from, through everything that shows text.

It makes up lines, colours, moves the cursor, turns text around, and gives commands to the runner of
a workflow. Each document has it once in the place of each value, and once as a key of each object.
"""

from __future__ import annotations

import json
import logging
import re
import time
import traceback
from collections.abc import Iterator
from contextlib import suppress
from html import unescape
from io import StringIO
from pathlib import Path

import attrs
import pytest

from pubtools_mlmerge.core.manifests import OCI_INDEX, OCI_MANIFEST, Index, digest_of
from pubtools_mlmerge.errors import InvalidSettings, MergeError, harmless, one_line
from pubtools_mlmerge.registry.quay_history import TagHistory
from pubtools_mlmerge.reports.terminal import shown as draw
from pubtools_mlmerge.settings import Settings
from pubtools_mlmerge.testing import make_image
from tests.factories import attestation, content_of, digest, document, entry, index
from tests.hostile.helpers import REFERENCE, client_of
from tests.hostile.test_forged_records import signed
from tests.programs import run_here
from tests.scripted import Received, Reply, ScriptedServer, json_reply, manifest_reply, refusal
from tests.stress.counts import Counts
from tests.test_errors import KINDS, made

SHOWN = "\x1b[31m\x1b]0;t\x07\x9b2J\x08\u202e\u2066\u200f\u2028\u2029\ufeff<script>x</script>"
TEXT = f"::error::A\nERROR: forged\r##vso[task.complete]##[group]{SHOWN}"
TORN = f"{TEXT}\ud800"  # no document may have it, but what is no document may
HEADER = TEXT.replace("\n", " ").replace("\r", " ").encode("latin-1", "ignore").decode("latin-1")
ATTACK = "hostile texts, in output, logs or a page"
STEERS = re.compile(r"(?m)^\s*::|##\w*\[|^ERROR: forged")


def steering(text: str) -> list[str]:
    """Find what is left in a text that steers whatever shows it."""
    return sorted({c for c in text if not c.isprintable()} - {"\n"}) + STEERS.findall(text)


def versions(value: object, text: str = TEXT, path: str = "") -> Iterator[tuple[str, object]]:
    """Put the text in the place of each value in a document, and as a key into each object."""
    yield path, text
    if isinstance(value, dict):
        yield f"{path}.", {**value, text: text}
        for name, member in value.items():
            for where, changed in versions(member, text, f"{path}.{name}"):
                yield where, {**value, name: changed}
    elif isinstance(value, list):
        for place, member in enumerate(value):
            for where, changed in versions(member, text, f"{path}[{place}]"):
                yield where, [*value[:place], changed, *value[place + 1 :]]


# What registries answer

CREATED = "org.opencontainers.image.created"
INDEX = document(
    entry(
        annotations={CREATED: "2020-01-01T00:00:00Z", "x": "y"},
        artifactType="a/b",
        urls=["https://x"],
        data="eA==",
    ),
    entry(seed="same"),
    {
        **entry(seed="windows"),
        "platform": {
            "os": "windows",
            "architecture": "arm",
            "variant": "v7",
            "os.version": "10.0.1",
            "os.features": ["win32k"],
        },
    },
    attestation(digest("linux/amd64")),
    subject=entry(),
    annotations={"x": "y"},
)
CONFIG = {
    "os": "linux",
    "architecture": "arm64",
    "variant": "v8",
    "created": "2020-01-01T00:00:00Z",
}
IMAGE: dict[str, object] = json.loads(make_image("linux/arm64").content)
GOOD = content_of(document("linux/amd64", "linux/s390x"))
ERROR = {"errors": [{"code": "DENIED", "message": "no", "detail": {"message": "no"}}]}


def documents() -> Iterator[tuple[str, dict[str, Reply]]]:
    """Make hostile answers, by the last part of the address."""
    for path, changed in versions(INDEX):
        yield f"index{path}", {"1": manifest_reply(content_of(changed), OCI_INDEX)}
    for path, changed in versions(IMAGE):
        yield f"image{path}", {"1": manifest_reply(content_of(changed), OCI_MANIFEST)}
    for path, changed in versions(CONFIG):
        config = content_of(changed)
        stated = {**entry(None), "mediaType": "x/y", "digest": digest_of(config)}
        image = manifest_reply(content_of({**IMAGE, "config": stated}), OCI_MANIFEST)
        yield f"config{path}", {"1": image, digest_of(config): Reply(200, {}, config)}
    for path, changed in versions(ERROR, TORN):
        yield f"error{path}", {"1": json_reply(changed, 403)}
    yield "words", {"1": Reply(403, {}, TEXT.encode())}
    yield "page", {"1": Reply(200, {"Content-Type": "text/html"}, TEXT.encode())}
    yield "reason", {"1": Reply(403, {}, reason=HEADER)}
    for status in (200, 307, 403):
        for name in (
            *("Content-Type", "Content-Encoding", "Docker-Content-Digest", "Location"),
            *("Retry-After", "Set-Cookie", "Warning", "Link"),
        ):
            headers = {"Content-Type": OCI_INDEX, name: HEADER}
            yield f"{name} {status}", {"1": Reply(status, headers, GOOD)}
    for header in (HEADER, f'Bearer realm="{HEADER}"', f'Basic realm="{HEADER}"'):
        yield "challenge", {"1": refusal(401, WWW_Authenticate=header)}


ANSWERS = {f"r{number}": answer for number, answer in enumerate(documents())}


def answer(request: Received) -> Reply:
    """Answer for a repository, or with something good."""
    parts = request.target.split("/")
    _, answers = ANSWERS.get(parts[2], ("", {}))
    return answers.get(
        parts[-1], Reply(404) if "blobs" in parts else manifest_reply(GOOD, OCI_INDEX)
    )


@pytest.fixture(scope="module")
def host() -> Iterator[str]:
    """A registry with a repository for each hostile answer."""
    with ScriptedServer(answer) as server:
        yield server.host


@pytest.fixture(autouse=True)
def _hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "sleep", lambda _: None)


def lines_of(host: str, output: str) -> str:
    """Make a batch with each answer as a source, or as a destination."""
    pairs = [(name, "good") if output == "text" else ("good", name) for name in ANSWERS]
    lines = ({"source_ref": f"{host}/{a}:1", "dest_ref": f"{host}/{b}:1"} for a, b in pairs)
    return "\n".join(map(json.dumps, lines))


@pytest.mark.parametrize(
    ("output", "level"), [("text", ""), ("json", "-d"), ("json", "-dd"), ("text", "-ddd")]
)
def test_a_merge_shows_no_answer_as_it_is(
    host: str, output: str, level: str, tmp_path: Path, counts: Counts
) -> None:
    batch, page = tmp_path / "batch", tmp_path / "page.html"
    batch.write_text(lines_of(host, output))

    done = run_here(
        *("merge", "--batch", str(batch), "--dry-run", "--max-age-days", "1", "--output", output),
        *("--html", str(page), "--single-image", "wrap", *level.split()),
    )

    assert steering(done.out) == []
    assert steering(done.err) == []
    shown = unescape(page.read_text("ascii"))
    assert {c for c in shown if not c.isprintable()} == {"\n"}
    assert "<script>" not in page.read_text("ascii")
    # It was there to be shown: in tables, messages and on the page.
    assert all("[31m" in each for each in (done.out, done.err, shown))
    counts.survived(ATTACK, 3 * len(ANSWERS), of=3 * len(ANSWERS))


def readable() -> Iterator[str]:
    """Name the repositories with an index that can be read; the others have only an error."""
    for name, (_, answers) in ANSWERS.items():
        with suppress(MergeError):
            Index.from_bytes(answers["1"].body)
            yield name


@pytest.mark.parametrize("more", [("--ages", "-ddd"), ("--output", "json"), ("OTHER",)])
def test_an_inspection_shows_no_answer_as_it_is(
    host: str, more: tuple[str, ...], counts: Counts
) -> None:
    others = [f"{host}/good:1" if each == "OTHER" else each for each in more]
    shown = []
    for name in readable():
        done = run_here("inspect", f"{host}/{name}:1", *others)
        assert (ANSWERS[name][0], steering(done.out + done.err)) == (ANSWERS[name][0], [])
        shown.append(done.out)

    counts.survived(ATTACK, 2 * len(shown), of=2 * len(shown))
    assert "forged" in "".join(shown)


def test_no_exception_shows_an_answer_as_it_is(host: str) -> None:
    """Nor do those that it comes from, which a traceback shows."""
    with ScriptedServer(answer) as server:
        client = client_of(server)
        for name, (path, _) in ANSWERS.items():
            reference = attrs.evolve(REFERENCE, repository=name)
            try:
                client.pull_index(reference)
            except MergeError as error:
                lines = traceback.format_exception(type(error), error, error.__traceback__)
                assert (path, steering("".join(lines))) == (path, [])


def test_the_rows_of_a_history_are_not_shown_as_they_are(caplog: pytest.LogCaptureFixture) -> None:
    row = {
        "name": "1",
        "manifest_digest": digest("a"),
        "start_ts": 1,
        "end_ts": 2,
        "expiration": "x",
    }
    for path, changed in versions({"tags": [row], "has_additional": False}, TORN):
        with ScriptedServer(json_reply({"tags": []}), json_reply(changed)) as server:
            history = TagHistory(client_of(server), "token", server.url)
            history.warn(REFERENCE)
            assert (path, steering(caplog.text)) == (path, [])

    assert caplog.messages


# What else is given

RECORD: dict[str, object] = {
    "format": 1,
    "time": "2026-01-01T00:00:00Z",
    "destination": "registry.invalid/app:1",
    "previous": {"digest": digest_of(GOOD), "media_type": OCI_INDEX, "content": GOOD.decode()},
    "new": {"digest": digest_of(GOOD), "media_type": OCI_INDEX, "content": GOOD.decode()},
    "source": None,
}
LINE = {"source_ref": "registry.invalid/a:1", "dest_ref": "registry.invalid/b:1", "archs": ["x"]}
MERGE = ("merge", "--source-ref", "HOST/a:1", "--dest-ref", "HOST/b:1")
AUTHS = {
    "auths": {"HOST": {"auth": "x", "username": "x"}},
    "credHelpers": {"HOST": "x"},
}
SETTINGS = ("ANCHOR_TAG", "AUDIT", "COPY", "DROP", "KEEP", "LOCK", "MATCH", "STALE", "TRIES", "X")
Given = tuple[tuple[str, ...], dict[str, str]]
GIVEN: dict[str, Given] = {
    "source": ((*MERGE, "--source-ref", TORN), {}),
    "destination": ((*MERGE, "--dest-ref", f"HOST/{TORN}:1"), {}),
    "unknown": ((*MERGE, TORN, f"--{TORN}"), {}),
    "option": ((*MERGE, "--match", TORN), {}),
    "number": ((*MERGE, "--threads", TORN), {}),
    "architecture": ((*MERGE, "--arch", TORN), {}),
    "host": ((*MERGE, "--quay-host", TORN), {}),
    "token": ((*MERGE, "--quay-api-token", TORN), {}),
    "bundle": ((*MERGE, "--ca-bundle", TORN), {}),
    "page": ((*MERGE, "--html", f"/nonexistent/{TEXT}"), {}),
    "directory": ((*MERGE, "--audit", f"/nonexistent/{TEXT}"), {}),
    "keep": ((*MERGE, "--keep", TORN), {}),
    "lock": ((*MERGE, "--lock", f"redis://{TORN}"), {}),
    "anchor": ((*MERGE, "--anchor-tag", TORN), {}),
    "removed": (("remove-archs", "--ref", TORN, "--arch", TORN), {}),
    "batch": (("merge", "--batch", f"/nonexistent/{TEXT}"), {}),
    "record": (("restore", f"/nonexistent/{TEXT}"), {}),
    **{name: (MERGE, {f"MLMERGE_{name}": TEXT}) for name in SETTINGS},
    "proxy": ((*MERGE, "--quay-host", "http://a.test"), {"HTTP_PROXY": f"http://{TEXT}"}),
    "environment": (MERGE, {f"MLMERGE_{TEXT}": TEXT}),
}


def given(directory: Path, host: str) -> Iterator[tuple[str, Given]]:
    """Give the text in options, variables and files."""

    def file_with(name: str, content: str) -> str:
        (directory / name).write_text(content.replace("HOST", host))
        return str(directory / name)

    yield from GIVEN.items()
    lines = [json.dumps(changed) for text in (TEXT, TORN) for _, changed in versions(LINE, text)]
    batch = file_with("batch", "\n".join([TEXT.replace("\n", ""), *lines]))
    yield "lines", (("merge", "--batch", batch, "--quay-host", "HOST"), {})
    for number, (path, changed) in enumerate(versions(RECORD)):
        # As who forges it signs it, and as it is.
        forged = signed(changed) if isinstance(changed, dict) and number % 2 else changed
        record = file_with(f"record{number}", json.dumps(forged))
        yield f"record{path}", (("restore", record, "--quay-host", "HOST"), {})
    for number, (path, changed) in enumerate(versions(AUTHS, TORN)):
        auths = file_with(f"auth{number}", json.dumps(changed))
        yield f"auths{path}", (MERGE, {"REGISTRY_AUTH_FILE": auths})


@pytest.mark.parametrize("more", [(), ("--output", "json", "-ddd")])
def test_nothing_that_is_given_is_shown_as_it_is(
    host: str, more: tuple[str, ...], tmp_path: Path, counts: Counts
) -> None:
    for name, (arguments, variables) in given(tmp_path, host):
        program, *rest = (each.replace("HOST", host) for each in arguments)
        done = run_here(program, *rest, *more, env=variables)
        assert (name, steering(done.out + done.err)) == (name, [])
        counts.survived(ATTACK, 2, of=2)


def test_no_error_about_settings_shows_them_as_they_are(caplog: pytest.LogCaptureFixture) -> None:
    names = [field.name for field in attrs.fields(Settings)]
    for _, changed in versions({name: [TORN] for name in names}, TORN):
        with pytest.raises(InvalidSettings) as caught:
            Settings.from_task({"mlmerge": changed}, {})
        assert steering(str(caught.value)) == []

    assert steering(caplog.text) == []


# What shows it


@pytest.mark.parametrize("kind", KINDS)
def test_no_error_shows_a_field_as_it_is(kind: type[MergeError]) -> None:
    error = made(kind, TORN)

    assert steering(str(error)) == []
    assert "forged" in str(error)


def test_a_record_of_the_log_has_one_line_for_each_of_the_code() -> None:
    """Whatever the host's handlers and formatters do with it."""
    shown = StringIO()
    handler = logging.StreamHandler(shown)
    handler.setFormatter(logging.Formatter("%(message)s %(event)s"))
    log = logging.getLogger("pubtools.mlmerge")
    log.addHandler(handler)
    try:
        event = {"type": TORN, TORN: [TORN, {"x": (TORN,)}], "count": 1, "none": None}
        log.error("%s:%s\n%d", TORN, ValueError(TORN), 7, extra={"event": event})
        log.error(TORN, extra={"event": {}})
        log.error("%s:%s", ":", "error::x", extra={"event": {}})
    finally:
        log.removeHandler(handler)

    assert steering(shown.getvalue().replace("\nERROR: forged", "", 1)) == []
    assert shown.getvalue().count("\n") == 5
    assert "\n7 {" in shown.getvalue()
    assert "'count': 1, 'none': None}" in shown.getvalue()


@pytest.mark.parametrize("width", [10, 20])
def test_no_fold_of_a_terminal_begins_a_command(width: int) -> None:
    from rich.console import Console  # noqa: PLC0415

    from pubtools_mlmerge.reports.inspection import Inspection, inspection_sheet  # noqa: PLC0415

    for before in range(width):
        platform = {"os": "x" * before + "::error::A", "architecture": "::error::B"}
        listed = Inspection("app:1", index({**entry(), "platform": platform}))
        shown = draw(inspection_sheet(listed), Console(width=width, force_terminal=True))
        assert not re.search(r"(?m)^(\s|\x1b\[[\d;]*m)*::", shown)


@pytest.mark.parametrize(
    "text", [TORN, f"  {TEXT}", "##a##[b", "###[", "\t::x", ":::", "##" * 20_000]
)
def test_what_is_harmless_stays_as_it_is(text: str) -> None:
    assert steering(one_line(text)) == []
    assert one_line(one_line(text)) == one_line(text)
    assert harmless(harmless(text)) == harmless(text)


@pytest.mark.parametrize(
    "text", ["registry.test/app:1", "[::1]:5000/app:1", "a # b", "a::b", "é ü"]
)
def test_harmless_texts_are_left_alone(text: str) -> None:
    assert one_line(text) == text
