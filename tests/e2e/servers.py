"""Real Redis and PostgreSQL servers, out of Debian's packages, for the end-to-end tests.

Each listens on a port of its own choice, keeps its files in a temporary folder, and is stopped
with the test.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.e2e.harness import wait_for


def free_port() -> int:
    """A port that was free a moment ago: these servers cannot choose one for themselves."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def postgresql_program(name: str) -> str | None:
    """The path of one of PostgreSQL's programs, which Debian does not put on the search path."""
    found = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    return str(found[-1]) if found else shutil.which(name)


NO_POSTGRESQL = None if postgresql_program("initdb") else "needs PostgreSQL: apt install postgresql"
NO_REDIS = None if shutil.which("redis-server") else "needs Redis: apt install redis-server"


class Postgres:
    """A PostgreSQL server with the superuser ``owner`` and the database ``usage``."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.port = free_port()
        # PostgreSQL does not run as root.
        self._user = pwd.getpwnam("postgres").pw_uid if os.getuid() == 0 else None
        if self._user is not None:
            os.chown(folder, self._user, -1)
            folder.chmod(0o700)
        self._run("initdb", "-D", str(folder / "data"), "-U", "owner", "--auth=trust", "-N")
        self.process = self._started()
        self.sql("CREATE DATABASE usage", database="postgres")

    def url(self, user: str = "owner", database: str = "usage") -> str:
        return f"postgresql://{user}@127.0.0.1:{self.port}/{database}"

    def sql(self, statement: str, database: str = "usage") -> str:
        """What psql prints for one statement, as the superuser."""
        where = self.url(database=database)
        return self._run("psql", "-qAtX", "-v", "ON_ERROR_STOP=1", "-c", statement, where)

    def start(self) -> None:
        self.process = self._started()

    def stop(self, number: int = signal.SIGQUIT) -> None:
        """Stop at once, as after a crash, unless another signal is given."""
        self.process.send_signal(signal.SIGCONT)
        self.process.send_signal(number)
        self.process.wait(20)

    def _started(self) -> subprocess.Popen[bytes]:
        program = postgresql_program("postgres")
        assert program is not None
        options = {
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": "",
            "fsync": "off",
        }
        with (self._folder / "log").open("ab") as log:
            process = subprocess.Popen(
                [program, "-D", str(self._folder / "data")]
                + [f"--{name}={value}" for name, value in options.items()],
                stdout=log,
                stderr=log,
                user=self._user,
                cwd=self._folder,
            )
        wait_for(lambda: self._answers() or process.poll() is not None, 20, "PostgreSQL")
        assert process.poll() is None, (self._folder / "log").read_text()
        return process

    def _answers(self) -> bool:
        ready = postgresql_program("pg_isready")
        assert ready is not None
        asked = [ready, "-q", "-h", "127.0.0.1", "-p", str(self.port)]
        return subprocess.run(asked, check=False).returncode == 0

    def _run(self, name: str, *arguments: str) -> str:
        program = postgresql_program(name)
        assert program is not None
        done = subprocess.run(
            [program, *arguments],
            user=self._user,
            cwd=self._folder,
            check=False,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()


class Redis:
    """A Redis server without a file of its own, so that a restart forgets everything."""

    def __init__(self, folder: Path, *options: str) -> None:
        self._folder = folder
        self._options = options
        self.port = free_port()
        self.start()

    def url(self, password: str = "", database: int = 0) -> str:
        secret = f":{password}@" if password else ""
        return f"redis://{secret}127.0.0.1:{self.port}/{database}"

    def start(self) -> None:
        with (self._folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                ["redis-server", *self._where(), "--save", "", *self._options],
                stdout=log,
                stderr=log,
            )
        wait_for(self._listens, 10, "Redis to listen")

    def stop(self) -> None:
        self.process.send_signal(signal.SIGCONT)
        self.process.kill()
        self.process.wait(10)

    def command(self, *words: str) -> str:
        """What redis-cli prints for one command."""
        where = ["redis-cli", "-p", str(self.port)]
        return subprocess.run(
            [*where, *words], check=True, capture_output=True, text=True
        ).stdout.strip()

    def _where(self) -> list[str]:
        return ["--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self._folder)]

    def _listens(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), 1):
                return True
        except OSError:
            return False


@contextmanager
def postgres() -> Iterator[Postgres]:
    with tempfile.TemporaryDirectory() as folder:
        server = Postgres(Path(folder))
        try:
            yield server
        finally:
            server.stop()


@contextmanager
def redis(*options: str) -> Iterator[Redis]:
    with tempfile.TemporaryDirectory() as folder:
        server = Redis(Path(folder), *options)
        try:
            yield server
        finally:
            server.stop()
