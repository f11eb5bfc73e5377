"""Processes that are started, watched and always stopped."""

from __future__ import annotations

import os
import resource
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.question import answered

START_SECONDS = 60
STOP_SECONDS = 10
SETTLE_SECONDS = 40

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")
_INHERITED = ("PATH", "HOME", "LANG", "TMPDIR", "LD_LIBRARY_PATH")


class Unavailable(Exception):
    """This cannot be run here; the text says why."""


class Server:
    """A running process on a port of its own, with all of its children."""

    def __init__(self, command: list[str], environment: dict[str, str], directory: Path) -> None:
        kept = {name: os.environ[name] for name in _INHERITED if name in os.environ}
        self._began = time.monotonic()
        self.log = directory / "output.log"
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                command,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=directory,
                env={**kept, **environment},
                start_new_session=True,  # its session is how its children are found
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    def wait(self, port: int) -> float:
        """Seconds from the start to the first answer."""
        while not answered(port, START_SECONDS):
            if not self.alive() or self._age() > START_SECONDS:
                raise Unavailable(f"did not start: {self.log.read_text()[-500:]}")
            time.sleep(0.005)
        return self._age()

    def alive(self) -> bool:
        return self._process.poll() is None

    def _age(self) -> float:
        return time.monotonic() - self._began

    def cpu_seconds(self) -> float:
        """User and system time, with that of children, running or not."""
        return sum(self.cpu_of_each().values())

    def cpu_of_each(self) -> dict[int, float]:
        """The same of each process, by its id."""
        return {pid: sum(map(int, stat[11:15])) / _TICKS for pid, stat in self._stats()}

    def files_of_each(self) -> dict[int, int]:
        """How many descriptors each process has open, by its id."""
        return {pid: len(os.listdir(f"/proc/{pid}/fd")) for pid, _ in self._stats()}

    def memory(self) -> float:
        """Resident MiB; pages shared with its children count once in each."""
        return sum(int(stat[21]) for _, stat in self._stats()) * _PAGE / 2**20

    def reset_peak(self) -> float:
        """Let the peak of resident memory begin anew; MiB that are resident now."""
        Path(f"/proc/{self._process.pid}/clear_refs").write_text("5")
        return self.peak()

    def peak(self) -> float:
        """The most MiB that were resident in the process, without its children."""
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        line = next(line for line in status.split("\n") if line.startswith("VmHWM:"))
        return int(line.split()[1]) / 1024

    def _stats(self) -> Iterator[tuple[int, list[str]]]:
        """Of each process of the session, its id and the fields of proc_pid_stat(5) from the third
        on."""
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    stat = (entry / "stat").read_text().rpartition(")")[2].split()
                except (FileNotFoundError, ProcessLookupError):
                    continue
                if int(stat[3]) == self._process.pid:
                    yield int(entry.name), stat

    def settle(self) -> None:
        """Wait until it has no work left from the run before."""
        end = time.monotonic() + SETTLE_SECONDS
        busy = True
        while busy and time.monotonic() < end:
            before = self.cpu_seconds()
            time.sleep(0.3)
            busy = self.cpu_seconds() - before > 0.03

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        for number in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(self._process.pid, number)
            except ProcessLookupError:
                break
            try:
                self._process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                continue


def free_port() -> int:
    with socket.socket() as chosen:
        chosen.bind(("127.0.0.1", 0))
        port: int = chosen.getsockname()[1]
        return port


def allow_many_files() -> None:
    """Each stream takes a descriptor here, and two in a gateway."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def scratch() -> tempfile.TemporaryDirectory[str]:
    # nginx, which drops its privileges, must be able to enter.
    directory = tempfile.TemporaryDirectory(prefix="benchmarks-")
    os.chmod(directory.name, 0o755)
    return directory
