"""The replaced names of the real host leave no trace."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext

import pytest
from pubtools._quay import push_docker, tag_docker
from pubtools.pluggy import hookimpl, pm, task_context

from pubtools_mlmerge.host.task import current_task

NAMES = (
    (push_docker, "PushDocker"),
    (push_docker, "ContainerImagePusher"),
    (tag_docker, "TagDocker"),
    (tag_docker, "ManifestListMerger"),
)
TASKS = 100
THREADS = 8


def classes() -> list[object]:
    return [getattr(module, name) for module, name in NAMES]


def are_ours() -> bool:
    return all(str(getattr(c, "__module__", "")).startswith("pubtools_mlmerge") for c in classes())


@pytest.fixture(autouse=True)
def _no_trace() -> Iterator[None]:
    """Compare the names and the plugins before and after; the first task loads what there is."""
    with task_context():
        pass
    before, plugins = classes(), set(pm.get_plugins())
    yield
    assert all(now is then for now, then in zip(classes(), before))
    assert set(pm.get_plugins()) == plugins
    assert current_task() is None


class Failure(Exception):
    """A task fails."""


def test_ours_are_in_place_while_a_task_runs() -> None:
    assert not are_ours()
    with task_context():
        assert are_ours()
        with task_context():
            assert are_ours()
        assert are_ours()


@pytest.mark.parametrize("error", [Failure(), SystemExit(1), SystemExit(0), KeyboardInterrupt()])
def test_a_task_that_fails_leaves_no_trace(error: BaseException) -> None:
    with pytest.raises(type(error)), task_context():
        raise error


def work(number: int) -> None:
    """Run a task; some fail, some have others inside, all find our classes."""
    pause = threading.Event()
    with task_context():
        outer = current_task()
        pause.wait(number % 7 / 1000)
        assert are_ours()
        if number % 3 == 0:
            with task_context():
                assert current_task() is not outer
                if number % 2:
                    raise Failure
        assert current_task() is outer
        if number % 5 == 0:
            raise Failure


def test_a_hundred_tasks_in_eight_threads_leave_no_trace() -> None:
    with ThreadPoolExecutor(THREADS) as pool:
        errors = [f.exception() for f in [pool.submit(work, n) for n in range(TASKS)]]

    failing = [n for n in range(TASKS) if n % 5 == 0 or n % 6 == 3]
    assert [n for n, error in enumerate(errors) if error is not None] == failing
    assert all(error is None or isinstance(error, Failure) for error in errors)


class BadStart:
    """Another plugin, whose task_start raises."""

    @hookimpl
    def task_start(self) -> None:
        raise Failure


class BadStop:
    """Another plugin, whose task_stop raises."""

    @hookimpl
    def task_stop(self, failed: bool) -> None:
        raise Failure


@pytest.mark.parametrize("other", [BadStart, BadStop])
@pytest.mark.parametrize("nested", [False, True])
def test_another_plugin_that_raises_leaves_no_trace_of_ours(
    other: Callable[[], object], nested: bool
) -> None:
    plugin = other()
    with task_context() if nested else nullcontext():
        before = classes()
        pm.register(plugin)
        with pytest.raises(Failure), task_context():
            pass
        pm.unregister(plugin)
        assert classes() == before


def test_a_name_that_others_replaced_meanwhile_is_left_to_them(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    theirs = push_docker.PushDocker

    class Others(theirs):  # type: ignore[misc, valid-type]  # the host is untyped
        """Another plugin's class."""

    with task_context():
        push_docker.PushDocker = Others
    left = push_docker.PushDocker
    push_docker.PushDocker = theirs

    assert left is Others
    assert "pubtools._quay.push_docker.PushDocker was replaced by others" in caplog.messages
