"""Calls of the hooks that others may implement."""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable, Iterator
from contextlib import nullcontext, suppress
from types import ModuleType

import pytest
from pubtools.pluggy import hookimpl, hookspec, pm, task_context

from pubtools_mlmerge.core.plan import Report
from pubtools_mlmerge.core.references import Reference
from pubtools_mlmerge.errors import LockFailed, LockLost
from pubtools_mlmerge.hooks import announce, lock_tags, plugins_named
from tests.pushes import registered

WAITS = (math.inf, 60)
TAG = Reference.parse("quay.io/ns/app:1")
REPORT = Report(
    source=Reference.parse("quay.io/src/app:new"),
    destination=TAG,
    source_digest=None,
    previous_digest=None,
    digest="sha256:" + "0" * 64,
    media_type="application/vnd.oci.image.index.v1+json",
    changed=True,
    dry_run=False,
    entries=(),
)


class Lock:
    """A lock of a site that cannot be lost; something may happen before it is acquired."""

    def __init__(self, before: Callable[[], object] = lambda: None) -> None:
        self._before, self.is_held, self.released = before, False, threading.Event()
        self.failure: object = None  # what failed while it was held

    def __enter__(self) -> object:
        self._before()
        self.is_held = True
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        self.is_held, self.failure = False, kind
        self.released.set()


class LosableLock(Lock):
    """A lock of a site that was lost."""

    error: Exception = LockLost(str(TAG), "expired")

    def check(self) -> None:
        raise self.error


class HidingLock(LosableLock):
    """Returns True once it is released, as many do, which hides what failed."""

    def __exit__(self, *failure: object) -> bool:  # type: ignore[override]
        super().__exit__(*failure)
        return True


class UnansweredLock(LosableLock):
    """A lock of a site that nobody can say anything of."""

    error = OSError("nobody answers")


class Site:
    """Implements what it may."""

    def __init__(self, lock: Lock | None = None) -> None:
        self.heard: list[object] = []
        self.lock = lock or Lock()

    @hookimpl
    def mlmerge_merged(self, report: Report) -> None:
        self.heard.append(report)

    @hookimpl(optionalhook=True)
    def quay_images_tagged(self, source_ref: str, dest_refs: list[str]) -> None:
        self.heard.append((source_ref, dest_refs))

    @hookimpl
    def mlmerge_lock(self, reference: str) -> object:
        self.heard.append(reference)
        return self.lock


class HostHooks:
    """The host's declarations of hooks."""

    @hookspec
    def quay_images_tagged(self, source_ref: str, dest_refs: list[str]) -> None:
        """Declare the host's hook."""


@pytest.fixture
def _host_hooks() -> Iterator[None]:
    had = hasattr(pm.hook, "quay_images_tagged")
    if not had:
        pm.add_hookspecs(HostHooks)
    yield
    if not had:
        delattr(pm.hook, "quay_images_tagged")


@pytest.mark.usefixtures("_host_hooks")
def test_an_upload_is_announced_by_our_hook_and_the_host_s() -> None:
    site = Site()

    with registered(site):
        announce(REPORT)

    assert site.heard == [REPORT, ("quay.io/src/app:new", ["quay.io/ns/app:1"])]


def test_without_the_host_there_is_our_hook_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(pm.hook, "quay_images_tagged", raising=False)

    announce(REPORT)

    assert not hasattr(pm.hook, "quay_images_tagged")


@pytest.mark.parametrize("wait", WAITS)
def test_a_site_brings_its_own_lock(wait: float) -> None:
    site = Site()

    locks = lock_tags([[str(TAG)]], "file:///nowhere", wait=wait)
    with registered(site), locks as (check,):
        check()
        assert site.lock.is_held

    assert site.heard == ["quay.io/ns/app:1"]
    assert (site.lock.is_held, site.lock.failure) == (False, None)


def test_tags_are_locked_once_and_in_one_order_by_one_name() -> None:
    """Whatever order others name them in, nobody awaits what another one holds."""
    site = Site()
    groups = [["h:443/app:b", "h/app:kept"], ["H/app:a", "h:443/app:kept"], ["h/app:b"]]

    with registered(site), lock_tags(groups) as checks:
        assert len(checks) == 3

    assert site.heard == ["h/app:a", "h/app:b", "h/app:kept"]


@pytest.mark.parametrize("wait", WAITS)
@pytest.mark.parametrize("kind", [LosableLock, HidingLock])
def test_the_lock_of_a_site_may_be_lost(kind: type[LosableLock], wait: float) -> None:
    site = Site(kind())
    locks = lock_tags([[str(TAG)]], wait=wait)

    with registered(site), pytest.raises(LockLost), locks as (check,):
        check()

    assert (site.lock.is_held, site.lock.failure) == (False, LockLost)


def refuse() -> None:
    raise OSError("nobody answers")


@pytest.mark.parametrize("wait", WAITS)
def test_the_lock_of_a_site_may_be_refused(wait: float) -> None:
    lock = lock_tags([[str(TAG)]], wait=wait)
    with registered(Site(Lock(refuse))), pytest.raises(OSError, match="nobody answers"), lock:
        pass


class StuckLock(Lock):
    """A lock of a site that cannot be released."""

    def __exit__(self, kind: object, *_: object) -> None:
        raise OSError("nobody answers")


@pytest.mark.parametrize("wait", WAITS)
def test_a_lock_that_is_not_released_hides_neither_result_nor_failure(
    wait: float, caplog: pytest.LogCaptureFixture
) -> None:
    with registered(Site(StuckLock())):
        with lock_tags([[str(TAG)]], wait=wait):
            pass
        with pytest.raises(KeyError), lock_tags([[str(TAG)]], wait=wait):
            raise KeyError

    words = f"{TAG}: the lock of this tag was not released: OSError: nobody answers"
    assert caplog.messages == [words, words]


def test_the_lock_of_a_site_that_comes_too_late_is_let_go() -> None:
    free = threading.Event()
    slow, lock = Lock(lambda: free.wait(60)), lock_tags([[str(TAG)]], wait=0.01)

    with registered(Site(slow)), pytest.raises(LockFailed, match="has not given it"), lock:
        pass
    free.set()

    assert slow.released.wait(60)


def test_there_is_a_lock_of_the_process_where_a_site_has_none() -> None:
    held = threading.Event()

    def hold() -> None:
        with lock_tags([[str(TAG)]]):
            held.set()

    other = threading.Thread(target=hold)
    with lock_tags([[str(TAG)]]) as (check,):
        check()
        other.start()
        assert not held.wait(0.05)

    assert held.wait(60)


# Mistakes of plugins


class Broken:
    """A plugin whose hooks raise."""

    @hookimpl
    def mlmerge_merged(self, report: Report) -> None:
        raise OSError("the journal is full")

    @hookimpl
    def mlmerge_lock(self, reference: str) -> object:
        raise OSError("nobody answers")


def test_an_event_that_fails_is_a_warning_that_names_the_plugin(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with registered(Site()), registered(Broken(), "journal"):
        announce(REPORT)

    (line,) = caplog.messages
    assert line == (
        "mlmerge_merged of the plugin journal failed, after the tag was written: "
        "OSError: the journal is full"
    )
    assert [record.levelno for record in caplog.records] == [logging.WARNING]


@pytest.mark.usefixtures("_host_hooks")
@pytest.mark.parametrize("in_host", [True, False])
def test_only_in_the_host_may_its_own_event_fail(
    in_host: bool, caplog: pytest.LogCaptureFixture
) -> None:
    class Listener:
        @hookimpl(optionalhook=True)
        def quay_images_tagged(self, source_ref: str, dest_refs: list[str]) -> None:
            raise OSError("no bus")

    failure = pytest.raises(OSError, match="no bus") if in_host else nullcontext()
    with registered(Listener(), "bus"), failure:
        announce(REPORT, in_host=in_host)

    assert ("quay_images_tagged of the plugin bus failed" in caplog.text) is not in_host


@pytest.mark.parametrize("site", [Broken(), Site(Lock(refuse)), Site(UnansweredLock())])
def test_a_lock_that_fails_names_the_plugin(site: object, caplog: pytest.LogCaptureFixture) -> None:
    locks, failure = lock_tags([[str(TAG)]]), pytest.raises(OSError, match="nobody answers")
    with registered(site, "leases"), failure, locks as (check,):
        check()

    (line,) = caplog.messages
    assert line == "mlmerge_lock of the plugin leases failed: OSError: nobody answers"


def test_a_lock_of_our_own_that_fails_names_no_plugin(caplog: pytest.LogCaptureFixture) -> None:
    class Passing:
        @hookimpl
        def mlmerge_lock(self, reference: str) -> None:
            """Leave it to the setting."""

    locks = lock_tags([[str(TAG)]], "nowhere")
    with registered(Passing()), pytest.raises(ValueError, match="expected file:"), locks:
        pass

    assert caplog.messages == []


def test_what_fails_in_the_project_itself_names_no_plugin(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Wrapper:
        @hookimpl
        def mlmerge_merge(self, request: object) -> None:
            """Leave it to the next."""

    with registered(Wrapper()), suppress(AttributeError), plugins_named("mlmerge_merge"):
        pm.hook.mlmerge_merge(request=object())

    assert caplog.messages == []


def plugin(code: str) -> ModuleType:
    module = ModuleType("site_plugin")
    exec(f"from pubtools.pluggy import hookimpl\n{code}", vars(module))  # noqa: S102 - a plugin
    return module


def test_a_hook_that_is_misspelt_is_warned_of_once(caplog: pytest.LogCaptureFixture) -> None:
    with registered(plugin("@hookimpl\ndef mlmerge_mergd(report): pass"), "misspelt"):
        for _ in range(2):
            with task_context():
                pass

    (line,) = caplog.messages
    assert line == (
        "The plugin misspelt implements mlmerge_mergd, which is never called; the hooks are "
        "mlmerge_merge, mlmerge_merge_selected, mlmerge_merged, mlmerge_lock"
    )
