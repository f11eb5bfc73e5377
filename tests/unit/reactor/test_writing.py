"""Writing to a socket at once, and as Twisted does where that cannot be."""

from __future__ import annotations

from typing import Any

from twisted.internet.epollreactor import EPollReactor
from twisted.internet.tcp import Connection
from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase

from infergate.reactor.epoll import iteration_of, shorten
from infergate.reactor.writing import SMALL, outlet


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
    reactor: Any = None

    def __init__(self, room: int | None) -> None:
        self.socket: Any = Socket(room)
        self.dataBuffer = b""
        self._tempDataBuffer: list[bytes] = []

    def write(self, data: bytes) -> None:
        self._tempDataBuffer.append(data)

    @property
    def outcome(self) -> tuple[bytes, list[bytes]]:
        """What was sent, and what goes the usual way."""
        return self.socket.sent, self._tempDataBuffer


class AtOnce(SynchronousTestCase):
    def written(self, room: int | None, *pieces: bytes) -> Transport:
        transport = Transport(room)
        way = outlet(transport)
        for piece in pieces:
            way.write(piece)
        return transport

    def test_what_the_socket_takes_is_sent_at_once(self) -> None:
        """What the socket takes is sent before `write` returns, and nothing waits."""
        self.assertEqual(self.written(10, b"ab", b"cd").outcome, (b"abcd", []))

    def test_rest_goes_to_the_transport(self) -> None:
        """What it does not take waits its turn, and what comes after it waits behind it."""
        self.assertEqual(self.written(3, b"ab", b"cd", b"ef").outcome, (b"abc", [b"d", b"ef"]))

    def test_full_socket_leaves_all_to_the_transport(self) -> None:
        """A socket that takes nothing loses nothing."""
        self.assertEqual(self.written(0, b"ab").outcome, (b"", [b"ab"]))

    def test_bytes_stay_in_order_behind_what_waits(self) -> None:
        """Nothing overtakes what is on its way out already."""
        transport = Transport(10)
        transport.dataBuffer = b"earlier"
        way = outlet(transport)
        self.assertFalse(way.empty)
        way.write(b"later")
        self.assertEqual(transport.outcome, (b"", [b"later"]))

    def test_broken_socket_is_found_out_by_the_transport(self) -> None:
        """An error is left to the reactor, which closes the connection."""
        self.assertEqual(self.written(None, b"ab").outcome, (b"", [b"ab"]))

    def test_nothing_is_sent_on_a_lost_connection(self) -> None:
        """A connection that is gone is not touched."""
        transport = Transport(10)
        transport.connected = 0
        outlet(transport).write(b"ab")
        self.assertEqual(transport.socket.sent, b"")

    def test_other_transports_are_written_to_as_ever(self) -> None:
        """TLS, and whatever is no TCP socket, is written to as ever."""
        secure, other = Transport(10), StringTransport()
        secure.TLS = True
        for transport in (secure, other):
            way = outlet(transport)
            way.write(b"ab")
            way.write_batched(b"cd")
            way.write_ahead(b"ef")
            way.flush()
            self.assertTrue(way.empty)
        self.assertEqual(secure.outcome, (b"", [b"ab", b"cd", b"ef"]))
        self.assertEqual(other.value(), b"abcdef")


class Soon(SynchronousTestCase):
    """What is written in an iteration of the reactor with many events."""

    def setUp(self) -> None:
        self.transport = Transport(100_000)
        self.transport.reactor = reactor = EPollReactor()
        self.addCleanup(reactor._poller.close)
        self.addCleanup(reactor.waker.connectionLost, None)
        shorten(reactor)
        iteration = iteration_of(reactor)
        assert iteration is not None
        self.iteration = iteration
        self.iteration.crowded = True
        self.outlet = outlet(self.transport)

    def test_batched_bytes_are_sent_at_the_end_of_a_crowded_iteration(self) -> None:
        """It is sent in one go when the iteration ends, and only then."""
        self.outlet.write_batched(b"ab")
        self.outlet.write_batched(b"cd")
        self.assertEqual(self.transport.outcome, (b"", []))
        self.assertFalse(self.outlet.empty)
        self.iteration(0)
        self.assertEqual(self.transport.outcome, (b"abcd", []))
        self.assertTrue(self.outlet.empty)
        self.iteration(0)
        self.assertEqual(self.transport.outcome, (b"abcd", []))

    def test_batched_bytes_go_before_what_is_written_later(self) -> None:
        """What is written at once after it takes it along."""
        self.outlet.write_batched(b"ab")
        self.outlet.write(b"cd")
        self.assertEqual(self.transport.outcome, (b"abcd", []))

    def test_flush_sends_what_is_batched(self) -> None:
        """Before a connection is closed it can be sent, and is not sent twice."""
        self.outlet.write_batched(b"ab")
        self.outlet.flush()
        self.iteration(0)
        self.assertEqual(self.transport.outcome, (b"ab", []))

    def test_uncrowded_iteration_batches_nothing(self) -> None:
        """In a iteration with few events it is sent at once."""
        self.iteration.crowded = False
        self.outlet.write_batched(b"ab")
        self.assertEqual(self.transport.outcome, (b"ab", []))

    def test_what_is_written_ahead_goes_with_what_is_written_next(self) -> None:
        """In one packet, whatever its size and also where few sockets are served: the head of a
        stream with its first event, the last event with the stream's end."""
        self.iteration.crowded, self.iteration.dealing = False, True
        ahead = b"a" * (SMALL + 1)
        self.outlet.write_ahead(ahead)
        self.assertEqual(self.transport.outcome, (b"", []))
        self.outlet.write(b"b")
        self.assertEqual(self.transport.outcome, (ahead + b"b", []))

    def test_what_is_written_ahead_waits_for_no_next_iteration(self) -> None:
        """At the end of the iteration it is sent, whether something follows or not; between two of
        them, where nobody knows when the next ends, it is sent at once."""
        self.iteration.dealing = True
        self.outlet.write_ahead(b"ab")
        self.iteration(0)
        self.assertEqual(self.transport.outcome, (b"ab", []))
        self.outlet.write_ahead(b"cd")
        self.assertEqual(self.transport.outcome, (b"abcd", []))

    def test_several_batched_writes_are_one_send(self) -> None:
        """Nor of small ones that add up."""
        for _ in range(SMALL):
            self.outlet.write_batched(b"ab")
        self.assertGreater(len(self.transport.socket.sent), SMALL - 2)

    def test_large_writes_are_not_batched(self) -> None:
        """What is large is sent at once, behind what waits: nobody's memory fills meanwhile."""
        self.outlet.write_batched(b"ab")
        self.outlet.write_batched(b"c" * (SMALL + 1))
        self.assertEqual(self.transport.outcome, (b"ab" + b"c" * (SMALL + 1), []))

    def test_other_reactors_batch_nothing(self) -> None:
        """On a reactor that has no such iterations it is sent at once."""
        transport = Transport(10)
        outlet(transport).write_batched(b"ab")
        self.assertEqual(transport.outcome, (b"ab", []))
