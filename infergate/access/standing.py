"""What ``GET /v1/usage`` says: a caller's usage, and what is left of its limits.

It has a usage for each window that the gateway asks about, and a list of limits: `rate`, `tokens`
and `concurrent`, each only where the caller has it. Nothing here waits or raises.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from infergate.access.account import Account
from infergate.access.limits import Verdict
from infergate.access.policy import Policy
from infergate.access.ratelimit import duration
from infergate.ledger.queries import Usage


def standing(
    account: Account, verdict: Verdict, under_way: int, usage: dict[str, Usage | None]
) -> bytes:
    """Return the JSON of the answer to ``GET /v1/usage``. Called by the gateway for the caller that
    asks. `under_way` are the places that the account has taken, `usage` is its usage by window,
    None where there is no ledger, or none that answers."""
    document = {
        "object": "usage",
        "caller": account.name,
        "usage": {window: _of_usage(used) for window, used in usage.items()},
        "limits": list(_limits(account.policy, verdict, under_way)),
    }
    return msgspec.json.encode(document)


def _limits(policy: Policy, verdict: Verdict, under_way: int) -> Iterator[dict[str, object]]:
    """Return, one after another, each limit of a caller: what sets it, as ``rate=60/minute``, and
    how it stands. There is nothing for a caller without limits. Called by `standing`."""
    rate, most = verdict.rate, policy.concurrent
    if rate is not None:
        used = rate.limit - rate.remaining
        yield _limit(f"{policy.rate_set_by}={policy.rate}", rate.limit, used, rate.reset)
    for spent in verdict.tokens:
        yield _limit(f"tokens={spent.budget}", spent.budget.count, spent.used, spent.reset)
    if most is not None:
        yield _limit(f"concurrent={most}", most, under_way)


def _limit(option: str, most: int, used: int, reset: float | None = None) -> dict[str, object]:
    """Return one limit as the caller sees it; `reset` is in seconds, None where nothing is given
    back by time, as with ``concurrent=``. Called by `_limits`."""
    return {
        "limit": option,
        "max": most,
        "used": used,
        "remaining": max(0, most - used),
        "reset": None if reset is None else duration(reset),
    }


def _of_usage(usage: Usage | None) -> dict[str, int] | None:
    """Return the numbers of a usage that a caller is shown, None where the usage is not known.
    Errors and the backend's seconds are left out: they are the operator's to know. Called by
    `standing` for each window."""
    if usage is None:
        return None
    names = ("requests", "prompt_tokens", "completion_tokens", "total_tokens")
    return {name: getattr(usage, name) for name in names}
