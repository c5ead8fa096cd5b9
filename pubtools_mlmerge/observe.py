"""Log events and trace spans around what is done to a tag."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Literal, Union

from attrs import define, field, frozen

from pubtools_mlmerge.concurrency import Stopped
from pubtools_mlmerge.core.manifests import platform_name
from pubtools_mlmerge.core.plan import Report
from pubtools_mlmerge.core.references import Reference
from pubtools_mlmerge.errors import MergeError, one_line

if TYPE_CHECKING:
    from opentelemetry import trace
    from opentelemetry.sdk.trace import TracerProvider

LOG = logging.getLogger("pubtools.mlmerge")

_SWITCH = "OTEL_TRACING"  # of pubtools.tracing
Value = Union[str, int, float, None]
Kind = Literal["merge", "remove", "restore"]

_TITLES: dict[Kind, str] = {
    "merge": "Merge of {source} into {destination}",
    "remove": "Removal from {destination}",
    "restore": "Restore of {destination}",
}


@frozen
class Span:
    """One part of a merge; without a recorder (tracing is off) it does nothing."""

    _recorder: trace.Span | None = None

    def note(self, **attributes: Value) -> None:
        """Add attributes, except those that are None; never pass a secret."""
        for name, value in attributes.items():
            if value is not None and self._recorder is not None:
                shown = one_line(value) if isinstance(value, str) else value
                self._recorder.set_attribute(f"mlmerge.{name}", shown)


@contextmanager
def span(name: str, **attributes: Value) -> Iterator[Span]:
    """Trace what is done in a context, as a child of the span around it.

    The decorator of pubtools.tracing is not used: it records whole tracebacks, in which other
    libraries quote URLs, and leaves its last span in the environment as the parent of later ones.
    """
    provider = _provider() if os.environ.get(_SWITCH, "").lower() == "true" else None
    if provider is None:
        yield Span()
        return
    from opentelemetry import context, propagate, trace  # noqa: PLC0415 - only where tracing is on

    # In threads that a host starts, as in its programs, the environment names the parent.
    parent = None if context.get_current() else propagate.extract(os.environ)
    with provider.get_tracer("pubtools.mlmerge").start_as_current_span(
        f"mlmerge-{name}", parent, record_exception=False, set_status_on_exception=False
    ) as recorder:
        current = Span(recorder)
        current.note(**attributes)
        try:
            yield current
        except Exception as error:
            recorder.set_attribute("error.type", type(error).__name__)
            recorder.set_status(trace.StatusCode.ERROR, _message(error) or "")
            raise


def _message(error: BaseException) -> str | None:
    """Return what an error says if it is one of ours: others may quote signed URLs."""
    return str(error) if isinstance(error, MergeError) else None


@cache
def _provider() -> TracerProvider | None:
    """Return what makes spans; None where tracing was off when pubtools.tracing was loaded."""
    try:
        from pubtools.tracing import (  # noqa: PLC0415 - loads half of OpenTelemetry
            get_trace_wrapper,
        )
    except Exception as error:  # noqa: BLE001 - without OpenTelemetry it is a NameError
        LOG.warning("Tracing is on, but pubtools.tracing cannot be loaded: %s", error)
        return None
    provider: TracerProvider | None = get_trace_wrapper().provider  # type: ignore[no-untyped-call]  # it has no types
    return provider


@define
class Observation:
    """A change of a tag under way; `report` is its result, None if the host does it."""

    _kind: Kind
    _title: str
    _names: Mapping[str, Value]
    report: Report | None = None
    _began: float = field(factory=time.monotonic)

    @property
    def seconds(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._began

    def log(self, level: int, step: str, text: str, **more: object) -> None:
        """Log a step, with an event."""
        event = {"type": f"mlmerge-{self._kind}-{step}", **self._names, **more}
        LOG.log(level, "%s: %s", self._title, text, extra={"event": event})


@contextmanager
def observed(
    kind: Kind, source: Reference | str | None, destination: Reference, *, dry_run: bool = False
) -> Iterator[Observation]:
    """Log the start and the end of what is done to a tag, and trace it."""
    names: dict[str, Value] = {
        "source": None if source is None else str(source),
        "destination": str(destination),
        "dry_run": dry_run,
    }
    title = _TITLES[kind].format(**names)
    seen = Observation(kind, f"{title} (dry run)" if dry_run else title, names)
    seen.log(logging.DEBUG, "start", "started")
    try:
        with span(kind, **names) as current:
            yield seen
            if seen.report is not None:
                current.note(**_digests(seen.report), **seen.report.counts)
    except (Exception, Stopped) as error:
        name, message = type(error).__name__, _message(error)
        seen.log(
            logging.WARNING if dry_run else logging.ERROR,
            "error",
            f"failed: {message or name}",
            error=name,
            message=message,
            seconds=round(seen.seconds, 3),
        )
        raise
    if seen.report is None:
        seen.log(logging.DEBUG, "end", "left to others", is_left=True)
    elif seen.report.changed:
        counts = ", ".join(f"{count} {fate}" for fate, count in seen.report.counts.items())
        seen.log(logging.INFO, "end", f"finished: {counts}", **_result(seen.report))
    else:
        seen.log(logging.DEBUG, "end", "finished, nothing to do", **_result(seen.report))


def _digests(report: Report) -> dict[str, Value]:
    names = ("source_digest", "previous_digest", "digest", "changed", "anchor_tag", "attempts")
    return {name: getattr(report, name) for name in names}


def _result(report: Report) -> dict[str, object]:
    stale = (e for e in report.entries if e.fate == "kept" and e.is_stale)
    return {
        **_digests(report),
        "media_type": report.media_type,
        "seconds": round(report.seconds, 3),
        "counts": report.counts,
        "stale": [
            {
                "platform": platform_name(entry.descriptor),
                "digest": entry.descriptor.digest,
                "age_days": entry.age_days,
            }
            for entry in stale
        ],
    }
