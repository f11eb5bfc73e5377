"""What the figures say: medians, tables in Markdown, plots in SVG."""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from typing import Any

Figures = dict[str, dict[str, float]]

_BEGIN, _END = "<!-- benchmarks: begin -->", "<!-- benchmarks: end -->"
_TITLES = {
    "direct": "no gateway",
    "infergate": "infergate",
    "nginx": "nginx",
    "aiohttp": "aiohttp by hand",
    "fastapi": "FastAPI + httpx",
    "litellm": "LiteLLM proxy",
}
_COLOURS = {
    "infergate": "#c0392b",
    "nginx": "#27ae60",
    "aiohttp": "#2980b9",
    "fastapi": "#8e44ad",
    "litellm": "#7f8c8d",
}
_COUNTS = (100, 300, 1000, 3000)
_VERSIONS = re.compile(
    r"(twisted|klein|treq|msgspec|aiohttp|uvloop|fastapi|httpx|uvicorn|litellm)==", re.IGNORECASE
)

# What a row says, the figure it is made of, and the digits after the point.
_ROWS = (
    ("plain, 1 connection: requests/s", "plain_1.per_second", 0),
    ("added to an answer, p50, ms", "plain_1.added_wait_p50_ms", 2),
    ("p99, ms", "plain_1.added_wait_p99_ms", 2),
    ("CPU s per 1,000 requests", "plain_1.cpu_s_per_1000", 3),
    ("plain, 32 connections: requests/s", "plain_32.per_second", 0),
    ("CPU s per 1,000 requests", "plain_32.cpu_s_per_1000", 3),
    ("200 streams x 10 ms: of the ideal rate", "streams_200.of_ideal", 3),
    ("CPU s per 100k chunks", "streams_200.cpu_s_per_100k", 2),
    ("added to the first chunk, p50, ms", "streams_200.added_first_p50_ms", 2),
    ("p99, ms", "streams_200.added_first_p99_ms", 2),
    ("added to a chunk, p50, ms", "streams_200.added_chunk_p50_ms", 2),
    ("p99, ms", "streams_200.added_chunk_p99_ms", 2),
    ("1,000 streams x 50 ms: of the ideal rate", "streams_1000.of_ideal", 3),
    ("CPU s per 100k chunks", "streams_1000.cpu_s_per_100k", 2),
    ("added to the first chunk, p50, ms", "streams_1000.added_first_p50_ms", 2),
    ("p99, ms", "streams_1000.added_first_p99_ms", 2),
    ("added to a chunk, p50, ms", "streams_1000.added_chunk_p50_ms", 2),
    ("p99, ms", "streams_1000.added_chunk_p99_ms", 2),
    ("memory, MiB", "streams_1000.memory_mib", 0),
    ("32 streams flat out: chunks/s", "flat.per_second", 0),
    ("idle memory, MiB", "idle_mib", 0),
    ("start to first answer, s", "start_s", 2),
)


def medians(rounds: Sequence[dict[str, dict[str, Any]]]) -> Figures:
    """Of each figure, over the rounds; with what each target adds to the same without one."""
    flat = [{name: _flat(figures) for name, figures in one.items()} for one in rounds]
    for one in flat:
        direct = one["direct"]
        for figures in one.values():
            for key in [key for key in figures if key.endswith("_ms") and key in direct]:
                scenario, _, figure = key.partition(".")
                figures[f"{scenario}.added_{figure}"] = figures[key] - direct[key]
    return {
        name: {
            key: statistics.median(one[name][key] for one in flat if key in one[name])
            for key in flat[0][name]
        }
        for name in flat[0]
    }


def _flat(figures: dict[str, Any], prefix: str = "") -> dict[str, float]:
    """Numbers alone, by a dotted name."""
    result: dict[str, float] = {}
    for key, value in figures.items():
        if isinstance(value, dict):
            result |= _flat(value, f"{prefix}{key}.")
        elif isinstance(value, int | float):
            result[prefix + key] = value
    return result


def ratios_table(figures: Figures) -> str:
    """The targets that the project set itself, as far as what they compare with was run."""
    lines = ["| | measured | target | reached |", "|---|---|---|---|"]
    for text, key, compared, limit, at_least in (
        ("plain, 32 connections: CPU, times aiohttp", "plain_32.cpu_s_per_1000", "aiohttp", 2, 0),
        ("times FastAPI + httpx", "plain_32.cpu_s_per_1000", "fastapi", 1 / 5, 0),
        ("times LiteLLM", "plain_32.cpu_s_per_1000", "litellm", 1 / 15, 0),
        ("plain, 1 connection: added p50, ms", "plain_1.added_wait_p50_ms", "", 0.6, 0),
        ("added p99, ms", "plain_1.added_wait_p99_ms", "", 2, 0),
        ("200 streams x 10 ms: CPU, times aiohttp", "streams_200.cpu_s_per_100k", "aiohttp", 1, 0),
        ("added to a chunk, p99, ms", "streams_200.added_chunk_p99_ms", "", 10, 0),
        ("the same, times aiohttp", "streams_200.added_chunk_p99_ms", "aiohttp", 1, 0),
        ("1,000 streams x 50 ms: of the ideal rate", "streams_1000.of_ideal", "", 0.99, 1),
        ("added to the first chunk, p99, ms", "streams_1000.added_first_p99_ms", "", 150, 0),
        ("flat out: chunks/s, times nginx", "flat.per_second", "nginx", 0.8, 1),
        ("memory at 1,000 streams, MiB", "streams_1000.memory_mib", "", 100, 0),
        ("idle memory, MiB", "idle_mib", "", 60, 0),
        ("start to first answer, s", "start_s", "", 0.6, 0),
    ):
        ours = figures.get("infergate", {}).get(key)
        theirs = figures.get(compared, {}).get(key) if compared else 1.0
        if ours is None or not theirs:
            continue
        value = ours / theirs
        reached = value >= limit if at_least else value <= limit
        word = "at least" if at_least else "at most"
        answer = "yes" if reached else "no"
        lines.append(f"| {text} | {value:.3g} | {word} {limit:.2g} | {answer} |")
    return "\n".join(lines)


def _figures_table(figures: Figures) -> str:
    names = [name for name in _TITLES if name in figures]
    lines = ["| | " + " | ".join(_TITLES[name] for name in names) + " |"]
    lines.append("|---" + "|---:" * len(names) + "|")
    for text, key, digits in _ROWS:
        cells = [_number(figures[name].get(key), digits) for name in names]
        lines.append(f"| {text} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _scaling_table(figures: Figures) -> str:
    lines = [
        "| streams, one chunk each 200 ms | chunks/s | of the ideal rate | CPU s per second "
        "| CPU s per 100k chunks | added to a chunk, p99, ms | memory, MiB |",
        "|---:|---:|---:|---:|---:|---:|---:|",
    ]
    ours = figures["infergate"]
    for count in _COUNTS:
        key = f"scale_{count}."
        cells = [
            f"{count:,}",
            _number(ours.get(key + "per_second"), 0),
            _number(ours.get(key + "of_ideal"), 3),
            _number(_busy(ours, key), 3),
            _number(ours.get(key + "cpu_s_per_100k"), 2),
            _number(ours.get(key + "added_chunk_p99_ms", ours.get(key + "chunk_p99_ms")), 2),
            _number(ours.get(key + "memory_mib"), 0),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _busy(figures: dict[str, float], key: str) -> float | None:
    """CPU seconds a second at the rate that was reached."""
    if key + "cpu_s_per_100k" not in figures:
        return None
    return figures[key + "cpu_s_per_100k"] * figures[key + "per_second"] / 100_000


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:,.{digits}f}"


def write_docs(folder: Path, result: dict[str, Any]) -> None:
    """Tables into ``performance.md`` between its markers, or at its end; plots beside it."""
    figures: Figures = result["medians"]
    about = result["machine"]
    versions = sorted(
        {v for all_ in result["packages"].values() for v in filter(_VERSIONS.match, all_)}
    )
    text = "\n\n".join(
        (
            f"{about['cpu']}, {about['cores']} cores, Linux {about['kernel']}, Python "
            f"{about['python']}, {about['date']}; {', '.join(versions).replace('==', ' ')}. "
            f"Medians of {len(result['rounds'])} interleaved rounds.",
            ratios_table(figures),
            _figures_table(figures),
            _scaling_table(figures),
            "![CPU seconds](performance-cpu.svg)\n![Scaling](performance-scaling.svg)",
        )
    )
    page = folder / "performance.md"
    old = page.read_text("utf-8") if page.exists() else "# Performance\n"
    if _BEGIN in old and _END in old:
        before, after = old.split(_BEGIN)[0], old.split(_END)[1]
    else:
        before, after = old + "\n", "\n"
    page.write_text(f"{before}{_BEGIN}\n{text}\n{_END}{after}", "utf-8")
    names = [name for name in _COLOURS if name in figures]
    (folder / "performance-cpu.svg").write_text(_bars(figures, names), "utf-8")
    (folder / "performance-scaling.svg").write_text(_lines(figures, names), "utf-8")


def _bars(figures: Figures, names: list[str]) -> str:
    """CPU seconds of each, on a logarithmic scale: they are up to 300 times apart."""
    shapes: list[str] = []
    top = 0
    for title, key in (
        ("CPU seconds per 1,000 plain requests, 32 connections", "plain_32.cpu_s_per_1000"),
        ("CPU seconds per 100,000 chunks, 200 streams x 10 ms", "streams_200.cpu_s_per_100k"),
    ):
        values = {name: figures[name][key] for name in names if figures[name].get(key)}
        shapes.append(_label(10, top + 18, title, weight="bold"))
        least = math.log10(min(values.values())) - 0.3
        scale = 380 / (math.log10(max(values.values())) - least)
        for row, (name, value) in enumerate(values.items()):
            y = top + 30 + 22 * row
            width = (math.log10(value) - least) * scale
            shapes.append(_label(10, y + 13, _TITLES[name]))
            shapes.append(
                f'<rect x="130" y="{y}" width="{width:.1f}" height="17" fill="{_COLOURS[name]}"/>'
            )
            shapes.append(_label(136 + width, y + 13, f"{value:.3g}"))
        top += 50 + 22 * len(values)
    return _svg(600, top, shapes)


def _lines(figures: Figures, names: list[str]) -> str:
    """CPU seconds a second over the number of streams: a straight line, if all is well."""
    points = {
        name: [
            (count, busy)
            for count in _COUNTS
            if (busy := _busy(figures[name], f"scale_{count}.")) is not None
        ]
        for name in names
    }
    points = {name: line for name, line in points.items() if line}
    top = max((busy for line in points.values() for _, busy in line), default=1.0)

    def place(count: float, busy: float) -> tuple[float, float]:
        return 60 + 500 * count / _COUNTS[-1], 300 - 250 * busy / top

    shapes = [
        _label(10, 18, "CPU seconds a second, streams of one chunk each 200 ms", weight="bold"),
        '<path d="M60 50V300H560" fill="none" stroke="#555"/>',
    ]
    shapes += [_label(place(count, 0)[0] - 10, 316, f"{count:,}") for count in _COUNTS]
    shapes += [_label(20, place(0, share * top)[1] + 4, f"{share * top:.2f}") for share in (0.5, 1)]
    for row, (name, line) in enumerate(points.items()):
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in (place(*point) for point in line))
        colour = _COLOURS[name]
        shapes.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        shapes.append(_label(80, 62 + 18 * row, _TITLES[name], fill=colour))
    return _svg(600, 330, shapes)


def _label(x: float, y: float, text: str, *, weight: str = "normal", fill: str = "#222") -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-weight="{weight}" fill="{fill}">{escape(text)}</text>'
    )


def _svg(width: int, height: int, shapes: Iterable[str]) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        'font-family="sans-serif" font-size="12"><rect width="100%" height="100%" fill="#fff"/>\n'
        + "\n".join(shapes)
        + "\n</svg>\n"
    )
