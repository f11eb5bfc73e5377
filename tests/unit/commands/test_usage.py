"""``infergate usage``, on a ledger in a file."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from infergate.commands.usage import main
from infergate.ledger.entry import Key
from infergate.ledger.gathering import Batch, Row, Sums
from infergate.ledger.sqlite import SqliteStore

DAY = 1_789_948_800  # 2026-09-21T00:00Z


def row(second: int, caller: str) -> Row:
    return Key(second, caller, "chat", "tiny", "ok"), Sums(1, 10, 0, 20, 0.5)


class Command(SynchronousTestCase):
    def setUp(self) -> None:
        folder = self.mktemp()
        os.mkdir(folder)
        # No .env but the test's own.
        self.addCleanup(os.chdir, os.getcwd())
        os.chdir(folder)
        store = SqliteStore("usage.db")
        rows = (row(DAY - 3600, "alice"), row(DAY, "alice"), row(DAY + 86400 - 3600, "bob"))
        store.add(Batch("one", 1, rows))
        store.close()

    def printed(self, *arguments: str, **environ: str) -> str:
        out = io.StringIO()
        self.assertEqual(main(arguments, environ, out), 0)
        return out.getvalue()

    def said(self, *arguments: str, **environ: str) -> str:
        """The one line that it ends with."""
        line = str(self.assertRaises(SystemExit, main, arguments, environ, io.StringIO()))
        self.assertNotIn("\n", line)
        return line

    def test_by_caller_everything_as_a_table(self) -> None:
        """That is what is asked for where nothing is."""
        lines = self.printed("--usage-db=usage.db").splitlines()
        self.assertEqual([line.split()[:2] for line in lines[1:]],
                         [["alice", "2"], ["bob", "1"], ["total", "3"]])  # fmt: skip

    def test_days_are_inclusive(self) -> None:
        """`--since` and `--until` of one day are that day."""
        printed = self.printed(
            "--usage-db=usage.db", "--since=2026-09-21", "--until=2026-09-21", "--format=json",
            "--by=caller,hour",
        )  # fmt: skip
        rows = json.loads(printed)["rows"]
        self.assertEqual(
            [(row["caller"], row["hour"]) for row in rows],
            [("alice", "2026-09-21T00:00Z"), ("bob", "2026-09-21T23:00Z")],
        )

    def test_option_over_environment_over_dotenv(self) -> None:
        """As with the gateway's own settings, a file for the secret included."""
        Path("secret").write_text("usage.db\n")
        Path(".env").write_text("USAGE_DB=usage.db\n")
        self.assertIn("alice", self.printed())
        self.assertIn("alice", self.printed(USAGE_DB_FILE="secret", USAGE_DB=""))
        self.assertIn("other.db", self.said(USAGE_DB="other.db"))
        self.assertIn("alice", self.printed("--usage-db", "usage.db", USAGE_DB="other.db"))

    def test_other_settings_are_no_business_of_its(self) -> None:
        """It complains only of what it uses."""
        self.assertIn("alice", self.printed(USAGE_DB="usage.db", PORT="no port"))

    def test_what_is_wrong_is_one_line(self) -> None:
        """The line names what is wrong and what is allowed."""
        known = "--usage-db=usage.db"
        for arguments, words in (
            ([], "USAGE_DB: is not set"),
            (["--usage-db=no@ne.db"], "USAGE_DB: no@ne.db: cannot be read: No such file"),
            (["--usage-db=mysql://x"], "must be the path of an SQLite file"),
            (["--usage-db=."], "cannot be read: Is a directory"),
            ([known, "--by=colour"], "out of caller, model, operation, day, hour"),
            ([known, "--by=day,day"], "each once"),
            ([known, "--by="], "out of caller"),
            ([known, "--since=yesterday"], "--since='yesterday': must be a day"),
            ([known, "--until=2026-02-30"], "--until='2026-02-30': must be a day"),
            ([known, "--since=2026-09-22", "--until=2026-09-21"], "must not be before --since"),
            ([known, "--format=xml"], "must be table, csv, json"),
            ([known, "--colour"], "option --colour not recognized"),
            ([known, "more"], "Wrong number of arguments"),
        ):
            self.assertIn(words, self.said(*arguments), arguments)

    def test_leaves_no_file_behind(self) -> None:
        """A look at what is not there makes nothing."""
        self.said("--usage-db=none.db")
        self.assertFalse(Path("none.db").exists())
