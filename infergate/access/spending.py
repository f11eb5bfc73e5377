"""Tokens used in the current windows, in the memory of one process."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping

from infergate.access.windows import bounds

CALLERS = 100_000
"""Callers held at once, some 300 bytes each; the one that came longest ago makes room."""

PEOPLE = 10_000
"""People of ``user=`` that are held at once: a client chooses their names."""


class Spending:
    """Counts the tokens of each caller, by window. `wall` is the time since 1970, in UTC.

    What is known from elsewhere, the ledger, is told by `learn`.
    """

    def __init__(self, wall: Callable[[], float], capacity: int = CALLERS) -> None:
        self._wall = wall
        self._capacity = capacity
        # For each caller and window: when the window began, and the tokens used in it.
        self._used: OrderedDict[str, dict[str, tuple[int, int]]] = OrderedDict()
        self._bounds: dict[str, tuple[int, int]] = {}
        self._known: dict[str, tuple[int, Mapping[str, int]]] = {}

    def __len__(self) -> int:
        return len(self._used)

    def bounds(self, window: str) -> tuple[int, int]:
        """The beginning and the end of the current `window`."""
        current = self._bounds.get(window)
        now = self._wall()
        if current is None or not current[0] <= now < current[1]:
            current = self._bounds[window] = bounds(window, now)
        return current

    def used(self, caller: str, window: str) -> int:
        """What `caller` has used in the current `window`."""
        return self._current(self._of(caller), caller, window)[1]

    def peek(self, caller: str, window: str) -> int:
        """The same, without remembering a caller that has not come yet."""
        if caller in self._used:
            return self.used(caller, window)
        began, totals = self._known.get(window, (0, {}))
        return totals.get(caller, 0) if began == self.bounds(window)[0] else 0

    def current(self) -> Iterator[tuple[str, list[tuple[str, int]]]]:
        """Every caller that is held, with what it has used in each current window."""
        for caller, windows in self._used.items():
            yield (
                caller,
                [
                    (window, used)
                    for window, (began, used) in windows.items()
                    if began == self.bounds(window)[0]
                ],
            )

    def add(self, caller: str, window: str, tokens: int) -> None:
        """Charge `tokens` to the current `window`."""
        windows = self._of(caller)
        began, used = self._current(windows, caller, window)
        windows[window] = began, used + tokens

    def learn(self, window: str, began: int, totals: Mapping[str, int]) -> None:
        """Take over what all callers have used, up to now, in the `window` that `began` then. What
        was counted here is part of it. Of a window that is over there is nothing to learn."""
        if self.bounds(window)[0] != began:
            return
        self._known[window] = began, totals
        for caller, windows in self._used.items():
            if window in windows:
                windows[window] = began, totals.get(caller, 0)

    def _of(self, caller: str) -> dict[str, tuple[int, int]]:
        windows = self._used.get(caller)
        if windows is None:
            windows = self._used[caller] = {}
            if len(self._used) > self._capacity:
                self._used.popitem(last=False)
        else:
            self._used.move_to_end(caller)
        return windows

    def _current(
        self, windows: dict[str, tuple[int, int]], caller: str, window: str
    ) -> tuple[int, int]:
        """When the current window began, and what was used in it: nothing, or what is known."""
        began, _ = self.bounds(window)
        current = windows.get(window)
        if current is None or current[0] != began:
            since, totals = self._known.get(window, (None, {}))
            current = windows[window] = began, totals.get(caller, 0) if since == began else 0
        return current
