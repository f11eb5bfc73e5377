"""Instructions executed for a plain request and for a streamed chunk, which noise does not touch.

Seconds on a shared machine differ by several per cent from run to run. The instructions that
callgrind counts of `benchmarks.inmemory` differ by 0.2 % at most, where all that decides them is
the same: the interpreter and how it was built, the libraries, the order of sets, which code the
libraries choose for the CPU (`PINNED`), and the inputs. So there is one kept count for each
interpreter with its libraries, in ``instructions.json``; with any other there is nothing to compare
with, and the counts are only printed.

What a run executes before and after the requests is the same in all, and is subtracted.
"""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

from benchmarks.processes import Unavailable, scratch
from benchmarks.targets import ROOT

KEPT = Path(__file__).with_name("instructions.json")

TOLERANCE = 0.03
"""How far above the kept one a count may be. One that is lower by as much ought to be kept, or the
next change could lose as much unseen."""

PINNED = {
    "PYTHONHASHSEED": "0",
    # The C library has several of each function on strings, for different CPUs, and copies large
    # memory by the size of the caches. Here it takes the ones that every x86-64 CPU has: 0.3 % more
    # instructions than with those for AVX2, and the same on all machines. Of another architecture
    # the names are not known, and ignored.
    "GLIBC_TUNABLES": "glibc.cpu.hwcaps=-AVX512VL,-AVX512BW,-AVX512F,-AVX2,-AVX,-BMI2,-BMI1"
    ",-LZCNT,-MOVBE,-RTM,-ERMS,-FSRM,-SSE4_2,-SSE4_1,-SSSE3,-Fast_Unaligned_Copy"
    ":glibc.cpu.x86_data_cache_size=32768:glibc.cpu.x86_shared_cache_size=1048576"
    ":glibc.cpu.x86_non_temporal_threshold=786432",
    # The same for the hashes of OpenSSL, by which keys are looked up.
    "OPENSSL_ia32cap": "0",
}
"""What the counted processes run with, so that the CPU and chance choose nothing."""

COUNTS = {
    "plain": 1000,
    "varied": 1000,
    "unobserved": 1000,
    "traced": 1024,
    "limited": 1000,
    "unlimited": 1000,
    "chunk": 20_000,
    "chunk_of_many": 20_000,
    "responses": 20_000,
    "messages": 20_000,
}
"""Requests or chunks of one run. With ten times less, the noise would be over 1 %."""

DIALECTS = ("responses", "messages")
LIKE_A_CHAT = 1.22
"""How many times the instructions of a chunk of a chat one of another dialect may take. These leave
out the system calls, which are most of a chunk's CPU: `benchmarks.dialects` measures with them."""

OBSERVED = 1.08
"""How many times the instructions of a plain request without metrics, status page and
``Server-Timing`` one with them may take."""

TRACED = 1.14
"""The same with metrics and the spans of all requests pushed too. With the system calls, which are
left out here, it is less: `tests.e2e.test_telemetry_cost` measures that."""

LIMITED = 1.13
"""The same of a plain request with every limit on, beside one with none.
`tests.e2e.test_limits_cost` measures it with the system calls, which are left out here."""

SECONDS = 600
_COLLECTED = re.compile(r"Collected : (\d+)")
_LIBRARIES = ("Twisted", "treq", "klein", "msgspec", "attrs", "prometheus-client")


def interpreter() -> str:
    """What the counts are of, but for our own code."""
    optimised = "--enable-optimizations" in (sysconfig.get_config_var("CONFIG_ARGS") or "")
    built = "with PGO" if optimised else "without PGO"
    python = f"{platform.python_implementation()} {platform.python_version()} {built}"
    libraries = " ".join(f"{name} {version(name)}" for name in _LIBRARIES)
    return f"{python}, {platform.python_compiler()}, {platform.machine()}; {libraries}"


def measure(unpacked: Callable[[str], Path], root: Path = ROOT) -> dict[str, int]:
    """Instructions for each of `COUNTS`, by the gateway in `root`.

    `unpacked` gives the files of a Debian package, in case valgrind is not installed. Raises
    `Unavailable` where there is no valgrind, `RuntimeError` where the gateway does not do its work.
    """
    program, environment = _valgrind(unpacked)
    environment |= PINNED
    with scratch() as directory:
        # The gateway of `root` and nothing else of it, with the benchmarks from here.
        Path(directory, "infergate").symlink_to(root / "infergate")
        environment["PYTHONPATH"] = f"{directory}{os.pathsep}{ROOT}"

        def run(wrapper: list[str], what: str, count: int) -> str:
            command = [*wrapper, sys.executable, "-m", "benchmarks.inmemory", what, str(count)]
            return _output(command, environment, directory)

        def total(what: str, count: int) -> int:
            wrapper = [program, "--tool=callgrind", "--callgrind-out-file=/dev/null"]
            found = _COLLECTED.search(run(wrapper, what, count))
            if found is None:
                raise Unavailable("valgrind did not say how many instructions it counted")
            return int(found[1])

        run([], "none", 0)  # all modules are compiled before anything is counted
        none = total("none", 0)
        counts = {}
        for what, count in COUNTS.items():
            # With other settings the warm-up takes another count too.
            before = total(what, 0) if "limited" in what or what == "traced" else none
            counts[what] = (total(what, count) - before) // count
        return counts


def check(counts: dict[str, int], kept_file: Path = KEPT) -> bool:
    """Print each count; whether none is `TOLERANCE` above what was kept; with nothing to compare
    with, none is."""
    kept = json.loads(kept_file.read_text()).get(interpreter())
    good = _alike(counts)
    for what, count in counts.items():
        line = f"{what}: {count:,} instructions"
        if kept is None or what not in kept:
            print(f"{line}; none are kept for {interpreter()}")
            continue
        change = count / kept[what] - 1
        good = good and change <= TOLERANCE
        verdict = ""
        if change > TOLERANCE:
            verdict = ": too far, find out why, or keep it (--keep)"
        elif change < -TOLERANCE:
            verdict = ": that much less ought to be kept (--keep)"
        print(f"{line}, {change:+.1%} of the {kept[what]:,} kept{verdict}")
    return good


def _alike(counts: dict[str, int]) -> bool:
    """Print what a chunk of the other dialects takes beside one of a chat, and a plain request
    beside one that nobody observes or limits; whether they may."""
    pairs = [(what, "chunk", LIKE_A_CHAT) for what in DIALECTS]
    pairs += [
        ("plain", "unobserved", OBSERVED),
        ("traced", "unobserved", TRACED),
        ("limited", "unlimited", LIMITED),
    ]
    good = True
    for what, other, limit in pairs:
        if what in counts and other in counts:
            times = counts[what] / counts[other]
            good = good and times <= limit
            print(f"{what}: {times:.2f} times {other}, {limit} at most")
    return good


def keep(counts: dict[str, int], kept_file: Path = KEPT) -> None:
    """These are the counts to compare with from now on."""
    kept = json.loads(kept_file.read_text()) if kept_file.exists() else {}
    kept[interpreter()] = counts
    kept_file.write_text(json.dumps(kept, indent=2, sort_keys=True) + "\n")


def _valgrind(unpacked: Callable[[str], Path]) -> tuple[str, dict[str, str]]:
    """The program, and the environment that it needs."""
    environment = dict(os.environ)
    installed = shutil.which("valgrind")
    if installed is not None:
        return installed, environment
    place = unpacked("valgrind")
    environment["VALGRIND_LIB"] = str(place / "usr" / "libexec" / "valgrind")
    return str(place / "usr" / "bin" / "valgrind"), environment


def _output(command: list[str], environment: dict[str, str], directory: str) -> str:
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
            env=environment,
            cwd=directory,
        )
    except (FileNotFoundError, subprocess.TimeoutExpired) as error:
        raise Unavailable(str(error)) from None
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed: {done.stderr.strip()[-1000:]}")
    return done.stderr
