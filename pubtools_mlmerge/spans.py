"""Spans: the parts of a merge, for hosts that trace their tasks through `pubtools.tracing`.

Where tracing is off, neither that module nor OpenTelemetry is loaded, and no span is made.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache
from typing import Protocol, Union

from attrs import frozen

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

    Args:
        name (str):
            What is done.
        **attributes (str | int | float | None):
            What it is done with.

    Returns:
        AbstractContextManager[Span]: The context.
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
