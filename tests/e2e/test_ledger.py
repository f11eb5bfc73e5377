"""The ledger of a real gateway, in an SQLite file and in PostgreSQL."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from tests.e2e.harness import OFF, ROOT, Process, chat, gateway, mock, running, wait_for
from tests.e2e.servers import NO_POSTGRESQL, Postgres, postgres

KEYS = {"alice": "sk-alice-0123456789", "bob": "sk-bob-01234567890"}

OUTAGE = 600.0 if os.environ.get("INFERGATE_LONG") else 3.0
"""Seconds for which a database is locked, or a disk full, under 100 requests a second."""

COMMAND = [sys.executable, "-c", "from infergate.commands.console import main; main()"]
"""`infergate`, as it is installed."""

Sums = dict[tuple[str, ...], tuple[int, int, int]]
"""Requests, prompt and completion tokens, by caller, model and outcome."""


def logged(lines: list[dict[str, Any]]) -> Sums:
    """The sums over log lines. A model that the backend never accepted is `other` in the ledger."""
    known = {line["model"] for line in lines if line["outcome"] == "ok"}
    sums: dict[tuple[str, ...], list[int]] = {}
    for line in lines:
        if line["path"] == "/v1/chat/completions" and line["status"] != 401:
            model = line["model"] or ""
            key = (
                line["caller"] or "",
                model if not model or model in known else "other",
                line["outcome"],
            )
            figures = sums.setdefault(key, [0, 0, 0])
            for index, value in enumerate((1, line["prompt_tokens"], line["completion_tokens"])):
                figures[index] += value
    return {key: tuple(figures) for key, figures in sums.items()}  # type: ignore[misc]


SQL = (
    "SELECT caller, model, outcome, sum(requests), sum(prompt_tokens), sum(completion_tokens) "
    "FROM infergate_usage GROUP BY caller, model, outcome"
)


def in_sqlite(path: Path) -> Sums:
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    try:
        return {row[:3]: row[3:] for row in connection.execute(SQL)}
    finally:
        connection.close()


def in_postgres(server: Postgres) -> Sums:
    rows = [line.split("|") for line in server.sql(SQL).splitlines()]
    return {tuple(row[:3]): tuple(map(int, row[3:])) for row in rows}  # type: ignore[misc]


def total(sums: Sums) -> int:
    return sum(requests for requests, _, _ in sums.values())


class Load:
    """Requests one after another in some threads, until `stop`; how each one ended, and the
    longest time that one took."""

    def __init__(self, url: str, threads: int = 4, pause: float = 0.04) -> None:
        self._url, self._pause = url, pause
        self._over = threading.Event()
        self.statuses: Counter[int] = Counter()
        self.longest = 0.0
        self._threads = [
            threading.Thread(target=self._run, args=(number,)) for number in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _run(self, number: int) -> None:
        name = sorted(KEYS)[number % 2]
        while not self._over.wait(self._pause):
            began = time.monotonic()
            try:
                status, _, _ = chat(
                    self._url, {"model": "tiny"}, {"Authorization": f"Bearer {KEYS[name]}"}
                )
            except OSError:
                status = 0  # the gateway is gone
            self.longest = max(self.longest, time.monotonic() - began)
            self.statuses[status] += 1


class Ledgers(SynchronousTestCase):
    skip = OFF

    def setUp(self) -> None:
        self.folder = Path(self.enterContext(tempfile.TemporaryDirectory()))
        self.path = self.folder / "usage.db"
        stack = ExitStack()
        self.addCleanup(stack.close)
        self.stack = stack
        self.backend = mock()
        stack.enter_context(running(self.backend))

    def enterContext(self, context: Any) -> Any:
        value = context.__enter__()
        self.addCleanup(context.__exit__, None, None, None)
        return value

    def gateway(self, database: str, **settings: str) -> Process:
        keys = ",".join(f"{name}:{key}" for name, key in KEYS.items())
        process = gateway(
            {
                "USAGE_DB": database,
                "API_KEYS": keys,
                "BACKEND_URL": self.backend.url,
                "LOG_FORMAT": "json",
                **settings,
            }
        )
        self.stack.enter_context(running(process))
        return process

    def gauge(self, process: Process, name: str) -> float:
        import urllib.request

        request = urllib.request.Request(
            process.url + "/metrics", headers={"Authorization": f"Bearer {KEYS['alice']}"}
        )
        with urllib.request.urlopen(request, timeout=5) as response:
            for line in response.read().decode().splitlines():
                if line.startswith(name + " "):
                    return float(line.rpartition(" ")[2])
        raise AssertionError(f"no {name}")

    def up(self, process: Process) -> bool:
        return self.gauge(process, "infergate_ledger_up") == 1

    def lines(self, process: Process) -> list[str]:
        """What the log says of the ledger."""
        return [
            line["message"]
            for line in process.log_lines()
            if line["event"] == "log" and "USAGE_DB" in line["message"]
        ]

    def through_an_outage(
        self, process: Process, begin: Callable[[], None], end: Callable[[], None], seconds: float
    ) -> Sums:
        """The sums of the log lines of a load during which the database is away for a while."""
        load = Load(process.url)
        try:
            time.sleep(1)
            begin()
            wait_for(lambda: not self.up(process), 13, "the ledger to be away")
            time.sleep(seconds)
            end()
            wait_for(lambda: self.up(process), 10, "the ledger to be back")
            time.sleep(1)
        finally:
            load.stop()
        self.assertEqual(set(load.statuses), {200})
        self.assertLess(load.longest, 0.5)
        lines = self.lines(process)
        self.assertEqual(len(lines), 2, lines)
        process.stop()
        return logged(process.requests())

    def two_at_once(self, database: str, sums: Callable[[], Sums]) -> None:
        """Two gateways write under load, one of them is killed, and the other goes on: the ledger
        has all of the one that lives, and of the other all but the last second."""
        lives, dies = (self.gateway(database) for _ in range(2))
        loads = [Load(process.url) for process in (lives, dies)]
        time.sleep(2)
        before = total(logged(dies.requests()))
        time.sleep(1)
        dies.process.kill()
        dies.process.wait()
        time.sleep(0.5)
        for load in loads:
            load.stop()
        lives.stop()
        self.assertEqual(set(loads[0].statuses), {200})
        self.assertEqual(self.lines(lives), [])
        whole, cut = logged(lives.requests()), logged(dies.requests())
        found = total(sums())
        self.assertGreaterEqual(found, total(whole) + before)
        self.assertLessEqual(found, total(whole) + total(cut))
        for key, (requests, prompt, completion) in sums().items():
            # Every request of this load has one token in and two out.
            self.assertEqual((prompt, completion), (requests, 2 * requests), key)


class Sqlite(Ledgers):
    def test_orderly_stop_loses_nothing(self) -> None:
        """The ledger is closed after the last exchange, and holds it."""
        process = self.gateway(str(self.path))
        load = Load(process.url, threads=8, pause=0)
        time.sleep(1.5)
        load.stop()
        process.stop()
        self.assertEqual([path.name for path in self.folder.iterdir()], ["usage.db"])
        expected = logged(process.requests())
        self.assertEqual(in_sqlite(self.path), expected)
        self.assertEqual(total(expected), sum(load.statuses.values()))

    def test_killed_process_loses_the_last_second_at_most(self) -> None:
        """What ended a second before a kill -9 is in the ledger."""
        process = self.gateway(str(self.path))
        load = Load(process.url, pause=0.01)
        time.sleep(2.5)
        before = total(logged(process.requests()))
        time.sleep(1)
        written = total(in_sqlite(self.path))
        process.process.kill()
        process.process.wait()
        load.stop()
        self.assertGreaterEqual(written, before)
        self.assertGreaterEqual(total(in_sqlite(self.path)), before)

    def test_locked_file_holds_up_no_request_and_loses_none(self) -> None:
        """Another program has the database locked for some seconds under load."""
        process = self.gateway(str(self.path))
        locker = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False)
        self.addCleanup(locker.close)
        expected = self.through_an_outage(
            process, lambda: locker.execute("BEGIN IMMEDIATE") and None,
            lambda: locker.execute("ROLLBACK") and None, OUTAGE,
        )  # fmt: skip
        self.assertEqual(in_sqlite(self.path), expected)

    def test_full_disk_holds_up_no_request_and_loses_none(self) -> None:
        """The file system of the ledger has no byte left for some seconds."""
        mounted = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(self.folder)],
            capture_output=True,
            check=False,
        )
        if mounted.returncode:
            raise SkipTest("may not mount a small file system")
        self.addCleanup(subprocess.run, ["umount", "-l", str(self.folder)], check=True)
        process = self.gateway(str(self.path))
        filler = self.folder / "filler"

        def fill() -> None:
            with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
                while file.write(bytes(4096)):
                    pass

        expected = self.through_an_outage(process, fill, filler.unlink, OUTAGE)
        self.assertEqual(in_sqlite(self.path), expected)

    def test_two_processes_add_to_one_file(self) -> None:
        """The sums are those of both."""
        processes = [self.gateway(str(self.path)) for _ in range(2)]
        loads = [Load(process.url) for process in processes]
        time.sleep(2)
        for load in loads:
            load.stop()
        for process in processes:
            process.stop()
        lines = [line for process in processes for line in process.requests()]
        self.assertEqual(in_sqlite(self.path), logged(lines))

    def test_one_of_two_processes_is_killed(self) -> None:
        """What the other writes into the same file at the same time is whole."""
        self.two_at_once(str(self.path), lambda: in_sqlite(self.path))

    def test_budget_goes_on_after_a_restart(self) -> None:
        """What was used up stays used up, from the first request on."""
        files = {"keys": f"alice:{KEYS['alice']} tokens=3/day\n"}
        settings = {"USAGE_DB": str(self.path), "API_KEYS_FILE": "keys"}
        fields = {"Authorization": f"Bearer {KEYS['alice']}"}
        for expected in ([200, 429], [429]):
            process = gateway(settings, files=files)
            with running(process):
                found = [chat(process.url, {"model": "m"}, fields)[0] for _ in expected]
                self.assertEqual(found, expected)
                process.stop()

    def test_report_while_the_gateway_runs(self) -> None:
        """`infergate usage` sums what has been written so far."""
        process = self.gateway(str(self.path))
        for _ in range(3):
            chat(process.url, {"model": "tiny"}, {"Authorization": f"Bearer {KEYS['bob']}"})
        wait_for(lambda: total(in_sqlite(self.path)) == 3, 2, "the rows")
        report = subprocess.run(
            [*COMMAND, "usage", "--usage-db", str(self.path), "--format=json", "--by=caller,model"],
            check=True,
            capture_output=True,
            cwd=self.folder,
            env={"PYTHONPATH": str(ROOT)},
        )
        (row,) = json.loads(report.stdout)["rows"]
        self.assertEqual((row["caller"], row["model"], row["requests"]), ("bob", "tiny", 3))
        self.assertGreater(row["backend_seconds"], 0)


class PostgreSQL(Ledgers):
    skip = OFF or NO_POSTGRESQL

    def setUp(self) -> None:
        super().setUp()
        self.server: Postgres = self.enterContext(postgres())

    def test_crash_of_the_server_loses_nothing(self) -> None:
        """It is stopped at once under load, and started again."""
        process = self.gateway(self.server.url())
        expected = self.through_an_outage(process, self.server.stop, self.server.start, 2)
        self.assertEqual(in_postgres(self.server), expected)

    def test_one_of_two_processes_is_killed(self) -> None:
        """What the other writes into the same tables at the same time is whole, and no lock of the
        dead one is in its way."""
        self.two_at_once(self.server.url(), lambda: in_postgres(self.server))

    def test_silent_server_holds_up_no_request(self) -> None:
        """Its processes are stopped and say nothing: within ten seconds it counts as away. What
        was under way in it when it goes on is not added twice."""
        process = self.gateway(self.server.url())

        def signal_all(number: int) -> None:
            asked = ["pgrep", "-P", str(self.server.process.pid)]
            children = subprocess.run(asked, check=True, capture_output=True, text=True).stdout
            for child in map(int, children.split()):
                subprocess.run(["kill", f"-{number}", str(child)], check=False)
            self.server.process.send_signal(number)

        expected = self.through_an_outage(
            process, lambda: signal_all(signal.SIGSTOP), lambda: signal_all(signal.SIGCONT), 2
        )
        self.assertEqual(in_postgres(self.server), expected)

    def test_server_that_is_away_does_not_stop_the_start(self) -> None:
        """The tables are made once it is there."""
        self.server.stop()
        process = self.gateway(self.server.url())
        wait_for(lambda: len(self.lines(process)) == 1, 10, "the line")
        chat(process.url, {"model": "tiny"}, {"Authorization": f"Bearer {KEYS['bob']}"})
        self.server.start()
        wait_for(lambda: self.up(process), 10, "the ledger to be back")
        wait_for(lambda: total(in_postgres(self.server)) == 1, 3, "the row")
        self.assertEqual(len(self.lines(process)), 2)

    def test_role_without_leave_stops_the_start(self) -> None:
        """The line says which GRANT is missing, and with it the gateway starts."""
        self.server.sql("CREATE ROLE gate LOGIN")
        self.server.sql("REVOKE CREATE ON SCHEMA public FROM PUBLIC")
        line = self.refused(self.server.url("gate"))
        self.assertIn('GRANT USAGE, CREATE ON SCHEMA "public" TO "gate"', line)
        # Where somebody else has made the tables, another one is missing.
        self.gateway(self.server.url()).stop()
        line = self.refused(self.server.url("gate"))
        self.assertIn("GRANT SELECT, INSERT, UPDATE ON infergate_usage", line)
        self.server.sql(line[line.index("GRANT") :])
        process = self.gateway(self.server.url("gate"))
        chat(process.url, {"model": "tiny"}, {"Authorization": f"Bearer {KEYS['bob']}"})
        process.stop()
        self.assertEqual(total(in_postgres(self.server)), 1)

    def test_database_without_an_encoding_knows_callers_again(self) -> None:
        """What an initdb under LANG=C has made holds any name, and gives it back as it came; one
        that cannot hold all stops the start."""
        for encoding in ("SQL_ASCII", "LATIN1"):
            self.server.sql(
                f"CREATE DATABASE {encoding} TEMPLATE template0 ENCODING '{encoding}' "
                "LC_COLLATE 'C' LC_CTYPE 'C'"
            )
        url = self.server.url(database="sql_ascii")
        process = self.gateway(url)
        chat(process.url, {"model": "名前"}, {"Authorization": f"Bearer {KEYS['bob']}"})
        process.stop()
        report = subprocess.run(
            [*COMMAND, "usage", "--by=caller,model", "--format=csv", f"--usage-db={url}"],
            check=True,
            capture_output=True,
            text=True,
            cwd=self.folder,
            env={"PYTHONPATH": str(ROOT)},
        ).stdout
        self.assertIn("bob,名前,1,", report)
        self.assertIn("ENCODING 'UTF8'", self.refused(self.server.url(database="latin1")))

    def refused(self, database: str) -> str:
        """The one line of a gateway that does not start."""
        done = subprocess.run(
            [*COMMAND, "--port=0"],
            capture_output=True,
            text=True,
            timeout=20,
            cwd=self.folder,
            env={"PYTHONPATH": str(ROOT), "USAGE_DB": database},
            check=False,
        )
        self.assertEqual(done.returncode, 1, done.stdout)
        (line,) = done.stderr.splitlines()
        return line

    def test_many_processes_make_the_tables_at_once(self) -> None:
        """One makes them, the others wait for it."""
        code = (
            "import sys; from infergate.ledger.postgresql import PostgresStore; "
            "PostgresStore(sys.argv[1]).prepare()"
        )
        processes = [
            subprocess.Popen(
                [sys.executable, "-c", code, self.server.url()], env={"PYTHONPATH": str(ROOT)}
            )
            for _ in range(6)
        ]
        self.assertEqual({process.wait(30) for process in processes}, {0})
        self.assertEqual(self.server.sql("SELECT version FROM infergate_schema"), "1")
