"""Rates and token budgets: what is asked before an operation, and charged when it has ended."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping

from msgspec import Struct
from twisted.internet.defer import Deferred
from zope.interface import Interface, implementer

from infergate.access.account import Account
from infergate.access.policy import Policies, TokenLimit
from infergate.access.ratelimit import Decision, Rate, TokenBuckets, duration
from infergate.access.spending import PEOPLE, Spending

Standing = tuple[str, str, int, int]
"""A caller and a window, and the limit and the tokens used in it."""


class Spent(Struct, frozen=True, gc=False):
    """How a budget stands: tokens `used`, and the seconds until its window is over."""

    budget: TokenLimit
    used: int
    reset: float

    @property
    def remaining(self) -> int:
        return max(0, self.budget.count - self.used)


class Verdict(Struct, frozen=True, gc=False):
    """What the limits say of a request: of the rate and of each budget, where there are any.

    `refused_by` is ``rate`` or ``tokens``, whichever lets the caller in later, or None; then
    `retry_after` is whole seconds from 1.
    """

    rate: Decision | None = None
    tokens: tuple[Spent, ...] = ()
    refused_by: str | None = None
    retry_after: int = 0


class ILimits(Interface):
    """Rates and token budgets of accounts, wherever they are counted."""

    def ask(account: Account, costs: bool) -> Verdict | Deferred[Verdict]:
        """Take one request from the rate, unless it is refused: what one limit refuses takes
        nothing from another. Budgets refuse only what `costs` tokens. May fail with
        `LimitsUnavailable`."""

    def look(account: Account) -> Verdict | Deferred[Verdict]:
        """How the account stands; takes nothing and refuses nothing."""

    def charge(account: Account, tokens: int) -> None:
        """Charge an exchange that has ended; returns at once."""


def verdict(rate: Decision | None, tokens: tuple[Spent, ...], costs: bool) -> Verdict:
    """Put together what the rate and the budgets say. A budget of N is used up at N."""
    waits = [spent.reset for spent in tokens if spent.used >= spent.budget.count] if costs else []
    for_tokens = max(1, math.ceil(max(waits))) if waits else 0
    for_rate = 0 if rate is None else rate.retry_after
    if for_tokens and for_tokens >= for_rate:
        return Verdict(rate, tokens, "tokens", for_tokens)
    if for_rate:
        return Verdict(rate, tokens, "rate", for_rate)
    return Verdict(rate, tokens)


def token_headers(tokens: tuple[Spent, ...]) -> list[tuple[bytes, bytes]]:
    """The fields that OpenAI's clients read a token limit from: of the budget with least left."""
    if not tokens:
        return []
    least = min(tokens, key=lambda spent: spent.remaining)
    return [
        (b"x-ratelimit-limit-tokens", b"%d" % least.budget.count),
        (b"x-ratelimit-remaining-tokens", b"%d" % least.remaining),
        (b"x-ratelimit-reset-tokens", duration(least.reset).encode()),
    ]


@implementer(ILimits)
class LocalLimits:
    """Counted in the memory of one process. `seconds` is the monotonic clock, for rates; `wall` the
    time since 1970, for windows."""

    def __init__(self, seconds: Callable[[], float], wall: Callable[[], float]) -> None:
        self._seconds = seconds
        self._wall = wall
        self._rates: dict[Rate, TokenBuckets] = {}
        self._callers = Spending(wall)
        self._people = Spending(wall, PEOPLE)

    def ask(self, account: Account, costs: bool) -> Verdict:
        tokens = self._tokens(account)
        over = costs and any(spent.used >= spent.budget.count for spent in tokens)
        return verdict(self._rate(account, take=not over), tokens, costs)

    def look(self, account: Account) -> Verdict:
        return Verdict(self._rate(account, take=False), self._tokens(account))

    def charge(self, account: Account, tokens: int) -> None:
        if account.name is not None and tokens:
            spending = self._spending(account)
            for budget in account.policy.tokens:
                spending.add(account.name, budget.window, tokens)

    def learn(self, window: str, began: int, totals: Mapping[str, int]) -> None:
        """Take over what the ledger says of a window; as `Spending.learn`."""
        self._callers.learn(window, began, totals)
        self._people.learn(window, began, totals)

    def standings(self, roster: Policies, names: Collection[str]) -> Iterator[Standing]:
        """How those of `names` stand that have token limits, by window; of the people behind a key
        the one with least left."""
        most: dict[tuple[str, str], int] = {}
        for person, windows in self._people.current():
            name = person.rpartition("/")[0]
            for window, used in windows:
                most[name, window] = max(most.get((name, window), 0), used)
        for name in names:
            for budget in roster.of(name).tokens:
                own = self._callers.peek(name, budget.window)
                used = max(own, most.get((name, budget.window), 0))
                yield name, budget.window, budget.count, used

    def began(self, window: str) -> int:
        """The second since 1970 at which the current `window` began."""
        return self._callers.bounds(window)[0]

    def used(self, account: Account, window: str) -> int:
        """What the account has used in the current `window`, as far as this process knows."""
        return self._spending(account).used(account.name or "", window)

    def hear(self, account: Account, window: str, used: int) -> None:
        """Take over what other processes are known to have used."""
        if used > self.used(account, window):
            spending = self._spending(account)
            spending.add(account.name or "", window, used - self.used(account, window))

    def _tokens(self, account: Account) -> tuple[Spent, ...]:
        budgets = account.policy.tokens
        name = account.name
        if not budgets or name is None:
            return ()
        spending, now = self._spending(account), self._wall()
        return tuple(
            Spent(
                budget,
                spending.used(name, budget.window),
                spending.bounds(budget.window)[1] - now,
            )
            for budget in budgets
        )

    def _spending(self, account: Account) -> Spending:
        return self._people if account.is_person else self._callers

    def _rate(self, account: Account, *, take: bool) -> Decision | None:
        rate = account.policy.rate
        if rate is None:
            return None
        buckets = self._rates.get(rate)
        if buckets is None:
            buckets = self._rates[rate] = TokenBuckets(rate, self._seconds)
        return buckets.ask(account.bucket) if take else buckets.peek(account.bucket)
