"""Writing to a socket at once.

Twisted appends what is written to a buffer, asks epoll when the socket will take it, is told that
it does, sends, and asks epoll no more: two system calls and a turn of the reactor around the one
that is needed. For a stream of small pieces to clients that read, that is a seventh of the work.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.abstract import FileDescriptor
from twisted.internet.tcp import Connection

TWISTED_INTERNALS = {FileDescriptor: ("_tempDataBuffer",)}
"""Private names that are used here; a test checks each."""


def writer(transport: Any) -> Callable[[bytes], None]:
    """A function that writes to `transport`: what its socket takes now is sent now, and the rest,
    or all where something waits already, goes the usual way, with its flow control and errors."""
    later: Callable[[bytes], None] = transport.write
    if not isinstance(transport, Connection) or transport.TLS:
        return later
    send = transport.socket.send

    def write(data: bytes) -> None:
        if transport.connected and not (transport.dataBuffer or transport._tempDataBuffer):
            try:
                sent = send(data)
            except OSError:  # which the usual way meets again
                sent = 0
            if sent == len(data):
                return
            data = data[sent:]
        later(data)

    return write
