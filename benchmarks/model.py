"""The simulation's costs, fitted to a few runs of one gateway, and compared with the other runs."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from operator import mul
from typing import Any

from benchmarks.bench import Bench, Load, Running, say
from benchmarks.shared_port import gateways
from benchmarks.simulation import Costs, Work, percentile, simulate

SECONDS = 7
BEGUN_SECONDS = 3
"""By then all streams have begun."""

FIT_ROUNDS = 5
DESCENT_ROUNDS = 5000
LATENCIES = ("request_p50", "request_p99", "chunk_p50", "chunk_p99")


@dataclass(frozen=True)
class Point:
    """A load that is both run and simulated; the costs are `fitted` to some."""

    what: str
    work: Work
    processes: int = 1
    fitted: bool = False


POINTS = (
    Point("1 connection", Work(connections=1), fitted=True),
    Point("4 connections", Work(connections=4)),
    Point("64 connections", Work(connections=64), fitted=True),
    Point("100 users, a request each 100 ms", Work(connections=100, pause=100), fitted=True),
    Point("300 users, a request each 100 ms", Work(connections=300, pause=100)),
    Point("300 streams, a chunk each 50 ms", Work(streams=300, interval=50), fitted=True),
    Point("1,000 streams, a chunk each 50 ms", Work(streams=1000, interval=50), fitted=True),
    Point("2,000 streams, a chunk each 50 ms", Work(streams=2000, interval=50)),
    Point("1,000 streams, a chunk each 200 ms", Work(streams=1000, interval=200)),
    Point(
        "300 streams, a chunk each 50 ms, beside 100 users, a request each 100 ms",
        Work(connections=100, pause=100, streams=300, interval=50),
    ),
    Point("300 users, a request each 100 ms", Work(connections=300, pause=100), processes=2),
    Point("1,000 streams, a chunk each 50 ms", Work(streams=1000, interval=50), processes=2),
)


def measure(bench: Bench) -> dict[str, Any]:
    """Each point as it was seen and as the simulation has it, and the costs."""
    seen, direct = [], []
    with ExitStack() as stack:
        counts = {point.processes for point in POINTS}
        running = {count: stack.enter_context(bench.running(gateways(count))) for count in counts}
        for one in running.values():
            one.warm_up()
        for point in POINTS:
            say(f"model: {point.what}, processes: {point.processes}")
            direct.append(_run(bench, Running(bench, bench.backend, None), point.work, 3))
            seen.append(_run(bench, running[point.processes], point.work, SECONDS))
        begun = running[1].run({"seconds": 2, "connections": 64, "chunks": 1})
    outside = direct[0]["request_p50"] * 1000
    for one, without in zip(seen, direct, strict=True):
        one |= {f"{name}_added": one[name] - without[name] for name in LATENCIES if name in one}
    costs = fit(seen, outside)
    return {
        "costs": asdict(costs) | {"outside": outside, "stream": begun["cpu_s_per_100k"] * 10},
        "points": [
            {"what": point.what, "processes": point.processes, "fitted": point.fitted}
            | {"seen": one, "simulated": predicted(costs, point, outside)}
            for point, one in zip(POINTS, seen, strict=True)
        ],
    }


def _run(bench: Bench, gateway: Running, work: Work, seconds: float) -> dict[str, float]:
    """Cores that the gateways took while all streams ran, and what the clients saw."""
    loads: list[Load] = []
    if work.connections:
        loads.append({"connections": work.connections, "pause": work.pause, "seconds": seconds})
    if work.streams:
        loads.append({"streams": work.streams, "interval": work.interval, "seconds": seconds})
    seen: dict[str, float] = {}
    server = gateway.server
    if server is not None:
        server.settle()
    clients = [bench.load(gateway.port, load) for load in loads]
    if server is not None:
        time.sleep(BEGUN_SECONDS)
        before, began = server.cpu_seconds(), time.monotonic()
        time.sleep(seconds - BEGUN_SECONDS - 1)
        seen["cores"] = (server.cpu_seconds() - before) / (time.monotonic() - began)
    for client in clients:
        result = json.loads(client.communicate(timeout=60)[0])
        if result["failures"]:
            say(f"{result['failures']} failures, such as: {result['failure']}")
        what = "request" if "requests" in result else "chunk"
        seen[f"{what}s"] = result["per_second"]
        for share in ("p50", "p99"):
            seen[f"{what}_{share}"] = result[f"{what.replace('request', 'wait')}_{share}_ms"]
    return seen


def fit(seen: Sequence[dict[str, float]], outside: float) -> Costs:
    """The costs with which the simulation takes the CPU that was seen at the `fitted` points, by
    least squares of the relative errors. How many iterations there are goes by the costs too,
    hence the rounds."""
    costs = Costs(20, 20, 200, 20)
    fitted = [(point, one) for point, one in zip(POINTS, seen, strict=True) if point.fitted]
    for _ in range(FIT_ROUNDS):
        rows = []
        for point, one in fitted:
            outcome = simulate(costs, point.work, outside, 2)
            done = len(outcome.requests) + len(outcome.chunks)
            measured = one["cores"] / (one.get("requests", 0) + one.get("chunks", 0)) * 1e6 * done
            counts = (outcome.iterations, outcome.wakings)
            counts += (len(outcome.requests), len(outcome.chunks))
            rows.append([count / measured for count in counts])
        costs = Costs(*_least_squares(rows))
    return costs


def _least_squares(rows: Sequence[Sequence[float]]) -> list[float]:
    """The numbers, none below 0, whose products with each row add up to 1 as nearly as they can: by
    coordinate descent."""
    found = [0.0] * len(rows[0])
    for _ in range(DESCENT_ROUNDS):
        for number in range(len(found)):
            found[number] = 0.0
            rest = [1 - sum(map(mul, row, found)) for row in rows]
            column = [row[number] for row in rows]
            found[number] = max(0.0, sum(map(mul, column, rest)) / sum(map(mul, column, column)))
    return found


def predicted(costs: Costs, point: Point, outside: float) -> dict[str, float]:
    """The same figures as `_run`; the clients are shared out evenly among the processes."""
    work, count = point.work, point.processes
    share = replace(work, connections=work.connections // count, streams=work.streams // count)
    outcome = simulate(costs, share, outside, SECONDS)
    figures = {"cores": count * outcome.utilisation}
    for what, times in (("request", outcome.requests), ("chunk", outcome.chunks)):
        if times:
            figures[f"{what}s"] = count * len(times) / SECONDS
            figures[f"{what}_p50_added"] = percentile(times, 0.5) / 1000
            figures[f"{what}_p99_added"] = percentile(times, 0.99) / 1000
    return figures
