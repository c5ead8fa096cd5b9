"""What was lost, counted, and printed at the end of the run."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

import pytest
from attrs import define, field

from tests.stress.arena import IS_LONG, PLATFORMS, Arena, Met
from tests.stress.crew import Crew, Task

ROUNDS = 20 if IS_LONG else 2
WRITERS = len(PLATFORMS)


@define
class Count:
    """What became of all that was written in one way."""

    name: str
    images: int = 0
    lost: int = 0
    reported: int = 0
    unnoticed: int = 0
    """How many were lost where not even one of the other writers failed."""
    seconds: float = 0.0
    errors: list[str] = field(factory=list)
    flaws: list[str] = field(factory=list)

    def __str__(self) -> str:
        """Say it in a line."""
        pace = self.seconds * WRITERS / self.images
        return (
            f"{WRITERS} writers, {self.name}: lost: {self.lost}/{self.images} "
            f"(reported: {self.reported}, failed: {len(self.errors)}), {pace:.1f} s a round"
        )

    @property
    def is_perfect(self) -> bool:
        """Whether everything was written, by everybody."""
        return not (self.lost or self.reported or self.errors or self.flaws) and self.images > 0

    def add(self, met: Met, seconds: float) -> None:
        """Count one round."""
        self.images += len(met.done)
        self.lost += met.lost
        self.reported += met.reported
        self.unnoticed += 0 if met.errors else met.lost
        self.seconds += seconds
        self.errors += met.errors
        self.flaws += met.flaws()


@define(eq=False)
class Counts:
    """All counts of a run; a plugin of pytest that prints them."""

    counts: list[Count] = field(factory=list)
    attacks: dict[str, tuple[int, int]] = field(factory=dict)
    """How many of each kind were attempted, and how many did no harm."""

    def survived(self, kind: str, survived: int, *, of: int) -> None:
        """Count attacks of a kind; those that did no harm were survived."""
        attempted, before = self.attacks.get(kind, (0, 0))
        self.attacks[kind] = attempted + of, before + survived

    def judge(self, kind: str, judge: Callable[[], Iterable[str]]) -> list[str]:
        """Judge one more attack, which may break down; hand on its problems."""
        self.survived(kind, 0, of=1)
        problems = list(judge())
        self.survived(kind, not problems, of=0)
        return problems

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Print the counts, and a table of attacks."""
        for count in self.counts:
            terminalreporter.write_line(str(count))
        for kind, numbers in {"": ("attempted", "survived"), **self.attacks}.items():
            if self.attacks:
                terminalreporter.write_line("{:60} {:>9} {:>9}".format(kind, *numbers))

    def measure(
        self, arena: Arena, crew: Crew, way: str, *options: str, task: Task = "ours"
    ) -> Count:
        """Let writers meet time and again, and count what they lose."""
        count = Count(f"{arena.name}, {way}")
        for _ in range(ROUNDS):
            began = time.monotonic()
            met = arena.meet(crew, task, options)
            count.add(met, time.monotonic() - began)
        self.counts.append(count)
        if "--lock" in options:
            kind = f"writes by {WRITERS} writers, two names of the registry, {way}"
            self.survived(kind, count.images - count.lost - count.reported, of=count.images)
        return count


def counts_of(config: pytest.Config) -> Counts:
    """Find the counts of this run; they are printed if this was called."""
    name = "counts of what was lost"
    found = config.pluginmanager.get_plugin(name)
    if not isinstance(found, Counts):
        found = Counts()
        config.pluginmanager.register(found, name)
    return found
