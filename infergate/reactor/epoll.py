"""A quicker event loop iteration on epoll, and what can wait for its end.

Twisted's reactor hands each event to its socket through ten calls, most of which set up a log
context that names the socket; nothing here reads that context. An event that only says "there is
something to read" takes one call instead. For a stream of small chunks that saves a ninth of the
work (`docs/design.md` has the measurements, and each private name that is used).
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
"""Events of one iteration from which on it is crowded.

A `send` that has to wake a sleeping reader costs several times one to a reader that is awake. With
a few sockets to serve, what is ready is better sent at once; from some four on it is cheaper to
send everything at the end of the iteration, when the first `send` wakes the reader for all.
"""


class Iteration:
    """Takes the place of an `EPollReactor`'s `doIteration`, for all its iterations.

    The reactor calls it with the seconds that it may wait for events. While it deals with events,
    which `dealing` says, `crowded` says whether there are many, and whatever is called by it may
    append to `at_end` what is to be called when all of them are dealt with. What such a call raises
    is logged, and the next call is made all the same. What is appended by one of these calls waits
    for the end of the next iteration.
    """

    def __init__(self, reactor: Any) -> None:
        """Take the place of the iteration of `reactor`, an `EPollReactor`; `shorten` calls this."""
        self.dealing = False
        self.crowded = False
        self.at_end: list[Callable[[], None]] = []
        self._reactor = reactor
        self._poll = reactor._poller.poll
        self._selectables = reactor._selectables

    def __call__(self, timeout: float | None) -> None:
        """Wait for events for at most `timeout` seconds (None: for as long as it takes), deal with
        each of them, then make the calls in `at_end`. Raises nothing that a socket's methods or
        these calls raise."""
        selectables = self._selectables
        events = self._poll(-1 if timeout is None else timeout, len(selectables))
        self.dealing = True
        self.crowded = len(events) >= CROWD
        for fd, event in events:
            selectable = selectables.get(fd)
            # It is None where an earlier event of this iteration has closed the socket.
            if selectable is not None:
                if event == EPOLLIN:
                    self._read(selectable)
                else:
                    log.callWithLogger(
                        selectable, self._reactor._doReadOrWrite, selectable, fd, event
                    )
        self.dealing = self.crowded = False
        if self.at_end:
            self._end()

    def _read(self, selectable: Any) -> None:
        """Do what Twisted's `_doReadOrWrite` does for an event that only says EPOLLIN: have the
        socket read, and disconnect it where that says why it is to end, or raises. For `__call__`.
        """
        try:
            why = selectable.doRead()
        except BaseException as error:
            log.err()
            why = error
        if why:
            disconnect = self._reactor._disconnectSelectable
            log.callWithLogger(selectable, disconnect, selectable, why, True)

    def _end(self) -> None:
        """Make the calls that waited for the end of the iteration; what one raises is logged. For
        `__call__`."""
        calls, self.at_end = self.at_end, []
        for call in calls:
            try:
                call()
            except BaseException:
                log.err()


def shorten(reactor: Any) -> None:
    """Give an `EPollReactor` the quicker iteration. `makeService` calls it once, before it wires
    the gateway, whose parts ask `iteration_of` when they are made. Any other reactor stays as it
    is: then nothing is ever `crowded`, and nothing waits."""
    if isinstance(reactor, EPollReactor):
        reactor.doIteration = Iteration(reactor)  # type: ignore[method-assign]


def iteration_of(reactor: Any) -> Iteration | None:
    """Return the quicker iteration of a reactor that has one, else None: then whoever asks does at
    once what could wait. `reactor` may be anything, a test's clock or None among it."""
    iteration = getattr(reactor, "doIteration", None)
    return iteration if isinstance(iteration, Iteration) else None
