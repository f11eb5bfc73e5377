"""One connection to the origin: what goes out, what comes in, and whose it is afterwards."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IPushProducer
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.task import Clock
from twisted.internet.tcp import Connection as TCPConnection
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.client import ResponseDone, ResponseFailed, ResponseNeverReceived
from twisted.web.http import PotentialDataLoss
from twisted.web.http_headers import Headers
from twisted.web.iweb import UNKNOWN_LENGTH, IClientRequest, IResponse
from zope.interface.verify import verifyObject

from infergate.backend import client
from infergate.backend.connection import Connection, Message
from infergate.backend.head import Broken
from tests.unit.inmemory import BackendConnection, Wire


def message(*, body: bytes | None = None, **fields: str) -> Message:
    headers = Headers({name.encode(): [value.encode()] for name, value in fields.items()})
    producer = None if body is None else client.Body(body)
    return Message(b"GET" if body is None else b"POST", b"/x?y", b"backend:9000", headers, producer)


class Traced(Wire):
    """A wire that remembers what is done to it."""

    def __init__(self, clock: Clock, peer: str) -> None:
        super().__init__(clock, peer)
        self.writes: list[bytes] = []
        self.turns: list[str] = []

    def write(self, data: bytes) -> None:
        self.writes.append(data)
        super().write(data)

    def pauseProducing(self) -> None:
        self.turns.append("pause")
        super().pauseProducing()

    def resumeProducing(self) -> None:
        self.turns.append("resume")
        super().resumeProducing()


class Body(Protocol):
    """Reads a body, and notes how often and why it ended; `then` is called at its end."""

    def __init__(self, then: Callable[[], object] = lambda: None) -> None:
        self.pieces: list[bytes] = []
        self.ends: list[BaseException] = []
        self._then = then

    def dataReceived(self, data: bytes) -> None:
        self.pieces.append(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.ends.append(reason.value)
        self._then()

    @property
    def whole(self) -> bytes:
        return b"".join(self.pieces)


class Full(Body):
    """Reads a piece, and no more until it is told to."""

    def dataReceived(self, data: bytes) -> None:
        super().dataReceived(data)
        transport: Any = self.transport
        transport.pauseProducing()


class OneConnection(SynchronousTestCase):
    """A connection in memory, and who was told of what became of it."""

    def setUp(self) -> None:
        self.start()

    def start(self) -> None:
        self.clock = Clock()
        self.released: list[Connection] = []
        self.lost: list[Connection] = []
        self.connection = Connection(self.released.append, self.lost.append)
        self.wire = Traced(self.clock, "127.0.0.1")
        self.wire.protocol = self.connection
        self.backend = BackendConnection(self.clock, self.wire)
        self.connection.makeConnection(self.wire)

    def ask(self, **fields: str) -> Deferred[IResponse]:
        return self.sent(message(**fields))

    def sent(self, request: Message) -> Deferred[IResponse]:
        self.connection.request(request)
        return request.answered

    def responded(self, data: bytes, **fields: str) -> Any:
        """The response whose head is in `data`."""
        done = self.ask(**fields)
        self.backend.send(data)
        return self.successResultOf(done)

    def reading(self, data: bytes, body: Body | None = None, **fields: str) -> Body:
        """Somebody who reads the body at once."""
        body = body or Body()
        done = self.ask(**fields).addCallback(lambda response: response.deliverBody(body))
        self.backend.send(data)
        self.successResultOf(done)
        return body

    def assert_ended(self, body: Body, kind: type[BaseException]) -> None:
        """The end was told once, and was this."""
        self.assertEqual([type(end) for end in body.ends], [kind])


HEAD = b"HTTP/1.1 200 OK\r\n"
SIZED = HEAD + b"Content-Length: 4\r\n\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
UNTIL_CLOSED = HEAD + b"\r\n"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class Requests(OneConnection):
    def test_interface(self) -> None:
        """A message is what a response says it answers."""
        request = message(accept="x/y")
        verifyObject(IClientRequest, request)
        self.assertEqual((request.method, request.headers.hasHeader(b"Accept")), (b"GET", True))

    def test_head(self) -> None:
        """A request's head has its host first, and each field once for each of its values."""
        headers = Headers({b"accept": [b"x/y"], b"x-a": [b"1", b"2"]})
        self.assertEqual(
            Message(b"GET", b"/a?b", b"[::1]:9000", headers, None).whole(),
            b"GET /a?b HTTP/1.1\r\nHost: [::1]:9000\r\nAccept: x/y\r\nX-A: 1\r\nX-A: 2\r\n\r\n",
        )

    def test_body(self) -> None:
        """A body has its length, also where there is nothing in it, and follows the head."""
        for body in (b"", b"{}"):
            self.assertEqual(
                message(body=body).whole(),
                b"POST /x?y HTTP/1.1\r\nHost: backend:9000\r\nContent-Length: %d\r\n\r\n%b"
                % (len(body), body),
            )

    def test_last(self) -> None:
        """A request that says something of the connection is the last on it."""
        self.assertTrue(message(connection="close").last)
        self.assertFalse(message(accept="x/y").last)

    def test_one_write(self) -> None:
        """Head and body are one write: two would wait for one another."""
        self.sent(message(body=b"{}"))
        self.assertEqual(self.wire.writes, [message(body=b"{}").whole()])


class Responses(OneConnection):
    def test_interfaces(self) -> None:
        """A response is Twisted's, and the transport of who reads it can be paused."""
        response = self.responded(SIZED)
        verifyObject(IResponse, response)
        verifyObject(IPushProducer, response)
        body = Body()
        response.deliverBody(body)
        self.assertIs(body.transport, response)

    def test_head(self) -> None:
        """A response says what came in its head, and what it answers."""
        request = message()
        done = self.sent(request)
        self.backend.send(b"HTTP/1.0 404 Not Here\r\nx-a: 1\r\nX-A: 2\r\nContent-Length: 4\r\n\r\n")
        response: Any = self.successResultOf(done)
        self.assertEqual(response.version, (b"HTTP", 1, 0))
        self.assertEqual((response.code, response.phrase), (404, b"Not Here"))
        self.assertEqual(response.headers.getRawHeaders(b"X-A"), [b"1", b"2"])
        self.assertEqual((response.request, response.length), (request, 4))

    def test_length(self) -> None:
        """The length is that of the body, or unknown."""
        for data, length in (
            (SIZED, 4),
            (CHUNKED, UNKNOWN_LENGTH),
            (UNTIL_CLOSED, UNKNOWN_LENGTH),
            (b"HTTP/1.1 204 No Content\r\n\r\n", 0),
        ):
            self.start()
            self.assertEqual(self.responded(data).length, length)

    def test_previous(self) -> None:
        """Who follows a redirect can leave the response before at the next."""
        first, second = self.responded(SIZED + b"1234"), self.responded(SIZED)
        self.assertIsNone(second.previousResponse)
        second.setPreviousResponse(first)
        self.assertIs(second.previousResponse, first)

    def test_interim(self) -> None:
        """An interim response is not the one that is waited for."""
        done = self.ask()
        self.backend.send(CONTINUE)
        self.assertNoResult(done)
        self.backend.send(SIZED)
        self.assertEqual(self.successResultOf(done).code, 200)

    def test_sooner_than_the_request_is_taken(self) -> None:
        """A response may come before all of its request has been taken."""
        self.wire.stalled = True
        self.assert_ended(self.reading(SIZED + b"1234"), ResponseDone)


class Bodies(OneConnection):
    def test_read_at_once(self) -> None:
        """A body that is read at once comes piece by piece as it arrives, to its end, and reading
        is not stopped for it."""
        body = self.reading(CHUNKED + b"2\r\nab\r\n")
        self.assertEqual((body.pieces, body.ends), ([b"ab"], []))
        self.backend.send(b"3\r\ncde")
        self.assertEqual((body.pieces, body.ends), ([b"ab", b"cde"], []))
        self.backend.send(b"\r\n0\r\n\r\n")
        self.assertEqual(body.pieces, [b"ab", b"cde"])
        self.assert_ended(body, ResponseDone)
        self.assertNotIn("pause", self.wire.turns)

    def test_in_the_same_read(self) -> None:
        """A body that came with its head is delivered whole, and its end with it."""
        for data in (SIZED + b"1234", CHUNKED + b"4\r\n1234\r\n0\r\n\r\n"):
            self.start()
            body = self.reading(data)
            self.assertEqual(body.pieces, [b"1234"])
            self.assert_ended(body, ResponseDone)

    def test_empty(self) -> None:
        """A body without a byte has an end and nothing else."""
        body = self.reading(HEAD + b"Content-Length: 0\r\n\r\n")
        self.assertEqual(body.pieces, [])
        self.assert_ended(body, ResponseDone)

    def test_whole_and_read_later(self) -> None:
        """A body that came whole with its head waits for who reads it; its connection does not."""
        response = self.responded(SIZED + b"1234")
        self.assertEqual(self.released, [self.connection])
        self.assertNotIn("pause", self.wire.turns)
        body = Body()
        response.deliverBody(body)
        self.assertEqual(body.pieces, [b"1234"])
        self.assert_ended(body, ResponseDone)

    def test_read_later(self) -> None:
        """Until somebody reads the body no more of it is read than came with the head; then all
        of it comes, in order."""
        response = self.responded(SIZED + b"12")
        self.assertTrue(self.backend.paused)
        self.backend.send(b"34")
        body = Body()
        response.deliverBody(body)
        self.assertEqual((body.pieces, body.ends), ([b"12"], []))
        self.assertFalse(self.backend.paused)
        self.clock.advance(0)
        self.assertEqual(body.pieces, [b"12", b"34"])
        self.assert_ended(body, ResponseDone)
        self.assertEqual(self.released, [self.connection])

    def test_read_later_though_it_came(self) -> None:
        """What a transport brings all the same, as TLS does, is kept, and its end too."""
        response = self.responded(UNTIL_CLOSED + b"1")
        for piece in (b"2", b"34"):
            self.connection.dataReceived(piece)
        self.backend.close()
        body = Body()
        response.deliverBody(body)
        self.assertEqual(body.whole, b"1234")
        self.assert_ended(body, PotentialDataLoss)

    def test_good_before_a_fault(self) -> None:
        """What came of a body before its fault is delivered; then the connection is cut."""
        for pieces in ((CHUNKED + b"2\r\nab\r\nzz\r\n",), (CHUNKED, b"2\r\nab\r\nzz\r\n")):
            self.start()
            body = self.reading(pieces[0])
            for piece in pieces[1:]:
                self.backend.send(piece)
            self.assertEqual(body.whole, b"ab")
            self.assert_ended(body, ResponseFailed)
            [failure] = body.ends[0].reasons  # type: ignore[attr-defined]
            self.assertIsInstance(failure.value, Broken)
            self.assertTrue(self.wire.aborted)
            self.assertEqual((self.released, self.lost), ([], [self.connection]))


class FlowControl(OneConnection):
    def test_passed_on(self) -> None:
        """Who reads a body can stop it and let it go on."""
        body = self.reading(SIZED)
        transport: Any = body.transport
        transport.pauseProducing()
        self.backend.send(b"1234")
        self.assertEqual((body.pieces, self.backend.paused), ([], True))
        transport.resumeProducing()
        self.clock.advance(0)
        self.assertEqual((body.pieces, self.backend.paused), ([b"1234"], False))

    def test_stopped_at_the_first_piece(self) -> None:
        """That holds from the first piece on, whether the body is read at once or later."""
        for at_once in (True, False):
            self.start()
            body = Full()
            if at_once:
                self.reading(SIZED + b"12", body)
            else:
                self.responded(SIZED + b"12").deliverBody(body)
            self.assertTrue(self.backend.paused)
            self.backend.send(b"34")
            self.clock.advance(0)
            self.assertEqual(body.pieces, [b"12"])

    def test_given_up(self) -> None:
        """Who reads a body can give it up: the connection is cut, nothing more of it is passed on,
        and it has failed."""
        for give_up in ("loseConnection", "stopProducing"):
            self.start()
            body = self.reading(SIZED + b"12")
            getattr(body.transport, give_up)()
            self.assertTrue(self.wire.aborted)
            self.assertFalse(self.connection.usable)
            self.connection.dataReceived(b"34")
            self.clock.advance(0)
            self.assertEqual(body.pieces, [b"12"])
            self.assertEqual((self.released, self.lost), ([], [self.connection]))
            self.assert_ended(body, ResponseFailed)

    def test_given_up_at_once(self) -> None:
        """A body may be given up before a byte of it has come."""

        class Close(Body):
            def connectionMade(self) -> None:
                assert self.transport is not None
                self.transport.loseConnection()

        body = self.reading(UNTIL_CLOSED, Close())
        self.assertEqual(body.pieces, [])
        self.assert_ended(body, ResponseFailed)
        self.assertTrue(self.wire.aborted)

    def test_given_up_with_its_last_piece(self) -> None:
        """A connection that was cut is not used again, though its response came whole."""

        class Enough(Body):
            def dataReceived(self, data: bytes) -> None:
                super().dataReceived(data)
                assert self.transport is not None
                self.transport.loseConnection()

        for pieces in ((SIZED, b"1234"), (SIZED + b"12", b"34")):
            self.start()
            body = self.reading(pieces[0], Enough())
            self.backend.send(pieces[1])
            self.clock.advance(0)
            self.assertEqual((self.released, len(body.ends)), ([], 1))
            self.assertTrue(self.wire.aborted)

    def test_after_the_end(self) -> None:
        """Once its response has ended a reader has no hand in the connection, which may be
        somebody else's."""
        body = self.reading(SIZED + b"1234")
        first: Any = body.transport
        second: Any = self.reading(SIZED + b"12")
        self.wire.turns.clear()
        first.pauseProducing()
        first.resumeProducing()
        first.stopProducing()
        first.loseConnection()
        self.assertEqual((self.wire.turns, self.wire.aborted), ([], False))
        self.backend.send(b"34")
        self.assertEqual((body.pieces, second.whole), ([b"1234"], b"1234"))
        self.assert_ended(second, ResponseDone)

    def test_after_a_reset(self) -> None:
        """A response whose connection is gone can be stopped, given up and read like any other."""
        response = self.responded(SIZED + b"12")
        self.backend.reset()
        response.pauseProducing()
        response.resumeProducing()
        response.loseConnection()
        self.assertFalse(self.wire.aborted)
        body = Body()
        response.deliverBody(body)
        self.assert_ended(body, ResponseFailed)

    def test_paused_with_its_last_piece(self) -> None:
        """A connection that is released is read, though its last reader has stopped it: the next
        one does not know."""

        body = self.reading(SIZED, Full())
        self.backend.send(b"1234")
        self.assert_ended(body, ResponseDone)
        self.assertEqual(self.released, [self.connection])
        self.assertFalse(self.backend.paused)
        self.clock.advance(0)
        self.assertEqual(self.reading(SIZED + b"5678").whole, b"5678")

    def test_held_to_its_end(self) -> None:
        """So is one whose response came to its end before anybody read it, as over TLS."""
        response = self.responded(SIZED + b"12")
        self.connection.dataReceived(b"34")
        self.assertEqual(self.released, [self.connection])
        self.assertFalse(self.backend.paused)
        body = Body()
        response.deliverBody(body)
        self.assertEqual(body.whole, b"1234")


class Releasing(OneConnection):
    def test_before_the_reader_knows(self) -> None:
        """A connection is released before its reader is told of the end, so that whoever is told
        can use it at once."""
        again: list[Deferred[IResponse]] = []

        def use() -> None:
            self.assertEqual(self.released, [self.connection])
            self.assertTrue(self.connection.usable)
            again.append(self.ask())

        for pieces in ((SIZED + b"12", b"34"), (SIZED + b"1234",)):
            self.start()
            body = self.reading(pieces[0], Body(use))
            for piece in pieces[1:]:
                self.backend.send(piece)
            self.assert_ended(body, ResponseDone)
            self.backend.send(SIZED)
            self.assertEqual(self.successResultOf(again.pop()).code, 200)
            self.assertEqual(len(self.backend.requests), 2)

    def test_whole_with_its_head(self) -> None:
        """Where the response is whole with its head, whoever waits for it can use the connection
        at once, and reads it to the end all the same."""
        body = Body()

        def use(response: IResponse) -> Deferred[IResponse]:
            again = self.ask()
            response.deliverBody(body)
            return again

        done = self.ask().addCallback(use)
        self.backend.send(SIZED + b"1234")
        self.assertEqual(body.pieces, [b"1234"])
        self.assert_ended(body, ResponseDone)
        self.assertNoResult(done)
        self.backend.send(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
        self.assertEqual(self.successResultOf(done).code, 404)

    def test_once_each(self) -> None:
        """One connection serves one request after the other, and is released once for each."""
        for number in range(1, 4):
            for end in (b"12", b"34"):
                self.assertEqual(len(self.released), number - 1)
                if end == b"12":
                    body = self.reading(SIZED + end)
                else:
                    self.backend.send(end)
            self.assertEqual((body.whole, len(self.released)), (b"1234", number))
        self.assertEqual((len(self.backend.requests), self.lost), (3, []))

    def test_not_released(self) -> None:
        """The last response of a connection ends as it should, and the connection is closed."""
        for data, fields in (
            (SIZED + b"1234", {"connection": "close"}),
            (HEAD + b"Connection: close\r\nContent-Length: 4\r\n\r\n1234", {}),
            (b"HTTP/1.0 200 OK\r\nContent-Length: 4\r\n\r\n1234", {}),
            (SIZED + b"1234" + HEAD, {}),
            (CHUNKED + b"4\r\n1234\r\n0\r\n\r\n" + HEAD, {}),
        ):
            for at in (len(data), data.index(b"1234")):
                self.start()
                body = self.reading(data[:at], **fields)
                if data[at:]:
                    self.backend.send(data[at:])
                self.assertEqual(body.pieces, [b"1234"])
                self.assert_ended(body, ResponseDone)
                self.assertTrue(self.wire.aborted)
                self.assertEqual((self.released, self.lost), ([], [self.connection]))

    def test_unasked(self) -> None:
        """What comes without having been asked for closes the connection, and is nobody's."""
        self.backend.send(SIZED + b"1234")
        self.assertTrue(self.wire.aborted)
        self.assertEqual((self.released, self.lost), ([], [self.connection]))

    def test_usable(self) -> None:
        """A connection is usable while it is open and nothing waits to be read."""
        reading, writing = os.pipe()
        self.addCleanup(os.close, reading)
        self.addCleanup(os.close, writing)
        for end in ("close", "reset"):
            self.assertTrue(self.connection.usable)
            getattr(self.backend, end)()
            self.assertFalse(self.connection.usable)
            self.start()
        self.connection.abort()
        self.assertFalse(self.connection.usable)
        self.start()
        self.wire.descriptor = reading
        self.connection.makeConnection(self.wire)
        self.assertTrue(self.connection.usable)
        os.write(writing, b"x")
        self.assertFalse(self.connection.usable)

    def test_lost_while_idle(self) -> None:
        """Who keeps a connection is told when it is gone, once."""
        self.reading(SIZED + b"1234")
        self.backend.close()
        self.assertEqual(self.lost, [self.connection])


class Failures(OneConnection):
    def assert_failed(self, done: Deferred[IResponse], reason: type[Exception]) -> None:
        """The response has failed, for this reason alone."""
        failure: Any = self.failureResultOf(done, ResponseFailed)
        self.assertIs(failure.type, ResponseFailed)
        self.assertEqual([why.type for why in failure.value.reasons], [reason])
        self.clock.advance(0)
        self.assertEqual((self.released, self.lost), ([], [self.connection]))

    def test_nothing_came(self) -> None:
        """A connection that ends before one byte of a response says that none came, and why."""
        for end, reason in (("close", ConnectionDone), ("reset", ConnectionLost)):
            self.start()
            done = self.ask()
            getattr(self.backend, end)()
            failure: Any = self.failureResultOf(done, ResponseNeverReceived)
            self.assertEqual([why.type for why in failure.value.reasons], [reason])
            self.assertEqual((self.released, self.lost), ([], [self.connection]))

    def test_nothing_came_again(self) -> None:
        """That holds for each request: what came for the one before is not counted."""
        self.reading(SIZED + b"1234")
        done = self.ask()
        self.backend.reset()
        self.failureResultOf(done, ResponseNeverReceived)

    def test_cut_in_the_head(self) -> None:
        """One that ends in the head has failed, also where an interim response had come."""
        for data in (b"H", HEAD, CONTINUE):
            for end, reason in (("close", ConnectionDone), ("reset", ConnectionLost)):
                self.start()
                done = self.ask()
                self.backend.send(data)
                getattr(self.backend, end)()
                self.assert_failed(done, reason)

    def test_broken_head(self) -> None:
        """A head that is broken has failed, and its connection is cut."""
        for data in (
            b"nonsense\r\n\r\n",
            HEAD + b"no field\r\n\r\n",
            HEAD + b"Content-Length: x\r\n\r\n",
            b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
        ):
            self.start()
            done = self.ask()
            self.backend.send(data)
            self.assertTrue(self.wire.aborted)
            self.assert_failed(done, Broken)

    def test_cut_in_the_body(self) -> None:
        """A body whose connection ends too soon has failed, whether it is read by then or not."""
        for data in (SIZED + b"12", CHUNKED + b"2\r\n12", CHUNKED + b"2\r\n12\r\n"):
            for end, reason in (("close", ConnectionDone), ("reset", ConnectionLost)):
                for at_once in (True, False):
                    self.start()
                    body = Body()
                    if at_once:
                        self.reading(data, body)
                        getattr(self.backend, end)()
                    else:
                        response = self.responded(data)
                        getattr(self.backend, end)()
                        response.deliverBody(body)
                    self.assertEqual(body.pieces, [b"12"])
                    self.assert_ended(body, ResponseFailed)
                    [why] = body.ends[0].reasons  # type: ignore[attr-defined]
                    self.assertIs(why.type, reason)
                    self.assertEqual((self.released, self.lost), ([], [self.connection]))

    def test_to_the_end_of_the_connection(self) -> None:
        """A body that runs to the end of the connection ends with an orderly close, of which
        nobody knows whether it was to be; a reset is not taken for its end."""
        for end, kind in (("close", PotentialDataLoss), ("reset", ResponseFailed)):
            self.start()
            body = self.reading(UNTIL_CLOSED + b"12")
            self.backend.send(b"34")
            self.assertEqual(body.ends, [])
            getattr(self.backend, end)()
            self.assertEqual(body.whole, b"1234")
            self.assert_ended(body, kind)
            self.assertEqual((self.released, self.lost), ([], [self.connection]))

    def test_cancelled(self) -> None:
        """Cancelling cuts the connection; what comes then is nobody's, and nothing is left
        unhandled."""
        for data in (b"", CONTINUE, HEAD):
            self.start()
            done = self.ask()
            if data:
                self.backend.send(data)
            done.cancel()
            failure: Any = self.failureResultOf(done, ResponseNeverReceived)
            self.assertEqual([why.type for why in failure.value.reasons], [CancelledError])
            self.assertTrue(self.wire.aborted)
            self.assertFalse(self.connection.usable)
            self.connection.dataReceived(SIZED + b"1234")
            self.clock.advance(0)
            self.assertEqual((self.released, self.lost), ([], [self.connection]))
            self.assertEqual(self.flushLoggedErrors(), [])

    def test_aborted(self) -> None:
        """A connection that is cut by who keeps it fails the response that was waited for."""
        done = self.ask()
        self.connection.abort()
        self.clock.advance(0)
        failure: Any = self.failureResultOf(done, ResponseNeverReceived)
        self.assertEqual([why.type for why in failure.value.reasons], [ConnectionAborted])


class Socket(TCPConnection):
    """A TCP transport that an endpoint's wrapper was connected to."""

    connected = 1
    TLS = False

    def __init__(self, wrapper: Protocol) -> None:
        self.protocol = wrapper
        self.socket = self
        self.dataBuffer = b""
        self._tempDataBuffer: list[bytes] = []
        self.sent: list[bytes] = []
        self.descriptor, self.other = os.pipe()
        self.reactor = None
        self.room = 1000
        self.aborted = False

    def fileno(self) -> int:
        return self.descriptor

    def send(self, data: bytes) -> int:
        self.sent.append(data[: self.room])
        return len(self.sent[-1])

    def write(self, data: bytes) -> None:
        self._tempDataBuffer.append(data)

    def abortConnection(self) -> None:
        self.aborted = True


class Transports(OneConnection):
    def connected(self) -> Socket:
        transport = Socket(Protocol())
        self.addCleanup(os.close, transport.descriptor)
        self.addCleanup(os.close, transport.other)
        self.connection.makeConnection(transport)
        return transport

    def test_directly(self) -> None:
        """A TCP socket hands what it reads to the connection itself, and takes a request at
        once."""
        transport = self.connected()
        self.assertIs(transport.protocol, self.connection)
        self.ask()
        self.assertEqual(transport.sent, [message().whole()])

    def test_answered_too_early(self) -> None:
        """A connection whose response is whole before its request is out is used no more: nobody
        knows whether the rest of it will ever be read."""
        for room, released in ((1000, True), (20, False)):
            self.start()
            transport = self.connected()
            transport.room = room
            done = self.ask()
            self.connection.dataReceived(SIZED + b"1234")
            self.successResultOf(done)
            self.assertEqual(
                (self.released == [self.connection], transport.aborted), (released, not released)
            )

    def test_connection_whose_body_may_be_unread_is_not_reused(self) -> None:
        """A connection is released after a request with a body only where the answer says that it
        was read: one that refuses it may come from a backend that never reads the rest."""
        for body, status, released in (
            (b"{}", 200, True),
            (b"{}", 201, True),
            (b"{}", 400, False),
            (b"{}", 413, False),
            (b"{}", 500, False),
            (b"", 413, False),
            (None, 404, True),
            (None, 503, True),
        ):
            self.start()
            done = self.sent(message(body=body))
            self.backend.answer(b"x", status=status)
            self.successResultOf(done).deliverBody(Body())
            self.assertEqual(self.released == [self.connection], released, (body, status))
            self.assertEqual(self.wire.aborted, not released)

    def test_connection_with_bytes_in_the_kernel_is_not_reused(self) -> None:
        """Nor is it while the other side's kernel has not taken all of the request, whatever
        transport it went through."""
        ours, theirs = socket.socketpair()
        self.addCleanup(ours.close)
        self.addCleanup(theirs.close)
        self.wire.descriptor = ours.fileno()
        for unread, released in ((b"x", False), (b"", True)):
            self.connection = Connection(self.released.append, self.lost.append)
            self.wire.protocol = self.connection
            self.connection.makeConnection(self.wire)
            ours.send(unread)
            self.reading(SIZED + b"1234")
            self.assertEqual(self.released == [self.connection], released)
            self.wire.disconnecting = self.wire.aborted = self.wire.lost = False
            if unread:
                theirs.recv(10)

    def test_others(self) -> None:
        """Any other transport stays with the protocol that it has, as TLS must."""
        wrapper: Any = Protocol()
        self.wire.protocol = wrapper
        self.connection.makeConnection(self.wire)
        self.assertIs(self.wire.protocol, wrapper)
