"""One exchange: its deadlines, its flow control, and a name for each failure."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.internet.error import (
    ConnectBindError,
    ConnectError,
    ConnectionRefusedError,  # noqa: A004  # Twisted's
    DNSLookupError,
    NoRouteError,
    TCPTimedOutError,
    TimeoutError,  # noqa: A004
)
from twisted.internet.interfaces import IPushProducer
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.client import ResponseFailed
from zope.interface.verify import verifyObject

from infergate.backend.agent import SETTLING
from infergate.backend.call import END_OF_BODY, Timeouts
from infergate.backend.causes import name_error
from infergate.backend.parser import MAX_HEAD
from infergate.errors import BackendError, BackendUnavailable, GatewayTimeout
from tests.unit.backend.onebackend import OneBackend


class Names(OneBackend):
    """Each failure of Twisted's client has one name, whatever it is called there."""

    def test_failure_to_connect_is_unavailable_or_too_late(self) -> None:
        """What fails before there is a connection is unavailable, or was too late."""
        for failure, name in (
            (ConnectionRefusedError(), BackendUnavailable),
            (NoRouteError(), BackendUnavailable),
            (ConnectBindError(), BackendUnavailable),
            (ConnectError(), BackendUnavailable),
            (DNSLookupError(), BackendUnavailable),
            (TCPTimedOutError(), GatewayTimeout),
            (TimeoutError(), GatewayTimeout),
        ):
            self.start(retries=0)
            self.port.failures = [failure]
            self.failureResultOf(self.send(), name)

    def test_connection_closed_before_an_answer_is_unavailable(self) -> None:
        """A connection that closes before one byte of an answer is unavailable."""
        for end in ("close", "reset"):
            self.start()
            done = self.send()
            getattr(self.connection, end)()
            self.failureResultOf(done, BackendUnavailable)
            self.assert_over()

    def test_broken_head_is_a_backend_error(self) -> None:
        """An answer that breaks, or is none, is a backend error."""
        for data in (
            b"HTTP/1.1 200 OK\r\nConte",
            b"nonsense\r\n\r\n",
            b"HTTP/1.1 two OK\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
        ):
            self.start()
            done = self.send()
            self.connection.send(data)
            self.connection.close()
            self.failureResultOf(done, BackendError)
            self.assert_over()

    def test_endless_head_is_cut(self) -> None:
        """A head without an end is cut, and does not fill the memory."""
        done = self.send()
        self.connection.send(b"HTTP/1.1 200 OK\r\n")
        sent = 0
        while not self.connection.closed and sent < 2 * MAX_HEAD:
            self.connection.send(b"X: " + b"y" * 1000 + b"\r\n")
            sent += 1005
        self.assertLess(sent, MAX_HEAD + 2000)
        self.failureResultOf(done, BackendError)
        self.assert_over()

    def test_bound_of_the_head_is_not_that_of_the_body(self) -> None:
        """That bound is for the head: a body may be larger."""
        done = self.read(limit=2 * MAX_HEAD)
        self.connection.answer(b"x" * (MAX_HEAD + 65536))
        self.assertEqual(len(self.successResultOf(done)), MAX_HEAD + 65536)

    def test_cut_or_broken_body_is_a_backend_error(self) -> None:
        """An answer that is cut or breaks in its body is a backend error."""
        for data, end in (
            (b"Content-Length: 9\r\n\r\n1234", "close"),
            (b"Content-Length: 9\r\n\r\n1234", "reset"),
            (b"Transfer-Encoding: chunked\r\n\r\n4\r\n1234\r\n", "close"),
            (b"Transfer-Encoding: chunked\r\n\r\nzz\r\n1234\r\n", "close"),
        ):
            self.start()
            done = self.read()
            self.connection.send(b"HTTP/1.1 200 OK\r\n" + data)
            getattr(self.connection, end)()
            self.failureResultOf(done, BackendError)
            self.assert_over()

    def test_body_up_to_the_end_of_the_connection_is_known_as_such(self) -> None:
        """A body without a length ends with the connection; that it may have been cut is known."""
        for head, framed in ((b"", False), (b"Content-Length: 4\r\n", True)):
            self.start()
            done = self.read()
            self.connection.send(b"HTTP/1.1 200 OK\r\n" + head + b"\r\n1234")
            self.connection.close()
            self.assertEqual(self.successResultOf(done), b"1234")
            self.assertEqual(self.last.framed, framed)

    def test_interim_responses_are_passed_over(self) -> None:
        """Interim responses are passed over."""
        done = self.read()
        self.connection.send(b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n")
        self.assertNoResult(done)
        self.connection.answer(b"1")
        self.assertEqual(self.successResultOf(done), b"1")


class FourDeadlines(OneBackend):
    def test_late_head_is_a_timeout(self) -> None:
        """A backend has BACKEND_TIMEOUT for the head of its answer."""
        done = self.send()
        self.clock.advance(59.9)
        self.assertNoResult(done)
        self.clock.advance(0.2)
        error = self.failureResultOf(done, GatewayTimeout).value
        self.assertEqual(error.headers, [(b"x-should-retry", b"false")])
        self.assertTrue(self.connection.wire.aborted)
        self.assert_over()

    def test_trickled_head_is_a_timeout(self) -> None:
        """A head that trickles in is no answer either."""
        done = self.send()
        self.connection.trickle(b"HTTP/1.1 200 OK\r\nX: " + b"y" * 100, 1)
        self.failureResultOf(done, GatewayTimeout)
        self.assert_over()

    def test_time_to_connect_is_within_that_for_the_head(self) -> None:
        """The time to connect is within that for the head."""
        self.start(timeouts=Timeouts(response=3))
        self.port.silent = True
        done = self.send()
        self.clock.advance(3.1)
        error = self.failureResultOf(done, GatewayTimeout).value
        self.assertEqual(self.port.abandoned, 1)
        self.assertEqual(error.headers, [], "nothing was sent: an SDK may try again")

    def test_silent_body_is_a_timeout(self) -> None:
        """Between two pieces of the body a backend has STREAM_IDLE_TIMEOUT."""
        done = self.read()
        self.connection.begin()
        for _ in range(3):
            self.clock.advance(29.9)
            self.connection.piece(b"x")
        self.assertNoResult(done)
        self.clock.advance(30.1)
        self.failureResultOf(done, GatewayTimeout)
        self.assertTrue(self.connection.closed)
        self.assert_over()

    def test_exchange_has_one_time_for_all_of_it(self) -> None:
        """All of the exchange has REQUEST_TIMEOUT, from the first byte that the client sent."""
        self.start(timeouts=Timeouts(total=100, idle=30, response=60))
        call = self.call(opened=10)
        done = self.send(call)
        self.connection.begin()
        self.successResultOf(done)
        reading = Deferred.fromCoroutine(call.read_all(1000))
        for _ in range(4):
            self.clock.advance(20)
            self.connection.piece(b"x")
        self.clock.advance(9.9)
        self.assertNoResult(reading)
        self.clock.advance(0.2)
        self.failureResultOf(reading, GatewayTimeout)
        self.assert_over()

    def test_ended_exchange_leaves_no_deadline(self) -> None:
        """An exchange that ends leaves no deadline."""
        done = self.read()
        self.connection.answer(b"1")
        self.successResultOf(done)
        self.assert_no_deadline()
        self.assert_over()

    def test_times_of_the_backend_are_recorded(self) -> None:
        """When the backend was called, and when its answer ended, is in the record."""
        done = self.read()
        self.clock.advance(2)
        self.connection.begin()
        self.clock.advance(3)
        self.connection.end()
        self.successResultOf(done)
        self.record.close(self.clock.seconds() + 9)
        self.assertEqual(self.record.backend_seconds, 5)


class Patience(OneBackend):
    """Without BACKEND_TIMEOUT an answer may take for as long as the backend is well."""

    def setUp(self) -> None:
        self.asked: list[Deferred[bool]] = []

        def well() -> Deferred[bool]:
            self.asked.append(Deferred())
            return self.asked[-1]

        self.start(timeouts=Timeouts(response=None, idle=30, total=600), well=well)

    def wait(self, seconds: float) -> None:
        self.clock.pump([0.1] * round(seconds * 10))

    def test_backend_that_is_well_may_take_its_time(self) -> None:
        """The backend is asked each 60 seconds of waiting, and its answer comes when it comes."""
        done = self.send()
        for number in range(1, 4):
            self.wait(60.2)
            self.assertEqual(len(self.asked), number)
            self.asked[-1].callback(True)
        self.assertNoResult(done)
        self.connection.answer(b"x")
        self.assertEqual(self.successResultOf(done).code, 200)

    def test_backend_that_is_not_well_is_given_up(self) -> None:
        """One that does not say that it is well is given up at once."""
        done = self.send()
        self.wait(60.2)
        self.assertNoResult(done)
        self.asked[0].callback(False)
        error = self.failureResultOf(done, GatewayTimeout).value
        self.assertIn("BACKEND_TIMEOUT", error.message)
        self.assert_over()

    def test_total_time_is_the_limit(self) -> None:
        """REQUEST_TIMEOUT ends the waiting, also while the backend is being asked."""
        done = self.send()
        for _ in range(9):
            self.wait(60.1)
            self.asked[-1].callback(True)
        self.wait(60)
        error = self.failureResultOf(done, GatewayTimeout).value
        self.assertIn("REQUEST_TIMEOUT", error.message)
        self.asked[-1].called or self.asked[-1].callback(True)
        self.assert_over()

    def test_answer_while_the_backend_is_asked_stands(self) -> None:
        """What the backend says of itself is too late once its answer has begun."""
        done = self.read()
        self.wait(60.2)
        self.connection.begin()
        self.connection.piece(b"x")
        self.asked[0].callback(False)
        self.assertNoResult(done)
        self.connection.end()
        self.assertEqual(self.successResultOf(done), b"x")

    def streaming(self, *, events: bool) -> Deferred[None]:
        def collect(chunk: bytes) -> None:
            self.last.touch(begun=events)

        self.send()
        self.connection.begin()
        return Deferred.fromCoroutine(self.last.read(collect))

    def test_first_event_has_the_time_of_an_answer(self) -> None:
        """A stream's answer begins with its first event, not with its head: until then the backend
        is asked, and a comment is a sign of life."""
        done = self.streaming(events=False)
        self.wait(50)
        self.connection.piece(b": wait")
        self.wait(50)
        self.assertEqual(self.asked, [])
        self.wait(10.2)
        self.asked[0].callback(True)
        self.wait(59)
        self.assertNoResult(done)
        self.wait(1.2)
        self.asked[1].callback(False)
        self.failureResultOf(done, GatewayTimeout)
        self.assert_over()

    def test_stream_that_has_begun_has_the_idle_deadline(self) -> None:
        """From its first event on a stream may be silent for STREAM_IDLE_TIMEOUT."""
        done = self.streaming(events=True)
        self.connection.piece(b"data: x")
        self.wait(30.2)
        error = self.failureResultOf(done, GatewayTimeout).value
        self.assertIn("STREAM_IDLE_TIMEOUT", error.message)
        self.assertEqual(self.asked, [])

    def test_number_is_a_limit(self) -> None:
        """With BACKEND_TIMEOUT nobody is asked, and no comment helps."""
        self.start(timeouts=Timeouts(response=20, idle=30, total=600))
        done = self.streaming(events=False)
        for _ in range(3):
            self.wait(6)
            self.connection.piece(b": wait")
        self.assertNoResult(done)
        self.wait(2.2)
        self.failureResultOf(done, GatewayTimeout)


class Bodies(OneBackend):
    def test_body_over_the_limit_is_refused(self) -> None:
        """A body may be as large as the limit, declared or not, and no larger."""
        for size, good in ((10, True), (11, False)):
            for declared in (True, False):
                self.start()
                done = self.read(limit=10)
                if declared:
                    self.connection.answer(b"x" * size)
                else:
                    self.connection.begin()
                    self.connection.piece(b"x" * 6)
                    self.connection.piece(b"x" * (size - 6))
                    self.connection.end()
                if good:
                    self.assertEqual(len(self.successResultOf(done)), size)
                else:
                    error = self.failureResultOf(done, BackendError).value
                    self.assertIn("MAX_RESPONSE_BYTES", error.message)
                self.assert_over()

    def test_body_declared_over_the_limit_is_not_read(self) -> None:
        """One that is declared larger is not read at all."""
        done = self.read(limit=10)
        self.connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
        self.failureResultOf(done, BackendError)
        self.assertTrue(self.connection.closed)

    def test_discarded_answer_costs_its_connection(self) -> None:
        """An answer that nobody wants costs its connection, and no more."""
        done = self.send()
        self.connection.send(b"HTTP/1.1 500 No\r\nContent-Length: 1000000\r\n\r\n")
        self.successResultOf(done)
        self.last.discard()
        self.clock.advance(0)
        self.assertTrue(self.connection.closed)
        self.assert_no_deadline()

    def test_discarding_before_the_head_is_no_fault(self) -> None:
        """Discarding what never came is no fault."""
        self.call().discard()

    def test_exception_of_the_collector_is_raised(self) -> None:
        """What the reader raises ends the exchange, and is what is raised."""

        def reader(piece: bytes) -> None:
            raise KeyError("mine")

        self.send()
        self.connection.begin()
        reading = Deferred.fromCoroutine(self.last.read(reader))
        self.connection.piece(b"x")
        self.failureResultOf(reading, KeyError)
        self.assertTrue(self.connection.closed)


class Leaving(OneBackend):
    """The client has left: the backend's work is to end at once."""

    def test_cancelled_while_connecting_gives_the_attempt_up(self) -> None:
        """Before there is a connection the attempt is given up."""
        self.port.silent = True
        done = self.send()
        done.addErrback(lambda _: None)
        done.cancel()
        self.assertEqual(self.port.abandoned, 1)
        self.assert_no_deadline()

    def test_cancelled_before_the_head_cuts_the_connection(self) -> None:
        """Before the head the connection is cut."""
        done = self.send()
        done.addErrback(lambda _: None)
        done.cancel()
        self.clock.advance(0)
        self.assertTrue(self.connection.wire.aborted)
        self.assert_over()

    def test_cancelled_in_the_body_cuts_the_connection(self) -> None:
        """In the body it is closed."""
        done = self.read()
        done.addErrback(lambda _: None)
        self.connection.begin()
        self.connection.piece(b"x")
        done.cancel()
        self.clock.advance(0)
        self.assertTrue(self.connection.closed)
        self.assert_over()


class FlowControl(OneBackend):
    def reading(self) -> tuple[Deferred[None], list[bytes]]:
        pieces: list[bytes] = []

        def keep(piece: bytes) -> None:
            self.last.touch()
            pieces.append(piece)

        self.send()
        self.connection.begin()
        return Deferred.fromCoroutine(self.last.read(keep)), pieces

    def test_call_is_a_push_producer(self) -> None:
        """A call is what a client's connection can pause."""
        verifyObject(IPushProducer, self.call())

    def test_nothing_is_read_while_paused(self) -> None:
        """While the client holds the stream up nothing is read of the backend."""
        done, pieces = self.reading()
        self.last.pauseProducing()
        self.connection.piece(b"one")
        self.assertEqual(pieces, [])
        self.last.resumeProducing()
        self.clock.advance(0)
        self.assertEqual(pieces, [b"one"])
        self.connection.end()
        self.successResultOf(done)

    def test_pause_before_the_body_holds(self) -> None:
        """A call that was paused before its body begins stays so."""
        self.send()
        self.last.pauseProducing()
        self.connection.begin()
        done = Deferred.fromCoroutine(self.last.read(lambda piece: None))
        self.assertTrue(self.connection.paused)
        self.last.resumeProducing()
        self.clock.advance(0)
        self.connection.end()
        self.successResultOf(done)

    def test_idle_deadline_stands_still_while_paused(self) -> None:
        """While the client holds it up the backend's idle deadline stands still; then it has all
        of it again."""
        done, _ = self.reading()
        self.last.pauseProducing()
        self.last.touch()
        self.clock.advance(300)
        self.assertNoResult(done)
        self.last.resumeProducing()
        self.clock.advance(29.9)
        self.assertNoResult(done)
        self.clock.advance(0.2)
        self.failureResultOf(done, GatewayTimeout)

    def test_total_deadline_runs_while_paused(self) -> None:
        """The deadline for all of it does not stand still."""
        done, _ = self.reading()
        self.last.pauseProducing()
        self.clock.advance(600.1)
        self.failureResultOf(done, GatewayTimeout)

    def test_stopped_call_closes_the_connection(self) -> None:
        """A call whose client is lost closes the backend's connection."""
        done, _ = self.reading()
        done.addErrback(lambda _: None)
        self.last.stopProducing()
        self.clock.advance(0)
        self.assertTrue(self.connection.closed)

    def test_finished_body_may_end_in_its_own_time(self) -> None:
        """When all that matters has come the reader goes on at once, and the backend may end its
        body in its own time, so that its connection can be used again."""
        done, _ = self.reading()
        self.last.finish()
        self.successResultOf(done)
        self.last.finish()
        self.clock.advance(END_OF_BODY - 0.1)
        self.connection.end()
        self.assertFalse(self.connection.closed)
        self.assert_no_deadline()
        self.clock.advance(SETTLING)
        self.send()
        self.assertEqual(self.port.attempts, 1)

    def test_finished_body_that_does_not_end_is_cut(self) -> None:
        """A backend that does not end its body then is cut, and nobody is told."""
        done, _ = self.reading()
        self.last.finish()
        self.successResultOf(done)
        self.clock.advance(END_OF_BODY + 0.1)
        self.assertTrue(self.connection.closed)
        self.assert_over()

    def test_call_finished_while_paused_reads_on(self) -> None:
        """Also where the client held it up when the last that matters came."""
        done, _ = self.reading()
        self.last.pauseProducing()
        self.last.finish()
        self.successResultOf(done)
        self.assertFalse(self.connection.paused)
        self.connection.end()
        self.assert_no_deadline()


class Others(SynchronousTestCase):
    def test_own_errors_keep_their_names(self) -> None:
        """A failure that already has one of our names keeps it, and a fault of ours too."""
        for error in (BackendError("x"), KeyError("x")):
            self.assertIs(name_error(error), error)
        self.assertIsInstance(name_error(ResponseFailed([])), BackendError)

    def test_deadlines_are_the_settings_defaults(self) -> None:
        """The deadlines are those of the settings' defaults."""
        self.assertEqual(Timeouts(), Timeouts(response=None, idle=60, total=600))
