"""Two versions of the gateway, in alternating runs of each load: which became dearer?

Both run with the same interpreter and libraries, one from the checkout that is given, one from
this. Which is first changes with each round, and the median of the rounds' ratios counts.
"""

from __future__ import annotations

import statistics
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from benchmarks.bench import Bench, Running, say
from benchmarks.peers import SCENARIOS
from benchmarks.targets import ROOT, TARGETS

TOLERANCE = 0.03
"""More than this is a loss; noise is about as much where a machine is shared."""


def compare(bench: Bench, before: Path, rounds: int, share: float) -> bool:
    """Print for each load what it cost in the checkout `before` and costs now; whether nothing
    became dearer by more than `TOLERANCE`."""
    ratios: dict[str, list[float]] = {}
    costs: dict[str, list[tuple[float, float]]] = {}
    with ExitStack() as stack:
        pair = [
            stack.enter_context(bench.running(TARGETS["infergate"], root=root))
            for root in (before, ROOT)
        ]
        for one in pair:
            one.warm_up()
        for number in range(rounds):
            for scenario, load in SCENARIOS.items():
                order = pair if number % 2 else pair[::-1]
                spent = {id(one): _cost(one, load, share) for one in order}
                old, new = (spent[id(one)] for one in pair)
                say(f"round {number + 1}: {scenario}: {old:.4g} before, {new:.4g} now")
                costs.setdefault(scenario, []).append((old, new))
                ratios.setdefault(scenario, []).append(new / old)
    good = True
    for scenario, of_one in ratios.items():
        old, new = (statistics.median(column) for column in zip(*costs[scenario], strict=True))
        ratio = statistics.median(of_one)
        spread = f"{min(of_one):.3f} to {max(of_one):.3f}"
        good = good and ratio <= 1 + TOLERANCE
        print(f"{scenario}: CPU s {old:.4g} before, {new:.4g} now: {ratio:.3f} ({spread})")
    return good


def _cost(one: Running, load: dict[str, Any], share: float) -> float:
    seen = one.run(load | {"seconds": load["seconds"] * share})
    cost: float = seen.get("cpu_s_per_1000") or seen["cpu_s_per_100k"]
    return cost
