"""Rates and token budgets: what is asked before an operation, and charged when it has ended.

A rate limits requests (``rate=60/minute``) and is a token bucket, which `ratelimit` counts. A
budget limits tokens of prompts and completions in a window of the calendar (``tokens=1000/day``),
which `spending` counts. One answer about both is a `Verdict`. Here they are put together: `ILimits`
is what `Admission` asks, `LocalLimits` counts in this process, and `shared.SharedLimits` asks Redis
and falls back on it.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping

from msgspec import Struct
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
    """Rates and token budgets of accounts, wherever they are counted. `Admission` calls `ask`
    before an operation and `charge` when it has ended, and `look` where it only has to tell how a
    caller stands."""

    def ask(account: Account, costs: bool) -> Verdict | Awaitable[Verdict]:
        """Take one request from the rate, unless it is refused, and return how the account stands.
        What one limit refuses takes nothing from another. Budgets refuse only what `costs` tokens.
        To be awaited, at once, where somebody else is asked: that may raise `LimitsUnavailable`."""

    def look(account: Account) -> Verdict | Awaitable[Verdict]:
        """Return how the account stands with its rate and with all of its budgets; takes nothing,
        refuses nothing and fails with nothing."""

    def charge(account: Account, tokens: int) -> None:
        """Add the tokens of an exchange that has ended to each budget of its account. Returns at
        once, also where somebody else has to be told, and raises nothing."""


def waits(tokens: tuple[Spent, ...], costs: bool) -> list[float]:
    """Return the seconds until each budget that is used up begins anew, as a list that is empty
    where none refuses: a budget of N is used up at N tokens. Empty for what `costs` nothing too.
    Called by both implementations of `ILimits` before `verdict`. Raises nothing."""
    if not costs:
        return []
    return [spent.reset for spent in tokens if spent.used >= spent.budget.count]


def verdict(rate: Decision | None, tokens: tuple[Spent, ...], waits: list[float]) -> Verdict:
    """Put together what the rate and the budgets say; `waits` are the seconds of `waits`. Where
    both refuse, the verdict names the one that lets the caller in later: to come back for the other
    would be in vain. `retry_after` is rounded up to whole seconds. Called by `LocalLimits.ask` and
    `SharedLimits.ask`, where something may refuse; raises nothing."""
    for_tokens = max(1, math.ceil(max(waits))) if waits else 0
    for_rate = 0 if rate is None else rate.retry_after
    if for_tokens and for_tokens >= for_rate:
        return Verdict(rate, tokens, "tokens", for_tokens)
    if for_rate:
        return Verdict(rate, tokens, "rate", for_rate)
    return Verdict(rate, tokens)


def token_fields(tokens: tuple[Spent, ...]) -> bytes:
    """Return the header fields that OpenAI's clients read a token limit from, as lines without the
    last line end: of the budget with least left. Called by `Admission` for each answer of a caller
    with budgets; `tokens` must not be empty."""
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
        """Take one request from the rate, and return the verdict with the budgets that matter for
        it. The budgets are looked at first: a request that they refuse takes nothing from the rate.
        Never to be awaited, raises nothing."""
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
        """Return how the rate and all budgets stand; takes nothing."""
        return Verdict(self._rate(account, take=False), self.tokens(account))

    def charge(self, account: Account, tokens: int) -> None:
        """Add tokens to the current window of each budget; an account without a name has none."""
        budgets = account.policy.tokens
        if budgets and tokens and account.name is not None:
            self._spending(account).add(account.name, budgets, tokens)

    def learn(self, window: str, began: int, totals: Mapping[str, int]) -> None:
        """Take over what the ledger says of a window that `began` at this second since 1970:
        `totals` has the tokens of each caller. Called by `Budgets`, at the start and each `REFRESH`
        seconds; see `Spending.learn`."""
        self._callers.learn(window, began, totals)
        self._people.learn(window, began, totals)

    def standings(self, policies: Policies, names: Collection[str]) -> Iterator[Standing]:
        """Return, one after another, how those of `names` stand that have token limits: name,
        window, tokens allowed and tokens used. Of the people behind a key (``alice/bob``) the one
        with least left stands for it. Called by the metrics at each scrape, with the names that
        they may show. Raises nothing."""
        most: dict[tuple[str, str], int] = {}
        for person, windows in self._people.current():
            # Both the name and that of the person may hold a slash.
            for at in (at for at, letter in enumerate(person) if letter == "/"):
                for window, used in windows:
                    key = person[:at], window
                    most[key] = max(most.get(key, 0), used)
        for name in names:
            for budget in policies.of(name).tokens:
                own = self._callers.peek(name, budget.window)
                used = max(own, most.get((name, budget.window), 0))
                yield name, budget.window, budget.count, used

    def began(self, window: str) -> int:
        """Return the second since 1970 at which the current `window` began. Called by
        `SharedLimits`, which tells Redis of which window its counts are."""
        return self._callers.bounds(window)[0]

    def tokens(self, account: Account) -> tuple[Spent, ...]:
        """Return how each budget of the account stands as far as this process knows, none for an
        address. Called by `look`, and by `SharedLimits`, which tells Redis of it."""
        budgets, name = account.policy.tokens, account.name
        if not budgets or name is None:
            return ()
        return tuple(self._spending(account).spent(name, budgets))

    def hear(self, account: Account, window: str, used: int) -> None:
        """Take over what other processes are known to have used; called by `SharedLimits` with what
        Redis has answered. Less than is known here is no news: this process may have charged what
        Redis has not been told yet."""
        spending, name = self._spending(account), account.name or ""
        more = used - spending.used(name, window)
        if more > 0:
            spending.add(name, [TokenLimit(1, window)], more)

    def _spending(self, account: Account) -> Spending:
        """Return the store in which the account's tokens are counted: people apart from callers.
        Called for each account that has a name."""
        return self._people if account.is_person else self._callers

    def _rate(self, account: Account, *, take: bool) -> Decision | None:
        """Return how the account's rate stands, with one request taken from it if `take`; None
        where it has no rate. The buckets of a rate are made when it is first met, and those of
        others forgotten that are all full. Called by `ask` and `look`."""
        rate = account.policy.rate
        if rate is None:
            return None
        buckets = self._rates.get(rate)
        if buckets is None:
            # With each reload of the keys file there may be rates that nobody had before.
            self._rates = {one: kept for one, kept in self._rates.items() if not kept.all_full}
            buckets = self._rates[rate] = TokenBuckets(rate, self._seconds)
        return buckets.ask(account.bucket) if take else buckets.peek(account.bucket)
