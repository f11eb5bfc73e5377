"""The event loop of one gateway as a queue: what a load takes of a core, and who waits how long.

An iteration takes all events that are ready, then serves them one after the other; what comes
meanwhile waits for the next. It costs something however many events there are, and more after the
process has slept, when other programs have had the caches: so an event is dearer where the gateway
has little to do. A request is two events, its own and its reply; each chunk of a stream is one.
Times are in microseconds.

Nothing here is measured: `benchmarks.model` fits the costs and compares. To plan with what it
found: ``python -m benchmarks.simulation '{"streams": 2000, "interval": 50}'``.
"""

from __future__ import annotations

import heapq
import json
import random
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field

TICK = 1000
"""The backend of the benchmarks writes chunks once a millisecond."""

Event = tuple[float, int, str]
"""When it is ready, which connection's, and what: ``ask``, ``reply`` or ``chunk``."""


SLEPT = 100
"""So long a sleep makes the next iteration a dear one."""


@dataclass(frozen=True)
class Costs:
    """CPU time of each iteration, what it takes more after a sleep, of each request and chunk."""

    iteration: float
    waking: float
    request: float
    chunk: float


MEASURED = Costs(iteration=27, waking=4, request=213, chunk=14)
"""As docs/scaling.md has them."""

OUTSIDE = 20


@dataclass(frozen=True)
class Work:
    """`connections`, each of which asks again `pause` milliseconds after its answer, on average and
    at random, and `streams` with a chunk each `interval` milliseconds."""

    connections: int = 0
    pause: float = 0
    streams: int = 0
    interval: int = 1


@dataclass
class Outcome:
    seconds: float
    busy: float = 0
    iterations: int = 0
    wakings: int = 0
    requests: list[float] = field(default_factory=list)
    chunks: list[float] = field(default_factory=list)

    @property
    def utilisation(self) -> float:
        return self.busy / 1e6 / self.seconds


def simulate(costs: Costs, work: Work, outside: float, seconds: float) -> Outcome:
    """What the gateway does in so many seconds, and how long each request and chunk takes in it.

    `outside` is what a request takes in client, backend and kernel, where it waits for nobody.
    """
    chance = random.Random(1)
    outcome = Outcome(seconds)
    events = sorted(_first(work, chance))
    price = {"ask": costs.request / 2, "reply": costs.request / 2, "chunk": costs.chunk}
    asked: dict[int, float] = {}
    now = 0.0
    while events[0][0] < seconds * 1e6:
        slept = events[0][0] - now > SLEPT
        began = now = max(now, events[0][0])
        now += costs.iteration + slept * costs.waking
        ready = []
        while events and events[0][0] <= began:
            ready.append(heapq.heappop(events))
        for at, number, what in ready:
            now += price[what]
            if what == "chunk":
                outcome.chunks.append(now - at)
                following = at + work.interval * 1000, number, "chunk"
            elif what == "ask":
                asked[number] = at
                following = now + outside / 2, number, "reply"
            else:
                # Without the time at the backend.
                outcome.requests.append(now - asked.pop(number) - outside / 2)
                pause = chance.expovariate(1 / work.pause) * 1000 if work.pause else 0.0
                following = now + outside / 2 + pause, number, "ask"
            heapq.heappush(events, following)
        outcome.busy += now - began
        outcome.iterations += 1
        outcome.wakings += slept
    # The last iteration may end later.
    outcome.seconds = max(seconds, now / 1e6)
    return outcome


def _first(work: Work, chance: random.Random) -> Iterator[Event]:
    for number in range(work.connections):
        yield chance.random() * 1000 * (work.pause + 1), number, "ask"
    for number in range(work.streams):
        # Evenly over the interval, as the clients begin one each millisecond.
        yield number * TICK % (work.interval * 1000), number, "chunk"


def percentile(times: list[float], share: float) -> float:
    return sorted(times)[min(len(times) - 1, int(len(times) * share))] if times else 0.0


def main(work: Work, seconds: float = 10) -> None:
    """Print what one gateway would do with it."""
    outcome = simulate(MEASURED, work, OUTSIDE, seconds)
    print(f"{outcome.utilisation:.0%} of a core")
    for what, times in (("requests", outcome.requests), ("chunks", outcome.chunks)):
        if times:
            p50, p99 = (percentile(times, share) / 1000 for share in (0.5, 0.99))
            rate = len(times) / seconds
            print(f"{rate:,.0f} {what} a second, later by {p50:.2f} ms (p50), {p99:.2f} ms (p99)")


if __name__ == "__main__":
    main(Work(**json.loads(sys.argv[1])))
