"""MAX_CONNECTIONS: which connections have a place, and which are one too many."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
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

    The edge calls `opened` and `closed` once for each connection, which in between calls `heard`,
    `asks`, `idles` and `leaves` for itself.
    """

    def __init__(self, limit: int, soon: Callable[[Callable[[], None]], None]) -> None:
        """`soon` calls in the next event loop iteration, before that reads from its sockets."""
        self._limit = limit
        self._soon = soon
        self._trimming = False
        self._placed: set[Guest] = set()
        # In order: the first is the one that has idled, or been silent, longest.
        self._idle: OrderedDict[Guest, None] = OrderedDict()
        self._above: OrderedDict[Guest, None] = OrderedDict()

    def opened(self, guest: Guest) -> None:
        """Give a new connection a place, or let it in above the limit."""
        if self._place(guest):
            return
        guest.above_limit = True
        self._above[guest] = None
        if len(self._above) > self._limit and not self._trimming:
            self._trimming = True
            self._soon(self._trim_soon)

    def heard(self, guest: Guest) -> None:
        """Something has come on a connection above the limit."""
        if guest in self._above:
            self._above.move_to_end(guest)

    def leaves(self, guest: Guest) -> None:
        """A connection above the limit has its last answer, and is the first to make room."""
        if guest in self._above:
            self._above.move_to_end(guest, last=False)

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

    def _trim_soon(self) -> None:
        """A reactor accepts many connections before it reads from the first of them: who has been
        silent shows only after one more reading."""
        self._soon(self._trim)

    def _trim(self) -> None:
        self._trimming = False
        while len(self._above) > self._limit:
            silent, _ = self._above.popitem(last=False)
            silent.make_room()

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
