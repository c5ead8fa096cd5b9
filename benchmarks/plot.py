"""A plot of the results, as SVG that can be read on light pages and on dark ones."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from html import escape

from attrs import frozen

from benchmarks import copies, lists, many_tags, one_merge, programs, sides
from benchmarks.figures import Case, Detail
from benchmarks.results import Results

_WIDTH, _HEIGHT, _COLUMNS = 420, 290, 2
_LEFT, _RIGHT, _TOP, _BOTTOM = 62, 24, 102, 46  # the margins of a panel
_LONG = 26  # characters of a name that fill more than half of a panel
_NAMESPACE = "http://www.w3.org/2000/svg"
_STYLE = """
  text { font: 12px "DejaVu Sans", Verdana, sans-serif; fill: #1b2733; }
  .title { font-weight: bold; font-size: 13px; }
  .sheet { fill: #ffffff; stroke: #5b6b7d; }
  .grid { stroke: #d5dce4; }
  .a { color: #2e7d4f; }
  .b { color: #1f6fb2; }
  .c { color: #c25700; }
  .d { color: #8a4fb0; }
  .line { fill: none; stroke: currentColor; stroke-width: 2; }
  .point { fill: currentColor; }
  .range { stroke: currentColor; stroke-width: 5; stroke-opacity: 0.35; }
  @media (prefers-color-scheme: dark) {
    text { fill: #e4eaf0; }
    .sheet { fill: #17202a; stroke: #8a99a8; }
    .grid { stroke: #36424f; }
    .a { color: #5cc98a; }
    .b { color: #6cb4f0; }
    .c { color: #f59a4a; }
    .d { color: #c79be6; }
  }
"""


@frozen
class Panel:
    """A part of the plot: how long sides take, from left to right.

    Attributes:
        title (str):
            What it shows.
        cases (tuple[Case, ...]):
            The conditions, from left to right.
        detail (str):
            What they differ in.
        axis (str):
            What that is called.
        sides (Mapping[str, str]):
            The lines, each with its color.
    """

    title: str
    cases: tuple[Case, ...]
    detail: str
    axis: str
    sides: Mapping[str, str]

    @property
    def decades(self) -> tuple[int, int]:
        """The powers of ten, in seconds, between which all values are."""
        found = [s for case in self.cases for n, s in case.sides.items() if n in self.sides]
        values = [value for side in found for value in side.values]
        return math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))


def plot(results: Results) -> str:
    """Draw the results.

    Args:
        results (Results):
            What was measured.

    Returns:
        str: An SVG document.
    """
    panels = [panel for panel in _panels(results) if _is_drawable(panel)]
    width, height = _COLUMNS * _WIDTH, -(-len(panels) // _COLUMNS) * _HEIGHT
    size = f'width="{width}" height="{height}"'
    parts = [
        f'<svg xmlns="{_NAMESPACE}" viewBox="0 0 {width} {height}" {size} role="img">',
        "<title>How long merges take, beside the host's class and other programs</title>",
        f"<style>{_STYLE}</style>",
        f'<rect class="sheet" x="0.5" y="0.5" width="{width - 1}" height="{height - 1}" rx="8"/>',
    ]
    for number, panel in enumerate(panels):
        x, y = number % _COLUMNS * _WIDTH, number // _COLUMNS * _HEIGHT
        parts += [f'<g transform="translate({x} {y})">', *_draw(panel), "</g>"]
    return "\n".join([*parts, "</svg>", ""])


def _panels(results: Results) -> Iterator[Panel]:
    trip = "ms", "round trip, ms"
    ours = {sides.FACADE: "a", sides.STEP_VERIFIED: "b", sides.HOST: "c"}
    for registry, how in (("open", "no login"), ("token", "with tokens")):
        cases = tuple(results.all_of(one_merge.NAME, registry=registry))
        yield Panel(f"One merge in a process, {how}", cases, *trip, ours)
    cases = tuple(results.all_of(programs.NAME, registry="open"))
    shown = {programs.OURS: "a", programs.BESIDE_HOST: "b", programs.HOSTS: "c"}
    yield Panel("One merge as a process, no login", cases, *trip, shown)
    cases = tuple(results.all_of(copies.NAME, registry="open"))
    pair = {sides.STEP_VERIFIED: "b", copies.SKOPEO: "c"}
    yield Panel("One merge into another repository, no login", cases, *trip, pair)
    conditions: dict[str, Detail] = {"ms": 20, "repositories": 1, "threads": sides.THREADS}
    cases = tuple(results.all_of(many_tags.NAME, registry="open", **conditions))
    many = {sides.STEP: "a", sides.STEP_VERIFIED: "b"}
    many |= {sides.HOST_POOL: "c", sides.HOST_LOOP: "d"}
    yield Panel("Many tags, one repository, 20 ms", cases, "tags", "tags", many)
    cases = tuple(results.all_of(lists.TIME))
    both = {lists.OURS: "a", lists.HOSTS: "c"}
    yield Panel("merge() alone", cases, "entries", "entries", both)


def _is_drawable(panel: Panel) -> bool:
    return any(side in case.sides for case in panel.cases for side in panel.sides)


def _draw(panel: Panel) -> Iterator[str]:
    yield f'<text class="title" x="16" y="26">{escape(panel.title)}</text>'
    yield from _grid(panel)
    measured = [side for side in panel.sides if any(side in case.sides for case in panel.cases)]
    columns = 2 if max(map(len, measured)) < _LONG else 1
    for number, side in enumerate(measured):
        yield f'<g class="{panel.sides[side]}">'
        yield from _line(panel, side)
        x, y = 20 + number % columns * _WIDTH // 2, 48 + number // columns * 18
        yield f'<circle class="point" cx="{x}" cy="{y - 4}" r="4"/>'
        yield f'<text x="{x + 10}" y="{y}">{escape(side)}</text></g>'


def _line(panel: Panel, side: str) -> Iterator[str]:
    """Draw the medians of a side, with the range of its runs behind each."""
    points = [(_x(panel, n), c.sides[side]) for n, c in enumerate(panel.cases) if side in c.sides]
    line = " ".join(f"{x},{_y(panel, taken.median)}" for x, taken in points)
    yield f'<polyline class="line" points="{line}"/>'
    for x, taken in points:
        low, high = _y(panel, min(taken.values)), _y(panel, max(taken.values))
        yield f'<path class="range" d="M{x} {low}V{high}"/>'
        yield f'<circle class="point" cx="{x}" cy="{_y(panel, taken.median)}" r="3.5"/>'


def _grid(panel: Panel) -> Iterator[str]:
    first, last = panel.decades
    for power in range(first, last + 1):
        y = _y(panel, 10.0**power)
        yield f'<path class="grid" d="M{_LEFT} {y}H{_WIDTH - _RIGHT}"/>'
        yield f'<text x="{_LEFT - 8}" y="{y + 4}" text-anchor="end">{_label(power)}</text>'
    bottom = _HEIGHT - _BOTTOM
    for number, case in enumerate(panel.cases):
        text = case.details[panel.detail]
        yield f'<text x="{_x(panel, number)}" y="{bottom + 18}" text-anchor="middle">{text}</text>'
    middle = (_LEFT + _WIDTH - _RIGHT) / 2
    yield f'<text x="{middle}" y="{bottom + 36}" text-anchor="middle">{escape(panel.axis)}</text>'


def _label(power: int) -> str:
    for unit, scale in (("s", 0), ("ms", -3), ("µs", -6)):
        if power >= scale:
            return f"{10 ** (power - scale)} {unit}"
    return f"1e{power} s"


def _x(panel: Panel, number: int) -> float:
    room = _WIDTH - _LEFT - _RIGHT
    return round(_LEFT + room * (number + 0.5) / len(panel.cases), 1)


def _y(panel: Panel, seconds: float) -> float:
    first, last = panel.decades
    room = _HEIGHT - _TOP - _BOTTOM
    return round(_TOP + room * (last - math.log10(seconds)) / max(1, last - first), 1)
