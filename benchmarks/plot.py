"""The plot: how long each side of each figure took."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

from attrs import frozen

ROW, LEFT, RIGHT, TOP, WIDTH = 26, 280, 40, 60, 900  # measures of the plot
COLOURS = ("#c25700", "#2e7d4f", "#1f6fb2", "#8a4fb0", "#5b6b7d", "#b03a6f")
STYLE = """
  text { font: 12px "DejaVu Sans", Verdana, sans-serif; fill: #1b2733; }
  .sheet { fill: #fff; stroke: #5b6b7d; } .grid { stroke: #d5dce4; } .range { stroke-width: 3; }
"""


@frozen
class Side:
    """How many seconds one side of a figure took; a figure's sides are compared with its last."""

    name: str
    median: float
    fastest: float
    slowest: float
    requests: int | None


Figures = Mapping[str, Sequence[Side]]


def in_words(seconds: float) -> str:
    return f"{seconds:.3g} s" if seconds >= 1 else f"{seconds * 1000:.3g} ms"


def plot(figures: Figures) -> str:
    """Draw a line for each figure, with a point for each side, on a logarithmic axis."""
    times = [t for sides in figures.values() for s in sides for t in (s.fastest, s.slowest)]
    low, high = math.floor(math.log10(min(times))), math.ceil(math.log10(max(times)))
    height = TOP + ROW * len(figures)

    def x(seconds: float) -> float:
        share = (math.log10(seconds) - low) / max(1, high - low)
        return round(LEFT + share * (WIDTH - LEFT - RIGHT), 1)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img">',
        f"<title>How long merges take</title><style>{STYLE}</style>",
        f'<rect class="sheet" x="0.5" y="0.5" width="{WIDTH - 1}" height="{height - 1}" rx="8"/>',
    ]
    for at, label in ((x(10.0**power), in_words(10.0**power)) for power in range(low, high + 1)):
        grid = f'<path class="grid" d="M{at} {TOP - 28}V{height - 14}"/>'
        parts.append(f'{grid}<text x="{at}" y="{TOP - 36}" text-anchor="middle">{label}</text>')
    for y, (name, sides) in zip(range(TOP, height, ROW), figures.items()):
        parts.append(f'<text x="16" y="{y + 4}">{escape(name)}</text>')
        for side, colour in zip(reversed(sides), COLOURS):
            title = f"<title>{escape(side.name)}: {in_words(side.median)}</title>"
            line = f'<path class="range" d="M{x(side.fastest)} {y}H{x(side.slowest)}"/>'
            point = f'<circle cx="{x(side.median)}" cy="{y}" r="5"/>'
            parts.append(f'<g stroke="{colour}" fill="{colour}">{title}{line}{point}</g>')
    return "\n".join([*parts, "</svg>"])
