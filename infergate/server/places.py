"""MAX_CONNECTIONS: which connections have a place, and which are one too many."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from itertools import islice
from typing import Protocol


class Guest(Protocol):
    """What is asked of a connection. `make_room` closes it, and refuses what is under way on it;
    the edge then calls `Places.closed`."""

    above_limit: bool
    """Without a place: only probes are served on it."""

    def make_room(self) -> None: ...


class Places:
    """Keeps who has a place: so many connections have one, and as many again are let in above the
    limit.

    A new connection takes the place of the one that has idled longest after a request, where none
    is free. Where none idles it is above the limit, and where that is full too, the connection
    above the limit that has been silent longest makes room. A connection above the limit gets a
    place as soon as it asks something and there is one.

    The edge calls `opened` and `closed` once for each connection, which in between calls `heard`,
    `asks`, `idles` and `leaves` for itself. Each takes the same time however many connections there
    are, and raises nothing.
    """

    def __init__(self, limit: int, soon: Callable[[Callable[[], None]], None]) -> None:
        """Begin with all places free, `limit` of them. `soon` calls in the next event loop
        iteration, before that reads from its sockets."""
        self._limit = limit
        self._soon = soon
        self._trimming = False
        self._placed: set[Guest] = set()
        # In order: the first is the one that has idled, or been silent, longest.
        self._idle: OrderedDict[Guest, None] = OrderedDict()
        self._above: OrderedDict[Guest, None] = OrderedDict()
        # Of these the ones that nothing has been read from yet, as far as that is known: they are
        # not silent. Kept up while `_trimming`.
        self._unread: set[Guest] = set()

    def opened(self, guest: Guest) -> None:
        """Give a new connection a place, or let it in above the limit, where only probes are
        answered. Sets its `above_limit`; may close another one, now or in the next event loop
        iterations. Called by `Edge.opened`."""
        if self._place(guest):
            return
        guest.above_limit = True
        self._above[guest] = None
        if len(self._above) > self._limit and not self._trimming:
            self._trimming = True
            self._soon(self._trim_soon)
        if self._trimming:
            self._unread.add(guest)

    def heard(self, guest: Guest) -> None:
        """Note that something has come on a connection above the limit: of these it is the last to
        make room. Called by the connection with each chunk."""
        if guest in self._above:
            self._above.move_to_end(guest)

    def leaves(self, guest: Guest) -> None:
        """Note that a connection above the limit has its last answer: it is the first to make room.
        Called by the connection when it closes in good order."""
        if guest in self._above:
            self._above.move_to_end(guest, last=False)

    def asks(self, guest: Guest) -> None:
        """Note that a request has begun to come: the connection does not idle any more, and where
        it was above the limit it gets a place, if there is one. Called by the connection when the
        first byte of a request is here."""
        self._idle.pop(guest, None)
        if guest.above_limit and guest in self._above and self._place(guest):
            guest.above_limit = False
            del self._above[guest]

    def idles(self, guest: Guest) -> None:
        """Note that a request has been answered and nothing more has come: the place may be given
        to another. Called by the connection when it begins to idle."""
        if guest in self._placed:
            self._idle[guest] = None

    def closed(self, guest: Guest) -> None:
        """Forget a connection that is closed or about to be, whether it had a place or none. Called
        by `Edge.closed`, and by `_place` for the one that makes room."""
        self._placed.discard(guest)
        self._idle.pop(guest, None)
        self._above.pop(guest, None)
        self._unread.discard(guest)

    def _trim_soon(self) -> None:
        """Have `_trim` called one event loop iteration later still.

        A reactor accepts many connections before it reads from the first of them: who has been
        silent shows only after one more reading.
        """
        self._unread.clear()
        self._soon(self._trim)

    def _trim(self) -> None:
        """Close those above the limit that have been silent longest, until no more than the limit
        are left. Called by the reactor, two event loop iterations after `opened` found too many,
        and once more for those that were accepted in the last one."""
        silent = (guest for guest in self._above if guest not in self._unread)
        for guest in list(islice(silent, max(0, len(self._above) - self._limit))):
            del self._above[guest]
            guest.make_room()
        self._trimming = len(self._above) > self._limit
        self._unread.clear()
        if self._trimming:
            self._soon(self._trim)

    def _place(self, guest: Guest) -> bool:
        """Give a place to `guest`, and return whether there was one to give. The one that has idled
        longest is closed for it, where all are taken. Called by `opened` and `asks`."""
        if len(self._placed) >= self._limit:
            if not self._idle:
                return False
            idle = next(iter(self._idle))
            self.closed(idle)
            idle.make_room()
        self._placed.add(guest)
        return True
