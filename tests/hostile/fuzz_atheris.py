"""Fuzz one target, guided by what it covers: `python -m tests.hostile.fuzz_atheris TARGET RUNS`.

Needs atheris, which has wheels for some versions of Python only. Ends with 0 after RUNS runs, or
earlier with the error that came out; the input that led to it is then in a file `crash-...`.
"""

from __future__ import annotations

import importlib
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from hypothesis import given, settings
from hypothesis.strategies import SearchStrategy

LONGEST = 4096  # bytes of an input
CHOICES = [b"\0" + bytes(range(step, 256, step)) * 8 for step in (1, 3, 7)]
Target = Callable[[bytes], object]


def main(arguments: Sequence[str]) -> None:
    """Fuzz until the runs are done; the process ends with that."""
    atheris = importlib.import_module("atheris")
    name, runs = arguments
    with atheris.instrument_imports(include=["pubtools_mlmerge"]):
        target = importlib.import_module("tests.hostile.targets").TARGETS[name]
        strategies = importlib.import_module("tests.hostile.strategies")
    with tempfile.TemporaryDirectory() as corpus:
        for number, seed in enumerate([*strategies.seeds(name), *CHOICES]):
            (Path(corpus) / f"seed-{number}").write_bytes(seed)
        options = [f"-runs={int(runs)}", f"-max_len={LONGEST}", "-timeout=10"]
        atheris.Setup([sys.argv[0], *options, corpus], _either(target, strategies.fuzzed(name)))
        atheris.Fuzz()


def _either(target: Target, known: SearchStrategy[bytes]) -> Callable[[bytes], object]:
    """Take an input as it is, or, behind a zero, as the choices by which to make one."""

    @settings(database=None, deadline=None)
    @given(known)
    def chosen(content: bytes) -> None:
        target(content)

    def one(content: bytes) -> object:
        if content[:1] == b"\0":
            return chosen.hypothesis.fuzz_one_input(content[1:])  # type: ignore[attr-defined]  # added by the decorator
        return target(content)

    return one


if __name__ == "__main__":
    main(sys.argv[1:])
