"""Rates and token budgets that hold across all processes that share one Redis.

One question is one script, whose argument and answer are one text each (see `scripts`). Of a
caller with ``rate=60/minute tokens=1000/day`` this asks, before an operation that costs tokens:

    KEYS   infergate:rate:60/60:caller alice    infergate:tokens:day:alice
    ARGV   1 1 60 60 day 1000 420 1789948800
    answer 1 1000000.000000 420 43200.500000

In words: take one request of 60 in 60 seconds, for something that costs; of the budget of 1000 in
the day that began at 1789948800 this process knows 420 to be used. The rate lets it in, and a
second of its bucket is used; of the budget 420 are used, and its window is over in 12 hours.

Each process also counts for itself what it is told and what it charges, in `local`. While Redis is
away that goes on from where Redis was, and a Redis that has forgotten a window begins it with what
the first process that asks knows.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Sequence
from typing import Any, Protocol

import attrs
from twisted.internet.defer import Deferred
from zope.interface import implementer

from infergate.access.account import Account
from infergate.access.limits import ILimits, LocalLimits, Verdict, verdict, waits
from infergate.access.ratelimit import Decision, Rate, kept_key
from infergate.access.scripts import ASK, CHARGE
from infergate.access.spending import Spent
from infergate.errors import LimitsUnavailable

MAX_OWED = 10_000
"""Callers whose tokens wait for Redis to be back; those of more count in this process alone."""


class RedisAway(Exception):
    """Redis gave no answer in time, an error, or is known to be away."""


class Link(Protocol):
    """A connection to Redis that is there or is away (`redislink.RedisLink`)."""

    def run(self, script: str, keys: Sequence[str], text: str) -> Deferred[Any]:
        """Have Redis run a script, whose one argument is `text`, and return what it answers; fails
        with `RedisAway`."""


@implementer(ILimits)
@attrs.define(eq=False, repr=False)
class SharedLimits:
    """Asks Redis, and counts in this process too, so that `local` can go on where Redis was when it
    is away. With `refuse`, callers with limits are then refused instead. Made by
    `wiring.callers.limits` where `SHARED_STATE` is set, and asked by `Admission` as any `ILimits`;
    the link calls `settle` when Redis is back."""

    _link: Link
    _local: LocalLimits
    _refuse: bool = attrs.field(default=False, kw_only=True)
    # What could not be charged, by bucket: the account, and its tokens.
    _owed: dict[str, tuple[Account, int]] = attrs.field(factory=dict, init=False)

    def ask(self, account: Account, costs: bool) -> Verdict | Awaitable[Verdict]:
        """Return the verdict of Redis, to be awaited; at once for an account that has no limit.
        Raises `LimitsUnavailable` where Redis is away and `refuse` is set."""
        if not _is_limited(account):
            return Verdict()
        return self._ask(account, costs)

    def look(self, account: Account) -> Verdict | Awaitable[Verdict]:
        """Return how the account stands in Redis, or in this process while Redis is away. Raises
        nothing."""
        if not _is_limited(account):
            return Verdict()
        return self._look(account)

    def charge(self, account: Account, tokens: int) -> None:
        """Add the tokens to the counts of this process, and have Redis add them to its own. Waits
        for nothing and raises nothing."""
        self._local.charge(account, tokens)
        if tokens and account.name is not None and account.policy.tokens:
            self._charge(account, tokens)

    def settle(self) -> None:
        """Charge what was owed while Redis was away. Called by the link each time that Redis is
        back; what fails again is owed again."""
        owed, self._owed = self._owed, {}
        for account, tokens in owed.values():
            self._charge(account, tokens)

    async def _ask(self, account: Account, costs: bool) -> Verdict:
        """Return Redis's verdict; where Redis is away that of this process alone. Raises
        `LimitsUnavailable` instead with `refuse`, but for the account of wrong credentials. Called
        by `ask`."""
        try:
            rate, tokens = await self._question(account, take=True, costs=costs)
        except RedisAway:
            # Who sent a wrong key is no caller, and still gets its 401.
            if self._refuse and not account.is_refused:
                raise LimitsUnavailable from None
            return self._local.ask(account, costs)
        return verdict(rate, tokens, waits(tokens, costs))

    async def _look(self, account: Account) -> Verdict:
        """Return how the account stands, by Redis or else by this process; takes nothing. Called by
        `look`."""
        try:
            return Verdict(*await self._question(account, take=False, costs=False))
        except RedisAway:
            return self._local.look(account)

    async def _question(
        self, account: Account, *, take: bool, costs: bool
    ) -> tuple[Decision | None, tuple[Spent, ...]]:
        """Ask Redis how the rate and each budget stand, and with `take` take one request from the
        rate. Return both, None in place of the rate where the account has none; what Redis says of
        the budgets is taken over into `local`. Raises `RedisAway`. Called by `_ask` and `_look`."""
        policy, local = account.policy, self._local
        rate = policy.rate
        count, period = (0, 1) if rate is None else (rate.count, rate.period)
        known = local.tokens(account)
        words = [f"{take:d} {costs:d} {count} {period}"]
        for own in known:
            window = own.budget.window
            words.append(f"{window} {own.budget.count} {own.used} {local.began(window)}")
        keys = [f"infergate:rate:{count}/{period}:{account.bucket}", *_keys(account)]
        answer = await self._link.run(ASK, keys, " ".join(words))
        allowed, bucket, *spent = answer.split()
        decision = None if rate is None else _decision(rate, allowed == "1", float(bucket))
        tokens = []
        for own, used, reset in zip(known, spent[::2], spent[1::2], strict=True):
            tokens.append(Spent(own.budget, int(used), float(reset)))
            if int(used) > own.used:
                local.hear(account, own.budget.window, int(used))
        return decision, tuple(tokens)

    def _charge(self, account: Account, tokens: int) -> None:
        """Have Redis add the tokens to each budget of the account, and do not wait for it. What it
        does not answer is owed; what it did without its answer coming back is charged twice, which
        is the safe side of the two. Raises nothing. Called by `charge` and `settle`."""
        local = self._local
        words = [str(tokens)]
        for own in local.tokens(account):
            window = own.budget.window
            words.append(f"{window} {own.used} {local.began(window)}")
        charging = self._link.run(CHARGE, _keys(account), " ".join(words))
        charging.addErrback(lambda failure: self._owe(account, tokens))

    def _owe(self, account: Account, tokens: int) -> None:
        """Keep the tokens for `settle`, added up by account, for up to `MAX_OWED` accounts; those
        of any other stay in the counts of this process alone. Called where Redis has not answered a
        charge."""
        _, owed = self._owed.get(account.bucket, (account, 0))
        if owed or len(self._owed) < MAX_OWED:
            self._owed[account.bucket] = account, owed + tokens


def _is_limited(account: Account) -> bool:
    """Return whether Redis has to be asked at all: the account has a rate, or a name and token
    budgets. Called by `ask` and `look`."""
    policy = account.policy
    return policy.rate is not None or (account.name is not None and bool(policy.tokens))


def _keys(account: Account) -> list[str]:
    """Return the keys of the account's budgets in Redis, in the order of the budgets, to which the
    scripts add when the window began: ``infergate:tokens:day:alice``. An address has none. Called
    for each question and each charge."""
    if account.name is None:
        return []
    name = kept_key(account.name)
    return [f"infergate:tokens:{budget.window}:{name}" for budget in account.policy.tokens]


def _decision(rate: Rate, allowed: bool, used: float) -> Decision:
    """Return what the rate says, of whose bucket so many microseconds are `used`: after the
    request, where it was `allowed` and taken. Called by `SharedLimits._question`."""
    full = rate.period * 1_000_000
    cost = full / rate.count
    wait = 0 if allowed else max(1, math.ceil((used + cost - full) / 1_000_000))
    return Decision(
        allowed=allowed,
        limit=rate.count,
        # As in the script: a thousandth of a request is what rounding may add up to.
        remaining=max(0, math.floor((full - used) / cost + 0.001)),
        reset=used / 1_000_000,
        retry_after=wait,
    )
