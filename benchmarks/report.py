"""What the figures say: medians, tables in Markdown, plots in SVG."""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path
from typing import Any

from benchmarks.targets import TARGETS

Figures = dict[str, dict[str, float]]

_BEGIN, _END = "<!-- benchmarks: begin -->", "<!-- benchmarks: end -->"
_TITLES = {"direct": "no gateway"} | {name: target.title for name, target in TARGETS.items()}
_COLOURS = dict(zip(TARGETS, ("#c0392b", "#27ae60", "#2980b9", "#8e44ad", "#7f8c8d"), strict=True))
_COUNTS = (100, 300, 1000, 3000)
_WORTH_NAMING = re.compile(
    r"(twisted|klein|treq|msgspec|aiohttp|uvloop|fastapi|httpx|uvicorn|litellm)=", re.IGNORECASE
)

# What a row says, its figure, the digits after the point.
_ROWS = (
    ("**plain, 1 connection**: requests/s", "plain_1.per_second", 0),
    ("CPU s per 1,000 requests", "plain_1.cpu_s_per_1000", 3),
    ("added, p50, ms", "plain_1.added_wait_p50_ms", 2),
    ("added, p99, ms", "plain_1.added_wait_p99_ms", 2),
    ("**plain, 32 connections**: requests/s", "plain_32.per_second", 0),
    ("CPU s per 1,000 requests", "plain_32.cpu_s_per_1000", 3),
    *(
        row
        for title, name in (
            ("**200 streams, a chunk each 10 ms**", "streams_200"),
            ("**1,000 streams, a chunk each 50 ms**", "streams_1000"),
        )
        for row in (
            (f"{title}: of the ideal rate", f"{name}.of_ideal", 3),
            ("CPU s per 100k chunks", f"{name}.cpu_s_per_100k", 2),
            ("added to the first chunk, p50, ms", f"{name}.added_first_p50_ms", 1),
            ("added to the first chunk, p99, ms", f"{name}.added_first_p99_ms", 1),
            ("added to a chunk, p50, ms", f"{name}.added_chunk_p50_ms", 2),
            ("added to a chunk, p99, ms", f"{name}.added_chunk_p99_ms", 2),
            ("memory, MiB", f"{name}.memory_mib", 0),
        )
    ),
    ("**32 streams flat out**: chunks/s", "flat.per_second", 0),
    ("CPU s per 100k chunks", "flat.cpu_s_per_100k", 2),
    ("**idle memory**, MiB", "idle_mib", 0),
    ("**start to first answer**, s", "start_s", 2),
)

# A goal of the project, its figure, what that is divided by, and the limit.
_GOALS = (
    ("plain, 32 connections: CPU, to aiohttp's", "plain_32.cpu_s_per_1000", "aiohttp", "<=", 2),
    ("the same, to FastAPI + httpx's", "plain_32.cpu_s_per_1000", "fastapi", "<=", 0.2),
    ("the same, to LiteLLM's", "plain_32.cpu_s_per_1000", "litellm", "<=", 0.067),
    ("plain, 1 connection: added, p50, ms", "plain_1.added_wait_p50_ms", "", "<=", 0.6),
    ("added, p99, ms", "plain_1.added_wait_p99_ms", "", "<=", 2),
    ("200 streams: CPU, to aiohttp's", "streams_200.cpu_s_per_100k", "aiohttp", "<=", 1),
    ("added to a chunk, p99, to aiohttp's", "streams_200.added_chunk_p99_ms", "aiohttp", "<=", 1),
    ("added to a chunk, p99, ms", "streams_200.added_chunk_p99_ms", "", "<=", 10),
    ("1,000 streams: of the ideal rate", "streams_1000.of_ideal", "", ">=", 0.99),
    ("added to the first chunk, p99, ms", "streams_1000.added_first_p99_ms", "", "<=", 150),
    ("flat out: chunks/s, to nginx's", "flat.per_second", "nginx", ">=", 0.8),
    ("memory at 1,000 streams, MiB", "streams_1000.memory_mib", "", "<=", 100),
    ("idle memory, MiB", "idle_mib", "", "<=", 60),
    ("start to first answer, s", "start_s", "", "<=", 0.6),
)

_SCALING = (
    ("chunks/s", "per_second", 0),
    ("of the ideal rate", "of_ideal", 3),
    ("CPU s in all", "cpu_s", 2),
    ("CPU s per 100k chunks", "cpu_s_per_100k", 2),
    ("added to a chunk, p99, ms", "added_chunk_p99_ms", 2),
    ("memory, MiB", "memory_mib", 0),
)


def medians(rounds: Sequence[dict[str, dict[str, Any]]]) -> Figures:
    """Of each figure, over the rounds; with what each target adds to the same without one."""
    flat = [{name: dict(_flat(figures)) for name, figures in one.items()} for one in rounds]
    for one in flat:
        for figures in one.values():
            for key in [key for key in figures if key.endswith("_ms")]:
                scenario, _, figure = key.partition(".")
                figures[f"{scenario}.added_{figure}"] = figures[key] - one["direct"][key]
    return {
        name: {
            key: statistics.median(one[name][key] for one in flat if key in one[name])
            for key in {key for one in flat for key in one[name]}
        }
        for name in flat[0]
    }


def _flat(figures: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    """The numbers alone, by dotted names."""
    for key, value in figures.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        elif isinstance(value, int | float):
            yield prefix + key, value


def goals_table(figures: Figures) -> str:
    """What the project set itself, as far as what it compares with was run."""
    rows = []
    ours = figures.get("infergate", {})
    for text, key, other, sign, limit in _GOALS:
        beside = figures.get(other, {}).get(key) if other else 1.0
        if key in ours and beside:
            value = ours[key] / beside
            reached = value <= limit if sign == "<=" else value >= limit
            cells = f"{value:.3g}", f"{sign} {limit}", "yes" if reached else "no"
            rows.append((text, *cells))
    return _table(("", "measured", "goal", "reached"), rows)


def _figures_table(figures: Figures) -> str:
    names = [name for name in _TITLES if name in figures]
    rows = [
        (text, *(_number(figures[name].get(key), digits) for name in names))
        for text, key, digits in _ROWS
    ]
    return _table(("", *(_TITLES[name] for name in names)), rows)


def _scaling_table(figures: dict[str, float]) -> str:
    rows = [
        (f"{count:,}", *(_number(figures.get(f"scale_{count}.{k}"), n) for _, k, n in _SCALING))
        for count in _COUNTS
    ]
    return _table(("streams, a chunk each 200 ms", *(title for title, _, _ in _SCALING)), rows)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:,.{digits}f}"


def write_docs(folder: Path, result: dict[str, Any]) -> None:
    """Tables into ``performance.md`` between its markers, or at its end; plots beside it."""
    figures: Figures = result["medians"]
    about = result["machine"]
    packages = {name for of_one in result["packages"].values() for name in of_one}
    versions = ", ".join(sorted(filter(_WORTH_NAMING.match, packages), key=str.lower))
    tables = [_figures_table(figures)]
    if "infergate" in figures:
        tables = [goals_table(figures), *tables, _scaling_table(figures["infergate"])]
    text = "\n\n".join(
        (
            f"{about['cpu']}, {about['cores']} cores, Linux {about['kernel']}, Python "
            f"{about['python']}, {about['date']}; {versions.replace('==', ' ')}. "
            f"Medians of interleaved rounds, {len(result['rounds'])} in all.",
            *tables,
            "![CPU seconds](performance-cpu.svg)\n![Scaling](performance-scaling.svg)",
        )
    )
    page = folder / "performance.md"
    old = page.read_text("utf-8") if page.exists() else "# Performance\n\n"
    before, _, rest = old.partition(_BEGIN)
    after = rest.partition(_END)[2] or "\n"
    page.write_text(f"{before}{_BEGIN}\n{text}\n{_END}{after}", "utf-8")
    (folder / "performance-cpu.svg").write_text(_bars(figures), "utf-8")
    (folder / "performance-scaling.svg").write_text(_lines(figures), "utf-8")


def _bars(figures: Figures) -> str:
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
            shapes.append(_label(10, y + 13, _TITLES[name]))
            shapes.append(_label(136 + width, y + 13, f"{value:.3g}"))
        top += 50 + 22 * len(values)
    return _svg(600, top, shapes)


def _lines(figures: Figures) -> str:
    """CPU seconds over the number of streams: straight lines, if all is well."""
    points = {
        name: [(n, spent) for n in _COUNTS if (spent := figures[name].get(f"scale_{n}.cpu_s"))]
        for name in _COLOURS
        if f"scale_{_COUNTS[0]}.cpu_s" in figures.get(name, {})
    }
    most = max((spent for line in points.values() for _, spent in line), default=1.0)
    shapes = [
        _label(10, 18, "CPU seconds, by streams of one chunk each 200 ms"),
        '<path d="M60 50V300H560" fill="none" stroke="#555"/>',
        *(_label(52 + count / 6, 316, f"{count:,}") for count in _COUNTS),
        *(_label(20, 304 - 250 * part, f"{part * most:.1f}") for part in (0.5, 1)),
    ]
    for row, (name, line) in enumerate(points.items()):
        path = " ".join(f"{60 + n / 6:.1f},{300 - 250 * spent / most:.1f}" for n, spent in line)
        stroke = f'fill="none" stroke="{_COLOURS[name]}" stroke-width="2"'
        shapes.append(f'<polyline points="{path}" {stroke}/>')
        shapes.append(_label(80, 62 + 18 * row, _TITLES[name], _COLOURS[name]))
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
