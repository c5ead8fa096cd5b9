"""The history of tags, read from an embedded Quay and from servers that misbehave."""

from __future__ import annotations

import logging
import random
import re
from collections.abc import Callable, Iterator
from itertools import accumulate

import pytest
import requests
from attrs import evolve
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
from pubtools_mlmerge.registry.auth import WITHHELD
from pubtools_mlmerge.registry.client import RegistryClient
from pubtools_mlmerge.registry.http import ConnectOptions
from pubtools_mlmerge.registry.quay_history import TagHistory, TagRow, replaced
from pubtools_mlmerge.testing import ImageIndex, RegistryServer, make_image, make_index
from tests.factories import digest
from tests.quay import QuayDialect
from tests.scripted import (
    HURRIED,
    QUICK,
    Clock,
    Reply,
    ScriptedServer,
    json_reply,
    redirect,
)

Log = pytest.LogCaptureFixture
TOKEN = "0auth+t0ken/of=QuayApi"
TAG = Reference.parse("quay.test/alice/team/app:1")
SHOWN = json_reply({"error_type": "invalid_token", "detail": "Requires authentication"}, 401)
"""How Quay answers who has no token, and shows itself."""
FIRST = make_index([make_image(), make_image("linux/arm64")])
SECOND = make_index([make_image(), make_image("linux/s390x")])
MERGED = make_index([make_image("linux/ppc64le")], docker=True)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def quay(clock: Clock) -> Iterator[RegistryServer]:
    with RegistryServer(dialect=QuayDialect(TOKEN), clock=clock) as server:
        yield server


def client_of(
    server: RegistryServer | ScriptedServer, options: ConnectOptions = HURRIED
) -> RegistryClient:
    return RegistryClient(server.host, username="alice", password="wonderland", options=options)


def history_of(server: RegistryServer | ScriptedServer, token: str = TOKEN) -> TagHistory:
    return TagHistory(client_of(server), token)


def put(server: RegistryServer, *items: ImageIndex, clock: Clock | None = None) -> None:
    """Write the tag with each item, a minute after the one before if there is a clock."""
    for item in items:
        for child in item.children:
            server.put_manifest(TAG.repository, child.digest, child.content, child.media_type)
        if clock is not None:
            clock.now += 60
        server.put_manifest(TAG.repository, TAG.tag, item.content, item.media_type)


def warnings(caplog: Log) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]


# What a PUT replaced


def row(name: str, start: int, end: int | None = None) -> TagRow:
    return TagRow(name, start, end)


OURS = row("ours", 100)


# Where less than a second is in between, or clocks differ; the rest follows from the laws below.
CASES = {
    "nothing known": ([], ()),
    "not there yet": ([row("a", 100), row("seen", 90, 100)], ()),
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
    start = int(clock.now) + 60
    put(quay, FIRST, SECOND, clock=clock)
    history = history_of(quay)

    assert history.rows(TAG) == (
        TagRow(SECOND.digest, start + 60, None),
        TagRow(FIRST.digest, start, start + 60),
    )
    (_, request) = quay.requests
    assert request.path == "/api/v1/repository/alice/team/app/tag/"
    assert request.query == "specificTag=1&onlyActiveTags=false&limit=100"
    assert request.headers["accept"] == "application/json"
    assert history.rows(TAG.tagged("2")) == ()


# Where to connect


def test_the_api_is_found_where_the_client_found_the_registry() -> None:
    """Without the authority: the client does not verify."""
    options = ConnectOptions(insecure=True, retries=QUICK)
    with ScriptedServer(Reply(404), SHOWN, json_reply({"tags": []}), tls=True) as server:
        client = RegistryClient(server.host, options=options)
        with pytest.warns(match="Unverified HTTPS request"), pytest.raises(NotFound):
            client.pull(TAG)
        with pytest.warns(match="Unverified HTTPS request"):
            assert TagHistory(client, TOKEN).rows(TAG) == ()


def test_a_redirect_of_a_write_is_a_refusal() -> None:
    with ScriptedServer(Reply(200)) as other, ScriptedServer(SHOWN, redirect(other.url)) as server:
        with pytest.raises(RegistryError, match="HTTP 307"):
            history_of(server).recover(TAG, FIRST.digest)

        assert other.received == []


# Answers that are none


def answer_row(**members: object) -> dict[str, object]:
    return {"name": "1", "manifest_digest": digest("a"), "start_ts": 5, **members}


def test_rows_come_newest_first_and_of_this_tag_only() -> None:
    rows = [answer_row(end_ts=9), answer_row(start_ts=9, end_ts=None), answer_row(name="2")]
    with ScriptedServer(json_reply({"tags": rows})) as server:
        found = history_of(server).rows(TAG)

    assert found == (TagRow(digest("a"), 9, None), TagRow(digest("a"), 5, 9))


def test_a_registry_without_this_api_is_asked_once_and_no_reason_to_worry(caplog: Log) -> None:
    with ScriptedServer(Reply(404, body=b"404 page not found")) as server:
        history = history_of(server)

        assert [history.expiration(TAG), history.expiration(TAG)] == [None, None]
        assert list(history.lost(TAG, FIRST.digest, None)) == []
        assert len(server.received) == 1
    assert warnings(caplog) == []


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_registry_that_fails_may_be_quay_nevertheless(status: int) -> None:
    with ScriptedServer(Reply(status)) as server:
        history = history_of(server)
        with pytest.raises(RegistryError, match=f"HTTP {status}"):
            history.rows(TAG)
        server.then(SHOWN, json_reply({"tags": []}))
        assert history.rows(TAG) == ()


@pytest.mark.parametrize(("end", "expected"), [(9, None), (2**33, 2**33), (None, None)])
def test_a_tag_expires_when_its_row_ends(end: int | None, expected: int | None) -> None:
    with ScriptedServer(SHOWN, json_reply({"tags": [answer_row(end_ts=end)]})) as server:
        assert history_of(server).expiration(TAG) == expected


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
        (json_reply({"tags": [answer_row(start_ts=None)]}), "start_ts.*: expected whole seconds"),
        (json_reply({"tags": [answer_row(start_ts=True)]}), "start_ts.*: expected whole seconds"),
        (json_reply({"tags": [answer_row(end_ts=1.5)]}), "end_ts: expected whole seconds"),
        (json_reply({"tags": [answer_row(end_ts="9")]}), "end_ts: expected whole seconds"),
        (json_reply({"tags": [answer_row(end_ts=10**12)]}), "end_ts: expected whole seconds"),
        (Reply(200, {}, b" " * (4 * 1024 * 1024 + 1)), "more than 4194304 bytes"),
    ],
)
def test_an_answer_that_is_no_history_is_an_error(reply: Reply, expected: str) -> None:
    script = ScriptedServer(SHOWN, reply)
    with script as server, pytest.raises(RegistryError, match=expected) as caught:
        history_of(server).rows(TAG)

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
def test_a_refusal_keeps_its_message(reply: Reply, kind: type[RegistryError], message: str) -> None:
    with ScriptedServer(SHOWN, reply) as server, pytest.raises(RegistryError) as caught:
        history_of(server).rows(TAG)

    assert type(caught.value) is kind
    assert (caught.value.status, caught.value.message) == (reply.status, message)


# Reading again what was replaced


def test_a_replaced_index_can_be_pulled_until_it_is_forgotten(
    quay: RegistryServer, caplog: Log
) -> None:
    caplog.set_level(logging.INFO)
    put(quay, SECOND, FIRST)
    client, history = client_of(quay), history_of(quay)
    with pytest.raises(NotFound):
        client.pull(TAG.at(SECOND.digest))

    recovered = history.recover(TAG, SECOND.digest)

    assert recovered.tag.startswith(f"mlmerge-recovered-{SECOND.digest[7:19]}-")
    assert client.pull(recovered).content == SECOND.content
    for _ in range(2):
        history.forget(recovered)
    assert quay.tags(TAG.repository) == (TAG.tag,)
    assert quay.manifest(TAG.repository, TAG.tag).digest == FIRST.digest
    assert quay.requests[-1].status == 404
    assert [vars(record)["event"] for record in caplog.records] == [
        {"type": "mlmerge-recover", "destination": str(recovered), "digest": SECOND.digest},
        {"type": "mlmerge-forget", "destination": str(recovered)},
    ]


def test_two_may_recover_the_same_index_at_once(quay: RegistryServer) -> None:
    put(quay, SECOND, FIRST)
    history = history_of(quay)
    mine, other = (history.recover(TAG, SECOND.digest) for _ in range(2))

    history.forget(other)

    assert client_of(quay).pull(mine).content == SECOND.content


def test_a_token_that_quay_takes_for_a_forgery_is_named(quay: RegistryServer) -> None:
    """Where it reads, it says 401; where it writes, a page says that CSRF was prevented."""
    put(quay, FIRST)

    with pytest.raises(Forbidden, match="does not accept the token: check --quay-api-token"):
        history_of(quay, "an0ther").recover(TAG, FIRST.digest)


def test_what_was_never_there_is_not_recovered(quay: RegistryServer) -> None:
    put(quay, FIRST)

    with pytest.raises(NotFound, match="mlmerge-recovered"):
        history_of(quay).recover(TAG, digest("absent"))

    assert quay.tags(TAG.repository) == (TAG.tag,)


@pytest.mark.parametrize(
    "ask",
    [
        # Quay would answer with the rows of all tags.
        lambda history: history.rows(TAG.at(FIRST.digest)),
        lambda history: history.recover(TAG, ""),
        lambda history: history.recover(TAG, "latest"),
        lambda history: history.recover(TAG, "sha256:12"),
        lambda history: history.recover(TAG, "sha256:../../x"),
        lambda history: history.recover(TAG, "other:a=b"),
        lambda history: history.forget(TAG),
        lambda history: history.forget(TAG.at(FIRST.digest)),
        lambda history: history.forget(TAG.tagged("recovered")),
    ],
)
def test_only_tags_have_a_history_digests_are_recovered_and_recovered_tags_forgotten(
    quay: RegistryServer, ask: Callable[[TagHistory], object]
) -> None:
    put(quay, FIRST)

    with pytest.raises(InvalidReference):
        ask(history_of(quay))

    assert quay.requests == ()


def test_a_tag_that_cannot_be_deleted_is_a_warning(caplog: Log) -> None:
    with RegistryServer(dialect=QuayDialect(TOKEN), immutable_tags=["mlmerge-*"]) as quay:
        put(quay, FIRST)
        recovered = history_of(quay).recover(TAG, FIRST.digest)
        history_of(quay).forget(recovered)

        assert recovered.tag in quay.tags(TAG.repository)
    (message,) = warnings(caplog)
    assert message.startswith("A temporary tag could not be deleted: tag history of")
    assert f"Cannot modify immutable tag '{recovered.tag}'; use another tag" in message


def test_what_a_wrong_token_cannot_do_afterwards_is_a_warning(
    quay: RegistryServer, caplog: Log
) -> None:
    put(quay, FIRST)
    history, recovered = history_of(quay, "an0ther"), TAG.tagged("mlmerge-recovered-0")

    history.expire_at(TAG, 2_000_000_000)
    history.forget(recovered)

    expiry, deletion = warnings(caplog)
    assert expiry.startswith(f"{TAG} does not expire: tag history of ")
    assert deletion.startswith("A temporary tag could not be deleted: tag history of")
    assert all("check --quay-api-token" in message for message in (expiry, deletion))


# The token


@pytest.mark.parametrize("token", ["", " \n", "one\ntwo", "täken", "a\0b"])
def test_what_no_header_can_carry_is_no_token(token: str) -> None:
    with pytest.raises(InvalidSettings, match="token of Quay's API") as caught:
        TagHistory(RegistryClient(), token)

    assert token not in str(caught.value).split()


def test_the_end_of_a_line_is_no_part_of_the_token(quay: RegistryServer) -> None:
    put(quay, FIRST)

    assert history_of(quay, f"{TOKEN}\n").rows(TAG)


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
def test_a_token_that_the_server_repeats_shows_in_no_error(reply: Reply, caplog: Log) -> None:
    with ScriptedServer(SHOWN, reply) as server:
        history = history_of(server)
        with pytest.raises(RegistryError, match=re.escape(WITHHELD)) as caught:
            history.rows(TAG)
        history.forget(TAG.tagged("mlmerge-recovered-0"))

    error = caught.value
    shown = f"{error} {error!r} {error.__cause__!r} {error.__context__!r} {caplog.text}"
    assert TOKEN not in shown.replace("\\", "")


NO_QUAY = {
    "no API": Reply(404, body=b"404 page not found"),
    "its own errors": json_reply({"errors": [{"code": "UNSUPPORTED"}], "message": "no"}, 404),
    "a page": Reply(200, {}, b"<html>tags</html>"),
    "an object": json_reply({"tags": "none", "error_type": 5}),
    "nothing": Reply(204),
}


@pytest.mark.parametrize("reply", NO_QUAY.values(), ids=list(NO_QUAY))
def test_no_registry_gets_the_token_before_it_shows_itself_as_quay(reply: Reply) -> None:
    with ScriptedServer(reply) as server:
        history = history_of(server)
        assert list(history.lost(TAG, FIRST.digest, None)) == []
        history.expire_at(TAG, 2_000_000_000)
        history.forget(TAG.tagged("mlmerge-recovered-0"))

    assert server.authorizations == [""]  # asked once


def test_no_registry_gets_the_token_for_what_another_one_answers() -> None:
    with ScriptedServer(SHOWN) as other, ScriptedServer(redirect(other.url)) as server:
        assert list(history_of(server).lost(TAG, FIRST.digest, None)) == []

    assert {*other.authorizations, *server.authorizations} == {""}


@pytest.mark.parametrize(
    ("host", "connects", "named", "gets"),
    [
        ("quay.io", None, None, True),
        ("QUAY.io:443", None, None, True),
        ("eu.quay.io", None, None, True),
        ("quay.io:8443", None, None, False),
        ("notquay.io", None, None, False),
        ("quay.io.test", None, None, False),
        ("registry.test", None, None, False),
        ("registry.test", None, "Registry.test:443", True),
        ("registry.test", None, "https://other.test", False),
        ("quay.io", None, "registry.test", False),
        ("eu.quay.io", None, "registry.test", False),
        ("quay.io", "registry.test", None, True),
        ("quay.io", "registry.test", "quay.io", False),
    ],
)
def test_only_the_registry_that_the_token_is_for_gets_it(
    host: str, connects: str | None, named: str | None, gets: bool, caplog: Log
) -> None:
    """Wherever the client connects to; an answer is the same from everywhere."""
    client = RegistryClient(host=connects, options=HURRIED)
    with ScriptedServer(SHOWN, json_reply({"tags": []})) as server:
        tag = evolve(TAG, host=host)
        client.session(tag)._base = server.url

        history = TagHistory(client, TOKEN, named)
        assert list(history.lost(tag, FIRST.digest, None)) == []
        assert list(history.lost(tag, FIRST.digest, None)) == []

    bearer = f"Bearer {TOKEN}"
    assert server.authorizations == (["", bearer, bearer] if gets else [""])
    assert ("--quay-api-token-host" in caplog.text) is not gets


# What a write replaced unseen is found, and read again


@pytest.mark.parametrize("is_seen", [True, False])
def test_what_was_not_seen_is_recovered(
    quay: RegistryServer, clock: Clock, caplog: Log, is_seen: bool
) -> None:
    put(quay, FIRST, SECOND, MERGED, clock=clock)

    lost = history_of(quay).lost(TAG, MERGED.digest, SECOND.digest if is_seen else FIRST.digest)

    pulled = [client_of(quay).pull(recovered).digest for recovered, _ in lost]
    assert pulled == ([] if is_seen else [SECOND.digest])
    assert (f"{SECOND.digest} was replaced by {MERGED.digest}" in caplog.text) is not is_seen


def test_each_is_known_before_the_next_is_recovered(quay: RegistryServer) -> None:
    """So that its temporary tag can be deleted, whatever happens then."""
    put(quay, FIRST, SECOND, MERGED)  # in one second

    recovered, _ = next(iter(history_of(quay).lost(TAG, MERGED.digest, None)))

    assert quay.tags(TAG.repository) == (TAG.tag, recovered.tag)


def test_a_manifest_that_is_not_kept_any_more_is_a_warning(
    quay: RegistryServer, clock: Clock, caplog: Log
) -> None:
    put(quay, FIRST, SECOND, MERGED, clock=clock)
    requests.delete(f"{quay.url}/v2/{TAG.repository}/manifests/{SECOND.digest}", timeout=5)

    assert client_of(quay).digest(TAG.at(SECOND.digest)) is None
    assert list(history_of(quay).lost(TAG, MERGED.digest, FIRST.digest)) == []
    assert "its content is lost" in caplog.text


@pytest.mark.parametrize(
    ("token", "written", "warning"),
    [
        ("revoked-token", MERGED.digest, "cannot tell whether another writer was replaced"),
        (TOKEN, digest("not there yet"), "its history does not have"),
    ],
)
def test_a_history_that_cannot_tell_is_a_warning_without_the_token(
    quay: RegistryServer, caplog: Log, token: str, written: str, warning: str
) -> None:
    put(quay, FIRST, MERGED)

    assert list(history_of(quay, token).lost(TAG, written, FIRST.digest)) == []
    assert warning in caplog.text
    assert token not in caplog.text
