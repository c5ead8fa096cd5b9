"""Merges that are killed at any moment: each tag is whole, and the next run does what is left."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest
from attrs import frozen

from tests.programs import ROOT, Done, command, environment, run_here
from tests.stress.arena import IS_LONG, PLATFORMS, Arena, Met
from tests.stress.counts import Counts

_TAGS = 6
_SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
_KILLS = 20 if IS_LONG else 1  # by each signal


@frozen
class Killed:
    """A merge into several tags that got a signal after some seconds."""

    arena: Arena
    tags: Sequence[str]
    done: Done
    number: signal.Signals

    @property
    def reported(self) -> set[str]:
        """The tags that it says something about."""
        return {tag for tag in self.tags if f":{tag}" in self.done.out + self.done.err}

    def flaws(self, tag: str) -> Iterator[str]:
        """Yield what must not be so, whenever the signal came."""
        if self.done.code not in (0, 128 + self.number, -self.number):
            yield f"it ended with {self.done.code}: {self.done.err}"
        if not self.arena.is_untouched(tag):
            yield from Met(tag=tag, done=(), held=self.arena.held(tag)).flaws()
            if len(self.listed(tag)) != 2:
                yield f"{tag} lists {self.listed(tag)}"
            if self.number is not signal.SIGKILL and tag not in self.reported:
                yield f"{tag} was written, and nothing says so: {self.done}"

    def listed(self, tag: str) -> list[object]:
        """The digests that a tag lists now."""
        return Met(tag=tag, done=(), held=self.arena.held(tag)).listed


@pytest.fixture
def words(tmp_path: Path) -> tuple[str, ...]:
    """Options of all merges here; nobody waits for a lock that was left behind."""
    return ("--lock", f"{tmp_path.as_uri()}?wait=0", "--threads", "2")


@pytest.fixture(scope="module")
def longest(arenas: Mapping[str, Arena]) -> float:
    """How many seconds a merge may take, judging from one that writes nothing."""
    arena, began = arenas["docker-registry"], time.monotonic()
    kill(merge(arena, [arena.fresh()], ["--dry-run"]), signal.SIGKILL, 60)
    return 1.5 * (time.monotonic() - began)


def merge(arena: Arena, tags: Sequence[str], words: Sequence[str]) -> tuple[str, ...]:
    tags_named = (("--dest-ref", arena.reference(tag)) for tag in tags)
    source = arena.arguments(PLATFORMS[0], tags[0])[:2]
    return (*source, *(part for pair in tags_named for part in pair), *arena.options, *words)


def kill(arguments: Sequence[str], number: signal.Signals, seconds: float) -> Done:
    with subprocess.Popen(
        [*command("merge"), *arguments],
        cwd=ROOT,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            out, err = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            process.send_signal(number)
            out, err = process.communicate(timeout=60)
    return Done(process.returncode, out, err)


@pytest.mark.parametrize("number", _SIGNALS, ids=lambda number: number.name)
def test_a_kill_at_any_moment_leaves_tags_whole(
    arenas: Mapping[str, Arena],
    counts: Counts,
    words: Sequence[str],
    longest: float,
    number: signal.Signals,
) -> None:
    arena, wrong, whole = arenas["docker-registry"], list[str](), 0
    for _ in range(_KILLS):
        tags = [arena.fresh() for _ in range(_TAGS)]
        seconds = random.uniform(longest / 3, longest)  # noqa: S311 - guards nothing
        done = kill(merge(arena, tags, words), number, seconds)
        killed = Killed(arena, tags, done, number)
        flaws = {tag: list(killed.flaws(tag)) for tag in tags}
        again = run_here("merge", *merge(arena, tags, words), "--output", "json")
        results = {str(report["digest"]) for report in again.reports}
        for tag in tags:
            if again.code or len(results) != 1 or len(killed.listed(tag)) != 2:
                flaws[tag].append(f"{tag} is not completed: {again.err}")
        whole += sum(not found for found in flaws.values())
        wrong += [f"after {seconds:.3f} s: {flaw}" for found in flaws.values() for flaw in found]
    counts.survived(f"tags in {_KILLS} merges ended by {number.name}", whole, of=_KILLS * _TAGS)

    assert not wrong, json.dumps(wrong, indent=1)
