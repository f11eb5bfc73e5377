"""The broken requests of `fuzz_framing`, on whole connections of a gateway in memory.

    python -m tests.fuzz_edge --seed 1 --rounds 200000

Nothing may be raised or logged as a failure, each exchange is recorded once and ends, and no
connection and no timer stays.
"""

from __future__ import annotations

import random
import sys
import time
from collections import Counter
from collections.abc import Sequence

from twisted.logger import LogEvent, LogLevel, globalLogPublisher

from tests.fuzz_framing import SEEDS, cut, mutate, options
from tests.unit.inmemory import Running

BATCH = 1000
"""Rounds on one gateway, which must be as it was at their end."""


def attempt(running: Running, seed: int, number: int) -> None:
    """Send one broken request in pieces to which the answer is read or not, wait a while or not,
    and leave, in order, with a reset, or of one side."""
    rng = random.Random(f"{seed}/{number}")
    pieces = cut(rng, mutate(rng, SEEDS))
    try:
        client = running.connect()
        for piece in pieces:
            client.send(piece)
            if rng.random() < 0.05:
                rng.choice((client.stop_reading, client.read_again))()
        if rng.random() < 0.1:
            running.wait(100)  # past every deadline
        if not client.wire.lost:
            rng.choice((client.close, client.reset, client.shut))()
    except Exception as error:
        raise AssertionError(f"seed {seed}, round {number}, {pieces!r}: {error!r}") from error


def batch(seed: int, first: int, rounds: int) -> Counter[object]:
    """Run some rounds; how often each status was sent."""
    failures: list[LogEvent] = []

    def watch(event: LogEvent) -> None:
        if event.get("log_failure") or event.get("log_level") is LogLevel.critical:
            failures.append(event)

    running = Running()
    globalLogPublisher.addObserver(watch)
    try:
        for number in range(first, first + rounds):
            attempt(running, seed, number)
            assert not failures, f"seed {seed}, round {number}: {failures}"
    finally:
        globalLogPublisher.removeObserver(watch)
    running.wait(100)
    running.wait(1)
    assert not running.edge.connections, "a connection stays"
    assert not running.clock.getDelayedCalls(), "a timer stays"
    assert running.in_flight == (0, 0), "an exchange has not ended"
    return Counter(record.status for record in running.records)


def main(arguments: Sequence[str] | None = None) -> None:
    given = options("Fuzz infergate's edge.", arguments)
    began = time.perf_counter()
    outcomes: Counter[object] = Counter()
    end = given.first + given.rounds
    for first in range(given.first, end, BATCH):
        outcomes += batch(given.seed, first, min(BATCH, end - first))
    seconds = time.perf_counter() - began
    counts = ", ".join(f"{status}: {n}" for status, n in outcomes.most_common())
    sys.stdout.write(f"{given.rounds} rounds in {seconds:.1f} s; {counts}\n")


if __name__ == "__main__":
    main()
