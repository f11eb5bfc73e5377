"""The log of a real process: read, not read, moved and truncated."""

from __future__ import annotations

import contextlib
import fcntl
import http.client
import json
import os
import pty
import re
import resource
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from unittest import skipIf

from twisted.trial.unittest import SynchronousTestCase

from tests.e2e.harness import OFF, ROOT, get, wait_for

LOGROTATE = shutil.which("logrotate", path=f"{os.environ['PATH']}:/usr/sbin")

REQUESTS = 12000
"""Enough lines to fill a pipe and the queue in front of it."""


class LogTests(SynchronousTestCase):
    skip = OFF

    def start(
        self, out: int, *options: str, limits: tuple[int, int] | None = None
    ) -> subprocess.Popen[bytes]:
        """An echo whose standard output is `out`, and whose port is `self.port`; `limits` are those
        of open files."""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        process = subprocess.Popen(
            [
                *(sys.executable, "-c", "from twisted.scripts.twistd import run; run()"),
                *("-n", "--pidfile=", *options, "infergate", f"--port={self.port}"),
            ],
            stdout=out,
            stderr=subprocess.PIPE,
            env={
                "PATH": os.environ["PATH"],
                "PYTHONPATH": str(ROOT),
                "LOG_PROBES": "true",
                "LOG_FORMAT": "json",
            },
            cwd=self.directory,
            preexec_fn=lambda: limits and resource.setrlimit(resource.RLIMIT_NOFILE, limits),
        )
        self.addCleanup(self.end, process)
        wait_for(self.answers, 20, "the gateway to answer")
        return process

    def setUp(self) -> None:
        self.directory = Path(self.mktemp()).resolve()
        self.directory.mkdir()

    def end(self, process: subprocess.Popen[bytes]) -> None:
        process.kill()
        process.wait()
        assert process.stderr is not None
        process.stderr.close()

    def answers(self) -> bool:
        try:
            return self.healthz()[0] == 200
        except OSError:
            return False

    def healthz(self, *fields: tuple[str, str]) -> tuple[int, dict[str, str], bytes]:
        return get(f"http://127.0.0.1:{self.port}/healthz", dict(fields), timeout=5)

    def ask_often(self, count: int) -> None:
        """So many requests, each with a line of its own, over one connection."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            for number in range(count):
                connection.request("GET", "/nowhere", headers={"X-Request-ID": f"id-{number}"})
                connection.getresponse().read()
                if number % 5000 == 4999:
                    connection.close()  # MAX_REQUESTS_PER_CONNECTION
        finally:
            connection.close()

    def dropped(self) -> float:
        text = get(f"http://127.0.0.1:{self.port}/metrics")[2].decode()
        (count,) = re.findall(r"(?m)^infergate_log_lines_dropped_total (\S+)$", text)
        return float(count)

    def pipe(self) -> tuple[int, int]:
        read, write = os.pipe()
        self.addCleanup(os.close, read)
        return read, write

    def read_until(self, read: int, what: str) -> list[dict[str, Any]]:
        """The lines that come until one of them holds `what`; the last may be cut."""
        os.set_blocking(read, False)
        text = b""

        def found() -> bool:
            nonlocal text
            with contextlib.suppress(BlockingIOError):
                text += os.read(read, 1 << 20)
            return what.encode() in text

        wait_for(found, 10, what)
        return [json.loads(line) for line in text.splitlines()[:-1]]

    def test_reader_that_stops_stops_nobody_else(self) -> None:
        """Nobody reads the log: requests are answered as ever, what the queue has no room for is
        counted, and when the reader is back it has what was kept, and one line about the rest."""
        read, write = self.pipe()
        self.start(write)
        os.close(write)
        self.ask_often(REQUESTS)
        began = time.monotonic()
        self.assertEqual(self.healthz()[0], 200)
        self.assertLess(time.monotonic() - began, 1)
        dropped = self.dropped()
        self.assertGreater(dropped, 1000)
        lines = self.read_until(read, "log lines were dropped")
        ids = [line.get("request_id", "") for line in lines if line["event"] == "request"]
        numbers = [int(name[3:]) for name in ids if name.startswith("id-")]
        self.assertEqual(numbers, list(range(len(numbers))), "in order and without a gap")
        self.assertGreater(len(numbers), 5000)
        self.healthz(("X-Request-ID", "after"))
        (*_, last) = self.read_until(read, '"after"') or [None]
        if last is not None:
            self.assertIn("dropped", last["message"])

    def test_reader_that_stops_holds_up_no_stop(self) -> None:
        """With a log that nobody reads, SIGTERM ends the process within a few seconds."""
        _, write = self.pipe()
        process = self.start(write)
        os.close(write)
        self.ask_often(1000)
        began = time.monotonic()
        process.send_signal(signal.SIGTERM)
        process.wait(10)
        self.assertLess(time.monotonic() - began, 4)

    def test_stop_loses_nothing_that_is_read(self) -> None:
        """What waits at SIGTERM reaches a reader that begins to read only then, to the last
        line."""
        read, write = self.pipe()
        process = self.start(write)
        os.close(write)
        self.ask_often(1000)
        process.send_signal(signal.SIGTERM)
        time.sleep(0.3)
        text = b""
        while piece := os.read(read, 65536):
            text += piece
        process.wait(10)
        lines = [json.loads(line) for line in text.splitlines()]
        ids = [line["request_id"] for line in lines if line["event"] == "request"]
        expected = [f"id-{number}" for number in range(1000)]
        self.assertEqual([name for name in ids if name.startswith("id-")], expected)
        self.assertIn("Server Shut Down", lines[-1]["message"])

    def test_reader_that_goes_away_ends_nobody(self) -> None:
        """`infergate | head -1` serves on after its reader has gone."""
        read, write = os.pipe()
        self.start(write)
        os.close(write)
        os.close(read)
        for _ in range(3):
            self.assertEqual(self.healthz()[0], 200)
        self.assertGreaterEqual(self.dropped(), 3)

    def test_terminal_that_is_not_read(self) -> None:
        """The same on a terminal, whose flags stay what they are to the shell."""
        master, slave = pty.openpty()
        self.addCleanup(os.close, master)
        self.addCleanup(os.close, slave)
        before = fcntl.fcntl(slave, fcntl.F_GETFL)
        self.start(slave)
        self.ask_often(200)
        self.assertEqual(self.healthz()[0], 200)
        self.assertEqual(fcntl.fcntl(slave, fcntl.F_GETFL), before)

    def test_socket_that_is_not_read(self) -> None:
        """And on a socket, as systemd's journal gives it."""
        near, far = socket.socketpair()
        self.addCleanup(near.close)
        self.addCleanup(far.close)
        self.start(far.fileno())
        self.ask_often(2000)
        self.assertEqual(self.healthz()[0], 200)
        self.assertTrue(far.getblocking())

    def test_log_file_is_moved_and_truncated(self) -> None:
        """logrotate's move with SIGUSR1, and its `copytruncate`, lose and repeat no line."""
        path = self.directory / "gateway.log"
        process = self.start(subprocess.DEVNULL, f"--logfile={path}")
        self.healthz(("X-Request-ID", "one"))
        path.rename(path.with_suffix(".1"))
        self.healthz(("X-Request-ID", "two"))
        process.send_signal(signal.SIGUSR1)
        wait_for(path.exists, 5, "a new file")
        self.healthz(("X-Request-ID", "three"))
        wait_for(lambda: '"three"' in path.read_text(), 5, "the line")
        moved = path.with_suffix(".1").read_text()
        self.assertEqual([f'"{name}"' in moved for name in ("one", "two", "three")], [1, 1, 0])
        os.truncate(path, 0)
        self.healthz(("X-Request-ID", "four"))
        wait_for(lambda: '"four"' in path.read_text(), 5, "the line")
        (line,) = path.read_text().splitlines()
        self.assertEqual(json.loads(line)["request_id"], "four")

    @skipIf(LOGROTATE is None, "needs logrotate")
    def test_logrotate_takes_its_file_and_loses_no_line(self) -> None:
        """`deploy/logrotate`, but for the folder, the owner, and systemd, which is not there to
        send the signal."""
        assert LOGROTATE is not None
        path = self.directory / "infergate.log"
        process = self.start(subprocess.DEVNULL, f"--logfile={path}")
        text = (ROOT / "deploy" / "logrotate").read_text()
        for there, here in (
            ("/var/log/infergate", str(self.directory)),
            ("create 640 infergate adm", "create 640"),
            ("systemctl kill --signal=USR1 'infergate*.service'", f"kill -USR1 {process.pid}"),
        ):
            self.assertIn(there, text)
            text = text.replace(there, here)
        rules = self.directory / "rules"
        rules.write_text(text)
        rules.chmod(0o600)
        self.healthz(("X-Request-ID", "before"))
        wait_for(lambda: '"before"' in path.read_text(), 5, "the line before")
        command = [LOGROTATE, "--force", "--state", str(self.directory / "state"), str(rules)]
        subprocess.run(command, check=True, timeout=20)
        self.healthz(("X-Request-ID", "after"))
        wait_for(lambda: '"after"' in path.read_text(), 5, "the line after")
        moved = Path(f"{path}.1").read_text()
        self.assertEqual([f'"{name}"' in moved for name in ("before", "after")], [1, 0])
        self.assertNotIn('"before"', path.read_text())

    def test_no_descriptor_left_fills_no_log(self) -> None:
        """Where no descriptor is left for new connections, the log says so, a bounded number of
        times, and the gateway answers again when some are closed."""
        read, write = self.pipe()
        self.start(write, limits=(40, 40))
        os.close(write)
        connections: list[socket.socket] = []
        for _ in range(300):
            connections.append(socket.create_connection(("127.0.0.1", self.port)))
            self.addCleanup(connections[-1].close)
        time.sleep(0.5)
        for connection in connections:
            connection.close()
        wait_for(self.answers, 10, "an answer")
        self.healthz(("X-Request-ID", "after"))
        lines = self.read_until(read, '"after"')
        said = [line for line in lines if "EMFILE" in line.get("message", "")]
        self.assertTrue(0 < len(said) <= 30, len(said))

    def test_sigusr1_without_a_log_file_ends_nobody(self) -> None:
        """There is nothing to open anew."""
        process = self.start(subprocess.DEVNULL)
        process.send_signal(signal.SIGUSR1)
        time.sleep(0.2)
        self.assertEqual(self.healthz()[0], 200)
        self.assertIsNone(process.poll())
