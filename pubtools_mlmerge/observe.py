"""Log events and trace spans around what is done to a tag."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from functools import cache
from typing import Literal, Optional, Protocol, TypeVar, Union

from attrs import Factory, field, frozen

from pubtools_mlmerge.core.manifests import platform_name
from pubtools_mlmerge.core.plan import Report
from pubtools_mlmerge.core.references import Reference
from pubtools_mlmerge.errors import MergeError

LOG = logging.getLogger("pubtools.mlmerge")

_SWITCH = "OTEL_TRACING"  # of pubtools.tracing
Value = Union[str, int, float, None]


class Span(Protocol):
    """One part of a merge while it is done."""

    def note(self, **attributes: Value) -> None:
        """Add attributes; none of them a secret, and those that are none are left out."""


class _Unrecorded:
    """Stands for all spans where tracing is off."""

    def note(self, **attributes: Value) -> None:
        """Forget it."""


_OFF: AbstractContextManager[Span] = nullcontext(_Unrecorded())


def span(name: str, **attributes: Value) -> AbstractContextManager[Span]:
    """Record what is done in a context as a span, below the one that it is in.

    The library's own decorator is not used: it records whole tracebacks, with what other libraries
    say of URLs, and leaves its last span in the environment as the parent of what comes later.
    """
    tracer = _tracer() if os.environ.get(_SWITCH, "").lower() == "true" else None
    return _OFF if tracer is None else _recorded(tracer, name, attributes)


class _Recorder(Protocol):
    """What we use of a span of OpenTelemetry."""

    def set_attribute(self, key: str, value: str | float) -> None:
        """Set one."""

    def set_status(self, status: object, description: str) -> None:
        """Set whether it went well."""


class _Tracer(Protocol):
    """What we use of a tracer of OpenTelemetry."""

    def start_as_current_span(
        self,
        name: str,
        context: object,
        *,
        record_exception: bool,
        set_status_on_exception: bool,
    ) -> AbstractContextManager[_Recorder]:
        """Make a span."""


class _Provider(Protocol):
    """What we use of a provider of OpenTelemetry."""

    def get_tracer(self, name: str) -> _Tracer:
        """Make a tracer."""


class _Wrapper(Protocol):
    """What we use of `pubtools.tracing`."""

    @property
    def provider(self) -> _Provider | None:
        """Give what traces are made with; none where tracing was off when it was asked first."""


@frozen(eq=False, repr=False)
class _Recorded:
    """A span of OpenTelemetry."""

    recorder: _Recorder

    def note(self, **attributes: Value) -> None:
        """Add attributes."""
        for name, value in attributes.items():
            if value is not None:
                self.recorder.set_attribute(f"mlmerge.{name}", value)

    def fail(self, error: Exception) -> None:
        """Tell what failed; only our own errors are known to have no secrets in them."""
        from opentelemetry.trace import StatusCode  # noqa: PLC0415 - only where tracing is on

        self.recorder.set_attribute("error.type", type(error).__name__)
        words = str(error) if isinstance(error, MergeError) else ""
        self.recorder.set_status(StatusCode.ERROR, words)


@contextmanager
def _recorded(tracer: _Tracer, name: str, attributes: Mapping[str, Value]) -> Iterator[Span]:
    from opentelemetry import context, propagate  # noqa: PLC0415 - only where tracing is on

    # In threads that a host starts, as in its programs, the environment tells of the parent.
    parent = None if context.get_current() else propagate.extract(os.environ)
    with tracer.start_as_current_span(
        f"mlmerge-{name}", parent, record_exception=False, set_status_on_exception=False
    ) as recorder:
        recorded = _Recorded(recorder)
        recorded.note(**attributes)
        try:
            yield recorded
        except Exception as error:
            recorded.fail(error)
            raise


def _tracer() -> _Tracer | None:
    wrapper = _wrapper()
    provider = None if wrapper is None else wrapper.provider
    return None if provider is None else provider.get_tracer("pubtools.mlmerge")


@cache
def _wrapper() -> _Wrapper | None:
    try:
        from pubtools.tracing import (  # noqa: PLC0415 - loads half of OpenTelemetry
            get_trace_wrapper,
        )
    except Exception as error:  # noqa: BLE001 - without OpenTelemetry it is a NameError
        LOG.warning("Tracing is on, but pubtools.tracing cannot be loaded: %s", error)
        return None
    wrapper: _Wrapper = get_trace_wrapper()  # type: ignore[no-untyped-call]  # it has no types
    return wrapper


class Meter:
    """Counts requests and seconds of one piece of work, in all threads that do a part of it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._began = time.monotonic()
        self._requests = 0

    @property
    def requests(self) -> int:
        """How many requests there were."""
        return self._requests

    @property
    def seconds(self) -> float:
        """How long ago it was made."""
        return time.monotonic() - self._began

    @contextmanager
    def running(self) -> Iterator[None]:
        """Count what is requested in this context."""
        token = _CURRENT.set(self)
        try:
            yield
        finally:
            _CURRENT.reset(token)

    def count(self) -> None:
        """Count one request."""
        with self._lock:
            self._requests += 1


_CURRENT: ContextVar[Meter | None] = ContextVar("pubtools_mlmerge_meter", default=None)


def count_request() -> None:
    """Count a request for whoever counts in this context."""
    meter = _CURRENT.get()
    if meter is not None:
        meter.count()


@contextmanager
def uncounted() -> Iterator[None]:
    """Count nothing of what is requested in this context."""
    token = _CURRENT.set(None)
    try:
        yield
    finally:
        _CURRENT.reset(token)


Kind = Literal["merge", "remove", "restore"]
ReportT = TypeVar("ReportT", bound=Optional[Report])

_TITLES: dict[Kind, str] = {
    "merge": "Merge of {source} into {destination}",
    "remove": "Removal from {destination}",
    "restore": "Restore of {destination}",
}


def observed(
    kind: Kind,
    source: Reference | None,
    destination: Reference,
    act: Callable[[], ReportT],
    *,
    dry_run: bool = False,
) -> ReportT:
    """Do something to a tag, and tell of its start and its end."""
    work = _Work(kind, source, destination, dry_run)
    work.tell(logging.INFO, "start", "started")
    try:
        report = work.traced(act)
    except Exception as error:
        work.tell_failure(error)
        raise
    outcome = {"is_left": True} if report is None else _outcome(report)
    work.tell(logging.INFO, "end", _summary(report), **outcome)
    return report


@frozen(eq=False, repr=False)
class _Work:
    """What is done to a tag."""

    kind: Kind
    source: Reference | None
    destination: Reference
    dry_run: bool
    began: float = field(default=Factory(time.monotonic))

    @property
    def title(self) -> str:
        """What it is, for people."""
        title = _TITLES[self.kind].format(source=self.source, destination=self.destination)
        return f"{title} (dry run)" if self.dry_run else title

    @property
    def source_name(self) -> str | None:
        return None if self.source is None else str(self.source)

    def traced(self, act: Callable[[], ReportT]) -> ReportT:
        """Do it within a span."""
        names = {"source": self.source_name, "destination": str(self.destination)}
        with span(self.kind, dry_run=self.dry_run, **names) as current:
            report = act()
            if report is not None:
                current.note(
                    source_digest=report.source_digest,
                    previous_digest=report.previous_digest,
                    digest=report.digest,
                    changed=report.changed,
                    anchor_tag=report.anchor_tag,
                    attempts=report.attempts,
                    requests=report.requests,
                    **report.counts,
                )
            return report

    def tell(self, level: int, step: str, words: str, **more: object) -> None:
        """Log a step of it."""
        event = {
            "type": f"mlmerge-{self.kind}-{step}",
            "source": self.source_name,
            "destination": str(self.destination),
            "dry_run": self.dry_run,
            **more,
        }
        LOG.log(level, "%s: %s", self.title, words, extra={"event": event})

    def tell_failure(self, error: Exception) -> None:
        """Log a failure; what other libraries say may have URLs in it, and those may be signed."""
        kind, message = type(error).__name__, str(error) if isinstance(error, MergeError) else None
        self.tell(
            logging.WARNING if self.dry_run else logging.ERROR,
            "error",
            f"failed: {message or kind}",
            error=kind,
            message=message,
            seconds=round(time.monotonic() - self.began, 3),
        )


def _summary(report: Report | None) -> str:
    if report is None:
        return "left to others"
    if not report.changed:
        return "finished, nothing to do"
    return "finished: " + ", ".join(f"{count} {fate}" for fate, count in report.counts.items())


def _outcome(report: Report) -> dict[str, object]:
    return {
        "source_digest": report.source_digest,
        "previous_digest": report.previous_digest,
        "digest": report.digest,
        "media_type": report.media_type,
        "changed": report.changed,
        "anchor_tag": report.anchor_tag,
        "attempts": report.attempts,
        "requests": report.requests,
        "seconds": round(report.seconds, 3),
        "counts": report.counts,
        "stale": [
            {
                "platform": platform_name(entry.descriptor),
                "digest": entry.descriptor.digest,
                "age_days": entry.age_days,
            }
            for entry in report.entries
            if entry.fate == "kept" and entry.is_stale
        ],
    }
