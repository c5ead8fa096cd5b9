"""Locks in Redis, with real servers."""

from __future__ import annotations

import logging
import threading
import time
import traceback
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path

import pytest
from redis import Redis

from pubtools_mlmerge.errors import LockFailed, LockLost
from pubtools_mlmerge.locks import PREFIX, Held, tag_lock
from tests.redis_servers import RealRedis, redis_server
from tests.servers import free_port

TAG = "quay.io/ns/app:1"
KEY = PREFIX + TAG
SECRET = "hunter2"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealRedis]:
    """Start a server for those tests that leave it as it was."""
    with redis_server(tmp_path_factory.mktemp("redis"), password=SECRET) as server:
        yield server


@pytest.fixture
def redis(server: RealRedis) -> Iterator[Redis]:
    """Look into the server."""
    with server.client() as client:
        yield client
        client.flushall()


@pytest.fixture
def doomed(tmp_path: Path) -> Iterator[RealRedis]:
    """Start a server that a test may end or stop."""
    with redis_server(tmp_path) as server:
        yield server


def short(server: RealRedis) -> AbstractContextManager[Held]:
    """Lock the tag in a way that is lost after a second."""
    return tag_lock(TAG, f"{server.url}?expiry=1")


def take(url: str) -> None:
    """Hold the tag for a moment."""
    with tag_lock(TAG, url) as held:
        held.check()


# Held


def test_the_key_expires_and_is_gone_after_the_release(server: RealRedis, redis: Redis) -> None:
    with tag_lock(TAG, server.url) as held:
        held.check()
        assert 25_000 < redis.pttl(KEY) <= 30_000

    assert redis.keys() == []


def test_tokens_cannot_be_guessed(server: RealRedis, redis: Redis) -> None:
    tokens = set()
    for _ in range(3):
        with tag_lock(TAG, server.url):
            tokens.add(redis.get(KEY))

    assert sorted(map(len, map(str, tokens))) == [32, 32, 32]


def test_a_lock_outlives_its_expiry_while_it_is_held(server: RealRedis, redis: Redis) -> None:
    with short(server) as held:
        token = redis.get(KEY)
        time.sleep(1.6)

        assert redis.get(KEY) == token
        held.check()


def test_the_key_is_renewed_well_before_it_expires(
    server: RealRedis, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two renewals may fail before the lock is lost."""
    pauses: list[float] = []

    class Event(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            if timeout is None:  # a thread that starts
                return super().wait()
            pauses.append(timeout)
            return True

    monkeypatch.setattr(threading, "Event", Event)
    with tag_lock(TAG, f"{server.url}?expiry=30"):
        pass

    assert pauses == [10.0]


def test_a_check_renews_the_lock(server: RealRedis, redis: Redis) -> None:
    with tag_lock(TAG, server.url) as held:
        redis.pexpire(KEY, 5000)

        held.check()

        assert redis.pttl(KEY) > 25_000


def test_a_connection_that_was_cut_is_made_again(server: RealRedis, redis: Redis) -> None:
    with tag_lock(TAG, server.url) as held:
        redis.client_kill_filter(skipme=True)

        held.check()

    assert redis.keys() == []


def test_a_connection_that_is_cut_before_the_answer_is_made_again(
    server: RealRedis, redis: Redis
) -> None:
    with tag_lock(TAG, server.url) as held, ThreadPoolExecutor(1) as pool:
        redis.client_pause(5000, all=False)
        check = pool.submit(held.check)
        while not (check.done() or any("b" in each["flags"] for each in redis.client_list())):
            time.sleep(0.01)

        redis.client_kill_filter(skipme=True)
        redis.client_unpause()

        check.result(timeout=5)


def test_no_connection_stays_where_the_lock_is_not_had(server: RealRedis, redis: Redis) -> None:
    redis.set(KEY, "somebody else")

    with pytest.raises(LockFailed) as caught:  # its traceback has everything that there was
        take(f"{server.url}?wait=0")

    assert caught.value.problem == "somebody else holds it, given up after 0 seconds"
    assert len(redis.client_list()) == 1


def test_nothing_runs_or_is_connected_after_the_release(server: RealRedis, redis: Redis) -> None:
    threads = threading.active_count()

    with tag_lock(TAG, server.url):
        assert threading.active_count() == threads + 1

    assert threading.active_count() == threads
    assert len(redis.client_list()) == 1


# Lost


def test_a_lock_that_was_removed_is_lost(server: RealRedis, redis: Redis) -> None:
    with tag_lock(TAG, server.url) as held:
        redis.delete(KEY)

        with pytest.raises(LockLost, match="it expired, or somebody took it away"):
            held.check()


def test_the_lock_of_somebody_else_is_neither_ours_nor_released(
    server: RealRedis, redis: Redis, caplog: pytest.LogCaptureFixture
) -> None:
    with tag_lock(TAG, server.url) as held:
        redis.set(KEY, "somebody else", px=60_000)
        with pytest.raises(LockLost):
            held.check()

    assert redis.get(KEY) == "somebody else"
    assert redis.pttl(KEY) > 30_000
    assert f"{TAG}: the lock of this tag was lost before it was released" in caplog.messages


def test_the_lock_of_somebody_else_is_not_renewed(server: RealRedis, redis: Redis) -> None:
    with short(server):
        redis.set(KEY, "somebody else", px=600)
        time.sleep(0.7)

        assert redis.get(KEY) is None


def test_a_lost_lock_does_not_cover_the_error_of_its_body(server: RealRedis, redis: Redis) -> None:
    def lose() -> None:
        with tag_lock(TAG, server.url):
            redis.delete(KEY)
            raise KeyError

    with pytest.raises(KeyError):
        lose()


def test_a_server_that_dies_takes_the_lock_along(
    doomed: RealRedis, caplog: pytest.LogCaptureFixture
) -> None:
    started = time.monotonic()

    with tag_lock(TAG, doomed.url) as held:
        doomed.kill()
        with pytest.raises(LockLost, match=rf"Redis at 127\.0\.0\.1:{doomed.port}: .* refused"):
            held.check()

    assert time.monotonic() - started < 30
    assert f"{TAG}: the lock of this tag was not released and will expire" in caplog.text


def test_a_server_that_hangs_ends_in_an_error_and_then_the_lock_has_expired(
    doomed: RealRedis, caplog: pytest.LogCaptureFixture
) -> None:
    with short(doomed) as held:
        started = time.monotonic()
        with doomed.frozen():
            with pytest.raises(LockLost, match="Timeout"):
                held.check()
            assert time.monotonic() - started < 30
            time.sleep(1)

        with pytest.raises(LockLost, match="it expired"):
            held.check()

    assert f"{TAG}: the lock of this tag could not be renewed: Timeout" in caplog.text


def test_a_server_that_hangs_does_not_hold_up_the_end(doomed: RealRedis) -> None:
    started = time.monotonic()

    with ExitStack() as thawing, short(doomed):
        thawing.enter_context(doomed.frozen())

    assert time.monotonic() - started < 30


# Not had


def test_where_no_server_is_the_error_says_where(tmp_path: Path) -> None:
    port = free_port()

    with pytest.raises(LockFailed, match=rf"Redis at 127\.0\.0\.1:{port}: .* refused"):
        take(f"redis://127.0.0.1:{port}")


@pytest.mark.parametrize(
    ("login", "problem"), [(":hunter22@", "invalid username-password pair"), ("", "uthenticat")]
)
def test_a_wrong_login_is_an_error(server: RealRedis, login: str, problem: str) -> None:
    url = server.url.replace(f":{SECRET}@", login)

    with pytest.raises(LockFailed, match=problem):
        take(url)


@pytest.mark.parametrize("password", ["hunter22", SECRET])
def test_a_password_shows_nowhere(
    server: RealRedis, redis: Redis, password: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    shown = []

    try:
        with tag_lock(TAG, server.url.replace(SECRET, password)) as held:
            shown.append(repr(held))
            redis.delete(KEY)
            held.check()
    except (LockFailed, LockLost) as error:
        shown += [repr(error), *traceback.format_exception(None, error, error.__traceback__)]

    assert shown
    assert SECRET not in "".join(shown) + caplog.text


def test_a_user_needs_few_rights(server: RealRedis, redis: Redis) -> None:
    rights = ["+set", "+get", "+del", "+pexpire", "+evalsha", "+script|load"]
    redis.acl_setuser(
        "merger", enabled=True, passwords=["+p/w"], keys=[f"{PREFIX}*"], commands=rights
    )

    with tag_lock(TAG, server.url.replace(f":{SECRET}", "merger:p%2Fw")) as held:
        held.check()

    assert redis.keys() == []


# TLS


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealRedis]:
    """Start a server that speaks TLS."""
    with redis_server(tmp_path_factory.mktemp("tls"), tls=True) as server:
        yield server


def test_a_certificate_of_a_known_authority_is_trusted(secure: RealRedis) -> None:
    with tag_lock(TAG, secure.url) as held:
        held.check()


def test_a_certificate_of_an_unknown_authority_is_refused(secure: RealRedis) -> None:
    url = secure.url.partition("?")[0]

    with pytest.raises(LockFailed, match="certificate verify failed"):
        take(url)


def test_a_certificate_for_another_name_is_refused(secure: RealRedis) -> None:
    url = secure.url.replace("127.0.0.1", "localhost")

    with pytest.raises(LockFailed, match="not valid for 'localhost'"):
        take(url)
