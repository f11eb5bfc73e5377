"""The sums as a table, CSV or JSON: what ``infergate usage`` prints.

    caller  model  requests  errors  prompt_tokens  completion_tokens  total_tokens  backend_seconds
    alice   qwen       1200       3          50000               7000         57000          612.346
    -       -             1       1              0                  0             0            0.000
    total              1201       4          50000               7000         57000          612.346

A name that is not known is ``-`` in the table, empty in CSV and null in JSON.

``infergate usage`` makes a `Report` of what `queries.report` has read, and prints it by one of
`FORMATS`. All of this is pure: it returns texts, writes nothing and raises nothing.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from datetime import datetime, timezone

import attrs
import msgspec

from infergate.ledger.queries import TIMES, Usage

NUMBERS = (
    "requests", "errors", "prompt_tokens", "completion_tokens", "total_tokens", "backend_seconds",
)  # fmt: skip


@attrs.frozen
class Report:
    """`rows` in the order in which they are shown, each with the values of the names in `by`."""

    by: Sequence[str]
    rows: Sequence[tuple[tuple[str | int, ...], Usage]]

    @property
    def total(self) -> Usage:
        """The sum of all rows."""
        return sum((usage for _, usage in self.rows), Usage())


def as_table(report: Report) -> str:
    """Return columns for a human: names to the left, numbers to the right, the total last. What a
    client has chosen as a name cannot disturb a terminal."""
    names = [[_shown(name) for name in row] for row in _names(report)]
    lines = [
        [*report.by, *NUMBERS],
        *([*row, *_written(usage)] for row, (_, usage) in zip(names, report.rows, strict=True)),
        ["total", *[""] * (len(report.by) - 1), *_written(report.total)],
    ]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "".join(_aligned(line, widths, len(report.by)) for line in lines)


def as_csv(report: Report) -> str:
    """Return a head line and the rows, without a total, for a program that sums for itself. A name
    that is not known is empty."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*report.by, *NUMBERS])
    for names, (_, usage) in zip(_names(report), report.rows, strict=True):
        writer.writerow([*("" if name is None else name for name in names), *_written(usage)])
    return text.getvalue()


def as_json(report: Report) -> str:
    """Return ``{"rows": [...], "total": {...}}``, indented and with a line end; a name that is
    missing is null."""
    rows = [
        dict(zip(report.by, names, strict=True)) | _numbers(usage)
        for names, (_, usage) in zip(_names(report), report.rows, strict=True)
    ]
    document = {"rows": rows, "total": _numbers(report.total)}
    return msgspec.json.format(msgspec.json.encode(document)).decode() + "\n"


FORMATS: dict[str, Callable[[Report], str]] = {
    "table": as_table,
    "csv": as_csv,
    "json": as_json,
}


def _names(report: Report) -> list[list[str | None]]:
    """Return the names of each row as texts, times written out; None for one that is not known.
    Called by all three formats."""
    return [
        [
            _time(name, value) if name in TIMES else str(value) or None
            for name, value in zip(report.by, values, strict=True)
        ]
        for values, _ in report.rows
    ]


def _time(name: str, second: str | int) -> str:
    """Return a second since 1970 as a day, ``2026-11-26``, or as the begin of an hour,
    ``2026-11-26T14:00Z``; `name` says which of the two it is. Called by `_names` for `day` and
    `hour`."""
    begin = datetime.fromtimestamp(int(second), timezone.utc)
    return begin.strftime("%Y-%m-%d" if name == "day" else "%Y-%m-%dT%H:%MZ")


def _shown(name: str | None) -> str:
    """Return a name as a terminal may show it: a client's text cannot move the cursor, nor begin a
    line of its own. Called by `as_table` alone: the other two formats quote by themselves."""
    if name is None:
        return "-"
    return name if name.isprintable() else repr(name)


def _numbers(usage: Usage) -> dict[str, int | float]:
    """Return the numbers of a usage by their names, as JSON has them; seconds to the millisecond.
    Called by `as_json`."""
    numbers = {name: getattr(usage, name) for name in NUMBERS}
    return numbers | {"backend_seconds": round(usage.backend_seconds, 3)}


def _written(usage: Usage) -> list[str]:
    """Return the numbers of a usage as texts, in the order of `NUMBERS`; seconds to the
    millisecond. Called by `as_table` and `as_csv`."""
    *counts, _ = (str(getattr(usage, name)) for name in NUMBERS)
    return [*counts, f"{usage.backend_seconds:.3f}"]


def _aligned(line: Sequence[str], widths: Sequence[int], names: int) -> str:
    """Return a line of the table, whose first `names` cells stand to the left of their columns.
    Called by `as_table`."""
    cells = [
        cell.ljust(width) if index < names else cell.rjust(width)
        for index, (cell, width) in enumerate(zip(line, widths, strict=True))
    ]
    return "  ".join(cells).rstrip() + "\n"
