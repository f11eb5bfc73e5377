"""What ``GET /v1/usage`` says: a caller's usage, and what is left of its limits."""

from __future__ import annotations

import msgspec

from infergate.access.account import Account
from infergate.access.limits import Verdict
from infergate.access.ratelimit import Decision, duration
from infergate.access.spending import Spent
from infergate.ledger.queries import Usage


def standing(
    account: Account, verdict: Verdict, under_way: int, usage: dict[str, Usage | None]
) -> bytes:
    """The JSON of the answer. `under_way` are the places that the account has taken, `usage` is its
    usage by window, None where there is no ledger, or none that answers."""
    limits = []
    if verdict.rate is not None:
        limits.append(_of_rate(account, verdict.rate))
    limits += map(_of_tokens, verdict.tokens)
    if account.policy.concurrent is not None:
        limits.append(_of_places(account.policy.concurrent, under_way))
    document = {
        "object": "usage",
        "caller": account.name,
        "usage": {window: _of_usage(used) for window, used in usage.items()},
        "limits": limits,
    }
    return msgspec.json.encode(document)


def _of_rate(account: Account, rate: Decision) -> dict[str, object]:
    policy = account.policy
    return {
        "limit": f"{policy.rate_set_by}={policy.rate}",
        "max": rate.limit,
        "used": rate.limit - rate.remaining,
        "remaining": rate.remaining,
        "reset": duration(rate.reset),
    }


def _of_tokens(spent: Spent) -> dict[str, object]:
    return {
        "limit": f"tokens={spent.budget}",
        "max": spent.budget.count,
        "used": spent.used,
        "remaining": spent.remaining,
        "reset": duration(spent.reset),
    }


def _of_places(most: int, taken: int) -> dict[str, object]:
    return {
        "limit": f"concurrent={most}",
        "max": most,
        "used": taken,
        "remaining": max(0, most - taken),
        "reset": None,
    }


def _of_usage(usage: Usage | None) -> dict[str, int] | None:
    if usage is None:
        return None
    return {
        "requests": usage.requests,
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.total_tokens,
    }
