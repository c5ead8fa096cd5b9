"""Programs that are traced, and the spans that they leave."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from attrs import field, frozen

from tests.programs import Done, python

_SETUP = """
import json, os
os.environ.update({environment!r})
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from pubtools.pluggy import hookimpl, pm
EXPORTER = InMemorySpanExporter()
class Site:
    @hookimpl
    def otel_exporter(self):
        return EXPORTER
pm.register(Site())
try:
{code}
finally:
    from pubtools.tracing import get_trace_wrapper
    get_trace_wrapper().force_flush()
    spans = [json.loads(span.to_json()) for span in EXPORTER.get_finished_spans()]
    print("\\n" + json.dumps(spans))
"""


@frozen
class Span:
    """A span as it was exported."""

    name: str
    id: str
    parent: str | None
    attributes: Mapping[str, object]
    status: Mapping[str, str]
    events: Sequence[object] = field(repr=False)


@frozen
class Trace:
    """All spans of a process, in the order in which they ended."""

    done: Done
    spans: tuple[Span, ...]

    def named(self, name: str) -> list[Span]:
        """List the spans of a name."""
        return [span for span in self.spans if span.name == f"mlmerge-{name}"]

    def one(self, name: str) -> Span:
        """Give the only span of a name."""
        (only,) = self.named(name)
        return only

    def below(self, parent: Span) -> list[str]:
        """Name what is directly below a span."""
        names = (span.name for span in self.spans if span.parent == parent.id)
        return sorted(name.partition("-")[2] for name in names)


def trace(code: str, **environment: str) -> Trace:
    """Run a piece of code in a new process that is traced."""
    body = "\n".join(f"    {line}" for line in code.strip().splitlines())
    environment = {"OTEL_TRACING": "true", **environment}
    done = python(_SETUP.format(code=body, environment=environment))
    return Trace(done, tuple(map(_span, json.loads(done.out.splitlines()[-1]))))


def _span(exported: Mapping[str, object]) -> Span:
    context, attributes, status = (exported[key] for key in ("context", "attributes", "status"))
    name, parent, events = (exported[key] for key in ("name", "parent_id", "events"))
    assert isinstance(context, dict)
    assert isinstance(attributes, dict)
    assert isinstance(status, dict)
    assert isinstance(events, list)
    return Span(str(name), context["span_id"], _text(parent), attributes, status, events)


def _text(value: object) -> str | None:
    return None if value is None else str(value)
