"""``python -m benchmarks``: everything, or with ``--check`` what must not get slower."""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from benchmarks.report import medians, ratios_table, write_docs
from benchmarks.targets import (
    ROOT,
    TARGETS,
    Environments,
    Launch,
    Server,
    Target,
    Unavailable,
    allow_many_files,
    free_port,
    scratch,
)

# Seconds, and what the clients do in them.
SCENARIOS: dict[str, tuple[float, tuple[str, ...]]] = {
    "plain_1": (4, ("--connections=1",)),
    "plain_32": (4, ("--connections=32",)),
    "streams_200": (6, ("--streams=200", "--interval=10")),
    "streams_1000": (8, ("--streams=1000", "--interval=50")),
    "flat": (4, ("--streams=32",)),
}
SCALING: dict[str, tuple[float, tuple[str, ...]]] = {
    f"scale_{count}": (8, (f"--streams={count}", "--interval=200"))
    for count in (100, 300, 1000, 3000)
}
WARM_UP = (1.0, ("--connections=32",)), (1.0, ("--streams=50", "--interval=10"))

# Times the CPU seconds of aiohttp by hand. Far enough over what is measured for a machine that
# others share, and under what a hot path that went wrong costs.
CHECKS = {"plain_32": 3.0, "streams_200": 1.5}
CHECK_ROUNDS = 3
CHECK_SECONDS = 2


class Bench:
    """The backend, and the environments of all else."""

    def __init__(self, stack: ExitStack, environments: Environments) -> None:
        self._environments = environments
        self._python = environments.python("load", ["uvloop>=0.21"])
        self.backend = free_port()
        command = [self._python, "-m", "benchmarks.backend", str(self.backend)]
        directory = Path(stack.enter_context(scratch()))
        server = Server(command, {"PYTHONPATH": str(ROOT)}, directory)
        stack.callback(server.stop)
        server.wait(self.backend)

    def install(self, targets: Iterable[Target]) -> list[Target]:
        """Those that can be run here, with a word about the others."""
        ready = []
        for target in targets:
            try:
                with self.running(target):
                    ready.append(target)
            except Unavailable as why:
                print(f"{target.name}: skipped, {why}", file=sys.stderr, flush=True)
        return ready

    @contextmanager
    def running(self, target: Target) -> Iterator[Running]:
        """The target, from its start to its end, warmed up."""
        python = self._environments.python(target.name, target.packages)
        with ExitStack() as stack:
            directory = Path(stack.enter_context(scratch()))
            launch = Launch(python, free_port(), self.backend, directory)
            server = Server(target.command(launch), target.environment(launch), directory)
            stack.callback(server.stop)
            yield Running(self, launch.port, server)

    def load(self, port: int, seconds: float, options: Iterable[str]) -> subprocess.Popen[str]:
        command = [self._python, "-m", "benchmarks.load", str(port), str(seconds), *options]
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)


class Running:
    """A target that answers, or the backend itself where there is no `server`."""

    def __init__(self, bench: Bench, port: int, server: Server | None) -> None:
        self._bench = bench
        self._port = port
        self._server = server
        self.figures: dict[str, Any] = {}
        if server is not None:
            self.figures["start_s"] = server.wait(port)
            server.settle()
            self.figures["idle_mib"] = server.memory()

    def warm_up(self) -> None:
        for seconds, options in WARM_UP:
            self.run(seconds, options)

    def run(self, seconds: float, options: Iterable[str]) -> dict[str, Any]:
        """What the clients saw, and what it cost."""
        server = self._server
        before = 0.0
        if server is not None:
            server.settle()
            before = server.cpu_seconds()
        clients = self._bench.load(self._port, seconds, options)
        try:
            memory = 0.0
            while server is not None and clients.poll() is None:
                memory = max(memory, server.memory())
                time.sleep(0.25)
            output, _ = clients.communicate(timeout=60)
        finally:
            clients.kill()
            clients.wait()
        seen: dict[str, Any] = json.loads(output)
        if seen["failures"]:
            print(f"{seen['failures']} failures: {seen['failure']}", file=sys.stderr, flush=True)
        if server is not None:
            spent = server.cpu_seconds() - before
            seen["memory_mib"] = memory
            seen["cpu_s"] = spent
            if "requests" in seen:
                seen["cpu_s_per_1000"] = spent * 1000 / max(1, seen["requests"])
            else:
                seen["cpu_s_per_100k"] = spent * 100_000 / max(1, seen["chunks"])
        return seen


def one_round(
    bench: Bench, targets: list[Target], number: int, quick: bool
) -> dict[str, dict[str, Any]]:
    """Every target started afresh, and each scenario run with one after the other."""
    with ExitStack() as stack:
        running = {"direct": Running(bench, bench.backend, None)}
        for target in targets:
            running[target.name] = stack.enter_context(bench.running(target))
        for one in running.values():
            one.warm_up()
        for scenario, (seconds, options) in {**SCENARIOS, **SCALING}.items():
            names = list(running)
            # No target is always the one after the most wasteful.
            turned = names[number % len(names) :] + names[: number % len(names)]
            for name in turned:
                if scenario in SCALING and (name == "direct" or TARGETS[name].slow):
                    continue
                note = f"round {number + 1}: {scenario} {name}"
                print(note, file=sys.stderr, flush=True)
                running[name].figures[scenario] = running[name].run(
                    seconds / 2 if quick else seconds, options
                )
        return {name: one.figures for name, one in running.items()}


def check(bench: Bench) -> bool:
    """Whether the gateway costs no more than it may, beside aiohttp by hand."""
    ratios: dict[str, list[float]] = {scenario: [] for scenario in CHECKS}
    with ExitStack() as stack:
        ours = stack.enter_context(bench.running(TARGETS["infergate"]))
        theirs = stack.enter_context(bench.running(TARGETS["aiohttp"]))
        for one in (ours, theirs):
            one.warm_up()
        for _ in range(CHECK_ROUNDS):
            for scenario in CHECKS:
                _, options = SCENARIOS[scenario]
                key = "cpu_s_per_1000" if scenario.startswith("plain") else "cpu_s_per_100k"
                spent = [one.run(CHECK_SECONDS, options) for one in (ours, theirs)]
                if any(seen["failures"] for seen in spent):
                    return False
                ratios[scenario].append(spent[0][key] / spent[1][key])
    good = True
    for scenario, allowed in CHECKS.items():
        ratio = statistics.median(ratios[scenario])
        good = good and ratio <= allowed
        print(f"{scenario}: {ratio:.2f} times aiohttp's CPU seconds, at most {allowed} allowed")
    return good


def machine() -> dict[str, Any]:
    cpu = [line for line in Path("/proc/cpuinfo").read_text().split("\n") if "model name" in line]
    return {
        "cpu": cpu[0].partition(": ")[2] if cpu else platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "date": time.strftime("%Y-%m-%d"),
        "load_before": os.getloadavg()[0],
    }


def options() -> argparse.Namespace:
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--only", metavar="NAME,...", help=f"out of {', '.join(TARGETS)}")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="half the time for each scenario")
    parser.add_argument("--check", action="store_true", help="only what must not get slower")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where to put every figure")
    parser.add_argument("--docs", type=Path, metavar="FOLDER", help="put table and plots there")
    parser.add_argument(
        "--cache",
        type=Path,
        metavar="FOLDER",
        default=Path(cache, "infergate-benchmarks"),
        help="where the environments are kept [%(default)s]",
    )
    return parser.parse_args()


def main() -> int:
    given = options()
    allow_many_files()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    names = given.only.split(",") if given.only else list(TARGETS)
    if unknown := set(names) - set(TARGETS):
        raise SystemExit(f"--only: no {', '.join(unknown)}; there are {', '.join(TARGETS)}")
    environments = Environments(given.cache.resolve())
    with ExitStack() as stack:
        bench = Bench(stack, environments)
        if given.check:
            return 0 if check(bench) else 1
        about = machine()
        targets = bench.install(TARGETS[name] for name in names)
        rounds = [one_round(bench, targets, number, given.quick) for number in range(given.rounds)]
    result = {
        "machine": about,
        "packages": environments.packages(),
        "medians": medians(rounds),
        "rounds": rounds,
    }
    if given.json:
        given.json.write_text(json.dumps(result, indent=1) + "\n")
    if given.docs:
        write_docs(given.docs, result)
    print(ratios_table(result["medians"]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
