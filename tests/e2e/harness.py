"""Real processes on free ports, always stopped, for the end-to-end tests."""

from __future__ import annotations

import atexit
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

from twisted.trial.unittest import SynchronousTestCase

ROOT = Path(__file__).resolve().parent.parent.parent

OFF = None if os.environ.get("INFERGATE_E2E") else "starts real processes: set INFERGATE_E2E=1"
"""Why a module of this package is skipped, if it is."""


def absent(*packages: str) -> str | None:
    """Why tests that use these packages are skipped, if they are.

    A module that is skipped imports none of them, since `trial tests` loads each module and two of
    the SDKs take longer to load than all tests in memory::

        skip = OFF or absent("openai")
        if not skip:
            import openai
    """
    names = [name for name in packages if find_spec(name) is None]
    return f"not installed: {', '.join(names)}" if names else None


START_SECONDS = 20.0
STOP_SECONDS = 45.0


class Process:
    """One `twistd -n PLUGIN`, as a user would start it, listening on a port of its own choice.

    `settings` are environment variables; the process sees no other setting, and no ``.env`` but
    one among `files`, which are put into its working directory. `sockets` are handed over to it as
    systemd does it.
    """

    def __init__(
        self,
        plugin: str,
        settings: dict[str, str] | None = None,
        *options: str,
        port: int = 0,
        files: dict[str, str] | None = None,
        sockets: Sequence[socket.socket] = (),
    ) -> None:
        self._directory = tempfile.TemporaryDirectory()
        self.directory = Path(self._directory.name)
        for name, text in (files or {}).items():
            (self.directory / name).write_text(text)
        self.log_path = Path(self._directory.name, "log")
        environment = {
            name: value
            for name, value in os.environ.items()
            if name in ("PATH", "HOME", "LANG", "VIRTUAL_ENV", "COVERAGE_PROCESS_START", "TMPDIR")
        }
        environment["PYTHONPATH"] = str(ROOT)
        environment.update(settings or {})
        handed = [one.fileno() for one in sockets]
        with self.log_path.open("wb") as log:
            self.process = subprocess.Popen(
                [*handing_over(handed), *self.command(plugin), f"--port={port}", *options],
                pass_fds=handed,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment,
                cwd=self._directory.name,
            )
        self.port = 0
        wait_for(self._find_port, START_SECONDS, f"{plugin} to listen")

    def command(self, plugin: str) -> list[str]:
        """What to start, up to the options."""
        twistd = [sys.executable, "-c", "from twisted.scripts.twistd import run; run()"]
        return [*twistd, "-n", "--pidfile=", plugin]

    def _find_port(self) -> bool:
        text = self.log_text()
        if self.process.poll() is not None:
            raise AssertionError(f"the process ended with {self.process.returncode}: {text}")
        match = re.search(r"starting on (\d+)", text)
        if match:
            self.port = int(match[1])
        return bool(match)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def log_text(self) -> str:
        return self.log_path.read_text("utf-8", "replace")

    def log_lines(self) -> list[dict[str, Any]]:
        """Every whole line of the log so far; each must be a JSON object."""
        return [json.loads(line) for line in self.log_text().split("\n")[:-1] if line]

    def requests(self) -> list[dict[str, Any]]:
        """The lines about exchanges."""
        return [line for line in self.log_lines() if line["event"] == "request"]

    def request_line(self, request_id: str, seconds: float = 5.0) -> dict[str, Any]:
        """The one line about an exchange, once it is there."""

        def found() -> list[dict[str, Any]]:
            return [line for line in self.requests() if line["request_id"] == request_id]

        wait_for(lambda: bool(found()), seconds, f"the log line of {request_id}")
        (line,) = found()
        return line

    def complaints(self) -> list[dict[str, Any]]:
        """Lines that nothing a client or a backend does may cause."""
        return [
            line
            for line in self.log_lines()
            if "traceback" in line
            or (line["event"] != "request" and line["level"] in ("error", "critical"))
        ]

    def metrics(self) -> dict[str, float]:
        """Every sample of /metrics by its name with labels."""
        text = get(self.url + "/metrics")[2].decode()
        samples = (line.rpartition(" ") for line in text.splitlines() if not line.startswith("#"))
        return {name: float(value) for name, _, value in samples}

    def memory(self) -> int:
        """Resident bytes."""
        pages = Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")

    def open_files(self) -> int:
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def cpu_seconds(self) -> float:
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def seconds_in_line(self) -> float:
        """How long it has waited for a CPU that others had, where the kernel counts that; what
        was measured on a busy machine is too long by as much."""
        try:
            return int(Path(f"/proc/{self.process.pid}/schedstat").read_text().split()[1]) / 1e9
        except FileNotFoundError:
            return 0.0

    def send_signal(self, number: int) -> None:
        self.process.send_signal(number)

    def stop(self, number: int = signal.SIGTERM, seconds: float = STOP_SECONDS) -> int:
        """End the process and give back its exit status."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError(f"still running after {seconds} s: {self.log_text()}") from None
        finally:
            self._log = self.log_text()
            self.log_text = lambda: self._log  # type: ignore[method-assign]
            self._directory.cleanup()

    def kill(self) -> None:
        """End the process whatever it does; for a test's clean-up."""
        if self.process.poll() is None:
            self.process.kill()
        self.stop()


def handing_over(descriptors: Sequence[int]) -> list[str]:
    """What a command is started with to find `descriptors` from 3 up, and its process id in
    `LISTEN_PID`, which is known only in its own process."""
    if not descriptors:
        return []
    script = (
        "import fcntl, os, sys\n"
        "count = int(sys.argv[1])\n"
        "apart = [fcntl.fcntl(int(one), fcntl.F_DUPFD, 100) for one in sys.argv[2 : 2 + count]]\n"
        "for place, one in enumerate(apart, 3): os.dup2(one, place)\n"
        "os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(count))\n"
        "os.execv(sys.argv[2 + count], sys.argv[2 + count :])"
    )
    return [sys.executable, "-c", script, str(len(descriptors)), *map(str, descriptors)]


def gateway(
    settings: dict[str, str] | None = None, *options: str, files: dict[str, str] | None = None
) -> Process:
    """A gateway whose log has every exchange, probes too."""
    return Process("infergate", {"LOG_PROBES": "true", **(settings or {})}, *options, files=files)


def mock(*options: str) -> Process:
    return Process("infergate-mock", None, *options)


@contextmanager
def running(*processes: Process) -> Iterator[None]:
    try:
        yield
    finally:
        for process in processes:
            if process.process.poll() is None:
                process.process.kill()
            process.stop()


class SharedProcesses(SynchronousTestCase):
    """Tests over the same processes: `start` comes before the first of them, and what it leaves
    to the stack is ended after the last. Trial has no `setUpClass`."""

    _stack: ClassVar[ExitStack | None] = None
    _left: ClassVar[int] = 0

    @classmethod
    def start(cls, stack: ExitStack) -> None:
        raise NotImplementedError

    def setUp(self) -> None:
        cls = type(self)
        if cls._stack is None:
            with ExitStack() as stack:
                cls.start(stack)
                cls._stack = stack.pop_all()
            cls._left = sum(name.startswith("test") for name in dir(cls))
            atexit.register(cls._stack.close)  # where only some of the tests were asked for
        self.addCleanup(cls._ended)

    @classmethod
    def _ended(cls) -> None:
        cls._left -= 1
        if not cls._left and cls._stack is not None:
            cls._stack.close()
            cls._stack = None


def wait_for(condition: Callable[[], Any], seconds: float, what: str) -> None:
    """Ask again and again until `condition` holds."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise AssertionError(f"waited {seconds} s for {what}")
        time.sleep(0.02)


def get(
    url: str,
    headers: dict[str, str] | None = None,
    body: bytes | None = None,
    method: str | None = None,
    timeout: float = 30.0,
) -> tuple[int, dict[str, str], bytes]:
    """One request; status, header fields in lower case, body."""
    request = urllib.request.Request(url, data=body, headers=headers or {}, method=method)
    try:
        with urllib.request.urlopen(request, timeout=timeout) as response:
            return response.status, _lower(response.headers), response.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, _lower(error.headers), error.read()


def chat(
    url: str, body: dict[str, Any], headers: dict[str, str] | None = None, timeout: float = 30.0
) -> tuple[int, dict[str, str], bytes]:
    """One chat completion; a body without `messages` asks ``hello``."""
    body.setdefault("messages", [{"role": "user", "content": "hello"}])
    return get(
        url + "/v1/chat/completions",
        {"Content-Type": "application/json", **(headers or {})},
        json.dumps(body).encode(),
        timeout=timeout,
    )


def raw(port: int, data: bytes, seconds: float = 5.0, *, shut: bool = False) -> tuple[bytes, bool]:
    """Send bytes and read until the server closes or `seconds` pass; the answer, and whether the
    server closed. A reset counts as closed."""
    with socket.create_connection(("127.0.0.1", port), timeout=seconds) as connection:
        connection.sendall(data)
        if shut:
            connection.shutdown(socket.SHUT_WR)
        answer = b""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            connection.settimeout(left)
            try:
                piece = connection.recv(65536)
            except TimeoutError:
                break
            except ConnectionError:
                return answer, True
            if not piece:
                return answer, True
            answer += piece
        return answer, False


CHAT_PATH = "/v1/chat/completions"


def post(body: bytes | dict[str, Any], *fields: str, path: str = CHAT_PATH) -> bytes:
    """The bytes of a request with `Content-Length`, of a chat unless `path` says another."""
    if isinstance(body, dict):
        if path == CHAT_PATH:
            body.setdefault("messages", [{"role": "user", "content": "hello"}])
        body = json.dumps(body).encode()
    head = [
        f"POST {path} HTTP/1.1",
        "Host: test",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
        *fields,
    ]
    return "\r\n".join(head).encode() + b"\r\n\r\n" + body


def _lower(headers: Any) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}
