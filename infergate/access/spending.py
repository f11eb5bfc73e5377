"""Tokens used in the current windows, in the memory of one process.

A budget is a `TokenLimit`: so many tokens in each window of a kind, as in ``tokens=1000/day``. A
window is a minute, an hour, a day, a week or a month of the calendar in UTC, and the current one is
that in which it is now. Callers are names, as an `Account` has them. Everything here runs in the
reactor's thread, and waits for nothing.

Nothing here raises for the windows that `windows.WINDOWS` names.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from msgspec import Struct

from infergate.access.policy import TokenLimit
from infergate.access.windows import bounds

CALLERS = 100_000
"""Callers held at once, some 300 bytes each; the one that came longest ago makes room."""

PEOPLE = 10_000
"""People of ``user=`` that are held at once: a client chooses their names."""


class Spent(Struct, frozen=True, gc=False):
    """How a budget stands: tokens `used`, and the seconds until its window is over."""

    budget: TokenLimit
    used: int
    reset: float

    @property
    def remaining(self) -> int:
        """Return the tokens that are left, 0 where more than all are used."""
        return max(0, self.budget.count - self.used)


class Held(Struct, gc=False):
    """What `tightest` found of a caller with these `budgets`: the one with least left, when its
    window ends, and the tokens used in it. What is charged to all budgets alike leaves that as it
    is, so it is only summed up here, in `charged`, until somebody asks more. From `since` on and
    before `until`, both in seconds since 1970, all windows are current."""

    budgets: Sequence[TokenLimit]
    least: TokenLimit
    ends: float
    used: int
    since: float
    until: float
    charged: int = 0


class Spending:
    """Counts the tokens of each caller, by window. `wall` is the time since 1970, in UTC.

    `LocalLimits` asks `spent` or `tightest` before an operation, and calls `add` when it has ended;
    so what runs is not counted yet. What is known from elsewhere, the ledger, is told by `learn`,
    for all callers of a window at once. Of alice, who has ``tokens=1000/day`` and has used 420:

        _used    {"alice": {"day": (1789948800, 420)}}       the window began then, and so many
        _known   {"day": (1789948800, {"alice": 400, ...})}  what the ledger said of it
        _bounds  {"day": (1789948800, 1790035200)}           when it began, and when it ends

    A count whose window did not begin when the current one did is of a window that is over, and is
    begun anew where it is met: with what the ledger knows, or with nothing. No timer is needed.

    A request asks `tightest` once and `add` once. `_held` answers both out of one number, however
    many budgets a caller has; before a count is read or changed, `_settle` charges it with that.
    """

    def __init__(self, wall: Callable[[], float], capacity: int = CALLERS) -> None:
        self._wall = wall
        self._capacity = capacity
        # For each caller and window: when the window began, and the tokens used in it.
        self._used: OrderedDict[str, dict[str, tuple[int, int]]] = OrderedDict()
        # The current windows that were asked for, and the time in which all of these are current.
        self._bounds: dict[str, tuple[int, int]] = {}
        self._since, self._until = 0.0, 0.0
        self._known: dict[str, tuple[int, Mapping[str, int]]] = {}
        self._held: dict[str, Held] = {}

    def __len__(self) -> int:
        """Return the number of callers that are held, `capacity` at the most."""
        return len(self._used)

    def bounds(self, window: str) -> tuple[int, int]:
        """Return the seconds since 1970 at which the current `window` began and ends. Called by
        `LocalLimits.began`, and for whether a count is of the current window."""
        return self._bounds_at(window, self._look())

    def spent(self, caller: str, budgets: Iterable[TokenLimit]) -> list[Spent]:
        """Return how each budget of `caller` stands in its current window, in the order of
        `budgets`. A caller who is new here is remembered from now on, in place of the one that came
        longest ago. Called by `LocalLimits.look`, and by `tightest` where it has to look closer."""
        now = self._look()
        self._settle(caller)
        own = self._of(caller)
        spent = []
        for budget in budgets:
            window = budget.window
            began, ends = self._bounds.get(window) or self._bounds_at(window, now)
            current = own.get(window)
            if current is None or current[0] != began:
                current = own[window] = began, self._begin(caller, window, began)
            spent.append(Spent(budget, current[1], ends - now))
        return spent

    def tightest(self, caller: str, budgets: Sequence[TokenLimit]) -> tuple[Spent, ...]:
        """Return the budget with least left, and behind it, where one is used up, the used-up one
        whose window is over last, if that is another. Called by `LocalLimits` before each
        operation; `budgets` must not be empty. As long as the same tuple of budgets is asked for in
        the same windows, one number answers."""
        now = self._wall()
        held = self._held.get(caller)
        if held is not None and held.budgets is budgets and held.since <= now < held.until:
            used = held.used + held.charged
            if used < held.least.count:
                self._used.move_to_end(caller)
                return (Spent(held.least, used, held.ends - now),)
        least, *others = self.spent(caller, budgets)
        fewest, last = least.budget.count - least.used, least
        latest = least.reset if fewest <= 0 else 0.0
        for one in others:
            left = one.budget.count - one.used
            if left < fewest:
                fewest, least = left, one
            if left <= 0 and one.reset > latest:
                latest, last = one.reset, one
        self._held[caller] = Held(
            budgets, least.budget, now + least.reset, least.used, self._since, self._until
        )
        return (least, last) if latest and last is not least else (least,)

    def used(self, caller: str, window: str) -> int:
        """Return the tokens that `caller` has used in the current `window`. A caller who is new
        here is remembered from now on. Called by `LocalLimits.hear`, and by `peek` for a caller
        that is held."""
        (spent,) = self.spent(caller, [TokenLimit(1, window)])
        return spent.used

    def peek(self, caller: str, window: str) -> int:
        """Return what `used` does, without remembering a caller that has not come yet. For the
        metrics, which ask about many callers at each scrape."""
        if caller in self._used:
            return self.used(caller, window)
        began, totals = self._known.get(window, (0, {}))
        return totals.get(caller, 0) if began == self.bounds(window)[0] else 0

    def current(self) -> Iterator[tuple[str, list[tuple[str, int]]]]:
        """Return, one after another, every caller that is held, with the names of the current
        windows in which it was counted and the tokens used in each. Callers must not be added
        meanwhile. Called by `LocalLimits.standings`."""
        for caller, windows in self._used.items():
            self._settle(caller)
            yield (
                caller,
                [
                    (window, used)
                    for window, (began, used) in windows.items()
                    if began == self.bounds(window)[0]
                ],
            )

    def add(self, caller: str, budgets: Iterable[TokenLimit], tokens: int) -> None:
        """Charge `tokens` to the current window of each budget. Called by `LocalLimits` for each
        exchange that has ended, and with what Redis knows of other processes."""
        now = self._wall()
        held = self._held.get(caller)
        if held is not None and held.budgets is budgets and held.since <= now < held.until:
            self._used.move_to_end(caller)
            held.charged += tokens
            return
        now = self._look()
        self._settle(caller)
        own = self._of(caller)
        for budget in budgets:
            window = budget.window
            began, _ = self._bounds_at(window, now)
            current = own.get(window)
            if current is None or current[0] != began:
                current = began, self._begin(caller, window, began)
            own[window] = began, current[1] + tokens

    def learn(self, window: str, began: int, totals: Mapping[str, int]) -> None:
        """Take over what all callers have used, up to now, in the `window` that `began` then:
        `totals` by caller, the ledger's sums. What was counted here is part of it, and is replaced.
        Of a window that is over there is nothing to learn. `totals` is kept and not copied: it must
        not be changed any more. Called by `LocalLimits.learn`."""
        if self.bounds(window)[0] != began:
            return
        self._known[window] = began, totals
        for caller, windows in self._used.items():
            self._settle(caller)
            if window in windows:
                windows[window] = began, totals.get(caller, 0)

    def _of(self, caller: str) -> dict[str, tuple[int, int]]:
        """Return the counts of a caller, who becomes the last to be forgotten. Where that makes one
        too many, the caller that came longest ago is forgotten. Called by `spent` and `add`."""
        windows = self._used.get(caller)
        if windows is None:
            windows = self._used[caller] = {}
            if len(self._used) > self._capacity:
                forgotten, _ = self._used.popitem(last=False)
                self._held.pop(forgotten, None)
        else:
            self._used.move_to_end(caller)
        return windows

    def _settle(self, caller: str) -> None:
        """Charge the counts of the windows with what was only summed up in `_held` while all were
        current. Called before a count of this caller is read or changed."""
        held = self._held.pop(caller, None)
        if held is not None and held.charged:
            own = self._used[caller]
            for budget in held.budgets:
                began, used = own[budget.window]
                own[budget.window] = began, used + held.charged

    def _begin(self, caller: str, window: str, began: int) -> int:
        """Return the tokens used in a window before anybody asked here: what the ledger knows of
        the window that `began` then, or 0. Called where a count is begun anew."""
        since, totals = self._known.get(window, (None, {}))
        return totals.get(caller, 0) if since == began else 0

    def _look(self) -> float:
        """Return the time, in seconds since 1970, after the bounds of windows that are over by now
        have been forgotten. To be called before `_bounds_at`."""
        now = self._wall()
        if not self._since <= now < self._until:
            self._bounds.clear()
            self._since, self._until = 0.0, math.inf
        return now

    def _bounds_at(self, window: str, now: float) -> tuple[int, int]:
        """Return when the current `window` began and ends, found once for as long as all that were
        found are current. `_look` was called with the same `now`."""
        current = self._bounds.get(window)
        if current is None:
            began, ends = current = self._bounds[window] = bounds(window, now)
            self._since, self._until = max(self._since, began), min(self._until, ends)
        return current
