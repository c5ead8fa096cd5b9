"""Calls of the hooks that others may implement."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from pubtools.pluggy import hookimpl, hookspec, pm

from pubtools_mlmerge.core.plan import Report
from pubtools_mlmerge.core.references import Reference
from pubtools_mlmerge.errors import LockFailed, LockLost
from pubtools_mlmerge.hooks import announce, lock_tags

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
    """A lock of a site that cannot be lost."""

    failure: object = None  # what failed while it was held

    def __init__(self) -> None:
        self.is_held = False

    def __enter__(self) -> object:
        self.is_held = True
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        self.is_held, self.failure = False, kind


class LosableLock(Lock):
    """A lock of a site that was lost."""

    def check(self) -> None:
        raise LockLost(str(TAG), "expired")


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


@contextmanager
def registered(plugin: object) -> Iterator[None]:
    pm.register(plugin)
    try:
        yield
    finally:
        pm.unregister(plugin)


def test_an_upload_is_announced_by_our_hook() -> None:
    site = Site()

    with registered(site):
        announce(REPORT)

    assert REPORT in site.heard


def test_an_upload_is_announced_by_the_host_s_hook_where_there_is_one() -> None:
    site, had = Site(), hasattr(pm.hook, "quay_images_tagged")
    if not had:
        pm.add_hookspecs(HostHooks)

    with registered(site):
        announce(REPORT)

    assert ("quay.io/src/app:new", ["quay.io/ns/app:1"]) in site.heard
    if not had:
        delattr(pm.hook, "quay_images_tagged")


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
def test_the_lock_of_a_site_may_be_lost(wait: float) -> None:
    site = Site(LosableLock())
    locks = lock_tags([[str(TAG)]], wait=wait)

    with registered(site), pytest.raises(LockLost), locks as (check,):
        check()

    assert (site.lock.is_held, site.lock.failure) == (False, LockLost)


class Refusing(Lock):
    """A lock of a site that cannot be had, as there is nobody to ask."""

    def __enter__(self) -> object:
        raise OSError("nobody answers")


@pytest.mark.parametrize("wait", WAITS)
def test_the_lock_of_a_site_may_be_refused(wait: float) -> None:
    lock = lock_tags([[str(TAG)]], wait=wait)
    with registered(Site(Refusing())), pytest.raises(OSError, match="nobody answers"), lock:
        pass


class Slow(Lock):
    """A lock of a site that somebody holds for now."""

    def __init__(self) -> None:
        super().__init__()
        self.free, self.left = threading.Event(), threading.Event()

    def __enter__(self) -> object:
        self.free.wait(60)
        return super().__enter__()

    def __exit__(self, *failure: object) -> None:
        super().__exit__(*failure)
        self.left.set()


def test_the_lock_of_a_site_that_comes_too_late_is_let_go() -> None:
    slow, lock = Slow(), lock_tags([[str(TAG)]], wait=0.01)

    with registered(Site(slow)), pytest.raises(LockFailed, match="has not given it"), lock:
        pass
    slow.free.set()

    assert slow.left.wait(60)


def hold(held: threading.Event) -> None:
    with lock_tags([[str(TAG)]]):
        held.set()


def test_there_is_a_lock_of_the_process_where_a_site_has_none() -> None:
    held = threading.Event()
    other = threading.Thread(target=hold, args=(held,))

    with lock_tags([[str(TAG)]]) as (check,):
        check()
        other.start()
        assert not held.wait(0.05)
    other.join()

    assert held.is_set()


def test_a_lock_may_be_kept_elsewhere(tmp_path: Path) -> None:
    with lock_tags([[str(TAG)]], (tmp_path / "locks").as_uri()) as (check,):
        check()

        assert list((tmp_path / "locks").iterdir())
