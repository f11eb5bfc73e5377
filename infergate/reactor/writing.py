"""Writing to a socket without a detour over the reactor.

What is written to one of Twisted's transports is appended to a buffer; epoll is asked to say when
the socket is writable, says so in the next iteration, the buffer is sent, and epoll is asked to say
so no more. Around the one system call that is needed there are two others and an iteration. A
`SocketOutlet` calls `send` itself, and leaves to the transport only what the socket does not take.
For a stream of small chunks to clients that read, that saves a seventh of the work.
"""

from __future__ import annotations

import fcntl
import termios
from typing import Any

from twisted.internet.abstract import FileDescriptor
from twisted.internet.tcp import Connection

from infergate.reactor.epoll import Iteration, iteration_of

TWISTED_INTERNALS = {FileDescriptor: ("_tempDataBuffer",)}
"""Private names that are used here; a test checks each."""

SMALL = 8192
"""Bytes that may wait for the end of an iteration. More is sent at once: it would not fit into one
`send` anyway."""


class Outlet:
    """Writes to a transport of any kind: TLS, UNIX, or one of a test.

    The protocol that owns the transport makes one with `outlet` when it is connected, calls
    `write`, `write_batched` and `write_ahead` in any order, and `flush` before it closes the
    transport. Bytes go out in the order in which they were written. Nothing is raised: a connection
    that is lost is said to be by the transport, to the protocol's `connectionLost`.
    """

    __slots__ = ("_transport",)

    def __init__(self, transport: Any) -> None:
        self._transport = transport

    @property
    def empty(self) -> bool:
        """Whether nothing waits to be sent, and the other side's kernel has taken all that was.

        What waits within TLS is not known; while it does, this side's kernel has its buffer full.
        True also where the system cannot tell.
        """
        try:
            unsent = fcntl.ioctl(self._transport.fileno(), termios.TIOCOUTQ, b"\0\0\0\0")
        except (AttributeError, OSError, ValueError):
            # It is no socket, or the system cannot tell.
            return True
        return not any(unsent)

    def write(self, data: bytes) -> None:
        """Send `data` now, or as soon as the socket takes it."""
        self._transport.write(data)

    def write_batched(self, data: bytes) -> None:
        """Send `data` at the end of this event loop iteration where that is crowded, else now.

        For what ends an exchange, such as a whole reply: a few hundred microseconds do not matter
        to it, and sent together with those of other connections it costs less. A chunk of a stream
        is written with `write`.
        """
        self.write(data)

    def write_ahead(self, data: bytes) -> None:
        """Send `data` with what is written next, at the latest at the end of this event loop
        iteration.

        For what something is known to follow within the same call of the reactor's, as the first
        event of a stream follows its head: one packet less, and one `send`.
        """
        self.write(data)

    def flush(self) -> None:
        """Send now what waits for the end of the iteration."""


class SocketOutlet(Outlet):
    """Writes to a TCP socket.

    What the socket takes at once is sent at once. The rest goes to the transport, with its flow
    control and its errors, and so does everything else until the transport has sent that: bytes
    stay in order.
    """

    __slots__ = ("_batch", "_iteration", "_send")

    def __init__(self, transport: Any) -> None:
        """Take the socket of `transport`, which is connected, and the iteration of its reactor."""
        super().__init__(transport)
        self._send = transport.socket.send
        self._iteration = iteration_of(transport.reactor)
        # What waits for the end of the iteration.
        self._batch = b""

    @property
    def empty(self) -> bool:
        """See `Outlet.empty`; here nothing may wait for the end of the iteration either, nor in the
        transport's buffers."""
        transport = self._transport
        held = self._batch or transport.dataBuffer or transport._tempDataBuffer
        return not held and super().empty

    def write(self, data: bytes) -> None:
        """Send `data` with what waits for the end of the iteration before it, as much of it as the
        socket takes now; give the rest to the transport."""
        if self._batch:
            data, self._batch = self._batch + data, b""
        transport = self._transport
        if transport.connected and not (transport.dataBuffer or transport._tempDataBuffer):
            try:
                sent = self._send(data)
            except OSError:
                # The socket is full or broken, which the transport finds out in its own way.
                sent = 0
            if sent == len(data):
                return
            data = data[sent:]
        transport.write(data)

    def write_batched(self, data: bytes) -> None:
        """Keep `data` for the end of a crowded iteration, where there is one and all that waits is
        no more than `SMALL`; else send it now."""
        iteration = self._iteration
        if iteration is None or not iteration.crowded or len(self._batch) + len(data) > SMALL:
            self.write(data)
            return
        self._keep(data, iteration)

    def write_ahead(self, data: bytes) -> None:
        """Keep `data` for the next write, or the end of the iteration that is under way; where none
        is, as in a timer's call, send it now."""
        iteration = self._iteration
        if iteration is None or not iteration.dealing:
            self.write(data)
        else:
            self._keep(data, iteration)

    def _keep(self, data: bytes, iteration: Iteration) -> None:
        """Have `data` wait for the end of the iteration, with what waits before it. For the two
        methods above."""
        if not self._batch:
            iteration.at_end.append(self.flush)
        self._batch += data

    def flush(self) -> None:
        """Send now what waits for the end of the iteration; the iteration calls this too."""
        if self._batch:
            self.write(b"")


def outlet(transport: Any) -> Outlet:
    """Return the quickest way to write to `transport`: a `SocketOutlet` for plain TCP, else an
    `Outlet`. The connections of both sides call it when they are made."""
    if isinstance(transport, Connection) and not transport.TLS:
        return SocketOutlet(transport)
    return Outlet(transport)
