"""The innocent bystander: ``python -m benchmarks.probe PORT PID`` asks ``/healthz`` all the time.

Of each wait it also knows how much of it the gateway, process PID, was at work: what another
process did on the same core meanwhile is not in that. It says ``ready`` once it has been answered,
stops when its standard input ends, and then prints how long it waited, as JSON. It is a process of
its own, so that no work of the other clients holds it up; `Probe` runs it.
"""

from __future__ import annotations

import json
import select
import socket
import subprocess
import sys
import time
from typing import Any

from benchmarks.targets import ROOT

PAUSE = 0.0005
"""Seconds between an answer and the next question: enough for the gateway to do other work."""

PATIENCE = 120
"""Seconds after which an answer is not waited for any more."""

_ASKED = b"GET /healthz HTTP/1.1\r\nHost: probe\r\n\r\n"


class Probe:
    """Watches from `__enter__` to `__exit__`; then `seen` has the longest wait and its like."""

    def __init__(self, port: int, pid: int) -> None:
        self._asked = [str(port), str(pid)]
        self.seen: dict[str, Any] = {}

    def __enter__(self) -> Probe:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.probe", *self._asked],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        assert self._process.stdout is not None
        if self._process.stdout.readline() != "ready\n":
            raise RuntimeError("/healthz was not answered at all")
        return self

    def __exit__(self, *_: object) -> None:
        try:
            output, _error = self._process.communicate(timeout=2 * PATIENCE)
            self.seen = json.loads(output)
        finally:
            self._process.kill()
            self._process.wait()


def _ask(connection: socket.socket, clock: int) -> tuple[float, float]:
    """Milliseconds until ``/healthz`` has answered, and those of them that passed on `clock`."""
    began, worked = time.perf_counter(), time.clock_gettime(clock)
    connection.sendall(_ASKED)
    answer = connection.recv(65536)
    if not answer.startswith(b"HTTP/1.1 200 "):
        raise RuntimeError(f"not healthy: {answer[:300]!r}")
    worked = time.clock_gettime(clock) - worked
    return (time.perf_counter() - began) * 1000, worked * 1000


def main(port: int, pid: int) -> None:
    waits: list[float] = []
    longest_work = 0.0
    # The clock of another process's CPU time: clock_getcpuclockid(3).
    clock = (~pid << 3) | 2
    with socket.create_connection(("127.0.0.1", port), PATIENCE) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        _ask(connection, clock)
        print("ready", flush=True)
        while not select.select([sys.stdin], [], [], PAUSE)[0]:
            wait, work = _ask(connection, clock)
            waits.append(wait)
            longest_work = max(longest_work, work)
    waits.sort()
    print(
        json.dumps(
            {
                "longest_ms": waits[-1],
                "longest_work_ms": longest_work,
                "p99_ms": waits[len(waits) * 99 // 100],
                "count": len(waits),
            }
        )
    )


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
