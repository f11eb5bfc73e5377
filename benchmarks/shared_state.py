"""What limits that hold across processes cost (``SHARED_STATE``): the gateway, Redis, and the wait.

Two gateways with a rate and a budget of tokens for the caller, one of which keeps them in a real
Redis, which is asked before each request and told of its tokens afterwards.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

from benchmarks.bench import Bench, Load, Running, say
from benchmarks.processes import Server, Unavailable, free_port, scratch
from benchmarks.question import KEY
from benchmarks.targets import TARGETS, Launch, Target

BUSY: Load = {"seconds": 4, "connections": 64}
ALONE: Load = {"seconds": 3, "connections": 1}


def measure(bench: Bench) -> dict[str, float] | None:
    """CPU in microseconds a request, and the wait of a single client; None without Redis."""
    try:
        with ExitStack() as stack:
            port, store = stack.enter_context(redis())
            shared = {"SHARED_STATE": f"redis://127.0.0.1:{port}"}
            alone, together = (
                stack.enter_context(bench.running(_limited(settings))) for settings in ({}, shared)
            )
            return _compare(alone, together, store)
    except Unavailable as why:
        say(f"shared state: skipped, {why}")
        return None


def _compare(alone: Running, together: Running, store: Server) -> dict[str, float]:
    figures: dict[str, float] = {}
    for name, gateway in (("alone", alone), ("shared", together)):
        gateway.warm_up()
        say(f"shared state: {name}")
        before = store.cpu_seconds()
        seen = gateway.run(BUSY)
        figures[f"redis_us_{name}"] = (store.cpu_seconds() - before) / seen["requests"] * 1e6
        figures[f"cpu_us_{name}"] = seen["cpu_s_per_1000"] * 1000
        figures[f"wait_p50_ms_{name}"] = gateway.run(ALONE)["wait_p50_ms"]
    return figures


@contextmanager
def redis() -> Iterator[tuple[int, Server]]:
    program = shutil.which("redis-server")
    if program is None:
        raise Unavailable("there is no redis-server")
    port = free_port()
    with scratch() as directory:
        options = ["--port", str(port), "--save", "", "--appendonly", "no"]
        with Server([program, *options], {}, Path(directory)) as server:
            server.settle()
            yield port, server


def _limited(settings: dict[str, str]) -> Target:
    """The gateway with both kinds of limit for its caller, which are never reached."""
    base = TARGETS["infergate"]

    def environment(launch: Launch) -> dict[str, str]:
        file = launch.directory / "limited-keys"
        file.write_text(f"bench:{KEY} rate=1000000/second tokens=1000000000000/day\n")
        return base.environment(launch) | {"API_KEYS_FILE": str(file)} | settings

    return replace(base, environment=environment)
