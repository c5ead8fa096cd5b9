"""Events: a merge, a removal or a restore as logs and traces tell of it, from start to end."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Literal, Optional, TypeVar

from attrs import Factory, field, frozen

from pubtools_mlmerge.core.plan import Report
from pubtools_mlmerge.core.references import Reference
from pubtools_mlmerge.errors import MergeError
from pubtools_mlmerge.report import platform_name
from pubtools_mlmerge.spans import span

LOG = logging.getLogger("pubtools.mlmerge")

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
    """Do something to a tag, and tell of its start and its end.

    Args:
        kind (str):
            ``merge``, ``remove`` or ``restore``.
        source (Reference | None):
            Where new entries come from; none where they come from nowhere else.
        destination (Reference):
            The tag.
        act (Callable[[], MergeReport | None]):
            Does it; there is no report where the tag is left to others.
        dry_run (bool):
            Whether nothing is written.

    Returns:
        MergeReport | None: What `act` returns.

    Raises:
        Exception: What `act` raises.
    """
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
