"""How cost grows with what there is more of: each a straight line, if all is well.

Requests, chunks, streams, idle connections, the size of a body cost as much as there are of them;
how many keys there are, and how many callers take turns, should cost a request nothing at all.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any

from benchmarks.bench import Bench, Load, Running, say
from benchmarks.question import KEY, caller_key
from benchmarks.targets import TARGETS, Launch

SECONDS = (1, 3, 9)
"""Of load, for what is counted while it runs."""

IDLE_SECONDS = 5
STREAMS = (100, 300, 1000)
IDLE = (1000, 3000, 9000)
KEYS = (1, 100, 10_000, 100_000)
CALLERS = (10, 1000, 30_000)
BODIES = (10_000, 100_000, 1_000_000, 9_000_000)


FREE = frozenset({"keys", "callers"})
"""What a request is to cost the same with, however many there are."""


@dataclass
class Point:
    """`count` of what there is more of took `cost` in a `unit`."""

    what: str
    count: float
    cost: float
    unit: str


def measure(bench: Bench) -> list[dict[str, Any]]:
    """All points, those of one line after the other."""
    points = []
    for points_of in (_requests, _chunks, _streams, _idle, _bodies, _keys, _callers):
        for point in points_of(bench):
            say(f"growth: {point.count:,.0f} {point.what}: {point.cost:.4g} {point.unit}")
            points.append(asdict(point))
    return points


def _requests(bench: Bench) -> Iterator[Point]:
    with bench.running(TARGETS["infergate"]) as gateway:
        gateway.warm_up()
        for seconds in SECONDS:
            seen = gateway.run({"seconds": seconds, "connections": 32})
            yield Point("requests", seen["requests"], seen["cpu_s"], "CPU s")


def _chunks(bench: Bench) -> Iterator[Point]:
    with bench.running(TARGETS["infergate"]) as gateway:
        gateway.warm_up()
        for seconds in SECONDS:
            seen = gateway.run({"seconds": seconds, "streams": 32, "interval": 0})
            yield Point("chunks", seen["chunks"], seen["cpu_s"], "CPU s")


def _streams(bench: Bench) -> Iterator[Point]:
    with bench.running(TARGETS["infergate"]) as gateway:
        gateway.warm_up()
        for count in STREAMS:
            seen = gateway.run({"seconds": 4, "streams": count, "interval": 200})
            yield Point("streams", count, seen["cpu_s"], "CPU s")


def _idle(bench: Bench) -> Iterator[Point]:
    for count in IDLE:
        with bench.running(TARGETS["infergate"]) as gateway, ExitStack() as stack:
            server = gateway.server
            assert server is not None
            for _ in range(count):
                connection = socket.create_connection(("127.0.0.1", gateway.port), 60)
                stack.enter_context(connection)
                connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: idle\r\n\r\n")
                connection.recv(4096)
            server.settle()
            before = server.cpu_seconds()
            time.sleep(IDLE_SECONDS)
            spent = server.cpu_seconds() - before
            grown = server.memory() - gateway.figures["idle_mib"]
        yield Point("idle connections", count, spent, f"CPU s in {IDLE_SECONDS} s")
        yield Point("idle connections, memory", count, grown, "MiB")


def _bodies(bench: Bench) -> Iterator[Point]:
    with bench.running(TARGETS["infergate"]) as gateway:
        gateway.warm_up()
        for size in BODIES:
            load: Load = {"seconds": 2, "connections": 2, "body": size}
            yield _each(gateway, load, "bytes of a body", size)


def _keys(bench: Bench) -> Iterator[Point]:
    """The one key that is asked with stands last."""
    for count in KEYS:
        others = [caller_key(number) for number in range(count - 1)]
        with _with_keys(bench, [*others, KEY]) as gateway:
            yield _each(gateway, {"seconds": 2, "connections": 32}, "keys", count)


def _callers(bench: Bench) -> Iterator[Point]:
    for count in CALLERS:
        with _with_keys(bench, [KEY, *(caller_key(number) for number in range(count))]) as gateway:
            load: Load = {"seconds": 3, "connections": 32, "callers": count}
            yield _each(gateway, load, "callers", count)


def _each(gateway: Running, load: Load, what: str, count: float) -> Point:
    """What one request costs."""
    seen = gateway.run(load)
    return Point(what, count, seen["cpu_s_per_1000"], "CPU ms a request")


@contextmanager
def _with_keys(bench: Bench, keys: list[str]) -> Iterator[Running]:
    """The gateway with a file of keys, warmed up."""
    base = TARGETS["infergate"]

    def environment(launch: Launch) -> dict[str, str]:
        file = launch.directory / "many-keys"
        file.write_text("".join(f"caller-{n}:{key}\n" for n, key in enumerate(keys)))
        return base.environment(launch) | {"API_KEYS_FILE": str(file)}

    with bench.running(replace(base, environment=environment)) as gateway:
        gateway.warm_up()
        yield gateway
