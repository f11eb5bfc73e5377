"""Plots in SVG."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

from benchmarks.report import COUNTS, TITLES, Figures
from benchmarks.targets import TARGETS

_COLOURS = dict(zip(TARGETS, ("#c0392b", "#27ae60", "#2980b9", "#8e44ad", "#7f8c8d"), strict=True))


def bars(figures: Figures) -> str:
    """CPU seconds of each, on a logarithmic scale: they are up to 300 times apart."""
    shapes: list[str] = []
    top = 0
    for title, key in (
        ("CPU seconds per 1,000 plain requests, 32 connections", "plain_32.cpu_s_per_1000"),
        ("CPU seconds per 100,000 chunks, 200 streams", "streams_200.cpu_s_per_100k"),
    ):
        values = {name: figures[name][key] for name in _COLOURS if figures.get(name, {}).get(key)}
        if not values:
            continue
        least = math.log10(min(values.values())) - 0.3
        scale = 380 / (math.log10(max(values.values())) - least)
        shapes.append(_label(10, top + 18, title))
        for row, (name, value) in enumerate(values.items()):
            y = top + 30 + 22 * row
            width = (math.log10(value) - least) * scale
            box = f'x="130" y="{y}" width="{width:.1f}" height="17"'
            shapes.append(f'<rect {box} fill="{_COLOURS[name]}"/>')
            shapes.append(_label(10, y + 13, TITLES[name]))
            shapes.append(_label(136 + width, y + 13, f"{value:.3g}"))
        top += 50 + 22 * len(values)
    return _svg(600, top, shapes)


def lines(figures: Figures) -> str:
    """CPU seconds over the number of streams: straight lines, if all is well."""
    points = {
        name: [(n, spent) for n in COUNTS if (spent := figures[name].get(f"scale_{n}.cpu_s"))]
        for name in _COLOURS
        if f"scale_{COUNTS[0]}.cpu_s" in figures.get(name, {})
    }
    most = max((spent for line in points.values() for _, spent in line), default=1.0)
    shapes = [
        _label(10, 18, "CPU seconds, by streams of one chunk each 200 ms"),
        '<path d="M60 50V300H560" fill="none" stroke="#555"/>',
        *(_label(52 + count / 6, 316, f"{count:,}") for count in COUNTS),
        *(_label(20, 304 - 250 * part, f"{part * most:.1f}") for part in (0.5, 1)),
    ]
    for row, (name, line) in enumerate(points.items()):
        path = " ".join(f"{60 + n / 6:.1f},{300 - 250 * spent / most:.1f}" for n, spent in line)
        stroke = f'fill="none" stroke="{_COLOURS[name]}" stroke-width="2"'
        shapes.append(f'<polyline points="{path}" {stroke}/>')
        shapes.append(_label(80, 62 + 18 * row, TITLES[name], _COLOURS[name]))
    return _svg(600, 330, shapes)


def _label(x: float, y: float, text: str, colour: str = "#222") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" fill="{colour}">{escape(text)}</text>'


def _svg(width: int, height: int, shapes: Sequence[str]) -> str:
    return "\n".join(
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}"'
            ' font-family="sans-serif" font-size="12">',
            '<rect width="100%" height="100%" fill="#fff"/>',
            *shapes,
            "</svg>\n",
        )
    )
