"""The backend that all targets share, a target that runs, and a load on it with what it cost."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from benchmarks.processes import Server, Unavailable, free_port, scratch
from benchmarks.targets import ROOT, TARGETS, Environments, Launch, Target

Load = dict[str, Any]
"""What the clients do, as `benchmarks.load` reads it."""

WARM_UP: tuple[Load, ...] = (
    {"seconds": 1, "connections": 32},
    {"seconds": 1, "streams": 50, "interval": 10},
)


class Bench:
    """The backend, and what is run against it."""

    def __init__(self, stack: ExitStack, environments: Environments) -> None:
        self._environments = environments
        # The clients and the backend need uvloop alone, which this environment has.
        self.python = environments.python("aiohttp", TARGETS["aiohttp"].packages)
        self.backend = free_port()
        command = [self.python, "-m", "benchmarks.backend", str(self.backend)]
        directory = Path(stack.enter_context(scratch()))
        server = stack.enter_context(Server(command, {"PYTHONPATH": str(ROOT)}, directory))
        server.wait(self.backend)

    @contextmanager
    def running(
        self, target: Target, *, backend: int | None = None, root: Path = ROOT
    ) -> Iterator[Running]:
        """The target, from its start to its end, in front of the port `backend` in place of the
        shared one. The gateway is taken from the checkout in `root`. Raises `Unavailable`."""
        python = self._environments.python(target.name, target.packages)
        unpacked = self._environments.unpacked(target.debian)
        with scratch() as directory:
            launch = Launch(
                python, unpacked, free_port(), backend or self.backend, Path(directory), root
            )
            command, environment = target.command(launch), target.environment(launch)
            with Server(command, environment, launch.directory) as server:
                yield Running(self, launch.port, server)

    def available(self, target: Target) -> bool:
        try:
            with self.running(target):
                return True
        except Unavailable as why:
            say(f"{target.name}: skipped, {why}")
            return False

    def load(self, port: int, load: Load) -> subprocess.Popen[str]:
        command = [self.python, "-m", "benchmarks.load", json.dumps({"port": port, **load})]
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)


class Running:
    """A target that answers, or the backend itself where there is no `server`."""

    def __init__(self, bench: Bench, port: int, server: Server | None) -> None:
        self._bench = bench
        self.port = port
        self.server = server
        self.figures: dict[str, Any] = {}
        if server is not None:
            self.figures["start_s"] = server.wait(port)
            server.settle()
            self.figures["idle_mib"] = server.memory()

    def warm_up(self) -> None:
        for load in WARM_UP:
            self.run(load)

    def run(self, load: Load) -> dict[str, Any]:
        """What the clients saw, and what it cost; nothing where the target has crashed."""
        server = self.server
        if server is not None and not server.alive():
            say("skipped: the target has ended")
            return {}
        before = memory = 0.0
        if server is not None:
            server.settle()
            before = server.cpu_seconds()
        clients = self._bench.load(self.port, load)
        try:
            while server is not None and clients.poll() is None:
                memory = max(memory, server.memory())
                time.sleep(0.25)
            output, _ = clients.communicate(timeout=60)
        finally:
            clients.kill()
            clients.wait()
        seen: dict[str, Any] = json.loads(output)
        if seen["failures"]:
            say(f"{seen['failures']} failures, such as: {seen['failure']}")
        if server is not None:
            spent = server.cpu_seconds() - before
            unit = "1000" if "requests" in seen else "100k"
            count = seen["requests"] / 1000 if "requests" in seen else seen["chunks"] / 100_000
            seen |= {"memory_mib": memory, "cpu_s": spent}
            seen[f"cpu_s_per_{unit}"] = spent / count if count else None
        return seen


def say(text: str) -> None:
    """To the human who waits: standard output is for the result."""
    print(text, file=sys.stderr, flush=True)
