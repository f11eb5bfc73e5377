"""`infergate` and `twistd infergate`: how they start, what they say, what signals do to them."""

from __future__ import annotations

import hashlib
import os
import re
import signal
import socket
import stat
import subprocess
import sys
import time
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from infergate import __version__
from tests.e2e.harness import OFF, ROOT, Process, chat, gateway, get, post, running, wait_for
from tests.e2e.wire import receive

skip = OFF

KEY = "a-key-that-is-long-enough"


class Console(Process):
    """One `infergate`, as a user would start it."""

    def command(self, plugin: str) -> list[str]:
        return [sys.executable, "-c", "from infergate.commands.console import main; main()"]


class Elsewhere(Console):
    """One that is told to run in `there`, a folder below the one it is started in, and to log to a
    file below the latter. Standard output and standard error are in `log_path`."""

    def __init__(self, files: dict[str, str], **settings: str) -> None:
        self.there = files
        super().__init__("infergate", settings, "-d", "there", "-l", "gate.log")

    def command(self, plugin: str) -> list[str]:
        (self.directory / "there").mkdir()
        for name, text in self.there.items():
            (self.directory / "there" / name).write_text(text)
        return super().command(plugin)

    def log_text(self) -> str:
        path = self.directory / "gate.log"
        return path.read_text() if path.exists() else ""


class OnPath(Process):
    """One that listens on the path `gate`."""

    def _find_port(self) -> bool:
        return (self.directory / "gate").exists()


def ended(*arguments: str) -> tuple[int, str, str]:
    """The exit status, standard output and standard error of an `infergate` that ends by itself."""
    program = "from infergate.commands.console import main; main()"
    command = [sys.executable, "-c", program, *arguments]
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, env=environment)
    return done.returncode, done.stdout, done.stderr


class ConsoleTests(SynchronousTestCase):
    def test_serves_in_the_foreground_without_a_pid_file(self) -> None:
        """`infergate` serves as `twistd -n infergate` does, takes its options, logs to standard
        output, and leaves no file behind."""
        served = Console("infergate", {}, "--default-model=house")
        with running(served):
            status, _, body = chat(served.url, {})
            self.assertEqual(status, 200)
            self.assertIn(b'"model":"house"', body)
            self.assertEqual([path.name for path in served.directory.iterdir()], ["log"])
            self.assertEqual(served.complaints(), [])

    def test_version_and_help(self) -> None:
        """`--version` and `--help` say what is asked for; the help is in groups, has an example
        and names `--logfile` and `--directory`."""
        self.assertEqual(ended("--version"), (0, f"infergate {__version__}\n", ""))
        status, out, error = ended("--help")
        self.assertEqual((status, error), (0, ""))
        groups = re.findall(r"^(\w[\w ]+):$", out, re.MULTILINE)
        self.assertEqual(groups[0], "Listening")
        self.assertLessEqual({"Backend", "Limits", "Deadlines", "Keys", "Telemetry"}, set(groups))
        for words in ("--logfile=, -l", "--directory=, -d", "infergate --backend-url http://"):
            self.assertIn(words, out)

    def test_every_error_is_one_line(self) -> None:
        """What cannot be started ends with status 1 and one line on standard error."""
        for arguments, line in (
            (("--nonsense",), "infergate: .*--nonsense"),
            (("start",), "infergate: there is no command 'start'"),
            (("--port",), "infergate: .*--port"),
            (("--port=x",), "infergate: PORT='x': must be a whole number"),
            (("--directory=/nonexistent",), "infergate: --directory='/nonexistent': "),
            (("--port=0", "--logfile=/nonexistent/x"), "infergate: --logfile='/nonexistent/x': "),
        ):
            status, out, error = ended(*arguments)
            self.assertEqual((status, out), (1, ""), arguments)
            self.assertRegex(error, rf"\A{line}.*\n\Z")

    def test_runs_in_the_directory_that_it_is_given(self) -> None:
        """With `-d` the file .env and the paths in it are of that directory; `-l` is not."""
        files = {
            ".env": "DEFAULT_MODEL=there\nAPI_KEYS_FILE=keys\nBACKNED_URL=x\n",
            "keys": f"a:sha256:{hashlib.sha256(KEY.encode()).hexdigest()}",
        }
        served = Elsewhere(files)
        with running(served):
            status, _, body = chat(served.url, {}, {"Authorization": f"Bearer {KEY}"})
            self.assertEqual(status, 200)
            self.assertIn(b'"model":"there"', body)
            (warning,) = [line for line in served.log_lines() if line["level"] == "warn"]
            self.assertIn("BACKNED_URL in .env", warning["message"])
            self.assertIn("BACKEND_URL", warning["message"])


class TwistdTests(SynchronousTestCase):
    def test_reads_dotenv_in_its_run_directory(self) -> None:
        """`twistd -d DIR infergate` reads the .env of DIR."""

        class InDirectory(Process):
            def command(self, plugin: str) -> list[str]:
                (self.directory / "there").mkdir()
                (self.directory / "there" / ".env").write_text("DEFAULT_MODEL=there\n")
                twistd = super().command(plugin)
                return [*twistd[:-1], "-d", "there", twistd[-1]]

        served = InDirectory("infergate")
        with running(served):
            self.assertIn(b'"model":"there"', chat(served.url, {})[2])

    def test_secret_in_a_file(self) -> None:
        """A secret may be given as the path of a file, whose last line feed is no part of it."""
        served = gateway({"JWT_SECRET_FILE": "secret"}, files={"secret": "s" * 32 + "\n"})
        with running(served):
            self.assertEqual(chat(served.url, {})[0], 401)
            import jwt

            token = jwt.encode({"sub": "a", "exp": time.time() + 60}, "s" * 32, "HS256")
            self.assertEqual(chat(served.url, {}, {"Authorization": f"Bearer {token}"})[0], 200)


class StartLineTests(SynchronousTestCase):
    def start_line(self, served: Process) -> str:
        (line,) = [
            line["message"]
            for line in served.log_lines()
            if line.get("message", "").startswith("infergate ")
        ]
        return str(line)

    def test_says_what_runs(self) -> None:
        """One line at start says version, URL, backend, operations, keys and limits."""
        with running(served := gateway()):
            line = self.start_line(served)
            self.assertTrue(line.startswith(f"infergate {__version__} at {served.url}; "), line)
            for words in ("backend: echo;", "chat", "no key needed", "limits: none"):
                self.assertIn(words, line)
        settings = {"BACKEND_URL": "http://127.0.0.1:9/v1", "API_KEYS": "a:canary-canary-canary"}
        settings |= {"RATE_LIMIT": "9/minute", "METRICS_LISTEN": "tcp:0:interface=127.0.0.1"}
        with running(served := gateway(settings)):
            line = self.start_line(served)
            for words in ("backend: http://127.0.0.1:9/v1;", "keys needed", "RATE_LIMIT=9/minute"):
                self.assertIn(words, line)
            self.assertNotIn("canary", served.log_text())
            (address,) = re.findall(r"Metrics at (http://127.0.0.1:\d+/metrics)", served.log_text())
            self.assertEqual(get(address)[0], 200)


class SignalTests(SynchronousTestCase):
    def test_hangup_and_usr1_never_end_it(self) -> None:
        """SIGHUP says that there is nothing to reload; SIGUSR1 without a log file does nothing."""
        with running(served := gateway()):
            for _ in range(3):
                served.send_signal(signal.SIGHUP)
                served.send_signal(signal.SIGUSR1)
                time.sleep(0.05)
            self.assertEqual(chat(served.url, {})[0], 200)
            wait_for(lambda: "nothing to reload" in served.log_text(), 5, "the line")
            self.assertEqual(served.complaints(), [])

    def test_hangup_does_not_end_one_that_is_starting(self) -> None:
        """From when the settings are read SIGHUP cannot end the process."""

        class Hurried(Process):
            def _find_port(self) -> bool:
                found = super()._find_port()
                if found:
                    self.send_signal(signal.SIGHUP)
                return found

        with running(process := Hurried("infergate")):
            self.assertEqual(chat(process.url, {})[0], 200)


class UnixSocketTests(SynchronousTestCase):
    def served_by(self, path: Path, *fields: str) -> None:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(path))
            connection.sendall(post({}, *fields))
            self.assertEqual(receive(connection).status, 200)

    def test_proxy_on_a_unix_socket_may_be_believed(self) -> None:
        """With `TRUSTED_PROXIES=unix` the client is whom the peer of a Unix socket names."""
        for trusted, client in (("unix", "192.0.2.7"), ("127.0.0.1", "unix")):
            settings = {"LISTEN": "unix:gate", "TRUSTED_PROXIES": trusted}
            with running(served := OnPath("infergate", settings)):
                path = served.directory / "gate"
                self.served_by(path, "X-Forwarded-For: 192.0.2.7", "X-Request-ID: forwarded")
                self.assertEqual(served.request_line("forwarded")["client"], client)

    def test_socket_is_for_owner_and_group(self) -> None:
        """A `unix:` socket has mode 660, unless it is told another."""
        for endpoint, mode in (("unix:gate", 0o660), ("unix:gate:mode=600", 0o600)):
            with running(served := OnPath("infergate", {"LISTEN": endpoint})):
                path = served.directory / "gate"
                wait_for(lambda: stat.S_IMODE(path.stat().st_mode) == mode, 5, "the mode")  # noqa: B023
                self.served_by(path)
