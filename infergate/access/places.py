"""Operations under way at once, in one process: of each caller, and of all."""

from __future__ import annotations


class Places:
    """Counts who is at the backend, in the reactor's thread alone. `Admission` calls `enter` before
    it is called, and `leave` as often when the exchange has ended; it checks beforehand whether
    there is room, since nothing is refused here. `who` is the `bucket` of an account; `all_taken`
    are the places of all of them."""

    def __init__(self) -> None:
        self._taken: dict[str, int] = {}
        self.all_taken = 0

    def enter(self, who: str) -> None:
        """Take a place of `who`. Called by `Admission.enter`; raises nothing, whatever limit there
        is."""
        self._taken[who] = self._taken.get(who, 0) + 1
        self.all_taken += 1

    def leave(self, who: str) -> None:
        """Free a place that was taken; raises `KeyError` where `who` has none, which would be a
        fault of ours. Called when the record of the exchange is closed."""
        self.all_taken -= 1
        left = self._taken[who] - 1
        if left:
            self._taken[who] = left
        else:
            del self._taken[who]

    def taken(self, who: str) -> int:
        """Return how many places of `who` are taken. Called by `Admission`."""
        return self._taken.get(who, 0)
