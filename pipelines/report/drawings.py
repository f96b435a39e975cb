"""Charts as inline SVG that takes its colors from the page around it."""

import re
from typing import Any

import vl_convert

from .charts import Palette

LEAST_WIDTH = 400.0

# Colors nobody draws with, each standing for one of the page's: vl-convert writes them out as they are.
SLOTS = Palette(
    ink="#010100",
    muted="#010101",
    line="#010102",
    connected="#010103",
    disconnected="#010104",
    unknown="#010105",
    heat=("#010106", "#010107", "#010108", "#010109", "#01010a"),
    series=("#010103",),
)
"""The palette of charts that `draw_inline` turns into SVG."""

_VARIABLES = {
    SLOTS.ink: "var(--ink)",
    SLOTS.muted: "var(--muted)",
    SLOTS.line: "var(--line)",
    SLOTS.connected: "var(--connected)",
    SLOTS.disconnected: "var(--disconnected)",
    SLOTS.unknown: "var(--unknown)",
    **{color: f"var(--heat-{number})" for number, color in enumerate(SLOTS.heat)},
}
_COLOR = re.compile("|".join(map(re.escape, _VARIABLES)))
_ACCESSIBILITY = re.compile(r' (?:role|aria-[a-z]+)="[^"]*"')
_SIZE = re.compile(r'<svg[^>]*? width="([\d.]+)" height="([\d.]+)"[^>]*>')


def draw_inline(chart: Any, name: str, description: str) -> str:
    """A chart drawn with `SLOTS` as SVG to stand in an HTML page.

    Args:
        chart: an altair chart.
        name: of this drawing within the page; its ids begin with it.
        description: what a person who cannot see it should know; plain text.

    Returns:
        An `svg` element without a size of its own: it fills the width it is given. Its colors are the custom
        properties --ink, --muted, --line, --connected, --disconnected, --unknown and --heat-0 to --heat-4.
    """
    svg = vl_convert.vegalite_to_svg(chart.to_dict())
    found = _SIZE.search(svg)
    assert found is not None
    # what is small is drawn on the same scale as the others, not enlarged
    width, height = max(float(found[1]), LEAST_WIDTH), float(found[2])
    start = f'<svg viewBox="0 0 {width:g} {height:g}" role="img" aria-label="{_escaped(description)}">'
    # one image with one description, and not a hundred without
    body = _ACCESSIBILITY.sub("", svg[found.end() :])
    body = re.sub(r'id="([^"]+)"', rf'id="{name}-\1"', body)
    body = re.sub(r"url\(#([^)]+)\)", rf"url(#{name}-\1)", body)
    return start + _COLOR.sub(lambda match: _VARIABLES[match[0]], body)


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace('"', "&quot;")
