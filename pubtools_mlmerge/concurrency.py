"""Threads: jobs side by side, their progress, values computed once, and how all of it ends."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Generator, Hashable, Iterable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, contextmanager, suppress
from contextvars import ContextVar, copy_context
from pathlib import Path
from queue import Empty, SimpleQueue
from types import FrameType
from typing import Generic, Optional, TypeVar

KeyT = TypeVar("KeyT", bound=Hashable)
ValueT = TypeVar("ValueT")

SLICE = 0.1  # seconds between two looks at whether to end
# Seconds after a signal until a write under way is given up, then cleaning up, then all.
_WRITING, _CLEANING, _WAITING, _LONGEST = 0.8, 1.3, 1.5, 1.7
_STARTING = 1.0  # seconds for a program that is just being started
_RELEASING = 0.2  # seconds, after these, to release what hanging threads hold


class Stopped(BaseException):
    """The program got a signal to end. It is no `Exception`, so nothing takes it for a failure."""


class Stop:
    """Whether the program got a signal to end. Every wait looks at it; only our commands set it."""

    def __init__(self) -> None:
        self.signal: int | None = None
        self.is_armed = False  # whether there is a handler
        self.is_computing = False  # whether a page is made, which may take longer for many tags
        self._since = math.inf  # when it got it
        # No event: a signal within Event.set, whose handler calls that too, would wait for itself.
        self._wakes: SimpleQueue[None] = SimpleQueue()
        self._releases: set[Callable[[], object]] = set()
        self._grace: ContextVar[float] = ContextVar("mlmerge_grace", default=0.0)
        self._programs: set[subprocess.Popen[str]] = set()
        self._starting = threading.Lock()

    @property
    def is_over(self) -> bool:
        """Whether what still runs hangs, and is not to be waited for."""
        return time.monotonic() > self._since + _WAITING

    def check(self, *, begins: bool = False) -> None:
        """Raise Stopped after a signal; `begins` is for what is not under way."""
        if self.signal is not None:
            grace = 0.0 if begins else self._grace.get()
            if time.monotonic() >= self._since + grace:
                raise Stopped

    @contextmanager
    def finishing(self, *, cleans: bool = False) -> Iterator[None]:
        """Allow the block a moment after a signal, to finish a write or to clean up."""
        token = self._grace.set(_CLEANING if cleans else _WRITING)
        try:
            yield
        finally:
            self._grace.reset(token)

    @contextmanager
    def releasing(self, release: Callable[[], object]) -> Iterator[None]:
        """Register a call that releases what the block holds, should it hang at the end."""
        self._releases.add(release)
        try:
            yield
        finally:
            self._releases.discard(release)

    @contextmanager
    def computing(self) -> Iterator[None]:
        """Let the block end after a signal, as it waits for nothing; a second one ends it."""
        self.is_computing = True
        try:
            yield
        finally:
            self.is_computing = False

    def sleep(self, seconds: float) -> None:
        """Sleep, in slices if a signal may end the program."""
        self.check()
        longest = SLICE if self.is_armed else math.inf
        while seconds > 0:
            time.sleep(min(seconds, longest))
            seconds -= longest
            self.check()

    def run(  # noqa: PLR0913 - independent options, each with a default
        self,
        command: list[str],
        environment: dict[str, str],
        text: str = "",
        *,
        end: float = math.inf,
        silence: float = math.inf,
        stderr: int = subprocess.DEVNULL,
        passed: Iterable[int] = (),
    ) -> subprocess.CompletedProcess[str]:
        """Run a program that reads a text and inherits some files; it is ended with this one.

        Raises:
            OSError: When it cannot be run.
            subprocess.TimeoutExpired: When it runs until a time, or without progress for some
                seconds; it was ended then.
        """
        self.check()  # else each waiting thread would start one
        with self._starting:  # a signal may come in this moment
            program = subprocess.Popen(  # noqa: S603 - callers check the arguments
                command,
                env=environment,
                pass_fds=tuple(passed),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                encoding="utf-8",
                errors="replace",
            )
            self._programs.add(program)
        with program:
            said = self._communicate(program, text, end, silence)
        return subprocess.CompletedProcess(command, program.returncode, said)

    def _communicate(
        self, program: subprocess.Popen[str], text: str, end: float, silence: float
    ) -> str:
        progress, since = progress_of(program.pid), time.monotonic()
        try:
            while True:
                try:
                    said: str = program.communicate(text, timeout=SLICE)[0]
                except subprocess.TimeoutExpired:
                    text = ""  # it has it
                    self.check()
                    before, progress, now = progress, progress_of(program.pid), time.monotonic()
                    since = since if progress == before else now
                    if now > end or now - since >= silence:
                        raise
                else:
                    if program.returncode:
                        self.sleep(SLICE)  # Ctrl-C reaches it too, perhaps before us
                    return said
        except (Stopped, subprocess.TimeoutExpired):
            program.terminate()
            with suppress(subprocess.TimeoutExpired):
                program.wait(5 * SLICE)
            program.kill()
            raise
        finally:
            self._programs.discard(program)

    def on_signal(self, number: int, _frame: FrameType | None = None) -> None:
        """Handle a signal: let all threads end, and end at once on a second one."""
        if self.signal is not None:
            if os.isatty(2):
                os.write(2, b"\x1b[?25h")  # a progress bar hides the cursor
            self._exit(self.signal)
        self.signal, self._since = number, time.monotonic()
        self._wakes.put(None)

    def watch(self) -> None:
        """End the program a moment after a signal, whatever hangs."""
        self._wakes.get()
        if self.signal is not None:
            time.sleep(_LONGEST)
            while self.is_computing:
                time.sleep(_LONGEST)
            self._release()
            self._exit(self.signal)

    def _exit(self, number: int) -> None:
        """End now, and the programs that run for us before that."""
        self._starting.acquire(timeout=_STARTING)
        for program in tuple(self._programs):
            program.kill()
        os._exit(128 + number)

    def _release(self) -> None:
        """Release everything that is still held, if that takes only a moment."""

        def call(release: Callable[[], object]) -> None:
            with suppress(Exception):
                release()

        end = time.monotonic() + _RELEASING
        releases = tuple(self._releases)  # other threads still release theirs
        calls = [threading.Thread(target=call, args=[r], daemon=True) for r in releases]
        for thread in calls:
            thread.start()
        for thread in calls:
            thread.join(max(0.0, end - time.monotonic()))

    @contextmanager
    def armed(self) -> Iterator[None]:
        """Let another thread end the program after a signal."""
        watcher = threading.Thread(target=self.watch, name="mlmerge-end", daemon=True)
        watcher.start()
        self.is_armed = True
        try:
            yield
        finally:
            if self.signal is None:
                self._wakes.put(None)
                watcher.join()
                self.is_armed = False


STOP = Stop()


def progress_of(process: int) -> object:
    """Return a value that changes when a process reads or writes anything, sockets included."""
    try:
        return Path(f"/proc/{process}/io").read_bytes().splitlines()[:2]
    except OSError:
        return object()  # no such file on this system


@contextmanager
def ended_by_signals(say_so: Callable[[int], None]) -> Iterator[None]:
    """Let Ctrl-C and SIGTERM end the program, with exit code 128 + N, by `STOP`.

    For programs alone, as there is one handler for the whole process.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = (signal.SIGINT, signal.SIGTERM)
    # Who starts a program in the background may let it ignore Ctrl-C.
    heard = [number for number in numbers if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, STOP.on_signal) for number in heard}
    try:
        with STOP.armed():
            yield
    finally:
        if STOP.signal is not None:
            say_so(STOP.signal)
            raise SystemExit(128 + STOP.signal)
        for number, handler in before.items():
            signal.signal(number, handler)


Watch = Callable[[str, Optional[int]], AbstractContextManager[Callable[[], None]]]
"""Shows progress: called with a name and a total, it gives a function that counts one more."""


@contextmanager
def unwatched(_name: str, _total: int | None) -> Iterator[Callable[[], None]]:
    """Show nothing."""
    yield lambda: None


class Memo(Generic[KeyT, ValueT]):
    """Computes the value of each key once, while other threads that want it wait.

    Failures and false values are not kept. Of the rest, the least recently
    used values are forgotten first, and any after some seconds. Computing one value may need
    others of the same memo, but not in a circle.
    """

    def __init__(self, most: int, seconds: float = math.inf) -> None:
        self._most = most
        self._seconds = seconds
        self._lock = threading.Lock()
        self._values: OrderedDict[KeyT, tuple[ValueT, float]] = OrderedDict()
        self._computed: dict[KeyT, Future[ValueT]] = {}

    def get(
        self,
        key: KeyT,
        compute: Callable[[], ValueT],
        still_holds: Callable[[ValueT], bool] | None = None,
    ) -> ValueT:
        """Return the value of a key; compute it unless that is done or under way.

        A value past its age is kept if it still holds.
        """
        with self._lock:
            if (fresh := self._fresh(key)) is not None:
                self._values.move_to_end(key)
                return fresh
            old, mine = self._values.get(key), Future[ValueT]()
            first = self._computed.setdefault(key, mine)
        if first is not mine:
            return first.result()
        end = time.monotonic() + self._seconds
        try:
            is_kept = old is not None and still_holds is not None and still_holds(old[0])
            value = old[0] if old is not None and is_kept else compute()
        except BaseException as error:
            self._end(key, mine, None)
            mine.set_exception(error)
            raise
        self._end(key, mine, (value, end) if value else None)
        mine.set_result(value)
        return value

    def forget(self, is_meant: Callable[[KeyT], bool]) -> None:
        """Forget the values of some keys, which may have changed."""
        with self._lock:
            for known in (self._values, self._computed):
                for key in [key for key in known if is_meant(key)]:
                    del known[key]

    def _fresh(self, key: KeyT) -> ValueT | None:
        value, end = self._values.get(key, (None, 0.0))
        return value if time.monotonic() < end else None

    def _end(self, key: KeyT, mine: Future[ValueT], kept: tuple[ValueT, float] | None) -> None:
        """Remember what was computed, unless it was to be forgotten meanwhile."""
        with self._lock:
            if self._computed.get(key) is mine:
                del self._computed[key]
                self._values.pop(key, None)
                if kept is not None:
                    self._values[key] = kept
                while len(self._values) > self._most:
                    self._values.popitem(last=False)


def run_all(pool: Executor, jobs: Iterable[Callable[[], ValueT]]) -> list[ValueT]:
    """Run all jobs in a pool, even where one fails; return their results in order."""
    begun = [pool.submit(copy_context().run, job) for job in jobs]
    wait(begun)
    return [future.result() for future in begun]


def map_in_order(
    jobs: Iterable[Callable[[], ValueT] | None], threads: int
) -> Generator[ValueT, None, None]:
    """Run jobs in threads and yield their results in order.

    A None among the jobs is a barrier: all before it end before any after it begins.

    The iterator of jobs may wait for earlier results: each is yielded once it is
    there, and with N threads only N jobs are taken ahead of the results. After a failure, or once
    the caller stops, no further job begins, and those under way are awaited.
    """
    pool = ThreadPoolExecutor(threads, thread_name_prefix="mlmerge")
    try:
        yield from map_in_order_by(pool, jobs, threads)
    finally:
        pool.shutdown(wait=not STOP.is_over)


def map_in_order_by(
    pool: Executor, jobs: Iterable[Callable[[], ValueT] | None], ahead: int
) -> Generator[ValueT, None, None]:
    """Run jobs in a pool that may serve others too; otherwise like `map_in_order`."""
    feed = _Feed(pool, jobs, ahead)
    # A daemon, as it may wait for a job that is no longer needed.
    threading.Thread(
        target=copy_context().run, args=(feed.begin_all,), name="mlmerge-jobs", daemon=True
    ).start()
    try:
        for future in iter(feed.take, None):
            yield _result(future)
            feed.room.release()
    finally:
        feed.end()


class _Feed(Generic[ValueT]):
    """Starts jobs one by one, at most `ahead` of the results taken."""

    def __init__(
        self, pool: Executor, jobs: Iterable[Callable[[], ValueT] | None], ahead: int
    ) -> None:
        self.room = threading.Semaphore(ahead)
        self._pool = pool
        self._jobs = iter(jobs)
        self._last: deque[Future[ValueT]] = deque(maxlen=ahead)  # all not taken yet
        self._begun: SimpleQueue[Future[ValueT] | None] = SimpleQueue()
        self._failure: BaseException | None = None
        self._guard = threading.Lock()
        self._is_ended = False

    def begin_all(self) -> None:
        """Begin jobs as they come, until there are no more."""
        try:
            while self.room.acquire() and not self._is_ended:
                job = next(self._jobs)
                if job is None:
                    wait(self._last)
                    self.room.release()
                else:
                    self._begin(job)
        except StopIteration:
            pass
        except BaseException as error:  # noqa: BLE001 - it is raised where results are taken
            failed = Future[ValueT]()
            failed.set_exception(error)
            self._begun.put(failed)
        self._begun.put(None)

    def take(self) -> Future[ValueT] | None:
        """Wait for the next job that began; none where there are no more, or after a signal."""
        while True:
            try:
                return self._begun.get(timeout=SLICE)
            except Empty:
                if STOP.signal is not None:
                    return None

    def end(self) -> None:
        """Begin no further job, and wait for those under way, unless they hang after a signal."""
        with self._guard:
            self._is_ended = True
        self.room.release()
        under_way = [future for future in self._last if not future.cancel()]
        wait(under_way, 0 if STOP.is_over else None)

    def _begin(self, job: Callable[[], ValueT]) -> None:
        with self._guard:  # once it is ended, the pool may be shut down
            if not self._is_ended:
                self._last.append(self._pool.submit(copy_context().run, self._attempt, job))
                self._begun.put(self._last[-1])

    def _attempt(self, job: Callable[[], ValueT]) -> ValueT:
        if self._failure is not None:
            raise self._failure
        try:
            return job()
        except BaseException as error:
            self._failure = error
            raise


def _result(future: Future[ValueT]) -> ValueT:
    """Wait for a result, though not for what hangs after a signal."""
    while not wait([future], SLICE).done:
        if STOP.is_over:
            raise Stopped
    return future.result()
