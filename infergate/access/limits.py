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
from infergate.access.spending import PEOPLE, Spending, Spent
from infergate.telemetry.callers import Standing


class Verdict(Struct, frozen=True, gc=False):
    """What the limits say of a request: of the rate, and of those budgets that matter, or where it
    was only a look of all of them.

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


def waits(tokens: tuple[Spent, ...], costs: bool) -> list[float]:
    """The seconds until each budget that is used up, at N for one of N, is there again; none for
    what `costs` nothing."""
    if not costs:
        return []
    return [spent.reset for spent in tokens if spent.used >= spent.budget.count]


def verdict(rate: Decision | None, tokens: tuple[Spent, ...], waits: list[float]) -> Verdict:
    """Put together what the rate and the budgets say. Where both refuse, the caller is told of the
    one that lets it in later: to come back for the other would be in vain."""
    for_tokens = max(1, math.ceil(max(waits))) if waits else 0
    for_rate = 0 if rate is None else rate.retry_after
    if for_tokens and for_tokens >= for_rate:
        return Verdict(rate, tokens, "tokens", for_tokens)
    if for_rate:
        return Verdict(rate, tokens, "rate", for_rate)
    return Verdict(rate, tokens)


def token_fields(tokens: tuple[Spent, ...]) -> bytes:
    """The header fields that OpenAI's clients read a token limit from, as lines: of the budget
    with least left."""
    least = tokens[0] if len(tokens) == 1 else min(tokens, key=lambda spent: spent.remaining)
    return (
        b"x-ratelimit-limit-tokens: %d\r\nx-ratelimit-remaining-tokens: %d\r\n"
        b"x-ratelimit-reset-tokens: %b"
    ) % (least.budget.count, least.remaining, duration(least.reset).encode())


@implementer(ILimits)
class LocalLimits:
    """Counted in the memory of one process. `seconds` is the monotonic clock, for rates; `wall` the
    time since 1970, for windows.

    `Admission` asks it for each operation, or `SharedLimits` does where there is a Redis, which
    also tells it by `hear` what other processes have used. People of ``user=`` are counted apart
    from callers, in a store of their own: a client chooses their names, and must not be able to
    have a caller forgotten by making up many. Requests of one rate share one set of buckets, by
    the account's `bucket`: callers, addresses, and addresses that sent wrong credentials.
    """

    def __init__(self, seconds: Callable[[], float], wall: Callable[[], float]) -> None:
        self._seconds = seconds
        self._wall = wall
        self._rates: dict[Rate, TokenBuckets] = {}
        self._callers = Spending(wall)
        self._people = Spending(wall, PEOPLE)

    def ask(self, account: Account, costs: bool) -> Verdict:
        """The budgets first: a request that they refuse takes nothing from the rate."""
        tokens: tuple[Spent, ...] = ()
        waiting: list[float] = []
        budgets = account.policy.tokens
        if budgets and account.name is not None:
            tokens = self._spending(account).tightest(account.name, budgets)
            least = tokens[0]
            if least.used >= least.budget.count:
                waiting = waits(tokens, costs)
        rate = self._rate(account, take=not waiting)
        if not waiting and (rate is None or rate.allowed):
            return Verdict(rate, tokens)
        return verdict(rate, tokens, waiting)

    def look(self, account: Account) -> Verdict:
        return Verdict(self._rate(account, take=False), self._tokens(account))

    def charge(self, account: Account, tokens: int) -> None:
        budgets = account.policy.tokens
        if budgets and tokens and account.name is not None:
            self._spending(account).add(account.name, budgets, tokens)

    def learn(self, window: str, began: int, totals: Mapping[str, int]) -> None:
        """Take over what the ledger says of a window; as `Spending.learn`."""
        self._callers.learn(window, began, totals)
        self._people.learn(window, began, totals)

    def standings(self, roster: Policies, names: Collection[str]) -> Iterator[Standing]:
        """How those of `names` stand that have token limits, by window; of the people behind a key
        the one with least left."""
        most: dict[tuple[str, str], int] = {}
        for person, windows in self._people.current():
            # Both the name and that of the person may hold a slash.
            for at in (at for at, letter in enumerate(person) if letter == "/"):
                for window, used in windows:
                    key = person[:at], window
                    most[key] = max(most.get(key, 0), used)
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
        """Take over what other processes are known to have used. Less than is known here is no
        news: this process may have charged what Redis has not been told yet."""
        if used > self.used(account, window):
            more = used - self.used(account, window)
            self._spending(account).add(account.name or "", [TokenLimit(1, window)], more)

    def _tokens(self, account: Account) -> tuple[Spent, ...]:
        budgets, name = account.policy.tokens, account.name
        if not budgets or name is None:
            return ()
        return tuple(self._spending(account).spent(name, budgets))

    def _spending(self, account: Account) -> Spending:
        return self._people if account.is_person else self._callers

    def _rate(self, account: Account, *, take: bool) -> Decision | None:
        """How the account's rate stands, with one request taken from it if `take`; None where it
        has none."""
        rate = account.policy.rate
        if rate is None:
            return None
        buckets = self._rates.get(rate)
        if buckets is None:
            buckets = self._rates[rate] = TokenBuckets(rate, self._seconds)
        return buckets.ask(account.bucket) if take else buckets.peek(account.bucket)
