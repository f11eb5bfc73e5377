"""A client that takes nothing of what is ready for it, and what the kernel knows of others."""

from __future__ import annotations

import fcntl
import socket
import struct
import termios
from typing import Protocol

from infergate.reactor.deadlines import NEVER, Deadlines


class Socket(Protocol):
    """What is used of a transport."""

    def fileno(self) -> int: ...
    def getHandle(self) -> socket.socket: ...
    def abortConnection(self) -> None: ...


class Stall:
    """The watch over one client that has something to take.

    Its connection calls `begin` when more is written than the client has taken, and `end` when
    all of it is out. In between the transport is aborted once the client has taken nothing for so
    many seconds. A client that takes a little in each of these intervals is slow, and may stay.
    """

    def __init__(self, transport: Socket, deadlines: Deadlines) -> None:
        self.deadline = NEVER
        self._transport = transport
        self._deadlines = deadlines
        self._seconds = 0.0
        self._unsent: object = None

    def begin(self, seconds: float) -> None:
        self._seconds = seconds
        self._unsent = unsent(self._transport)
        self.deadline = self._deadlines.now() + seconds
        self._deadlines.watch(self)

    def end(self) -> None:
        self._deadlines.forget(self)

    def expired(self) -> None:
        """Called by `Deadlines`."""
        if unsent(self._transport) == self._unsent:
            self._transport.abortConnection()
        else:
            self.begin(self._seconds)


def unsent(transport: Socket) -> tuple[int, int] | None:
    """What a client has not taken yet: how much of Twisted's buffer is gone, and how many bytes the
    kernel holds. None where the kernel does not tell.

    Twisted alone does not know: epoll calls a socket writable only after much of the kernel's
    buffer has drained, so that a slow reader looks like one that takes nothing.
    """
    try:
        queued = fcntl.ioctl(transport.fileno(), termios.TIOCOUTQ, b"\0\0\0\0")
    except (AttributeError, OSError, TypeError, ValueError):
        return None
    return getattr(transport, "offset", 0), struct.unpack("i", queued)[0]


def silence_before_end(transport: Socket) -> float | None:
    """Seconds between the last byte and the end of what a client sent, or more where it has
    acknowledged something since then. None where the kernel does not tell.

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
