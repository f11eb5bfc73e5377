"""What is read out of the table. Each function takes the `fetch` of a store.

A row stands for one hour, caller, operation, model and outcome, so that any of these can be grouped
by; a day is the hours that begin in it. The SQL is what SQLite and PostgreSQL understand alike,
with ``?`` where a parameter stands. What the table does not hold yet, `writer` adds.

All functions block until the database has answered, so that the gateway calls them in the ledger's
thread; all raise what `fetch` raises, `StoreAway` for a database that does not answer. Times are
seconds since 1970.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import add
from typing import Any

from msgspec import Struct
from msgspec.structs import astuple

Fetch = Callable[[str, Sequence[Any]], list[tuple[Any, ...]]]
"""Takes a question in SQL and its parameters, and returns the rows of the answer: the `fetch` of a
store, or what `UsageDB.reader` returns. It blocks, and raises `StoreAway`."""

BY: dict[str, str] = {
    "caller": "caller",
    "model": "model",
    "operation": "operation",
    # Whole numbers: the division drops what is over a day, in SQLite as in PostgreSQL.
    "day": "hour / 86400 * 86400",
    "hour": "hour",
}
"""What usage can be grouped by, and the column or expression for it."""

TIMES = frozenset({"day", "hour"})
"""The names in `BY` whose values are seconds since 1970, and not a text."""


class Usage(Struct, frozen=True):
    """What a caller used. `errors` are the requests with any outcome but ``ok``."""

    requests: int = 0
    errors: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    backend_seconds: float = 0.0

    @property
    def total_tokens(self) -> int:
        """The tokens of the prompts and of the completions together."""
        return self.prompt_tokens + self.completion_tokens

    def __add__(self, other: Usage) -> Usage:
        """Return the sum of both, number by number."""
        return Usage(*map(add, astuple(self), astuple(other)))


# An empty table sums to NULL. PostgreSQL's sums of whole numbers are of its type numeric.
_SUMS = """COALESCE(sum(requests), 0),
    COALESCE(sum(CASE WHEN outcome <> 'ok' THEN requests ELSE 0 END), 0),
    COALESCE(sum(prompt_tokens), 0), COALESCE(sum(completion_tokens), 0),
    COALESCE(sum(backend_seconds), 0.0)"""


def usage(fetch: Fetch, caller: str | None, since: int) -> Usage:
    """Return what `caller`, or with None everybody, used in the hours from `since` on; all zeros
    where there is nothing. Called by `Ledger.usage`, for ``GET /v1/usage``."""
    sql = f"SELECT {_SUMS} FROM infergate_usage WHERE hour >= ?"  # noqa: S608
    if caller is None:
        (row,) = fetch(sql, (since,))
    else:
        (row,) = fetch(f"{sql} AND caller = ?", (since, caller))
    return _usage(row)


def tokens(fetch: Fetch, since: int) -> dict[str, int]:
    """Return the tokens of each caller, of its prompts and completions, in the hours from `since`
    on. A caller without any is not in it. Called by the ledger for `Budgets`."""
    rows = fetch(
        "SELECT caller, sum(prompt_tokens) + sum(completion_tokens) FROM infergate_usage "
        "WHERE hour >= ? GROUP BY caller",
        (since,),
    )
    return {caller: int(total) for caller, total in rows}


def report(
    fetch: Fetch, by: Sequence[str], since: int, until: int
) -> list[tuple[tuple[str | int, ...], Usage]]:
    """Return usage grouped `by` names of `BY`, in the hours from `since` to before `until`: for
    each group the values of these names, and what was used. In order of time where a time is among
    the names, then by tokens, most first, then by name. Called by ``infergate usage``."""
    columns = ", ".join(BY[name] for name in by)
    rows = fetch(
        f"SELECT {columns}, {_SUMS} FROM infergate_usage "  # noqa: S608
        f"WHERE hour >= ? AND hour < ? GROUP BY {columns}",
        (since, until),
    )
    times = [index for index, name in enumerate(by) if name in TIMES]
    groups = [(row[: len(by)], _usage(row[len(by) :])) for row in rows]
    return sorted(
        groups,
        key=lambda group: (
            [group[0][index] for index in times],
            -group[1].total_tokens,
            group[0],
        ),
    )


def _usage(row: tuple[Any, ...]) -> Usage:
    """Convert the five sums of a row, which PostgreSQL gives as decimals, into a `Usage`. Called
    for each row of sums."""
    requests, errors, prompt, completion, seconds = row
    return Usage(int(requests), int(errors), int(prompt), int(completion), float(seconds))
