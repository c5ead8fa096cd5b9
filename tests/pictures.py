"""The picture of a merge in the documentation. `python -m tests.pictures` draws it anew."""

from __future__ import annotations

from pathlib import Path

from pubtools_mlmerge.core.manifests import Index
from pubtools_mlmerge.reports.html import Markup, draw, element, style_of
from pubtools_mlmerge.testing import make_attestation, make_image, make_index
from tests.paper import report_of

FILE = Path(__file__).parents[1] / "docs" / "merge.svg"
_WIDTH, _MARGIN = 760, 20


def merge_picture() -> str:
    """Draw what the README shows: 1.1 is merged into a tag that holds 1.0."""
    platforms = ("linux/amd64", "linux/arm64", "linux/ppc64le", "linux/s390x")
    images = [make_image(platform, seed="new") for platform in platforms[:-1]]
    made = (
        make_index([*images, *map(make_attestation, images)]),
        make_index([make_image(platform, seed="old") for platform in platforms]),
    )
    new, old = (Index.from_bytes(each.content, each.media_type) for each in made)
    picture = draw(report_of(new, old), "merge")
    height = int(picture.text.partition(' height="')[2].partition('"')[0]) + 2 * _MARGIN
    # In a page of documentation it is on paper, so to speak: by day at night, too.
    style = style_of(["drawing.css"]).partition("@media (prefers-color-scheme: dark)")
    colours = style[0] + style[2].partition("\n}\n")[2]
    sheet = element(
        "rect", x=0.5, y=0.5, width=_WIDTH - 1, height=height - 1, rx=8, fill="#fff", stroke="#ccc"
    )
    inner = element("svg", picture, x=_MARGIN, y=_MARGIN, width=_WIDTH - 2 * _MARGIN)
    outer = element(
        "svg",
        element("style", Markup(colours)),
        sheet,
        inner,
        xmlns="http://www.w3.org/2000/svg",
        viewBox=f"0 0 {_WIDTH} {height}",
        width=_WIDTH,
        height=height,
    )
    return outer.text.replace("><", ">\n<") + "\n"


if __name__ == "__main__":
    FILE.write_text(merge_picture(), encoding="ascii")
