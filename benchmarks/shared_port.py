"""What two gateways on one port (``REUSE_PORT``) carry, beside one.

The clients and the backend need a share of the two cores too, so that requests a second alone
would say less than the truth of two gateways. Hence two figures of each run:

* **capacity**: processes / (CPU seconds of all gateways for one request or chunk), which is what
  these processes would serve in a second with a core for each. The CPU of clients and backend is in
  neither side of it, and no gateway is charged for the time in which it waits for a core.
* **a second**, as the clients saw it: what is left of that where they use the same two cores.

Each gateway has the same load, so that two have twice the clients of one, and it keeps them all
busy: how many events an event loop iteration serves, and with that what one costs, goes by the
clients of a process. One and two alternate, and the median of the rounds' ratios counts. A thousand
idle connections show how the kernel spreads new ones.
"""

from __future__ import annotations

import shlex
import socket
import statistics
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

from benchmarks.bench import Bench, Load, Running, say
from benchmarks.targets import TARGETS, Launch, Target

SECONDS = 4
CLIENTS = 64
LOADS: dict[str, Callable[[int], Load]] = {
    "plain requests": lambda count: {"seconds": SECONDS, "connections": CLIENTS * count},
    "chunks, in streams of 64": lambda count: {
        "seconds": SECONDS,
        "connections": CLIENTS * count,
        "chunks": 64,
    },
}
"""By the number of gateways that have it together."""

PROCESSES = (1, 2)
CONNECTIONS = 1000


def gateways(count: int, **settings: str) -> Target:
    """So many gateways on one port: one shell's children, so that they count as one server."""
    base = TARGETS["infergate"]

    def command(launch: Launch) -> list[str]:
        each = []
        for number in range(count):
            directory = launch.directory / str(number)
            directory.mkdir()
            each.append(shlex.join(base.command(replace(launch, directory=directory))))
        return ["bash", "-c", "".join(f"{one} & " for one in each) + "wait"]

    def environment(launch: Launch) -> dict[str, str]:
        shared = {"REUSE_PORT": "true", "METRICS_LISTEN": "tcp:0:interface=127.0.0.1"}
        return base.environment(launch) | shared | settings

    return replace(base, title=f"{count} gateways", command=command, environment=environment)


def measure(bench: Bench, rounds: int) -> dict[str, Any]:
    """In each round, each load on each number of processes; then how connections are spread."""
    runs: dict[str, list[dict[int, Any]]] = {name: [] for name in LOADS}
    with ExitStack() as stack:
        running = {
            count: stack.enter_context(bench.running(gateways(count))) for count in PROCESSES
        }
        # Before any load: its connections to the backend would be counted too.
        spread = _spread(running[max(PROCESSES)])
        for one in running.values():
            one.warm_up()
        for number in range(rounds):
            order = PROCESSES if number % 2 else PROCESSES[::-1]
            for name, load in LOADS.items():
                say(f"shared port, round {number + 1}: {name}")
                runs[name].append(
                    {count: _run(running[count], load(count), count) for count in order}
                )
    return {name: _summary(of_one) for name, of_one in runs.items()} | {"connections": spread}


def _run(gateway: Running, load: Load, count: int) -> dict[str, Any]:
    server = gateway.server
    assert server is not None
    before = server.cpu_of_each()
    seen = gateway.run(load)
    each = sorted(after - before[pid] for pid, after in server.cpu_of_each().items())
    done = seen.get("requests") or seen["chunks"]
    return {
        "per_second": seen["per_second"],
        "cpu_us": seen["cpu_s"] / done * 1e6,
        "capacity": count * done / seen["cpu_s"],
        # Without the shell that has started them.
        "cores": [spent / SECONDS for spent in each[-count:]],
        "failures": seen["failures"],
    }


def _summary(rounds: Sequence[dict[int, Any]]) -> dict[str, Any]:
    """Medians for each number of processes, and of the ratios within a round."""
    few, many = PROCESSES
    ratios = {
        f"{figure}_ratio": statistics.median(
            runs[many][figure] / runs[few][figure] for runs in rounds
        )
        for figure in ("capacity", "per_second")
    }
    for count in PROCESSES:
        for figure in ("per_second", "cpu_us", "capacity"):
            ratios[f"{figure}_{count}"] = statistics.median(run[count][figure] for run in rounds)
        ratios[f"cores_{count}"] = [
            statistics.median(cores)
            for cores in zip(*(run[count]["cores"] for run in rounds), strict=True)
        ]
    return ratios


def _spread(gateway: Running) -> list[int]:
    """How many of `CONNECTIONS` new connections each process has."""
    server = gateway.server
    assert server is not None
    before = server.files_of_each()
    with ExitStack() as stack:
        for _ in range(CONNECTIONS):
            connection = socket.create_connection(("127.0.0.1", gateway.port), 60)
            stack.enter_context(connection)
            connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: idle\r\n\r\n")
            connection.recv(4096)
        after = server.files_of_each()
    return sorted(count for pid, files in after.items() if (count := files - before[pid]))
