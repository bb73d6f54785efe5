"""Write what docs/bench.py measured: a Markdown table, and a plot of the growth curves in SVG."""

import datetime
import math
import os
import platform
from collections.abc import Sequence
from html import escape
from pathlib import Path

from bench_ratios import Row

WIDE, HIGH, EDGE = 720, 420, 56
COLOURS = ("#4a6f94", "#a40e26", "#116329", "#744500", "#6639ba", "#1b7c83", "#bf3989", "#57606a")
HEAD = """# How fast, and how it grows

Written by `.venv/bin/nox -s bench`, which measures all of it side by side and fails when a promise is missed. Ratios stand on
a busy machine, seconds want a quiet one. On {day}: {cores} cores, load {load:.1f}, {system}, CPython {python}.{partly}

| figure | measured | promised | held | |
|---|---|---|---|---|
"""
PLOT = """
## Growth

Ten times the work, from the left end of each line to the right one, may cost eleven times. Both axes are shares of the largest:
a line no steeper than the dashed one grows no faster than its work.

![growth curves: cost against work, both as shares of the largest](bench-growth.svg)
"""


def write(folder: Path, rows: Sequence[Row], *, whole: bool) -> None:
    """Write `bench.md`, and `bench-growth.svg` where there are curves."""
    head = HEAD.format(
        day=datetime.datetime.now(datetime.UTC).date().isoformat(), cores=os.cpu_count(), load=os.getloadavg()[0],
        system=f"{platform.system()} {platform.release()} {platform.machine()}", python=platform.python_version(),
        partly="" if whole else " **A part of the suite, or smaller sizes.**",
    )  # fmt: skip
    curves = [row for row in rows if row.points]
    text = head + "".join(f"{row.line()}\n" for row in rows) + (PLOT if curves else "")
    (folder / "bench.md").write_text(text, "utf-8")
    if curves:
        (folder / "bench-growth.svg").write_text(plot(curves), "utf-8")


def plot(curves: Sequence[Row]) -> str:
    """Return the curves on logarithmic axes from a tenth to the whole, with the line of equal growth."""
    lowest = min(0.05, *(taken / row.points[-1][1] for row in curves for _, taken in row.points))

    def place(x: float, y: float) -> str:
        across = EDGE + (WIDE - 2 * EDGE) * (1 + math.log10(max(x, 0.1)))
        up = HIGH - EDGE - (HIGH - 2 * EDGE) * (1 - math.log10(max(y, lowest)) / math.log10(lowest))
        return f"{across:.1f},{up:.1f}"

    high = HIGH + 18 * len(curves)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDE} {high}" font-family="sans-serif" font-size="13">',
        f'<rect width="{WIDE}" height="{high}" fill="#ffffff"/>',
        f'<rect x="{EDGE}" y="{EDGE}" width="{WIDE - 2 * EDGE}" height="{HIGH - 2 * EDGE}" fill="none" stroke="#d0d7de"/>',
        f'<polyline points="{place(0.1, 0.1)} {place(1, 1)}" fill="none" stroke="#545d68" stroke-dasharray="6 5"/>',
        f'<text x="{EDGE}" y="{HIGH - EDGE + 20}">a tenth of the work</text>',
        f'<text x="{WIDE - EDGE}" y="{HIGH - EDGE + 20}" text-anchor="end">all of it</text>',
        f'<text x="{EDGE}" y="{EDGE - 10}">cost, as a share of the largest (logarithmic)</text>',
    ]
    for number, row in enumerate(curves):
        colour, (work, cost) = COLOURS[number % len(COLOURS)], row.points[-1]
        line = " ".join(place(count / work, taken / cost) for count, taken in row.points)
        y = HIGH + 18 * number
        parts += [
            f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2.5"/>',
            f'<rect x="{EDGE}" y="{y - 9}" width="14" height="4" fill="{colour}"/>',
            f'<text x="{EDGE + 22}" y="{y - 3}">{escape(row.name)}, up to {work:g}: {row.value:.1f} times</text>',
        ]
    return "\n".join([*parts, "</svg>", ""])
