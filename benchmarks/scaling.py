"""The tables of ``docs/scaling.md``: two processes on one port, Redis's share, and the model."""

from __future__ import annotations

from typing import Any

from benchmarks import model, shared_port, shared_state
from benchmarks.bench import Bench


def measure(bench: Bench, rounds: int) -> dict[str, Any]:
    return {
        "shared_port": shared_port.measure(bench, rounds),
        "shared_state": shared_state.measure(bench),
        "model": model.measure(bench),
    }


def tables(result: dict[str, Any]) -> dict[str, str]:
    """By the name of its place in the page."""
    made = {"two": _shared_port(result["shared_port"]), "model": _model(result["model"])}
    if result["shared_state"]:
        made["redis"] = _shared_state(result["shared_state"])
    return made


def _shared_port(figures: dict[str, Any]) -> str:
    rows = ["| | one process | two | two to one |", "|---|---:|---:|---:|"]
    for name in shared_port.LOADS:
        of_one = figures[name]
        cores = ["+".join(f"{share:.2f}" for share in of_one[f"cores_{n}"]) for n in (1, 2)]
        rows += [
            f"| **{name}**: capacity, a second | {of_one['capacity_1']:,.0f} "
            f"| {of_one['capacity_2']:,.0f} | **{of_one['capacity_ratio']:.2f}** |",
            f"| served a second, on the two cores that clients and backend use too "
            f"| {of_one['per_second_1']:,.0f} | {of_one['per_second_2']:,.0f} "
            f"| {of_one['per_second_ratio']:.2f} |",
            f"| CPU of the gateways for each, µs | {of_one['cpu_us_1']:.1f} "
            f"| {of_one['cpu_us_2']:.1f} | |",
            f"| cores that the gateways got | {cores[0]} | {cores[1]} | |",
        ]
    spread = " and ".join(map(str, figures["connections"]))
    return "\n".join([*rows, f"| **{shared_port.CONNECTIONS:,} new connections** | | {spread} | |"])


def _shared_state(figures: dict[str, float]) -> str:
    rows = [
        "| plain requests of a caller with `rate=` and `tokens=` | each for itself | in Redis |",
        "|---|---:|---:|",
    ]
    for title, name, digits in (
        ("CPU of the gateway for a request, µs", "cpu_us", 0),
        ("CPU of Redis for a request, µs", "redis_us", 1),
        ("a single client's wait, p50, ms", "wait_p50_ms", 2),
    ):
        alone, shared = figures[f"{name}_alone"], figures[f"{name}_shared"]
        rows.append(f"| {title} | {alone:.{digits}f} | {shared:.{digits}f} |")
    return "\n".join(rows)


def _model(result: dict[str, Any]) -> str:
    costs = result["costs"]
    said = (
        f"Fitted costs in µs: {costs['iteration']:.0f} an event loop iteration, "
        f"{costs['waking']:.0f} more after a sleep, {costs['request']:.0f} a request, "
        f"{costs['chunk']:.0f} a chunk; measured apart: {costs['stream']:.0f} a stream of one "
        "chunk."
    )
    rows = [
        "| processes | load | cores: seen | simulated | | added, p50, ms: seen | simulated "
        "| p99: seen | simulated |",
        "|---:|---|---:|---:|---|---:|---:|---:|---:|",
    ]
    for point in result["points"]:
        seen, simulated = point["seen"], point["simulated"]
        off = simulated["cores"] / seen["cores"] - 1
        start = (
            f"| {point['processes']} | {point['what']} | {seen['cores']:.2f} "
            f"| {simulated['cores']:.2f} | {'fitted' if point['fitted'] else f'{off:+.0%}'} "
        )
        cells = []
        for share in ("p50", "p99"):
            for figures in (seen, simulated):
                values = [
                    f"{figures[name]:.2f}"
                    for what in ("request", "chunk")
                    if (name := f"{what}_{share}_added") in figures
                ]
                cells.append("; ".join(values))
        rows.append(start + "| " + " | ".join(cells) + " |")
    return said + "\n\n" + "\n".join(rows)
