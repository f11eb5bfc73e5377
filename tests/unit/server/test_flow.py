"""Flow control towards a client, and one that takes nothing."""

from __future__ import annotations

import struct
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from infergate.backend.call import Timeouts
from infergate.server import flow
from infergate.server.connection import (
    Connection,
)
from tests.unit.inmemory import (
    Hold,
    Running,
    chat,
    request,
)

HEALTHZ = request("GET", "/healthz")
CLOSING = request("GET", "/healthz", "Connection: close")


class Stalls(SynchronousTestCase):
    """A client that does not take what is ready for it."""

    def stalled(self, **settings: Any) -> tuple[Running, Any]:
        running = Running(backend=True, write_stall_timeout=60, **settings)
        client = running.connect()
        client.send(request("GET", "/v1/models"))
        client.stop_reading()
        running.backend.answer(b'{"data":"%b"}' % (b"x" * 500_000))
        return running, client

    def unsent(self, queued: int) -> None:
        """What the kernel says that it holds for the client."""
        self.patch(flow.fcntl, "ioctl", lambda *_: struct.pack("i", queued))

    def test_client_that_takes_nothing_is_cut(self) -> None:
        """A client that takes nothing for WRITE_STALL_TIMEOUT is cut: it has left."""
        running, client = self.stalled()
        running.wait(59.9)
        self.assertFalse(client.closed)
        running.wait(0.2)
        self.assertTrue(client.wire.aborted)
        self.assertEqual(running.line["outcome"], "client_disconnected")
        self.assertEqual(running.line["status"], 200)
        running.wait(3)  # by then the pool has closed its connection too
        self.assertEqual(running.clock.getDelayedCalls(), [])

    def test_client_that_takes_a_little_may_stay(self) -> None:
        """A client that takes a little is slow, not gone, though Twisted cannot see it."""
        running, client = self.stalled(timeouts=Timeouts(total=1000))
        for queued in range(10, 0, -1):
            self.unsent(queued)
            running.wait(60.1)
            self.assertFalse(client.closed)
        running.wait(60.1)
        self.assertTrue(client.wire.aborted)

    def test_client_that_reads_again_has_its_time_anew(self) -> None:
        """A client that reads again gets all of its answer, and has its time anew."""
        running, client = self.stalled()
        running.wait(50)
        client.read_again()
        running.wait(50)
        self.assertFalse(client.closed)
        self.assertEqual(len(client.answer.body), 500_011)
        self.assertEqual(running.line["outcome"], "ok")
        self.assertEqual(client.ask(HEALTHZ).status, 200)

    def test_unread_body_does_not_free_from_taking_the_answer(self) -> None:
        """The end of a body that nobody reads does not free a client from taking its answer."""
        running = Running(backend=True, write_stall_timeout=60)
        client = running.connect()
        client.send(request("GET", "/v1/models", "Content-Length: 1"))
        client.stop_reading()
        running.backend.answer(b'{"data":"%b"}' % (b"x" * 500_000))
        client.send(b"x")
        running.wait(60.2)
        self.assertTrue(client.wire.aborted)

    def test_closing_connection_that_is_not_taken_is_cut(self) -> None:
        """A connection that is to close, and whose client takes nothing, is cut too."""
        running = Running(write_stall_timeout=60)
        client = running.connect()
        client.wire.stalled = True
        client.send(CLOSING)
        self.assertTrue(client.wire.disconnecting)
        self.assertFalse(client.wire.lost)
        running.wait(60.1)
        self.assertTrue(client.wire.aborted)

    def test_broken_stream_to_http_1_0_is_reset_after_a_pause(self) -> None:
        """An HTTP/1.0 client whose stream broke while it did not read is still reset, so that it
        does not wait for ever for what never comes."""
        running = Running(backend=True)
        client = running.connect()
        client.send(chat(stream=True, version="1.0"))
        running.backend.begin()
        running.backend.piece(b'data: {"choices":[]}\n\n')
        client.stop_reading()
        running.backend.reset()
        client.read_again()
        running.wait(0.2)
        self.assertTrue(client.wire.aborted)
        self.assertEqual(running.outcomes, ["backend_error"])

    def test_next_answers_wait_for_a_client_to_read(self) -> None:
        """While a client takes nothing, the next of its requests wait for their answers, but not
        for ever."""
        running = Running(write_stall_timeout=60)
        client = running.connect()
        client.stop_reading()
        client.send(HEALTHZ * 2)
        self.assertEqual(len(client.answers()), 1)
        client.read_again()
        self.assertEqual(len(client.answers()), 2)


class FlowControl(SynchronousTestCase):
    """What an answer relies on when it is produced piece by piece."""

    class Producer:
        def __init__(self) -> None:
            self.calls: list[str] = []

        def pauseProducing(self) -> None:
            self.calls.append("pause")

        def resumeProducing(self) -> None:
            self.calls.append("resume")

    def test_producer_is_paused_and_resumed_with_its_client(self) -> None:
        """A producer is paused and resumed with the client, from the moment it is registered and
        until it is not."""
        running = Running()
        running.edge.resource = hold = Hold()
        client = running.connect()
        client.send(HEALTHZ)
        producer = self.Producer()
        client.stop_reading()
        hold.requests[0].registerProducer(producer, True)
        client.read_again()
        client.stop_reading()
        hold.requests[0].unregisterProducer()
        client.read_again()
        self.assertEqual(producer.calls, ["pause", "resume", "pause"])

    def test_waiting_for_a_client_ends_with_it(self) -> None:
        """Who waits for the client to take what is written waits no longer than it is there, and
        may stop waiting."""
        running = Running()
        client = running.connect()
        connection: Connection = client.connection
        self.successResultOf(connection.drained())
        client.stop_reading()
        cancelled = connection.drained()
        cancelled.addErrback(lambda _: None)
        cancelled.cancel()
        waiting = connection.drained()
        self.assertNoResult(waiting)
        client.close()
        self.successResultOf(waiting)
