"""How a port is closed without losing who connects meanwhile.

A TCP connection is made by the kernel and waits in the queue of a listening socket until the
process accepts it. A client that is in that queue when the socket is closed is reset, although it
may have sent its request by then, and neither it nor a proxy can know whether that was worked on.
"""

from __future__ import annotations

import ctypes
import socket
import struct
import sys
from contextlib import suppress
from typing import Any

from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.python.failure import Failure

HANDSHAKE = 0.1
"""Seconds for connections that are half made to be made: one round trip to the client, where the
kernel has seen its SYN and waits for its ACK."""

ALL_THAT_WAIT = 1 << 16
"""More connections than can wait to be accepted."""

SO_ATTACH_FILTER = 26
"""Linux's number for it, which Python's `socket` does not name."""

NO_NEW_CONNECTIONS = (
    (0x30, 0, 0, 13),  # load the flags of the TCP header
    (0x54, 0, 0, 0x12),  # of these look at SYN and ACK
    (0x15, 0, 1, 0x02),  # SYN alone, which begins a connection?
    (0x06, 0, 0, 0),  # then drop the packet
    (0x06, 0, 0, 0xFFFFFFFF),  # else take all of it
)
"""A program for the kernel's classic BPF: operation, jumps if true and false, operand."""


async def let_go(port: Any, clock: IReactorTime, *, inherited: bool) -> None:
    """Accept what waits at a port, and close it. Called by `GatewayService` once in its drain.

    `port` is what the main endpoint listens on, one of Twisted's `Port`. When this returns, it is
    closed, and the connections that were accepted have their protocols.

    First the kernel is told to begin no more connections there. A client that tries is not refused:
    its kernel tries again after a second, and reaches another process of the port, or is refused
    then, when there is none. When all connections that had begun are made and accepted, the
    port is closed, in this same call: Twisted's own `stopListening` closes it one event loop
    iteration later.

    An `inherited` socket, one of systemd's, has one queue for all its processes, and what waits
    there is the next process's: that one is only closed.
    """
    if not inherited:
        if _begin_no_more(port.socket):
            await deferLater(clock, HANDSHAKE)
        port.numberAccepts = ALL_THAT_WAIT
        port.doRead()
    port.connectionLost(Failure(ConnectionDone()))


def _begin_no_more(listening: socket.socket) -> bool:
    """Have the kernel drop each packet that would begin a connection to a `listening` socket.

    Returns True where that is so from now on, and False where the kernel cannot be told: not on
    Linux, on a socket that is not TCP, or where it refuses the filter. Raises nothing. Called by
    `let_go`.
    """
    if sys.platform != "linux" or listening.family not in (socket.AF_INET, socket.AF_INET6):
        return False
    program = b"".join(struct.pack("HBBI", *step) for step in NO_NEW_CONNECTIONS)
    memory = ctypes.create_string_buffer(program)
    described = struct.pack("HP", len(NO_NEW_CONNECTIONS), ctypes.addressof(memory))
    with suppress(OSError):
        listening.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, described)
        return True
    return False
