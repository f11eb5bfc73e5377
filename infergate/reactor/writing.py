"""Writing to a socket without the detour over the reactor.

Twisted appends what is written to a buffer, asks epoll when the socket will take it, is told that
it does, sends, and asks epoll no more: two system calls and a turn of the reactor around the one
that is needed. For a stream of small pieces to clients that read, that is a seventh of the work.

What is less urgent than a piece of a stream goes out with others of its kind, at the end of a turn
that is crowded.
"""

from __future__ import annotations

import fcntl
import termios
from typing import Any

from twisted.internet.abstract import FileDescriptor
from twisted.internet.tcp import Connection

from infergate.reactor.epoll import turn_of

TWISTED_INTERNALS = {FileDescriptor: ("_tempDataBuffer",)}
"""Private names that are used here; a test checks each."""

SMALL = 8192
"""Bytes that may wait for the end of a turn."""


class Outlet:
    """Writes to one transport of any kind."""

    __slots__ = ("_transport",)

    def __init__(self, transport: Any) -> None:
        self._transport = transport

    @property
    def empty(self) -> bool:
        """Nothing waits to be sent, nor to be taken by the other side. What waits within TLS is not
        known, but then the kernel has its buffer full."""
        try:
            unsent = fcntl.ioctl(self._transport.fileno(), termios.TIOCOUTQ, b"\0\0\0\0")
        except (AttributeError, OSError, ValueError):  # no socket, or a system that cannot tell
            return True
        return not any(unsent)

    def write(self, data: bytes) -> None:
        self._transport.write(data)

    def write_soon(self, data: bytes) -> None:
        """Write what nobody waits for so much that many of its kind should not be sent in one go:
        sending that has to wake its reader costs several times as much as where it is awake."""
        self.write(data)

    def flush(self) -> None:
        """Send now what waits for the end of the turn."""


class SocketOutlet(Outlet):
    """Writes to a TCP socket: what it takes now is sent now, and the rest, or all where something
    waits already, goes the usual way, with its flow control and errors."""

    __slots__ = ("_send", "_turn", "_waiting")

    def __init__(self, transport: Any) -> None:
        super().__init__(transport)
        self._send = transport.socket.send
        self._turn = turn_of(transport.reactor)
        self._waiting = b""

    @property
    def empty(self) -> bool:
        transport = self._transport
        held = self._waiting or transport.dataBuffer or transport._tempDataBuffer
        return not held and super().empty

    def write(self, data: bytes) -> None:
        if self._waiting:
            data, self._waiting = self._waiting + data, b""
        transport = self._transport
        if transport.connected and not (transport.dataBuffer or transport._tempDataBuffer):
            try:
                sent = self._send(data)
            except OSError:  # which the usual way meets again
                sent = 0
            if sent == len(data):
                return
            data = data[sent:]
        transport.write(data)

    def write_soon(self, data: bytes) -> None:
        turn = self._turn
        if turn is None or not turn.crowded or len(self._waiting) + len(data) > SMALL:
            self.write(data)
            return
        if not self._waiting:
            turn.at_end.append(self.flush)
        self._waiting += data

    def flush(self) -> None:
        if self._waiting:
            self.write(b"")


def outlet(transport: Any) -> Outlet:
    """The quickest way to write to `transport`."""
    if isinstance(transport, Connection) and not transport.TLS:
        return SocketOutlet(transport)
    return Outlet(transport)
