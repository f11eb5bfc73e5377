"""Log lines on their way out: at once, or from a bounded queue while nobody reads them.

A reader that stops, such as a pager or a stuck log collector, must not stop the gateway. What it
does not take waits in a queue; the reactor says when it takes something again. What the queue has
no room for is dropped and counted, and a line says so where the gap is.

    the queue       a line comes                          the reader takes something
    empty           it is written at once; what is not    -
                    taken of it begins the queue
    not full        it is queued                          it is written from the queue
    full            it is lost, until half of the queue   the same; a line says how many were lost
                    has been read
    at the end      it is queued, and the process waits   until all is read, or nothing is taken for
                    for the reader                        `STOPPED_READER` seconds
"""

from __future__ import annotations

import select
import time
from collections import deque
from typing import Any

from twisted.internet.interfaces import IWriteDescriptor
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from infergate.telemetry.targets import Target

QUEUE_BYTES = 4 * 1024 * 1024
"""The most that waits for a reader: some 8,000 lines."""

STOPPED_READER = 1.0
"""Seconds for which a reader may take nothing while the process waits for it to end."""

LAST_LINES = 5.0
"""Seconds that the process waits at most, at its end, for the queue to be read."""

_log = Logger(namespace="infergate")


@implementer(IWriteDescriptor)
class LogWriter:
    """Writes lines to `target`, and never waits for its reader.

    The log's observer calls `write` with one line at a time. While lines wait, the reactor calls
    `doWrite` when the reader has taken some. At the end of the process `finish` is called once;
    from then on a `write` waits a little for the reader, since no reactor runs any more.

    `dropped` counts the lines that were lost: for want of room in the queue, or because they could
    not be written at all (nobody will ever read the pipe, the disk is full).
    """

    def __init__(self, target: Target, reactor: Any, room: int = QUEUE_BYTES) -> None:
        """Take the `target` to write to; `room` is what the queue holds at most, in bytes, but for
        a single line that is longer."""
        self.dropped = 0
        self._target = target
        self._reactor = reactor
        self._room = room
        self._queue: deque[bytes] = deque()
        self._queued = 0
        # Lines lost since the log last said how many were.
        self._unsaid = 0
        # The queue was full: nothing is let in until half of it has been read. Otherwise each
        # line that is read would let in one more, and each gap would have a line of its own.
        self._full = False
        # When the wait for the reader is over, from the end of the process on.
        self._patience: float | None = None

    def write(self, line: str) -> None:
        """Write a line, or queue it where others wait already. Called by the log's observer.

        Half a surrogate pair, which UTF-8 does not have, is written with a backslash. Raises
        nothing that the target raises: a line that cannot be written is counted in `dropped`.
        """
        data = line.encode("utf-8", "backslashreplace")
        dropped, waits = self.dropped, bool(self._queue)
        rest = data if waits else self._send(data)
        if rest:
            self._enqueue(rest)
            if not waits:
                # Not `addWriter` itself: a resolver's thread may log too. Not before there is
                # something to write: the reactor's thread may look at once.
                self._reactor.callFromThread(self._reactor.addWriter, self)
        elif self._unsaid and self.dropped == dropped:
            self._say_what_was_lost()
        if self._patience is not None:
            self._wait(self._patience)

    def finish(self, seconds: float = LAST_LINES) -> None:
        """Wait until what is queued was taken, at most so many seconds, and not for a reader that
        takes nothing at all. Blocks: nothing else is left to be done by then.

        Called by `tap`, when the reactor has stopped, or is ended by a second signal.
        """
        self._patience = time.monotonic() + seconds
        self._wait(self._patience)

    # To the reactor.

    def fileno(self) -> int:
        """Return the descriptor that the reactor is to poll."""
        return self._target.fileno()

    def logPrefix(self) -> str:
        """Return the name that Twisted's log context has for this writer."""
        return "log"

    def doWrite(self) -> None:
        """Send what the reader takes now, from the head of the queue; when all is sent, stop being
        polled.

        Called by the reactor when the reader has taken something, and by `finish` in its place.
        """
        dropped = self.dropped
        while self._queue:
            line = self._queue[0]
            rest = self._send(line)
            self._queued -= len(line) - len(rest)
            if rest:
                self._queue[0] = rest
                return
            self._queue.popleft()
        self._reactor.removeWriter(self)
        self._full = False
        if self._unsaid and self.dropped == dropped:
            self._say_what_was_lost()

    def connectionLost(self, reason: Failure) -> None:
        """Send once more what can be sent: the reader is gone for good, which each write then
        shows; or the reactor is about to end and lets go of everybody, while the reader still takes
        what `finish` waits for."""
        self.doWrite()

    # Inside.

    def _send(self, data: bytes) -> bytes:
        """Send what can be sent now, and return what is left of `data`.

        Nothing is left, too, where the target says that it can never be written (`OSError`): the
        line is then counted as lost. Called by `write` and `doWrite`.
        """
        try:
            while data:
                data = data[self._target.send(data) :]
        except BlockingIOError:
            return data
        except OSError:
            self._lose(1)
        return b""

    def _enqueue(self, data: bytes) -> None:
        """Put a line, or the rest of one, into the queue, or count it as lost where that is full.
        Called by `write`."""
        if self._full and self._queued <= self._room // 2:
            self._full = False
            self._say_what_was_lost()
        if self._full or (self._queue and self._queued + len(data) > self._room):
            self._full = True
            self._lose(1)
        else:
            self._queue.append(data)
            self._queued += len(data)

    def _lose(self, lines: int) -> None:
        """Count lines as lost: for the metric, and for the next line that says how many were.
        Called by `_send` and `_enqueue`."""
        self.dropped += lines
        self._unsaid += lines

    def _say_what_was_lost(self) -> None:
        """Log how many lines were lost, once for each gap. An event like any other, it comes back
        as a `write`. Called as soon as lines are taken again."""
        lost, self._unsaid = self._unsaid, 0
        _log.warn("{lost} log lines were dropped, since nothing took them", lost=lost)

    def _wait(self, until: float) -> None:
        """Wait for the reader until the queue is empty, or `until` on the clock of
        `time.monotonic`, or until nothing was taken for `STOPPED_READER` seconds. Called by
        `finish`, and by each `write` after it."""
        while self._queue and (left := until - time.monotonic()) > 0:
            poll = select.poll()
            poll.register(self._target.fileno(), select.POLLOUT)
            if not poll.poll(min(left, STOPPED_READER) * 1000):
                return
            self.doWrite()
