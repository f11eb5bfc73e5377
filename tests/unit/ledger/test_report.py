"""The sums as a table, CSV or JSON."""

from __future__ import annotations

import json

from twisted.trial.unittest import SynchronousTestCase

from infergate.ledger.queries import Usage
from infergate.ledger.report import Report, as_csv, as_json, as_table

REPORT = Report(
    ["caller", "model"],
    [(("alice", "qwen"), Usage(1200, 3, 50000, 7000, 612.3456)), (("", ""), Usage(1, 1))],
)


class Table(SynchronousTestCase):
    def test_columns_are_aligned_and_summed(self) -> None:
        """Names stand to the left, numbers plain and to the right, the total last."""
        self.assertEqual(
            as_table(REPORT),
            "caller  model  requests  errors  prompt_tokens  completion_tokens  total_tokens"
            "  backend_seconds\n"
            "alice   qwen       1200       3          50000               7000         57000"
            "          612.346\n"
            "-       -             1       1              0                  0             0"
            "            0.000\n"
            "total              1201       4          50000               7000         57000"
            "          612.346\n",
        )

    def test_empty_ledger_has_a_total_of_zero(self) -> None:
        """Nothing used is an answer too."""
        last = as_table(Report(["caller"], [])).splitlines()[-1]
        self.assertEqual(last.split(), ["total", "0", "0", "0", "0", "0", "0.000"])

    def test_names_cannot_move_the_cursor(self) -> None:
        """A model's name is a client's text, and the table is read at a terminal."""
        table = as_table(Report(["model"], [(("\x1b[2Jx\ny",), Usage(1))]))
        self.assertNotIn("\x1b", table)
        self.assertEqual(len(table.splitlines()), 3)

    def test_times(self) -> None:
        """A day is a date, an hour says that it is UTC."""
        table = as_table(Report(["day", "hour"], [((1_789_948_800, 1_789_999_200), Usage(1))]))
        self.assertIn("2026-09-21  2026-09-21T14:00Z", table)


class CSV(SynchronousTestCase):
    def test_has_a_head_line_and_no_total(self) -> None:
        """A missing name is empty, and no field is padded."""
        self.assertEqual(
            as_csv(REPORT),
            "caller,model,requests,errors,prompt_tokens,completion_tokens,total_tokens,"
            "backend_seconds\n"
            "alice,qwen,1200,3,50000,7000,57000,612.346\n"
            ",,1,1,0,0,0,0.000\n",
        )

    def test_names_are_quoted_where_need_be(self) -> None:
        """A comma in a name makes no further column."""
        self.assertIn('\n"a,""b""",1,', as_csv(Report(["caller"], [(('a,"b"',), Usage(1))])))


class JSON(SynchronousTestCase):
    def test_has_rows_and_a_total(self) -> None:
        """A missing name is null, numbers are numbers."""
        document = json.loads(as_json(REPORT))
        self.assertEqual(document["rows"][0]["caller"], "alice")
        self.assertEqual(document["rows"][0]["backend_seconds"], 612.346)
        self.assertEqual(
            document["rows"][1],
            {
                "caller": None,
                "model": None,
                "requests": 1,
                "errors": 1,
                "prompt_tokens": 0,
                "completion_tokens": 0,
                "total_tokens": 0,
                "backend_seconds": 0.0,
            },
        )
        self.assertEqual(document["total"]["requests"], 1201)
