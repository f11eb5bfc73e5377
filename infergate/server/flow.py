"""Flow control towards one client, and what the kernel knows of it.

A producer is Twisted's word for what writes an answer as it comes, such as the call of a backend
that streams: it is paused while the client is behind. A stalled client takes nothing at all.
"""

from __future__ import annotations

import fcntl
import socket
import struct
import termios
from typing import Protocol as Interface

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IAddress, IPushProducer
from zope.interface import implementer

from infergate.reactor.deadlines import NEVER, Deadlines


class Transport(Interface):
    """What is used of a transport; TCP, TLS, UNIX and PROXY ones all have it, but for `getHandle`
    and `fileno`, which some have not: `unsent`, `has_ended` and `silence_before_end`, which call
    these, say there that they do not know."""

    bufferSize: int

    def write(self, data: bytes) -> None: ...
    def loseConnection(self) -> None: ...
    def abortConnection(self) -> None: ...
    def loseWriteConnection(self) -> None: ...
    def registerProducer(self, producer: object, streaming: bool) -> None: ...
    def unregisterProducer(self) -> None: ...
    def pauseProducing(self) -> None: ...
    def resumeProducing(self) -> None: ...
    def getPeer(self) -> IAddress: ...
    def getHost(self) -> IAddress: ...
    def fileno(self) -> int: ...
    def getHandle(self) -> socket.socket: ...


ON_THE_WAY = 1 << 16
"""Bytes of an answer that count as taken although the client's kernel has not said so yet. Every
client's receive window holds as much; to wait for the last packet's acknowledgement would have each
log line come a round trip late."""

# The state of a socket that is connected no more (Linux, `include/net/tcp_states.h`).
_TCP_CLOSE = b"\x07"


@implementer(IPushProducer)
class Flow:
    """Stands between one client and what is produced for it.

    The connection registers it with its transport, which calls `pauseProducing` when more is
    written than it buffers, and `resumeProducing` when all of that is out. The producer of an
    answer registers here; a handler that writes by itself waits for `drained`. When the connection
    is lost, `end` wakes whoever waits.

    While the client has something to take, one that takes nothing for `patience` seconds is cut.
    One that takes a little within each of these intervals is slow, and may stay. That watch begins
    with each pause, and where the connection calls `watch`. Nothing here raises anything.
    """

    def __init__(self, transport: Transport, deadlines: Deadlines, patience: float) -> None:
        """Stand before `transport`; `patience` is in seconds, WRITE_STALL_TIMEOUT. Called by the
        connection when it is made."""
        self.paused = False
        # Whether the connection was aborted because the client took nothing.
        self.stalled = False
        self.deadline = NEVER
        self._transport = transport
        self._deadlines = deadlines
        self._patience = self._seconds = patience
        self._unsent: object = None
        self._producer: IPushProducer | None = None
        self._drained: Deferred[None] | None = None

    def pauseProducing(self) -> None:
        """Pause the producer of the answer, if there is one, and watch that the client takes
        something. Called by the transport when its buffer is full."""
        self.paused = True
        self.watch(self._patience)
        if self._producer is not None:
            self._producer.pauseProducing()

    def resumeProducing(self) -> None:
        """Let the producer go on, and wake who waits for `drained`. Called by the transport when
        its buffer is empty."""
        self._deadlines.forget(self)
        self._go_on()
        if self._producer is not None:
            self._producer.resumeProducing()

    def stopProducing(self) -> None:
        """Do nothing: the transport is lost, and the connection calls `end`."""

    def registerProducer(self, producer: IPushProducer, streaming: bool) -> None:
        """Have `producer` paused and resumed with the client, at once where the client is behind
        already.

        Called by Twisted's `Request.registerProducer`, as for the `Call` that a relay reads from.
        Only push producers are known, so that `streaming` is not looked at.
        """
        self._producer = producer
        if self.paused:
            producer.pauseProducing()

    def unregisterProducer(self) -> None:
        self._producer = None

    def drained(self) -> Deferred[None]:
        """Return a Deferred that fires with None when the client has taken enough for more to be
        written, or is gone; it never fails. All who ask during one pause get the same one, and who
        cancels it cancels it for all: a request has one writer. Called by `Request.drained`."""
        if not self.paused:
            return succeed(None)
        if self._drained is None:
            self._drained = Deferred(self._forget_drained)
        return self._drained

    @property
    def taken(self) -> bool:
        """Return whether the client's kernel has all that was written, but for what is
        `ON_THE_WAY`. Asked by the connection, before it closes the record of an answer."""
        left = unsent(self._transport)
        return not self.paused and (left is None or left[1] <= ON_THE_WAY)

    @property
    def ended(self) -> bool:
        """Return whether the client's kernel has ended the connection, and takes nothing more.
        Asked by the connection while an answer is on its way: to a client that has closed its side
        nothing else says so, since such a socket is not polled any more."""
        return has_ended(self._transport)

    def watch(self, seconds: float) -> None:
        """Cut the client once it has taken nothing for `seconds`; called again, this begins
        anew."""
        self._seconds = seconds
        self._unsent = unsent(self._transport)
        self.deadline = self._deadlines.now() + seconds
        self._deadlines.watch(self)

    def expired(self) -> None:
        """Cut a client that has taken nothing since `watch`, or watch on. Called by `Deadlines`.

        After a cut `stalled` is true, by which `connectionLost` knows the cause.
        """
        if unsent(self._transport) == self._unsent:
            self.stalled = True
            self._transport.abortConnection()
        else:
            self.watch(self._seconds)

    def end(self) -> None:
        """Watch no more, and wake who waits for `drained`: the connection is lost. Called once, by
        its `connectionLost`."""
        self._deadlines.forget(self)
        self._go_on()

    def _go_on(self) -> None:
        """Say that the client is not behind any more, and fire the Deferred of `drained`. Called by
        `resumeProducing` and `end`."""
        self.paused = False
        drained, self._drained = self._drained, None
        if drained is not None:
            drained.callback(None)

    def _forget_drained(self, _: Deferred[None]) -> None:
        """Forget the Deferred of `drained`, which was cancelled: the next one who asks gets
        another."""
        self._drained = None


def unsent(transport: Transport) -> tuple[int, int] | None:
    """Return what a client has not taken yet: how much of Twisted's buffer is gone, and how many
    bytes the kernel holds. None where the kernel does not tell.

    Twisted alone does not know: epoll calls a socket writable only after much of the kernel's
    buffer has drained, so that a slow reader looks like one that takes nothing. `Flow` takes two
    equal answers, twice None too, for a client that took nothing between them.
    """
    try:
        queued = fcntl.ioctl(transport.fileno(), termios.TIOCOUTQ, b"\0\0\0\0")
    except (AttributeError, OSError, TypeError, ValueError):
        return None
    return getattr(transport, "offset", 0), struct.unpack("i", queued)[0]


def has_ended(transport: Transport) -> bool:
    """Return whether a connection is over for the kernel, as where the client has reset it; False
    where the kernel does not tell. What was not sent by then counts as `unsent` for ever.

    Asked by `Flow.ended`. Of Linux's ``struct tcp_info`` this is the first byte, `tcpi_state`.
    """
    try:
        info = transport.getHandle().getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)
    except (AttributeError, OSError):
        return False
    return info == _TCP_CLOSE


def silence_before_end(transport: Transport) -> float | None:
    """Return the seconds between the last byte and the end of what a client sent, or more where it
    has acknowledged something since then. None where the kernel does not tell.

    Called by the connection when the client has closed its side, to tell one that waits for its
    answer from one that has left.

    Of Linux's ``struct tcp_info`` these are `tcpi_last_data_recv` and `tcpi_last_ack_recv`: the
    milliseconds since the last byte, and since the last segment with an acknowledgement, which the
    one that ends a connection is.
    """
    try:
        info = transport.getHandle().getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 60)
        last_data, last_ack = struct.unpack_from("II", info, 52)
        silence: float = (last_data - last_ack) / 1000
    except (AttributeError, OSError, struct.error):
        return None
    return silence
