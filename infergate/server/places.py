"""MAX_CONNECTIONS: which connections have a place, and which are one too many."""

from __future__ import annotations

from typing import Protocol


class Guest(Protocol):
    """What is asked of a connection."""

    above_limit: bool
    """Without a place: only probes are served on it."""

    def make_room(self) -> None: ...


class Places:
    """So many connections have a place. As many again are let in above the limit.

    A new connection takes the place of the one that has idled longest after a request, where none
    is free. Where none idles it is above the limit, and where that is full too, the connection
    above the limit that has been silent longest makes room. A connection above the limit gets a
    place as soon as it asks something and there is one.

    Called by the edge for each connection: `opened` once, then `heard`, `asks` and `idles` in any
    order, then `closed` once.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._placed: set[Guest] = set()
        # Dicts keep their order: the first is the one that has idled, or been silent, longest.
        self._idle: dict[Guest, None] = {}
        self._above: dict[Guest, None] = {}

    def opened(self, guest: Guest) -> None:
        if self._place(guest):
            return
        guest.above_limit = True
        if len(self._above) >= self._limit:
            silent = next(iter(self._above))
            del self._above[silent]
            silent.make_room()
        self._above[guest] = None

    def heard(self, guest: Guest) -> None:
        """Something has come on a connection above the limit."""
        if self._above.pop(guest, self) is None:
            self._above[guest] = None

    def asks(self, guest: Guest) -> None:
        """A request has begun to come."""
        self._idle.pop(guest, None)
        if guest.above_limit and guest in self._above and self._place(guest):
            guest.above_limit = False
            del self._above[guest]

    def idles(self, guest: Guest) -> None:
        """A request has been answered, and nothing more has come."""
        if guest in self._placed:
            self._idle[guest] = None

    def closed(self, guest: Guest) -> None:
        self._placed.discard(guest)
        self._idle.pop(guest, None)
        self._above.pop(guest, None)

    def _place(self, guest: Guest) -> bool:
        """Give a place to `guest`, if there is one to give."""
        if len(self._placed) >= self._limit:
            if not self._idle:
                return False
            idle = next(iter(self._idle))
            self.closed(idle)
            idle.make_room()
        self._placed.add(guest)
        return True
