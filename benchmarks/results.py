"""The results of a run, as they are written down and read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from attrs import asdict, evolve, frozen

from benchmarks.figures import Case, Detail, Side

_DIGITS = ".5g"


@frozen(kw_only=True)
class Results:
    """What was measured, and where.

    Attributes:
        machine (Mapping[str, Detail]):
            What it was measured on.
        absent (tuple[str, ...]):
            Other programs that were not there.
        cases (tuple[Case, ...]):
            What was measured.
    """

    machine: Mapping[str, Detail]
    absent: tuple[str, ...]
    cases: tuple[Case, ...]

    @property
    def names(self) -> list[str]:
        """The names of cases, in the order in which they were measured."""
        return list(dict.fromkeys(case.name for case in self.cases))

    def all_of(self, name: str, **details: Detail) -> list[Case]:
        """Find the cases of a name that have these details."""
        wanted = details.items()
        return [c for c in self.cases if c.name == name and wanted <= c.details.items()]

    def find(self, name: str, **details: Detail) -> Case | None:
        """Find the first of them."""
        return next(iter(self.all_of(name, **details)), None)

    def over(self, before: Results) -> Results:
        """Keep the cases of a run before this one that were not measured again."""
        names = dict.fromkeys([*before.names, *self.names])
        found = [self.all_of(name) or before.all_of(name) for name in names]
        return evolve(self, cases=tuple(case for cases in found for case in cases))

    def write(self, path: Path) -> None:
        """Write a file, each case on a line of its own."""
        cases = ",\n".join(json.dumps(_written(case)) for case in self.cases)
        lines = (
            f'"machine": {json.dumps(dict(self.machine))}',
            f'"absent": {json.dumps(self.absent)}',
            f'"cases": [\n{cases}\n]',
        )
        text = ",\n".join(lines)
        path.write_text(f"{{\n{text}\n}}\n", encoding="utf-8")


def read(path: Path) -> Results:
    """Read a file that was written from results."""
    found = json.loads(path.read_text(encoding="utf-8"))
    cases = tuple(
        Case(
            name=case["name"],
            details=case["details"],
            sides={
                name: Side(values=tuple(side["values"]), requests=side["requests"])
                for name, side in case["sides"].items()
            },
            against=case["against"],
            unit=case["unit"],
            load=case["load"],
        )
        for case in found["cases"]
    )
    return Results(machine=found["machine"], absent=tuple(found["absent"]), cases=cases)


def _written(case: Case) -> dict[str, object]:
    sides: dict[str, object] = {}
    for name, side in case.sides.items():
        ratio = case.ratio(name) if name != case.against else None
        sides[name] = {
            "values": [_short(value) for value in side.values],
            "median": _short(side.median),
            "requests": side.requests,
            "ratio": ratio and {part: _short(value) for part, value in asdict(ratio).items()},
        }
    return {
        "name": case.name,
        "details": dict(case.details),
        "unit": case.unit,
        "load": case.load,
        "against": case.against,
        "sides": sides,
    }


def _short(value: float) -> float:
    return float(format(value, _DIGITS))
