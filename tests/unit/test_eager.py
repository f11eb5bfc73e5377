"""Writing to a socket at once, and as Twisted does where that cannot be."""

from __future__ import annotations

from twisted.internet.tcp import Connection
from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase

from infergate.eager import writer


class Socket:
    """A socket that takes `room` bytes, or is broken."""

    def __init__(self, room: int | None) -> None:
        self.room = room
        self.sent = b""

    def send(self, data: bytes) -> int:
        if self.room is None:
            raise ConnectionResetError
        if not self.room:
            raise BlockingIOError
        taken = data[: self.room]
        self.room -= len(taken)
        self.sent += taken
        return len(taken)


class Transport(Connection):
    """A TCP transport with such a socket."""

    connected = 1
    TLS = False

    def __init__(self, room: int | None) -> None:
        self.socket = Socket(room)
        self.dataBuffer = b""
        self._tempDataBuffer: list[bytes] = []

    def write(self, data: bytes) -> None:
        self._tempDataBuffer.append(data)


class WriterTests(SynchronousTestCase):
    def written(self, room: int | None, *pieces: bytes) -> Transport:
        transport = Transport(room)
        write = writer(transport)
        for piece in pieces:
            write(piece)
        return transport

    def test_at_once(self) -> None:
        """What the socket takes is sent before `write` returns, and nothing waits."""
        transport = self.written(10, b"ab", b"cd")
        self.assertEqual((transport.socket.sent, transport._tempDataBuffer), (b"abcd", []))

    def test_rest(self) -> None:
        """What it does not take waits its turn, and what comes after it waits behind it."""
        transport = self.written(3, b"ab", b"cd", b"ef")
        self.assertEqual(
            (transport.socket.sent, transport._tempDataBuffer), (b"abc", [b"d", b"ef"])
        )

    def test_full(self) -> None:
        """A socket that takes nothing loses nothing."""
        self.assertEqual(self.written(0, b"ab")._tempDataBuffer, [b"ab"])

    def test_waiting(self) -> None:
        """Nothing overtakes what is on its way out already."""
        transport = Transport(10)
        transport.dataBuffer = b"earlier"
        writer(transport)(b"later")
        self.assertEqual((transport.socket.sent, transport._tempDataBuffer), (b"", [b"later"]))

    def test_broken(self) -> None:
        """An error is left to the reactor, which closes the connection."""
        self.assertEqual(self.written(None, b"ab")._tempDataBuffer, [b"ab"])

    def test_lost(self) -> None:
        """A connection that is gone is not touched."""
        transport = Transport(10)
        transport.connected = 0
        writer(transport)(b"ab")
        self.assertEqual(transport.socket.sent, b"")

    def test_others(self) -> None:
        """TLS, and whatever is no TCP socket, is written to as ever."""
        secure, other = Transport(10), StringTransport()
        secure.TLS = True
        self.assertEqual(writer(secure), secure.write)
        self.assertEqual(writer(other), other.write)
