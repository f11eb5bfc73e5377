"""What a request costs one kind of gateway beside another, in CPU seconds."""

from __future__ import annotations

import json
import socket
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.e2e.harness import Process

KEY = "sk-alice-0123456789abcdef"

EVERY_LIMIT = (
    "rate=999999/second tokens=900000000/minute tokens=900000000/hour tokens=900000000/day "
    "tokens=900000000/week tokens=900000000/month concurrent=50 models=ti*,other routes=chat "
    "expires=2099-12-31 from=127.0.0.0/8 user=X-User"
)

OF_EACH_KIND = 3
"""Processes: how the memory of one happens to be laid out is worth some per cent."""

ROUNDS = 16
REQUESTS = 200
"""Of one round. Many short rounds, each beside its like, so that what else the machine does is in
both, and the median leaves out the rounds in which it was not."""

WARM_UP = 1000
CONNECTIONS = 8

BODY = json.dumps({"model": "tiny", "messages": [{"role": "user", "content": "hello"}]}).encode()
REQUEST = (
    "POST /v1/chat/completions HTTP/1.1\r\nHost: gateway\r\nContent-Type: application/json\r\n"
    f"Authorization: Bearer {KEY}\r\nX-User: ann\r\nContent-Length: {len(BODY)}\r\n\r\n"
).encode() + BODY


def compared(kinds: Sequence[Callable[[], Process]], requests: int = REQUESTS) -> list[float]:
    """What a request costs each kind but the first, as a multiple of what it costs the first.

    Each of `kinds` starts a gateway, and is called `OF_EACH_KIND` times.
    """
    sets = [[start() for start in kinds] for _ in range(OF_EACH_KIND)]
    for processes in sets:
        for process in processes:
            ask_often(process, WARM_UP)
    ratios: list[list[float]] = [[] for _ in kinds]
    for number in range(ROUNDS):
        for processes in sets:
            # None is always the first, for which the caches are cold.
            order = processes if number % 2 else processes[::-1]
            costs = {process: ask_often(process, requests) for process in order}
            for ratio, process in zip(ratios, processes, strict=True):
                ratio.append(costs[process] / costs[processes[0]])
    return [statistics.median(ratio) for ratio in ratios[1:]]


def ask_often(process: Process, count: int) -> float:
    """The CPU seconds that so many requests cost a gateway, over a few kept connections."""
    before = cpu_seconds(process)
    there = ("127.0.0.1", process.port)
    connections = [socket.create_connection(there) for _ in range(CONNECTIONS)]
    for _ in range(count // CONNECTIONS):
        for connection in connections:
            connection.sendall(REQUEST)
        for connection in connections:
            answer = connection.recv(65536)
            while b"\r\n\r\n" not in answer or not answer.endswith(b"}"):
                answer += connection.recv(65536)
            assert answer.startswith(b"HTTP/1.1 200 "), answer
    for connection in connections:
        connection.close()
    return cpu_seconds(process) - before


def cpu_seconds(process: Process) -> float:
    """To the nanosecond where the kernel says so; else to a hundredth."""
    threads = Path(f"/proc/{process.process.pid}/task").glob("*/schedstat")
    spent = sum(int(thread.read_text().split()[0]) for thread in threads)
    return spent / 1e9 if spent else process.cpu_seconds()
