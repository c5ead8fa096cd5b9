"""Locks: one writer per tag, within this process, on this machine, or on several."""

from __future__ import annotations

import fcntl
import gc
import logging
import os
import shutil
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from redis import Redis

from pubtools_mlmerge import locks
from pubtools_mlmerge.errors import LockFailed, LockLost
from pubtools_mlmerge.locks import PREFIX, Held, _file_name, _FileLock, check_url, tag_lock
from tests.programs import ROOT, environment, python
from tests.redis_servers import RealRedis, redis_server
from tests.servers import free_port

TAG, OTHER = "quay.io/ns/app:1", "quay.io/ns/app:2"
KEY = PREFIX + TAG
# Adds one to a number in a file, in two steps that another process may come between.
COUNT = """
import sys, time
from pathlib import Path
from pubtools_mlmerge.locks import tag_lock

url, file = sys.argv[1], Path(sys.argv[2])
print("ready", flush=True)
sys.stdin.readline()
for _ in range(8):
    with tag_lock("quay.io/ns/app:1", url) as held:
        number = int(file.read_text())
        time.sleep(0.01)
        held.check()
        file.write_text(str(number + 1))
"""
HOLD = """
import sys
from pubtools_mlmerge.locks import tag_lock

with tag_lock("quay.io/ns/app:1", sys.argv[1]):
    print("ready", flush=True)
    sys.stdin.read()
"""
SECRET = "hunter2"
ALIASES = ["alias.test", "Mirror.test", "10.0.0.1:5000"]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealRedis]:
    """Start a server for all tests of this module."""
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


@pytest.fixture(params=["file", "redis"])
def outer_url(request: pytest.FixtureRequest, tmp_path: Path, server: RealRedis) -> str:
    """A place for locks that other processes respect."""
    return server.url if request.param == "redis" else tmp_path.as_uri()


@pytest.fixture(params=["process", "file", "redis"])
def url(request: pytest.FixtureRequest, tmp_path: Path, server: RealRedis) -> str | None:
    """A place for locks, of each kind."""
    urls = {"process": None, "file": tmp_path.as_uri(), "redis": server.url}
    return urls[request.param]


def take(url: str | None, name: str = TAG, aliases: Sequence[str] = ()) -> bool:
    """Hold the tag for a moment."""
    with tag_lock(name, url, aliases=aliases) as held:
        held.check()
        return True


# Of this process


def test_one_thread_at_a_time_holds_a_tag(url: str | None) -> None:
    numbers = [0]

    def work(_: int) -> None:
        with tag_lock(TAG, url):
            number = numbers[0]
            time.sleep(0.005)
            numbers[0] = number + 1

    with ThreadPoolExecutor(8) as pool:
        assert [*pool.map(work, range(16))] == [None] * 16

    assert numbers == [16]


def test_other_tags_do_not_wait(url: str | None) -> None:
    with tag_lock(OTHER, url), ThreadPoolExecutor(1) as pool:
        assert pool.submit(take, url).result(timeout=5)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("Quay.IO/app:1", "quay.io/app:1", True),
        ("quay.io:443/app:1", "quay.io/app:1", True),
        ("quay.io:8443/app:1", "quay.io/app:1", False),
        ("localhost:5000/app:1", "127.0.0.1:5000/app:1", True),
        ("[::1]:5000/app:1", "localhost:5000/app:1", True),
        ("[::2]:5000/app:1", "localhost:5000/app:1", False),
        ("docker.io/library/app:1", "registry-1.docker.io/library/app:1", True),
        ("docker.io/app:1", "Index.Docker.io:443/library/app:1", True),
        ("docker.io/app:1", "docker.io/org/app:1", False),
        ("quay.io/app:1", "quay.io/library/app:1", False),
        ("quay.io/app:1", "quay.io/app:2", False),
        ("mirror.test/app:1", "Alias.test:443/app:1", True),
        ("10.0.0.1:5000/app:1", "alias.test/app:1", True),
        ("10.0.0.1/app:1", "alias.test/app:1", False),
    ],
)
def test_one_registry_by_two_names_has_one_lock(
    tmp_path: Path, one: str, other: str, *, same: bool
) -> None:
    url = f"{tmp_path.as_uri()}?wait=0"

    with tag_lock(one, url, aliases=ALIASES), ThreadPoolExecutor(1) as pool:
        error = pool.submit(take, url, other, aliases=ALIASES[::-1]).exception(timeout=5)

    assert isinstance(error, LockFailed) is same


def test_a_lock_is_released_after_an_error(url: str | None) -> None:
    with pytest.raises(RuntimeError), tag_lock(TAG, url):
        raise RuntimeError

    assert take(url)


def test_one_thread_may_hold_many_tags(url: str | None) -> None:
    with ExitStack() as locks:
        held = [locks.enter_context(tag_lock(f"{TAG}.{i}", url)) for i in range(20)]

        for each in held:
            each.check()


def test_a_thread_waits_no_longer_than_it_may(tmp_path: Path) -> None:
    url = f"{tmp_path.as_uri()}?wait=0.2"

    with tag_lock(TAG, url), ThreadPoolExecutor(1) as pool:
        error = pool.submit(take, url).exception(timeout=5)

    assert isinstance(error, LockFailed)
    assert "another thread holds it, given up after 0.2 seconds" in str(error)


def test_a_thread_waits_for_another_as_long_as_it_takes_without_a_url() -> None:
    with ThreadPoolExecutor(1) as pool:
        with tag_lock(TAG):
            waiting = pool.submit(take, None)
            assert wait([waiting], timeout=0.2).done == set()

        assert waiting.result(timeout=5)


def test_locks_that_nobody_needs_are_forgotten() -> None:
    with tag_lock(TAG):
        assert TAG in locks._LOCKS

    gc.collect()
    assert TAG not in locks._LOCKS


# Between processes


@contextmanager
def program(code: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Run a program that says when it is ready, and goes on when its input has a line or ends."""
    with subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        cwd=ROOT,
        env=environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            yield process
        finally:
            process.communicate(timeout=30)


def test_processes_take_turns(outer_url: str, tmp_path: Path) -> None:
    number = tmp_path / "number"
    number.write_text("0", encoding="utf-8")

    with ExitStack() as ends:
        counters = [ends.enter_context(program(COUNT, outer_url, str(number))) for _ in range(3)]
        for counter in counters:
            assert counter.stdin is not None
            counter.stdin.write("go\n")
            counter.stdin.flush()

    assert [counter.returncode for counter in counters] == [0, 0, 0]
    assert number.read_text(encoding="utf-8") == "24"


def test_a_process_waits_no_longer_than_it_may(outer_url: str) -> None:
    with program(HOLD, outer_url):
        started = time.monotonic()
        with pytest.raises(LockFailed) as caught:
            take(f"{outer_url}?wait=0.3")
        waited = time.monotonic() - started

    assert str(caught.value) == (
        f"{TAG}: cannot lock this tag: somebody else holds it, given up after 0.3 seconds; "
        "run it again once the lock is available"
    )
    assert waited >= 0.3


def test_a_holder_that_is_killed_holds_nothing(outer_url: str) -> None:
    url = f"{outer_url}?expiry=1" if outer_url.startswith("redis") else outer_url
    with program(HOLD, url) as process:
        process.kill()
        process.wait()

        assert take(f"{outer_url}?wait=5")


# What may be written


@pytest.mark.parametrize(
    "text",
    [
        "file:///var/lock/merges",
        "file:///var/lock/with%20space?wait=0",
        "redis://127.0.0.1",
        "redis://127.0.0.1:6379/2?wait=1.5&expiry=10",
        "redis://user:pass%2Fword@redis.example:6379/",
        "redis://:password@[::1]:6379/0",
        "rediss://redis.example?ssl_ca_certs=/etc/ca.pem&ssl_certfile=/c.pem&ssl_keyfile=/k.pem",
    ],
)
def test_a_place_is_recognised(text: str) -> None:
    check_url(text)


@pytest.mark.parametrize(
    "text",
    [
        *("", "/var/lock", "memory://", "http://redis.example", "unix:///run/redis.sock"),
        *("file://var/lock", "file://", "file:lock", "file:///var/%00", "file:///var#lock"),
        *("redis://", "redis:///0", "redis://:password@", "redis://h:port", "redis://h:0"),
        *("redis://h:65536", "redis://h/name", "redis://h/0/1", "redis://[::1", "redis://h#0"),
        "redis://:pa\udcffss@h",
    ],
)
def test_any_other_text_is_refused_with_what_is_expected(text: str) -> None:
    with pytest.raises(ValueError, match=r"^expected file:///DIRECTORY, redis://HOST") as caught:
        check_url(text)

    assert caught.value.__context__ is None


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("file:///d?expiry=1", "expected only the options wait, each once at most"),
        ("redis://h?ssl_ca_certs=/c", "expected only the options wait, expiry, each once at most"),
        ("rediss://h?ssl_cert_reqs=none", "expected only the options wait, expiry, ssl_ca_certs"),
        ("redis://h?wait", "wait: expected seconds, 0 to 86400"),
        ("redis://h?wait=-1", "wait: expected seconds, 0 to 86400"),
        ("redis://h?wait=86401", "wait: expected seconds, 0 to 86400"),
        ("redis://h?wait=nan", "wait: expected seconds, 0 to 86400"),
        ("redis://h?wait=1&wait=2", "expected only the options wait, expiry, each once at most"),
        ("redis://h?expiry=0.5", "expiry: expected seconds, 1 to 3600"),
    ],
)
def test_options_are_those_of_the_place(text: str, problem: str) -> None:
    with pytest.raises(ValueError, match=f"^{problem}"):
        check_url(text)


def problem_with(url: str) -> ValueError | None:
    try:
        check_url(url)
    except ValueError as error:
        return error
    return None


@given(st.tuples(st.text(max_size=3), st.text(max_size=3)))
@example(("/", ":"))
@example(("?", "=1&"))
@example(("]", "["))
def test_a_password_is_in_no_error_however_it_is_written(around: tuple[str, str]) -> None:
    for password in (f"{around[0]}{SECRET}{around[1]}", f"{SECRET}{''.join(around)}{SECRET}"):
        problem = problem_with(f"redis://user:{password}@127.0.0.1:6379/0")

        assert problem is None or (SECRET not in str(problem) and problem.__context__ is None)


def test_the_library_for_redis_is_loaded_only_where_it_is_used() -> None:
    done = python("import sys, pubtools_mlmerge.locks; print('redis' in sys.modules)")

    assert (done.out, done.err) == ("False\n", "")


def test_without_the_library_for_redis_the_error_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "redis", None)

    with pytest.raises(LockFailed, match=r"install pubtools-mlmerge\[lock\]"):
        take(f"redis://:{SECRET}@127.0.0.1")


# Locks in a directory


def lock(directory: Path) -> AbstractContextManager[Held]:
    return tag_lock(TAG, f"{directory.as_uri()}?wait=0.3")


def take_in(directory: Path) -> list[Path]:
    """Hold the tag for a moment, and list the files there."""
    with lock(directory) as held:
        held.check()
        return list(directory.iterdir())


def test_a_missing_directory_is_made(tmp_path: Path) -> None:
    (file,) = take_in(tmp_path / "of" / "locks")

    assert file.name.startswith("quay.io_ns_app_1-")


def test_a_directory_that_cannot_be_written_is_named() -> None:
    """In it, not even root may make files."""
    with pytest.raises(LockFailed, match=r"/proc/self/quay\.io_ns_app_1-\S+: No such file"):
        take_in(Path("/proc/self"))


def test_a_link_in_the_place_of_the_file_is_not_followed(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    locks = tmp_path / "locks"
    locks.mkdir()
    (locks / _file_name(TAG)).symlink_to(victim)

    with pytest.raises(LockFailed, match="symbolic links"):
        take_in(locks)

    assert not victim.exists()


@pytest.mark.parametrize("replaced", [False, True])
def test_a_lock_whose_file_was_removed_is_lost(tmp_path: Path, replaced: bool) -> None:
    with lock(tmp_path) as held:
        (file,) = tmp_path.iterdir()
        file.unlink()
        if replaced:
            file.touch()

        with pytest.raises(LockLost, match="was removed"):
            held.check()


def test_who_locks_a_file_just_removed_takes_the_next_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between opening and locking there is a moment in which the file can go."""
    really_lock, inodes = fcntl.flock, []

    def remove_and_lock(file: int, how: int) -> None:
        inodes.append(os.fstat(file).st_ino)
        if len(inodes) == 1:
            shutil.rmtree(tmp_path)
        really_lock(file, how)

    monkeypatch.setattr(fcntl, "flock", remove_and_lock)

    (file,) = take_in(tmp_path)
    assert len(inodes) > 1
    assert file.stat().st_ino == inodes[-1]


def test_a_child_that_has_the_file_open_does_not_keep_the_lock(tmp_path: Path) -> None:
    with lock(tmp_path):
        (file,) = tmp_path.iterdir()
        (number,) = (int(fd.name) for fd in open_files() if fd.samefile(file))
        copy = os.dup(number)  # what a fork would leave in the child

    assert take_in(tmp_path)
    os.close(copy)


def open_files() -> list[Path]:
    return [fd for fd in sorted(Path("/proc/self/fd").iterdir()) if fd.exists()]


def test_no_file_stays_open(tmp_path: Path) -> None:
    before = open_files()

    with lock(tmp_path) as held:
        (file,) = tmp_path.iterdir()
        assert not _FileLock(TAG, file).take()
        held.check()

    assert open_files() == before


@given(st.text(st.characters(codec="utf-8")))
@example("../..")
@example(f"quay.io/{'a' * 255}:1")
def test_no_reference_leads_out_of_the_directory(name: str) -> None:
    file = _file_name(name)

    assert Path("/locks", file).parent == Path("/locks")
    assert not file.startswith(".")
    assert len(os.fsencode(file)) < 255


@pytest.mark.parametrize(
    ("one", "other"),
    [("h/a/b:1", "h/a_b:1"), ("h/a:1", "h/A:1"), (f"h/{'x' * 90}:1", f"i/{'x' * 90}:1")],
)
def test_each_tag_has_a_file_of_its_own(one: str, other: str) -> None:
    assert _file_name(one) != _file_name(other)


# Locks in Redis


def short(server: RealRedis) -> AbstractContextManager[Held]:
    """Lock the tag in a way that is lost after a second."""
    return tag_lock(TAG, f"{server.url}?expiry=1")


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

    assert len({str(token)[-12:] for token in tokens}) == 3  # in the library's, the address


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
