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
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from benchmarks.processes import Server, Unavailable, allow_many_files, free_port, scratch
from benchmarks.report import goals_table, medians, write_docs
from benchmarks.targets import ROOT, TARGETS, Environments, Launch, Target

Load = dict[str, float]

# What the clients do, as `benchmarks.load` reads it.
SCENARIOS: dict[str, Load] = {
    "plain_1": {"seconds": 4, "connections": 1},
    "plain_32": {"seconds": 4, "connections": 32},
    "streams_200": {"seconds": 6, "streams": 200, "interval": 10},
    "streams_1000": {"seconds": 8, "streams": 1000, "interval": 50},
    "flat": {"seconds": 4, "streams": 32, "interval": 0},
}
SCALING: dict[str, Load] = {
    f"scale_{count}": {"seconds": 10, "streams": count, "interval": 200}
    for count in (100, 300, 1000, 3000)
}
WARM_UP: tuple[Load, ...] = (
    {"seconds": 1, "connections": 32},
    {"seconds": 1, "streams": 50, "interval": 10},
)

# Times the CPU seconds of aiohttp by hand: well over what is measured, for machines that others
# share, and well under what a hot path that went wrong costs.
CHECKS = {"plain_32": 3.0, "streams_200": 1.75, "flat": 2.5}
CHECK_ROUNDS = 3
CHECK_SECONDS = 1.5


class Bench:
    """The backend, and what is run against it."""

    def __init__(self, stack: ExitStack, environments: Environments) -> None:
        self._environments = environments
        # The clients and the backend need uvloop alone, which this environment has.
        self._python = environments.python("aiohttp", TARGETS["aiohttp"].packages)
        self.backend = free_port()
        command = [self._python, "-m", "benchmarks.backend", str(self.backend)]
        directory = Path(stack.enter_context(scratch()))
        server = stack.enter_context(Server(command, {"PYTHONPATH": str(ROOT)}, directory))
        server.wait(self.backend)

    @contextmanager
    def running(self, target: Target) -> Iterator[Running]:
        """The target, from its start to its end; raises `Unavailable`."""
        python = self._environments.python(target.name, target.packages)
        unpacked = self._environments.unpacked(target.debian)
        with scratch() as directory:
            launch = Launch(python, unpacked, free_port(), self.backend, Path(directory))
            command, environment = target.command(launch), target.environment(launch)
            with Server(command, environment, launch.directory) as server:
                yield Running(self, launch.port, server)

    def available(self, target: Target) -> bool:
        try:
            with self.running(target):
                return True
        except Unavailable as why:
            _say(f"{target.name}: skipped, {why}")
            return False

    def load(self, port: int, load: Load) -> subprocess.Popen[str]:
        command = [self._python, "-m", "benchmarks.load", json.dumps({"port": port, **load})]
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
        for load in WARM_UP:
            self.run(load)

    def run(self, load: Load) -> dict[str, Any]:
        """What the clients saw, and what it cost; nothing where the target has crashed."""
        server = self._server
        if server is not None and not server.alive():
            _say("skipped: the target has ended")
            return {}
        before = memory = 0.0
        if server is not None:
            server.settle()
            before = server.cpu_seconds()
        clients = self._bench.load(self._port, load)
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
            _say(f"{seen['failures']} failures, such as: {seen['failure']}")
        if server is not None:
            spent = server.cpu_seconds() - before
            unit = "1000" if "requests" in seen else "100k"
            count = seen["requests"] / 1000 if "requests" in seen else seen["chunks"] / 100_000
            seen |= {"memory_mib": memory, "cpu_s": spent}
            seen[f"cpu_s_per_{unit}"] = spent / count if count else None
        return seen


def one_round(bench: Bench, targets: list[Target], number: int, share: float) -> dict[str, Any]:
    """Every target started afresh, then each scenario with one after the other."""
    with ExitStack() as stack:
        running = {"direct": Running(bench, bench.backend, None)}
        for target in targets:
            running[target.name] = stack.enter_context(bench.running(target))
        for one in running.values():
            one.warm_up()
        names = list(running)
        # So that none is always the one after the most wasteful.
        names = names[number % len(names) :] + names[: number % len(names)]
        for scenario, load in (SCENARIOS | SCALING).items():
            for name in names:
                if scenario in SCALING and name != "direct" and TARGETS[name].slow:
                    continue
                _say(f"round {number + 1}: {scenario} {name}")
                seconds = load["seconds"] * share
                running[name].figures[scenario] = running[name].run(load | {"seconds": seconds})
        return {name: one.figures for name, one in running.items()}


def check(bench: Bench) -> bool:
    """Whether the gateway costs no more than it may, beside aiohttp by hand."""
    with ExitStack() as stack:
        pair = [stack.enter_context(bench.running(TARGETS[n])) for n in ("infergate", "aiohttp")]
        for one in pair:
            one.warm_up()
        ratios: dict[str, list[float]] = {scenario: [] for scenario in CHECKS}
        for _ in range(CHECK_ROUNDS):
            for scenario, of_one in ratios.items():
                load = SCENARIOS[scenario] | {"seconds": CHECK_SECONDS}
                ours, theirs = (one.run(load) for one in pair)
                if ours["failures"] or theirs["failures"]:
                    return False
                key = "cpu_s_per_1000" if "requests" in ours else "cpu_s_per_100k"
                of_one.append(ours[key] / theirs[key])
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


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def options() -> argparse.Namespace:
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--only", metavar="NAME,...", help=f"out of {', '.join(TARGETS)}")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="half the time for each scenario")
    parser.add_argument("--check", action="store_true", help="only what must not get slower")
    parser.add_argument(
        "--json", type=Path, metavar="FILE", default=Path("benchmarks.json"), help="every figure"
    )
    parser.add_argument("--docs", type=Path, metavar="FOLDER", help="put tables and plots there")
    parser.add_argument("--cache", type=Path, default=Path(cache, "infergate-benchmarks"))
    return parser.parse_args()


def main() -> int:
    given = options()
    names = given.only.split(",") if given.only else list(TARGETS)
    if unknown := set(names) - set(TARGETS):
        raise SystemExit(f"--only: no {', '.join(unknown)}; there are {', '.join(TARGETS)}")
    allow_many_files()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # stops all that was started
    environments = Environments(given.cache.resolve())
    about = machine()
    with ExitStack() as stack:
        bench = Bench(stack, environments)
        if given.check:
            return 0 if check(bench) else 1
        targets = [TARGETS[name] for name in names if bench.available(TARGETS[name])]
        share = 0.5 if given.quick else 1.0
        rounds = [one_round(bench, targets, number, share) for number in range(given.rounds)]
    result: dict[str, Any] = {
        "machine": about,
        "packages": environments.packages(),
        "medians": medians(rounds),
        "rounds": rounds,
    }
    given.json.write_text(json.dumps(result, indent=1) + "\n")
    if given.docs:
        write_docs(given.docs, result)
    print(goals_table(result["medians"]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
