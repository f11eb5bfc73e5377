"""What a streamed chunk costs in each dialect, on sockets, beside one of a chat.

The rounds of the dialects take turns, so that what else the machine does is in all of them; the
median of the rounds' ratios counts. One round is some 50,000 chunks, over a second of CPU, of which
the kernel counts hundredths.
"""

from __future__ import annotations

import statistics

from benchmarks.bench import Bench, Load
from benchmarks.report import LIKE_A_CHAT
from benchmarks.targets import TARGETS

CHAT = "/v1/chat/completions"
LOADS: dict[str, Load] = {
    path: {
        "seconds": 2.5,
        "streams": 200,
        "interval": 10,
        **({} if path == CHAT else {"path": path}),
    }
    for path in (CHAT, "/v1/responses", "/v1/messages")
}
ROUNDS = 5


def measure(bench: Bench) -> dict[str, dict[str, float]]:
    """By the path: microseconds of CPU a chunk, and how many times a chat's that is, with the least
    and the most of the rounds."""
    costs: dict[str, list[float]] = {path: [] for path in LOADS}
    with bench.running(TARGETS["infergate"]) as running:
        running.warm_up()
        for _ in range(ROUNDS):
            for path, load in LOADS.items():
                seen = running.run(load)
                if seen["failures"]:
                    raise RuntimeError(f"{path}: {seen['failure']}")
                costs[path].append(seen["cpu_s_per_100k"] * 10)
    return {path: _beside(of_path, costs[CHAT]) for path, of_path in costs.items()}


def _beside(costs: list[float], of_a_chat: list[float]) -> dict[str, float]:
    times = [cost / chat for cost, chat in zip(costs, of_a_chat, strict=True)]
    return {
        "cpu_us": statistics.median(costs),
        "times": statistics.median(times),
        "least": min(times),
        "most": max(times),
    }


def check(bench: Bench) -> bool:
    """Print what a chunk of each dialect costs beside one of a chat; whether it may."""
    costs = measure(bench)
    for path, cost in costs.items():
        print(f"{path}: {cost['times']:.2f} times the CPU of a chat's chunk, {LIKE_A_CHAT} at most")
    return all(cost["times"] <= LIKE_A_CHAT for cost in costs.values())
