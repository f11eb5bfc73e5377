"""What the figures say: medians, and tables in Markdown."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from typing import Any

from benchmarks.growth import FREE
from benchmarks.targets import TARGETS

Figures = dict[str, dict[str, float]]

TITLES = {"direct": "no gateway"} | {name: target.title for name, target in TARGETS.items()}
LIKE_A_CHAT = 1.15
"""How many times the CPU of a chunk of a chat one of another dialect may cost."""

COUNTS = (100, 300, 1000, 3000)

# What a row says, its figure, the digits after the point.
_ROWS = (
    ("**plain, 1 connection**: requests/s", "plain_1.per_second", 0),
    ("CPU s per 1,000 requests", "plain_1.cpu_s_per_1000", 3),
    ("added, p50, ms", "plain_1.added_wait_p50_ms", 2),
    ("added, p99, ms", "plain_1.added_wait_p99_ms", 2),
    ("**plain, 32 connections**: requests/s", "plain_32.per_second", 0),
    ("CPU s per 1,000 requests", "plain_32.cpu_s_per_1000", 3),
    ("**the same, each head different**: requests/s", "varied_32.per_second", 0),
    ("CPU s per 1,000 requests", "varied_32.cpu_s_per_1000", 3),
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
    ("**streams of 64 chunks flat out, 32 at once**: chunks/s", "short.per_second", 0),
    ("CPU s per 100k chunks", "short.cpu_s_per_100k", 2),
    ("**idle memory**, MiB", "idle_mib", 0),
    ("**start to first answer**, s", "start_s", 2),
)

# A goal of the project, its figure, what that is divided by, and the limit.
_GOALS = (
    ("plain, 32 connections: CPU, to aiohttp's", "plain_32.cpu_s_per_1000", "aiohttp", "<=", 1.25),
    ("where each head differs", "varied_32.cpu_s_per_1000", "aiohttp", "<=", 1.25),
    ("plain, to FastAPI + httpx's", "plain_32.cpu_s_per_1000", "fastapi", "<=", 0.1),
    ("the same, to LiteLLM's", "plain_32.cpu_s_per_1000", "litellm", "<=", 0.012),
    (
        "plain, 1 connection: p50 added, to aiohttp's",
        "plain_1.added_wait_p50_ms",
        "aiohttp",
        "<=",
        1,
    ),
    ("p99 added, to aiohttp's", "plain_1.added_wait_p99_ms", "aiohttp", "<=", 1.2),
    ("200 streams: CPU, to aiohttp's", "streams_200.cpu_s_per_100k", "aiohttp", "<=", 0.88),
    ("added to a chunk, p99, to aiohttp's", "streams_200.added_chunk_p99_ms", "aiohttp", "<=", 1),
    ("1,000 streams: of the ideal rate", "streams_1000.of_ideal", "", ">=", 0.99),
    ("added to the first chunk, p99, ms", "streams_1000.added_first_p99_ms", "", "<=", 50),
    ("flat out: chunks/s, to nginx's", "flat.per_second", "nginx", ">=", 1),
    ("streams of 64 chunks: CPU, to aiohttp's", "short.cpu_s_per_100k", "aiohttp", "<=", 1),
    ("chunks/s, to nginx's", "short.per_second", "nginx", ">=", 0.6),
    ("memory at 1,000 streams, MiB", "streams_1000.memory_mib", "", "<=", 90),
    ("idle memory, MiB", "idle_mib", "", "<=", 62),
    ("start to first answer, s", "start_s", "", "<=", 0.5),
)

_SHORT = 10
"""Milliseconds that nobody notices, and that another process's turn on the core may take."""

STRAIGHT = 1.25
"""Times that a cost may be above the line: CPU seconds of a short load differ by as much."""

LONGEST_WAIT = 100
"""Milliseconds for which anything within the limits may keep ``/healthz`` waiting, a body aside."""

BODY_MEMORY = 4
"""Times its own size that a body may take of memory."""

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


def dialects_table(costs: dict[str, dict[str, float]]) -> str:
    """What a streamed chunk costs in each dialect, beside one of a chat."""
    rows = [
        (
            path,
            f"{cost['cpu_us']:.1f}",
            f"{cost['times']:.2f} ({cost['least']:.2f} to {cost['most']:.2f})",
            f"<= {LIKE_A_CHAT}",
            "yes" if cost["times"] <= LIKE_A_CHAT else "no",
        )
        for path, cost in costs.items()
    ]
    head = ("a chunk of 200 streams, one each 10 ms", "CPU, us", "to a chat's", "goal", "reached")
    return _table(head, rows)


def waits_table(rows: Sequence[dict[str, Any]]) -> str:
    """The longest wait of ``/healthz`` beside each case, and whether the gateway's work in it is
    short enough: for a body what `json.loads` takes, for anything else `LONGEST_WAIT`."""
    waits = ("longest wait, ms", "of it at work, ms")
    head = ("beside", "MB", "status", *waits, "json.loads, ms", "memory, times", "reached")
    return _table(head, [_wait_row(row) for row in rows])


def _wait_row(row: dict[str, Any]) -> tuple[str, ...]:
    of_body = row["kind"] == "body" and row["json_ms"] is not None
    good = row["work_ms"] <= max(row["json_ms"] if of_body else LONGEST_WAIT, _SHORT)
    if of_body:
        good = good and row["memory"] <= BODY_MEMORY
    share = row["cpu_share"]
    name = f"{row['kind']}: {row['case']}"
    return (
        name if share is None else f"{name} ({share:.1%} of a core)",
        _number(row["size"] / 1e6 or None, 1),
        str(row["status"] or ""),
        _number(row["longest_ms"], 1),
        _number(row["work_ms"], 1),
        _number(row["json_ms"], 1),
        _number(row["memory"], 1),
        "yes" if good else "no",
    )


def growth_table(points: Sequence[dict[str, Any]]) -> str:
    """Each line's points, with how many times the count and the cost grew since the one before, and
    whether the cost grew no faster than the count, or not at all where it ought not to."""
    lines = dict.fromkeys(point["what"] for point in points)
    rows: list[tuple[str, ...]] = []
    last: dict[str, dict[str, Any]] = {}
    for point in sorted(points, key=lambda point: list(lines).index(point["what"])):
        growth = straight = ""
        before = last.get(point["what"])
        last[point["what"]] = point
        if before is not None and before["cost"]:
            more, dearer = (point[key] / before[key] for key in ("count", "cost"))
            growth = f"{more:.1f} times, cost {dearer:.2f} times"
            allowed = (1 if point["what"] in FREE else more) * STRAIGHT
            straight = "yes" if dearer <= allowed else "no"
        cost = f"{point['cost']:.3g} {point['unit']}"
        rows.append((point["what"], f"{point['count']:,.0f}", cost, growth, straight))
    return _table(("", "of them", "cost", "since the row above", "straight"), rows)


def figures_table(figures: Figures) -> str:
    names = [name for name in TITLES if name in figures]
    rows = [
        (text, *(_number(figures[name].get(key), digits) for name in names))
        for text, key, digits in _ROWS
    ]
    return _table(("", *(TITLES[name] for name in names)), rows)


def scaling_table(figures: dict[str, float]) -> str:
    rows = [
        (f"{count:,}", *(_number(figures.get(f"scale_{count}.{k}"), n) for _, k, n in _SCALING))
        for count in COUNTS
    ]
    return _table(("streams, a chunk each 200 ms", *(title for title, _, _ in _SCALING)), rows)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:,.{digits}f}"
