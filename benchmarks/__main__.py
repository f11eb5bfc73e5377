"""``python -m benchmarks``: everything, or with ``--check`` what must not get slower."""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from benchmarks import dialects, growth, instructions, scaling, waits
from benchmarks.bench import Bench, say
from benchmarks.page import write_docs
from benchmarks.peers import check, one_round
from benchmarks.processes import Unavailable, allow_many_files
from benchmarks.report import dialects_table, goals_table, growth_table, medians, waits_table
from benchmarks.targets import TARGETS, Environments
from benchmarks.versions import compare

KINDS = ("body", "reply", "stream", "other")
PARTS = ("peers", "dialects", "waits", "growth", "scaling", "instructions")


def machine() -> dict[str, Any]:
    cpu = [line for line in Path("/proc/cpuinfo").read_text().split("\n") if "model name" in line]
    return {
        "cpu": cpu[0].partition(": ")[2] if cpu else platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "interpreter": instructions.interpreter(),
        "date": time.strftime("%Y-%m-%d"),
        "load_before": os.getloadavg()[0],
    }


def count_instructions(environments: Environments, *, keep: bool = False) -> dict[str, int] | None:
    """None where valgrind cannot be had, which is no fault of the gateway's."""
    try:
        counts = instructions.measure(environments.unpacked)
    except Unavailable as why:
        say(f"instructions: skipped, {why}")
        return None
    if keep:
        instructions.keep(counts)
    return counts


def options() -> argparse.Namespace:
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--parts", metavar="NAME,...", help=f"out of {', '.join(PARTS)}")
    parser.add_argument("--only", metavar="NAME,...", help=f"out of {', '.join(TARGETS)}")
    parser.add_argument(
        "--waits", choices=KINDS, default="", help="of the waits only those of this kind"
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="half the time for each scenario")
    parser.add_argument("--check", action="store_true", help="only what must not get slower")
    parser.add_argument(
        "--before", type=Path, metavar="FOLDER", help="only beside the checkout in this folder"
    )
    parser.add_argument(
        "--keep", action="store_true", help="keep the instruction counts, to compare with"
    )
    parser.add_argument(
        "--json", type=Path, metavar="FILE", default=Path("benchmarks.json"), help="every figure"
    )
    parser.add_argument("--docs", type=Path, metavar="FOLDER", help="put tables and plots there")
    parser.add_argument("--cache", type=Path, default=Path(cache, "infergate-benchmarks"))
    return parser.parse_args()


def chosen(given: str | None, known: Any, option: str) -> list[str]:
    """The names of a list with commas; all that there are where none is given."""
    names = given.split(",") if given else list(known)
    if unknown := set(names) - set(known):
        raise SystemExit(f"{option}: no {', '.join(unknown)}; there are {', '.join(known)}")
    return names


def measure(bench: Bench, given: argparse.Namespace, environments: Environments) -> dict[str, Any]:
    """Every figure of the chosen parts."""
    result: dict[str, Any] = {}
    share = 0.5 if given.quick else 1.0
    parts = chosen(given.parts, PARTS, "--parts")
    if "instructions" in parts:
        result["instructions"] = count_instructions(environments, keep=given.keep)
    if "dialects" in parts:
        result["dialects"] = dialects.measure(bench)
    if "waits" in parts:
        result["waits"] = waits.measure(bench, 1 if given.quick else 3, given.waits)
    if "growth" in parts:
        result["growth"] = growth.measure(bench)
    if "scaling" in parts:
        result["scaling"] = scaling.measure(bench, given.rounds)
    if "peers" in parts:
        names = chosen(given.only, TARGETS, "--only")
        targets = [TARGETS[name] for name in names if bench.available(TARGETS[name])]
        rounds = [one_round(bench, targets, number, share) for number in range(given.rounds)]
        result |= {"medians": medians(rounds), "rounds": rounds}
    return result


def show(result: dict[str, Any]) -> None:
    if counts := result.get("instructions"):
        instructions.check(counts)
    if "dialects" in result:
        print(dialects_table(result["dialects"]))
    if "waits" in result:
        print(waits_table(result["waits"]))
    if "growth" in result:
        print(growth_table(result["growth"]))
    if "scaling" in result:
        print("\n\n".join(scaling.tables(result["scaling"]).values()))
    if "medians" in result:
        print(goals_table(result["medians"]))


def main() -> int:
    given = options()
    allow_many_files()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # stops all that was started
    environments = Environments(given.cache.resolve())
    about = machine()
    with ExitStack() as stack:
        bench = Bench(stack, environments)
        if given.before:
            share = 0.5 if given.quick else 1.0
            return 0 if compare(bench, given.before.resolve(), given.rounds, share) else 1
        if given.check:
            good = dialects.check(bench) and check(bench)
            counts = count_instructions(environments)
            return 0 if (counts is None or instructions.check(counts)) and good else 1
        result = measure(bench, given, environments)
    result |= {"machine": about, "packages": environments.packages()}
    given.json.write_text(json.dumps(result, indent=1) + "\n")
    if given.docs:
        write_docs(given.docs, result)
    show(result)
    return 0


if __name__ == "__main__":
    sys.exit(main())
