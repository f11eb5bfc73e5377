"""The gateway beside others, one load after the other, and what of it must not get slower."""

from __future__ import annotations

import statistics
from contextlib import ExitStack
from typing import Any

from benchmarks.bench import Bench, Load, Running, say
from benchmarks.targets import TARGETS, Target

SCENARIOS: dict[str, Load] = {
    "plain_1": {"seconds": 4, "connections": 1},
    "plain_32": {"seconds": 4, "connections": 32},
    "varied_32": {"seconds": 4, "connections": 32, "ids": True},
    "streams_200": {"seconds": 6, "streams": 200, "interval": 10},
    "streams_1000": {"seconds": 8, "streams": 1000, "interval": 50},
    "flat": {"seconds": 4, "streams": 32, "interval": 0},
    # An everyday answer from a quick model: what it costs to begin and end a stream shows here.
    "short": {"seconds": 4, "connections": 32, "chunks": 64},
}
SCALING: dict[str, Load] = {
    f"scale_{count}": {"seconds": 10, "streams": count, "interval": 200}
    for count in (100, 300, 1000, 3000)
}
CHECKS = {"plain_32": 1.25, "varied_32": 1.4, "streams_200": 1.1, "flat": 1.5, "short": 1.4}
"""Times the CPU seconds of aiohttp by hand: well over what is measured, for machines that others
share, and well under what a hot path that went wrong costs."""

CHECK_ROUNDS = 3
CHECK_SECONDS = 1.5


def one_round(bench: Bench, targets: list[Target], number: int, share: float) -> dict[str, Any]:
    """Every target started afresh, then each scenario with one after the other."""
    with ExitStack() as stack:
        running = {"direct": Running(bench, bench.backend, None)}
        for target in targets:
            running[target.name] = stack.enter_context(bench.running(target))
        for one in running.values():
            one.warm_up()
        names = list(running)
        # So that none is always the one after the most wasteful.
        names = names[number % len(names) :] + names[: number % len(names)]
        for scenario, load in (SCENARIOS | SCALING).items():
            for name in names:
                if scenario in SCALING and name != "direct" and TARGETS[name].slow:
                    continue
                say(f"round {number + 1}: {scenario} {name}")
                seconds = load["seconds"] * share
                running[name].figures[scenario] = running[name].run(load | {"seconds": seconds})
        return {name: one.figures for name, one in running.items()}


def check(bench: Bench) -> bool:
    """Whether the gateway costs no more than it may, beside aiohttp by hand."""
    with ExitStack() as stack:
        pair = [stack.enter_context(bench.running(TARGETS[n])) for n in ("infergate", "aiohttp")]
        for one in pair:
            one.warm_up()
        ratios: dict[str, list[float]] = {scenario: [] for scenario in CHECKS}
        for _ in range(CHECK_ROUNDS):
            for scenario, of_one in ratios.items():
                load = SCENARIOS[scenario] | {"seconds": CHECK_SECONDS}
                ours, theirs = (one.run(load) for one in pair)
                if ours["failures"] or theirs["failures"]:
                    return False
                key = "cpu_s_per_1000" if "requests" in ours else "cpu_s_per_100k"
                of_one.append(ours[key] / theirs[key])
    good = True
    for scenario, allowed in CHECKS.items():
        ratio = statistics.median(ratios[scenario])
        good = good and ratio <= allowed
        print(f"{scenario}: {ratio:.2f} times aiohttp's CPU seconds, at most {allowed} allowed")
    return good
