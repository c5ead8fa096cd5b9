"""The history of tags, read from an embedded Quay and from servers that misbehave."""

from __future__ import annotations

import logging
import random
import ssl
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import accumulate
from pathlib import Path

import pytest
import requests
from attrs import define, evolve
from hypothesis import given
from hypothesis import strategies as st

from pubtools_mlmerge.core.references import Reference
from pubtools_mlmerge.errors import (
    Forbidden,
    ImmutableTag,
    InvalidReference,
    InvalidSettings,
    NotFound,
    RegistryError,
    Unauthorized,
)
from pubtools_mlmerge.registry.client import RegistryClient
from pubtools_mlmerge.registry.http import ConnectOptions
from pubtools_mlmerge.registry.quay_history import QuayTags, Recovery, TagRow, replaced
from pubtools_mlmerge.testing import ImageIndex, RegistryServer, make_image, make_index
from tests.factories import digest
from tests.programs import put as put_recovery
from tests.quay import QuayDialect
from tests.scripted import (
    HANG_UP,
    HURRIED,
    QUICK,
    Reply,
    ScriptedServer,
    authority,
    ca_bundle,
    json_reply,
    redirect,
)

# The history of tags, read from an embedded Quay and from servers that misbehave


TOKEN = "0auth+t0ken/of=QuayApi"
TAG = Reference.parse("quay.test/alice/team/app:1")
FIRST = make_index([make_image(), make_image("linux/arm64")])
SECOND = make_index([make_image(), make_image("linux/s390x")])
MERGED = make_index([make_image("linux/ppc64le")], docker=True)


@define
class Clock:
    """Stands still until it is told otherwise."""

    now: float = 1_700_000_000.9

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def quay(clock: Clock) -> Iterator[RegistryServer]:
    with RegistryServer(
        dialect=QuayDialect(TOKEN),
        auth="token",
        users={"alice": "wonderland"},
        immutable_tags=["v*"],
        clock=clock,
    ) as server:
        yield server


def client_of(
    server: RegistryServer | ScriptedServer, options: ConnectOptions = HURRIED
) -> RegistryClient:
    return RegistryClient("alice", "wonderland", server.host, options)


def tags_of(server: RegistryServer | ScriptedServer, token: str = TOKEN) -> QuayTags:
    return QuayTags(client_of(server), token)


def put(server: RegistryServer, *items: ImageIndex, reference: Reference = TAG) -> None:
    for item in items:
        for child in item.children:
            server.put_manifest(reference.repository, child.digest, child.content, child.media_type)
        server.put_manifest(reference.repository, reference.tag, item.content, item.media_type)


# What a PUT replaced


def row(name: str, start: int, end: int | None = None) -> TagRow:
    return TagRow(name, start, end)


OURS = row("ours", 100)


CASES = {
    "nothing known": ([], ()),
    "not there yet": ([row("a", 100), row("seen", 90, 100)], ()),
    "a new tag": ([OURS], ()),
    "what was seen": ([OURS, row("seen", 90, 100)], ()),
    "something else": ([OURS, row("a", 90, 100)], ("a",)),
    "not what is older": ([OURS, row("a", 90, 100), row("b", 80, 90)], ("a",)),
    "not what was deleted before": ([OURS, row("a", 90, 95), row("seen", 80, 90)], ()),
    "one of one second": ([OURS, row("a", 99, 99), row("b", 99, 100), row("seen", 90, 99)], ("b",)),
    "either of one second": ([OURS, row("a", 99, 100), row("b", 99, 100)], ("a", "b")),
    "the same second": ([OURS, row("a", 100, 100), row("seen", 90, 100)], ("a",)),
    "the same second, maybe later": (
        [row("a", 100), row("ours", 100, 100), row("seen", 90, 100)],
        ("a",),
    ),
    "the same second and before": ([row("b", 99, 100), OURS, row("a", 100, 100)], ("a", "b")),
    "not what came later": ([row("a", 101), row("ours", 100, 101), row("seen", 90, 100)], ()),
    "what began later by its clock": ([row("a", 103, 100), OURS, row("seen", 90, 103)], ("a",)),
    "not what ended before by its clock": ([row("a", 100, 99), OURS, row("seen", 90, 100)], ()),
    "what has no end": ([OURS, row("a", 90), row("b", 80, 90)], ("a",)),
    "not what was replaced long ago": (
        [OURS, row("a", 90, 100), row("ours", 80, 90), row("b", 70, 80)],
        ("a",),
    ),
    "by the first of two PUTs": (
        [OURS, row("ours", 99, 100), row("a", 98, 99), row("seen", 90, 98)],
        ("a",),
    ),
    "by two PUTs in one second": (
        [OURS, row("ours", 99, 100), row("a", 99, 99), row("seen", 90, 99)],
        ("a",),
    ),
    "not before a deletion": ([OURS, row("ours", 98, 99), row("a", 97, 98)], ()),
    "each once": ([OURS, row("a", 100, 100), row("b", 100, 100), row("a", 99, 100)], ("a", "b")),
}


@pytest.mark.parametrize(("rows", "expected"), CASES.values(), ids=list(CASES))
def test_what_was_replaced_follows_from_the_history(
    rows: list[TagRow], expected: tuple[str, ...]
) -> None:
    assert replaced(rows, "ours", "seen") == expected


def test_a_put_of_what_was_seen_looks_no_further_back() -> None:
    rows = [OURS, row("ours", 90, 100), row("a", 80, 90)]

    assert replaced(rows, "ours", "ours") == ()
    assert replaced(rows, "ours", None) == ("a",)


Event = tuple[str, int]
"""What a tag is set to, nothing to delete it, and at which millisecond."""

DIGESTS = st.sampled_from("abc")
SEEN = st.none() | DIGESTS


def steps(shortest: int) -> st.SearchStrategy[list[Event]]:
    """Make puts and deletions, each with the milliseconds since the one before."""
    return st.lists(st.tuples(st.sampled_from(["", *"abc"]), st.integers(shortest, 2500)))


def timed(events: list[Event]) -> list[Event]:
    """Let each event happen after the one before."""
    return list(zip((name for name, _ in events), accumulate(after for _, after in events)))


def played(events: list[Event]) -> list[TagRow]:
    """Do to a tag what Quay does, by clocks that show what the events say."""
    rows: list[TagRow] = []
    for name, millisecond in events:
        second = millisecond // 1000
        if rows and rows[-1].end is None:
            rows[-1] = evolve(rows[-1], end=second)
        if name:
            rows.append(TagRow(name, second, None))
    return rows


def unexpected(before: list[Event], seen: str | None) -> tuple[str, ...]:
    """Return what is really replaced after these events, unless it was seen."""
    name = before[-1][0] if before else ""
    return (name,) if name not in ("", seen) else ()


@given(before=steps(1000), wait=st.integers(1000, 2500), after=steps(1000), seen=SEEN)
def test_with_a_second_in_between_the_answer_is_exact(
    before: list[Event], wait: int, after: list[Event], seen: str | None
) -> None:
    rows = played(timed([*before, ("ours", wait), *after]))

    assert replaced(rows, "ours", seen) == unexpected(before, seen)


@given(before=steps(0), second=st.integers(0, 2500), after=steps(0), seen=SEEN, order=st.randoms())
def test_nothing_is_missed_whatever_the_clocks_say(
    before: list[Event], second: int, after: list[Event], seen: str | None, order: random.Random
) -> None:
    """The times are not in the order of the events, nor are the rows."""
    rows = played([*before, ("ours", second), *after])
    order.shuffle(rows)

    found = replaced(rows, "ours", seen)

    assert set(unexpected(before, seen)) <= set(found)
    assert len(set(found)) == len(found)
    assert not {"ours", seen} & set(found)


@given(before=steps(0), waits=st.lists(st.integers(0, 2500), min_size=1, max_size=4), seen=SEEN)
def test_nothing_is_missed_when_the_put_is_repeated(
    before: list[Event], waits: list[int], seen: str | None
) -> None:
    rows = played(timed([*before, *[("ours", wait) for wait in waits]]))

    assert set(unexpected(before, seen)) <= set(replaced(rows, "ours", seen))


# Reading the history


def test_the_history_is_what_the_tag_named(quay: RegistryServer, clock: Clock) -> None:
    start = int(clock.now)
    put(quay, FIRST)
    clock.now += 10
    put(quay, SECOND)
    put(quay, MERGED, reference=TAG.tagged("2"))

    assert tags_of(quay).history(TAG) == (
        TagRow(SECOND.digest, start + 10, None),
        TagRow(FIRST.digest, start, start + 10),
    )


def test_one_request_asks_for_one_tag(quay: RegistryServer) -> None:
    put(quay, FIRST)

    tags_of(quay).history(TAG)

    (request,) = quay.requests
    assert request.path == "/api/v1/repository/alice/team/app/tag/"
    assert request.query == "specificTag=1&onlyActiveTags=false&limit=100"
    assert request.headers["accept"] == "application/json"


def test_the_history_ends_with_the_first_page(quay: RegistryServer, clock: Clock) -> None:
    for _ in range(120):
        put(quay, FIRST)
        clock.now += 1

    rows = tags_of(quay).history(TAG)

    assert [row.start for row in rows] == list(range(int(clock.now) - 1, int(clock.now) - 101, -1))


def test_a_tag_that_never_was_has_no_rows(quay: RegistryServer) -> None:
    put(quay, FIRST)

    assert tags_of(quay).history(TAG.tagged("2")) == ()


def test_a_digest_has_no_history(quay: RegistryServer) -> None:
    """Quay would answer with the rows of all tags."""
    with pytest.raises(InvalidReference):
        tags_of(quay).history(TAG.at(FIRST.digest))

    assert quay.requests == ()


def test_a_missing_repository_is_not_found(quay: RegistryServer) -> None:
    expected = r"^tag history of quay.test/alice/team/app:1: not found \(HTTP 404\): Not Found$"
    with pytest.raises(NotFound, match=expected):
        tags_of(quay).history(TAG)


def test_another_token_is_not_authorized(quay: RegistryServer) -> None:
    with pytest.raises(Unauthorized, match="Requires authentication") as caught:
        tags_of(quay, "an0ther").history(TAG)

    assert not caught.value.logged_in


def test_threads_share_one_transport(quay: RegistryServer) -> None:
    put(quay, FIRST)
    tags = tags_of(quay)

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: tags.history(TAG), range(24)))

    assert found == [tags.history(TAG)] * 24
    assert tags._transport is not None
    assert tags._transport.count == len(quay.requests) == 25


def test_the_history_tells_of_another_writer(quay: RegistryServer, clock: Clock) -> None:
    put(quay, FIRST)
    clock.now += 10
    put(quay, SECOND)
    clock.now += 10
    put(quay, MERGED)

    rows = tags_of(quay).history(TAG)

    assert replaced(rows, MERGED.digest, FIRST.digest) == (SECOND.digest,)
    assert replaced(rows, MERGED.digest, SECOND.digest) == ()


def test_a_writer_of_the_same_second_is_suspect(quay: RegistryServer, clock: Clock) -> None:
    put(quay, FIRST)
    clock.now += 10
    put(quay, SECOND, MERGED)

    rows = tags_of(quay).history(TAG)

    assert replaced(rows, MERGED.digest, FIRST.digest) == (SECOND.digest,)


# Where to connect


def test_the_host_of_a_reference_is_asked(quay: RegistryServer) -> None:
    reference = evolve(TAG, host=quay.host)
    put(quay, FIRST, reference=reference)

    (row,) = QuayTags(RegistryClient(options=HURRIED), TOKEN).history(reference)

    assert row.digest == FIRST.digest


@pytest.fixture
def tls_quay() -> Iterator[RegistryServer]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority().issue_cert("127.0.0.1").configure_cert(context)
    with RegistryServer(dialect=QuayDialect(TOKEN), ssl_context=context) as server:
        put(server, FIRST)
        yield server


def test_a_bundle_of_authorities_is_for_the_api_too(
    tls_quay: RegistryServer, tmp_path: Path
) -> None:
    options = ConnectOptions(ca_bundle=ca_bundle(tmp_path), retries=QUICK)
    tags = QuayTags(client_of(tls_quay, options), TOKEN)

    recovered = tags.recover(TAG, FIRST.digest)

    assert [row.digest for row in tags.history(recovered)] == [FIRST.digest]


def test_the_api_is_found_where_the_client_found_the_registry(tls_quay: RegistryServer) -> None:
    """Without the authority: the client was told not to verify."""
    client = RegistryClient(None, None, tls_quay.host, ConnectOptions(insecure=True, retries=QUICK))
    with pytest.warns(match="Unverified HTTPS request"):
        client.pull(TAG)

    with pytest.warns(match="Unverified HTTPS request"):
        (row,) = QuayTags(client, TOKEN).history(TAG)

    assert row.digest == FIRST.digest


def test_a_registry_that_is_not_trusted_does_not_see_the_token(tls_quay: RegistryServer) -> None:
    client = RegistryClient(None, None, tls_quay.url, HURRIED)

    with pytest.raises(RegistryError, match=r"(?i)certificate"):
        QuayTags(client, TOKEN).history(TAG)

    assert tls_quay.requests == ()


def test_the_token_does_not_follow_a_redirect_to_another_host() -> None:
    rows = json_reply({"tags": []})
    with ScriptedServer(rows) as other, ScriptedServer(redirect(f"{other.url}/tags")) as server:
        assert tags_of(server).history(TAG) == ()

    assert server.authorizations == [f"Bearer {TOKEN}"]
    assert other.authorizations == [""]


def test_a_redirect_of_a_write_is_a_refusal() -> None:
    with ScriptedServer(Reply(200)) as other, ScriptedServer(redirect(other.url)) as server:
        with pytest.raises(RegistryError, match="HTTP 307"):
            tags_of(server).recover(TAG, FIRST.digest)

        assert other.received == []


@pytest.mark.parametrize("passing", [HANG_UP, Reply(503)])
def test_a_passing_failure_is_asked_again(passing: Reply) -> None:
    with ScriptedServer(passing, json_reply({"tags": []})) as server:
        assert tags_of(server).history(TAG) == ()


# Answers that are none


def answer_row(**members: object) -> dict[str, object]:
    return {"name": "1", "manifest_digest": digest("a"), "start_ts": 5, **members}


def test_rows_come_newest_first_and_of_this_tag_only() -> None:
    rows = [answer_row(end_ts=9), answer_row(start_ts=9, end_ts=None), answer_row(name="2")]
    with ScriptedServer(json_reply({"tags": rows})) as server:
        found = tags_of(server).history(TAG)

    assert found == (TagRow(digest("a"), 9, None), TagRow(digest("a"), 5, 9))


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (Reply(200, {}, b"<html>login</html>"), "not JSON"),
        (Reply(200, {}, b"[" * 100_000), "nests deeper"),
        (Reply(204), "not JSON"),
        (json_reply([]), "expected an object"),
        (json_reply({}), "tags: expected an array"),
        (json_reply({"tags": {}}), "tags: expected an array"),
        (json_reply({"tags": [answer_row(), 5]}), r"tags\[1\]: expected an object with a name"),
        (json_reply({"tags": [answer_row(name=None)]}), r"tags\[0\]: expected .* a name"),
        (json_reply({"tags": [answer_row(manifest_digest=None)]}), "manifest_digest: expected"),
        (json_reply({"tags": [answer_row(manifest_digest="a:b")]}), "manifest_digest: expected"),
        (json_reply({"tags": [answer_row(start_ts=None)]}), "start_ts: expected whole seconds"),
        (json_reply({"tags": [answer_row(start_ts=True)]}), "start_ts: expected whole seconds"),
        (json_reply({"tags": [answer_row(end_ts=1.5)]}), "end_ts: expected whole seconds"),
        (json_reply({"tags": [answer_row(end_ts="9")]}), "end_ts: expected whole seconds"),
        (Reply(200, {}, b" " * (4 * 1024 * 1024 + 1)), "more than 4194304 bytes"),
    ],
)
def test_an_answer_that_is_no_history_is_an_error(reply: Reply, expected: str) -> None:
    with ScriptedServer(reply) as server, pytest.raises(RegistryError, match=expected) as caught:
        tags_of(server).history(TAG)

    assert str(caught.value).startswith("tag history of quay.test/alice/team/app:1: ")


@pytest.mark.parametrize(
    ("reply", "kind", "message"),
    [
        (json_reply({"detail": "no scope", "title": "x"}, 403), Forbidden, "no scope"),
        (json_reply({"message": "Not today"}, 500), RegistryError, "Not today"),
        (json_reply({"errors": [{"message": "gone"}]}, 404), NotFound, "gone"),
        (json_reply({"detail": 5}, 401), Unauthorized, '{"detail": 5}'),
        (json_reply({"detail": "tag is immutable"}, 409), ImmutableTag, "tag is immutable"),
        (Reply(429, {}, b"slow down"), RegistryError, "slow down"),
        (Reply(502, {}, b"<html>Bad Gateway</html>"), RegistryError, ""),
    ],
)
def test_a_refusal_is_told_in_its_own_words(
    reply: Reply, kind: type[RegistryError], message: str
) -> None:
    with ScriptedServer(reply) as server, pytest.raises(RegistryError) as caught:
        tags_of(server).history(TAG)

    assert type(caught.value) is kind
    assert (caught.value.status, caught.value.message) == (reply.status, message)


# Reading again what was replaced


@pytest.mark.parametrize("item", [SECOND, MERGED], ids=["index", "list"])
def test_a_replaced_index_can_be_pulled_again(quay: RegistryServer, item: ImageIndex) -> None:
    put(quay, item, FIRST)
    client, tags = client_of(quay), tags_of(quay)
    with pytest.raises(NotFound):
        client.pull(TAG.at(item.digest))

    recovered = tags.recover(TAG, item.digest)

    assert recovered.tag.startswith(f"mlmerge-recovered-{item.digest[7:19]}-")
    assert client.pull(recovered).content == item.content
    tags.forget(recovered)
    assert quay.tags(TAG.repository) == (TAG.tag,)
    assert quay.manifest(TAG.repository, TAG.tag).digest == FIRST.digest


def test_two_may_recover_the_same_index_at_once(quay: RegistryServer) -> None:
    put(quay, SECOND, FIRST)
    client, tags = client_of(quay), tags_of(quay)
    mine, other = tags.recover(TAG, SECOND.digest), tags.recover(TAG, SECOND.digest)

    tags.forget(other)

    assert client.pull(mine).content == SECOND.content


def test_what_was_never_there_is_not_recovered(quay: RegistryServer) -> None:
    put(quay, FIRST)

    with pytest.raises(NotFound, match="mlmerge-recovered"):
        tags_of(quay).recover(TAG, digest("absent"))

    assert quay.tags(TAG.repository) == (TAG.tag,)


@pytest.mark.parametrize("text", ["", "latest", "sha256:12", "sha256:../../x", "other:a=b"])
def test_only_a_digest_is_recovered(quay: RegistryServer, text: str) -> None:
    with pytest.raises(InvalidReference):
        tags_of(quay).recover(TAG, text)

    assert quay.requests == ()


def test_only_a_recovered_tag_is_forgotten(quay: RegistryServer) -> None:
    put(quay, FIRST)

    for reference in (TAG, TAG.at(FIRST.digest), TAG.tagged("recovered")):
        with pytest.raises(InvalidReference, match="only tags mlmerge-recovered-"):
            tags_of(quay).forget(reference)

    assert quay.requests == ()


def test_a_tag_that_cannot_be_deleted_is_a_warning(
    quay: RegistryServer, caplog: pytest.LogCaptureFixture
) -> None:
    put(quay, FIRST)
    recovered = tags_of(quay).recover(TAG, FIRST.digest)

    tags_of(quay, "an0ther").forget(recovered)

    (record,) = (r for r in caplog.records if r.levelno >= logging.WARNING)
    assert record.getMessage().startswith("A tag that is of no more use stays: tag history of")
    assert recovered.tag in record.getMessage()
    assert recovered.tag in quay.tags(TAG.repository)


def test_a_tag_that_is_gone_already_is_no_warning(
    quay: RegistryServer, caplog: pytest.LogCaptureFixture
) -> None:
    put(quay, FIRST)
    recovered = tags_of(quay).recover(TAG, FIRST.digest)

    for _ in range(2):
        tags_of(quay).forget(recovered)

    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert quay.requests[-1].status == 404


def test_each_write_is_an_event(quay: RegistryServer, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    put(quay, FIRST)
    tags = tags_of(quay)

    recovered = tags.recover(TAG, FIRST.digest)
    tags.forget(recovered)

    assert [vars(record)["event"] for record in caplog.records] == [
        {"type": "mlmerge-recover", "destination": str(recovered), "digest": FIRST.digest},
        {"type": "mlmerge-forget", "destination": str(recovered)},
    ]


# The token


@pytest.mark.parametrize("token", ["", " \n", "one\ntwo", "täken", "a\0b"])
def test_what_no_header_can_carry_is_no_token(token: str) -> None:
    with pytest.raises(InvalidSettings, match="token of Quay's API") as caught:
        QuayTags(RegistryClient(), token)

    assert token not in str(caught.value).split()


def test_the_end_of_a_line_is_no_part_of_the_token(quay: RegistryServer) -> None:
    put(quay, FIRST)

    assert tags_of(quay, f"{TOKEN}\n").history(TAG)


def test_the_token_shows_in_no_log(quay: RegistryServer, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    put(quay, FIRST)
    tags = tags_of(quay)

    tags.history(TAG)
    tags.forget(tags.recover(TAG, FIRST.digest))

    assert {r.headers["authorization"] for r in quay.requests} == {f"Bearer {TOKEN}"}
    assert "/tag/" in caplog.text
    assert TOKEN not in f"{caplog.text} {tags!r}"


@pytest.mark.parametrize(
    "reply",
    [
        json_reply({"detail": f"bad token {TOKEN}"}, 401),
        json_reply({"errors": [{"message": f"bad token {TOKEN}"}]}, 403),
        Reply(500, {}, TOKEN.replace("/", "\\/").encode()),
        Reply(200, {}, f'{{"{TOKEN}": 1, "{TOKEN}": 2}}'.encode()),
    ],
    ids=["detail", "errors", "escaped", "key"],
)
def test_a_token_that_the_server_repeats_shows_in_no_error(
    reply: Reply, caplog: pytest.LogCaptureFixture
) -> None:
    with ScriptedServer(reply) as server:
        tags = tags_of(server)
        with pytest.raises(RegistryError, match=r"\*\*\*") as caught:
            tags.history(TAG)
        tags.forget(TAG.tagged("mlmerge-recovered-0"))

    error = caught.value
    shown = f"{error} {error!r} {error.__cause__!r} {error.__context__!r} {caplog.text}"
    assert TOKEN not in shown.replace("\\", "")


# Recovery: what a write replaced unseen is found on an embedded Quay, and read again


TOKEN_RECOVERY = "0auth+t0ken"
SEEN_RECOVERY, THEIRS, OURS_RECOVERY = (
    make_index([make_image(p)]) for p in ("linux/amd64", "linux/arm64", "linux/s390x")
)


class Quay:
    """A Quay on which a minute passes between two writes."""

    def __init__(self) -> None:
        self.now = 1_700_000_000.0
        self.server = RegistryServer(dialect=QuayDialect(TOKEN_RECOVERY), clock=lambda: self.now)

    def write(self, *indexes: ImageIndex) -> None:
        for each in indexes:
            self.now += 60
            put_recovery(self.server, "1", each, "ns/app")


@pytest.fixture
def quay_recovery() -> Iterator[Quay]:
    made = Quay()
    with made.server:
        yield made


def history_of(server: RegistryServer, token: str = TOKEN_RECOVERY) -> tuple[Recovery, Reference]:
    client = RegistryClient(host=server.url, options=HURRIED)
    return Recovery(QuayTags(client, token)), Reference(server.host, "ns/app", tag="1")


def test_what_was_seen_is_not_lost(quay_recovery: Quay) -> None:
    history, tag = history_of(quay_recovery.server)
    quay_recovery.write(SEEN_RECOVERY, OURS_RECOVERY)

    assert history.lost(tag, OURS_RECOVERY.digest, SEEN_RECOVERY.digest) == ()


def test_what_was_not_seen_can_be_pulled_until_it_is_forgotten(
    quay_recovery: Quay, caplog: pytest.LogCaptureFixture
) -> None:
    history, tag = history_of(quay_recovery.server)
    quay_recovery.write(SEEN_RECOVERY, THEIRS, OURS_RECOVERY)

    (recovered,) = history.lost(tag, OURS_RECOVERY.digest, SEEN_RECOVERY.digest)

    assert RegistryClient(host=quay_recovery.server.url).pull(recovered).digest == THEIRS.digest
    assert f"{THEIRS.digest} was replaced by {OURS.digest}" in caplog.text
    history.forget(recovered)
    assert quay_recovery.server.tags("ns/app") == ("1",)


def test_what_is_not_kept_any_more_is_told(
    quay_recovery: Quay, caplog: pytest.LogCaptureFixture
) -> None:
    history, tag = history_of(quay_recovery.server)
    quay_recovery.write(SEEN_RECOVERY, THEIRS, OURS_RECOVERY)
    client = RegistryClient(host=quay_recovery.server.url)

    requests.delete(f"{quay_recovery.server.url}/v2/ns/app/manifests/{THEIRS.digest}", timeout=5)
    assert client.digest(tag.at(THEIRS.digest)) is None
    assert history.lost(tag, OURS_RECOVERY.digest, SEEN_RECOVERY.digest) == ()
    assert "it is lost" in caplog.text


def test_a_history_that_cannot_be_read_is_told_without_the_token(
    quay_recovery: Quay, caplog: pytest.LogCaptureFixture
) -> None:
    history, tag = history_of(quay_recovery.server, "revoked-token")
    quay_recovery.write(SEEN_RECOVERY, OURS_RECOVERY)

    assert history.lost(tag, OURS_RECOVERY.digest, SEEN_RECOVERY.digest) == ()
    assert "cannot tell whether another writer was replaced" in caplog.text
    assert "revoked" not in caplog.text


def test_a_registry_without_a_history_is_no_reason_to_worry(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with RegistryServer() as server:
        history, tag = history_of(server)

        assert history.lost(tag, OURS_RECOVERY.digest, SEEN_RECOVERY.digest) == ()

    assert [r for r in caplog.records if r.levelno >= logging.WARNING] == []


def test_a_history_that_lags_behind_is_told(
    quay_recovery: Quay, caplog: pytest.LogCaptureFixture
) -> None:
    history, tag = history_of(quay_recovery.server)
    quay_recovery.write(SEEN_RECOVERY)

    assert history.lost(tag, digest("not there yet"), SEEN_RECOVERY.digest) == ()
    assert "its history does not have" in caplog.text
