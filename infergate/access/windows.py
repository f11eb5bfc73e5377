"""The windows of token budgets: the current minute, hour, day, week or month, in UTC."""

from __future__ import annotations

from datetime import datetime, timezone

MINUTE, HOUR, DAY, WEEK = 60, 3600, 86400, 604800

WINDOWS = ("minute", "hour", "day", "week", "month")
"""The names of the windows, the shortest first; a week begins on Monday."""

LASTING = ("day", "week", "month")
"""The windows that a restart does not begin anew where there is a ledger, whose rows are hours."""

_SECONDS = {"minute": MINUTE, "hour": HOUR, "day": DAY, "week": WEEK}

# The epoch was a Thursday, and weeks begin on Monday: the first one began three days before it.
_FIRST_MONDAY = -3 * DAY


def bounds(window: str, now: float) -> tuple[int, int]:
    """Return the second since 1970 at which the current `window` began, and that at which it ends
    and the next one begins; `now` is in seconds since 1970. Called by `Spending` and `Budgets`, and
    by the gateway for ``/v1/usage``. Raises `KeyError` for a name that is none of `WINDOWS`.
    """
    if window == "month":
        today = datetime.fromtimestamp(now, timezone.utc)
        first = datetime(today.year, today.month, 1, tzinfo=timezone.utc)
        # 32 days on is always within the next month.
        after = datetime.fromtimestamp(first.timestamp() + 32 * DAY, timezone.utc)
        next_first = datetime(after.year, after.month, 1, tzinfo=timezone.utc)
        return int(first.timestamp()), int(next_first.timestamp())
    length = _SECONDS[window]
    offset = _FIRST_MONDAY if window == "week" else 0
    began = int(now - offset) // length * length + offset
    return began, began + length
