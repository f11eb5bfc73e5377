"""A shorter turn of the epoll reactor, and what can wait for its end.

Twisted hands each event to a socket through ten calls, most of them to say in a log context whose
event it is; nothing here reads that context. For a stream of small pieces it is a ninth of the
work.
"""

from __future__ import annotations

from collections.abc import Callable
from select import EPOLLIN
from typing import Any

from twisted.internet.epollreactor import EPollReactor
from twisted.python import log

TWISTED_INTERNALS = {
    EPollReactor: ("_poller", "_selectables", "_doReadOrWrite", "_disconnectSelectable")
}
"""Private names that are used here; a test checks each."""

CROWD = 4
"""Events of one turn from which on something may wait for the others."""


class Turn:
    """The turns of one reactor, one after the other. While one is `crowded`, `at_end` takes what
    is to be called when all of its events are dealt with."""

    def __init__(self, reactor: Any) -> None:
        self.crowded = False
        self.at_end: list[Callable[[], None]] = []
        self._reactor = reactor
        self._poll = reactor._poller.poll
        self._selectables = reactor._selectables

    def __call__(self, timeout: float | None) -> None:
        """Wait for events, at the most so many seconds, and deal with them."""
        reactor, selectables = self._reactor, self._selectables
        events = self._poll(-1 if timeout is None else timeout, len(selectables))
        self.crowded = len(events) >= CROWD
        for fd, event in events:
            selectable = selectables.get(fd)
            if selectable is None:  # an earlier event of this turn has closed it
                continue
            if event == EPOLLIN:
                try:
                    why = selectable.doRead()
                except BaseException as error:
                    log.err()
                    why = error
                if why:
                    log.callWithLogger(
                        selectable, reactor._disconnectSelectable, selectable, why, True
                    )
            else:
                log.callWithLogger(selectable, reactor._doReadOrWrite, selectable, fd, event)
        self.crowded = False
        if self.at_end:
            calls, self.at_end = self.at_end, []
            for call in calls:
                try:
                    call()
                except BaseException:  # what the others have to send still goes out
                    log.err()


def shorten(reactor: Any) -> None:
    """Let an `EPollReactor` hand what can be read to its socket in one call, and all other events
    as ever. Any other reactor stays as it is."""
    if isinstance(reactor, EPollReactor):
        reactor.doIteration = Turn(reactor)  # type: ignore[method-assign]


def turn_of(reactor: Any) -> Turn | None:
    """The turns of a reactor, where they were shortened."""
    turn = getattr(reactor, "doIteration", None)
    return turn if isinstance(turn, Turn) else None
