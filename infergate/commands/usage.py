"""``infergate usage``: what the ledger holds, read while the gateway writes it.

    infergate usage --by caller,day --since 2026-11-01 --until 2026-11-30 --format csv

Days are in UTC, and both belong to what is asked for. The ledger is found as the gateway finds it,
by USAGE_DB in the environment or in ``.env``, unless ``--usage-db`` names another. It is only read:
a right to write is not needed, and no table is made.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping, Sequence
from datetime import date, datetime, timedelta, timezone
from typing import TextIO

import attrs

from infergate.command import OneLineOptions, put
from infergate.config.dotenv import read_dotenv
from infergate.config.sources import SettingsError, Sources
from infergate.ledger import queries
from infergate.ledger.connecting import UsageDB, parse_usage_db
from infergate.ledger.report import FORMATS, Report
from infergate.ledger.schema import StoreAway, StoreRefused

PROGRAM = "infergate usage"

_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")


class Options(OneLineOptions):
    """The options of ``infergate usage``, as they stand on the command line; `_question` says what
    they mean."""

    program = PROGRAM
    synopsis = f"{PROGRAM} [options]"
    longdesc = (
        "Reports from the ledger that the gateway keeps in USAGE_DB, while it runs. "
        f"For example: {PROGRAM} --by caller,day --since 2026-11-01"
    )
    optParameters = [  # noqa: RUF012  # as usage.Options has it
        ["usage-db", None, None, "the ledger, if not that of USAGE_DB or .env"],
        ["by", None, "caller", f"comma-separated, out of {', '.join(queries.BY)}"],
        ["since", None, None, "first day, UTC, as 2026-11-26 [default: all]"],
        ["until", None, None, "last day, UTC, inclusive [default: all]"],
        ["format", None, "table", ", ".join(FORMATS)],
    ]


@attrs.frozen
class Question:
    """What is asked: the names to group by, out of `queries.BY`, and the seconds since 1970 from
    `since` to before `until`. `format` is one of `FORMATS`."""

    by: Sequence[str]
    since: int
    until: int
    format: str


def main(
    arguments: Sequence[str], environ: Mapping[str, str] = os.environ, out: TextIO | None = None
) -> int:
    """Print what the `arguments` ask for and return the exit status, which is 0.

    The console command calls it with the arguments after ``usage``; a test gives an environment and
    a text stream of its own. Raises `SystemExit` with one line where an option is wrong, no ledger
    is named, or it cannot be read.
    """
    options = Options()  # type: ignore[no-untyped-call]
    options.parseOptions(arguments)
    try:
        question = _question(options)
        database = _database(options, environ)
        rows = _rows(database, question)
    except SettingsError as error:
        raise SystemExit(f"{PROGRAM}: {error}") from None
    put(FORMATS[question.format](Report(question.by, rows)), out or sys.stdout)
    return 0


def _question(options: Mapping[str, str | None]) -> Question:
    """Convert the options into a `Question`; one that is not given has no bound.

    Raises `SettingsError`, which names the option, for a name that usage cannot be grouped by or
    that is there twice, a format that there is none of, a day that is none, and an end before its
    beginning.
    """
    by = [name.strip() for name in (options["by"] or "").split(",")]
    if len(set(by)) < len(by) or not set(by).issubset(queries.BY):
        allowed = f"must be a comma-separated list out of {', '.join(queries.BY)}, each once"
        raise SettingsError("--by", options["by"], allowed)
    shape = options["format"] or ""
    if shape not in FORMATS:
        raise SettingsError("--format", shape, f"must be {', '.join(FORMATS)}")
    since, until = _day("--since", options["since"]), _day("--until", options["until"])
    if since is not None and until is not None and until < since:
        raise SettingsError("--until", options["until"], "must not be before --since")
    return Question(
        by,
        0 if since is None else _second(since),
        # The end of time, as far as an integer of the database goes.
        2**62 if until is None else _second(until) + 86400,
        shape,
    )


def _day(option: str, text: str | None) -> date | None:
    """Convert the text of an option, as ``2026-11-26``, to a day; None where the option is not
    given. Raises `SettingsError`, which names the `option`, for any other text, ``20261126``
    too."""
    if text is None:
        return None
    try:
        if not _DAY.fullmatch(text):
            raise ValueError
        return date.fromisoformat(text)
    except ValueError:
        raise SettingsError(option, text, "must be a day as 2026-11-26") from None


def _second(day: date) -> int:
    """Return the second since 1970 at which a day begins in UTC."""
    midnight = datetime(day.year, day.month, day.day, tzinfo=timezone.utc)
    return (midnight - datetime(1970, 1, 1, tzinfo=timezone.utc)) // timedelta(seconds=1)


def _database(options: Mapping[str, str | None], environ: Mapping[str, str]) -> UsageDB:
    """Return the ledger that is asked for: that of ``--usage-db``, else of USAGE_DB in the
    environment or in ``.env``. It is not opened yet.

    Raises `SettingsError` where none is named, its text can be no ledger, or ``.env`` is broken.
    """
    written = Sources(options, environ, read_dotenv()).find("usage_db", file=True)
    if written is None or not written.text:
        raise SettingsError("USAGE_DB", None, "is not set: give --usage-db, or set it")
    try:
        return parse_usage_db(written.text)
    except ValueError as why:
        raise written.refused(str(why)) from None


def _rows(
    database: UsageDB, question: Question
) -> list[tuple[tuple[str | int, ...], queries.Usage]]:
    """Read the ledger: return the values of the names that are grouped by, and the usage of each
    group, in the order in which they are shown.

    Raises `SettingsError` for a file that is missing or must not be read, a database that does not
    answer, and one that will not do, as where the extra for PostgreSQL is not installed.
    """
    try:
        return queries.report(database.reader(), question.by, question.since, question.until)
    except OSError as why:
        raise _unreadable(database, f"cannot be read: {why.strerror or why}") from None
    except (StoreAway, StoreRefused) as why:
        raise _unreadable(database, str(why)) from None


def _unreadable(database: UsageDB, why: str) -> SettingsError:
    """Return the error for a ledger that cannot be read, to be raised by `_rows`. It names a file
    by its path, whatever stands in it; of a URL, which may hold a password, nothing is shown."""
    where = "" if database.path is None else f"{database.path}: "
    return SettingsError("USAGE_DB", None, f"{where}{why}")
