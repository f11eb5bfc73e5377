"""One request in hand, and every way to answer it."""

from __future__ import annotations

import inspect
import re
import textwrap
import uuid
from email.utils import parsedate_to_datetime
from io import BytesIO
from typing import Any

from twisted.internet.abstract import FileDescriptor
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.protocol import Protocol
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from twisted.web import http, server
from twisted.web.http_headers import Headers
from twisted.web.resource import Resource

from infergate.backend.connection import Connection as BackendConnection
from infergate.errors import BackendError, GatewayTimeout
from infergate.reactor import headers, writing
from infergate.reactor.deadlines import Deadlines
from infergate.server.connection import Connection, EdgeLimits
from infergate.server.edge import Edge
from infergate.server.parser import Limits
from infergate.server.request import WRITE_CHUNK, Request
from infergate.telemetry.record import Record
from tests.unit.inmemory import Client, Hold, Wire, parse_answers, request


def answering(asked: Request, body: bytes, **how: Any) -> Deferred[None]:
    """Begin to send a whole answer."""
    return Deferred.fromCoroutine(asked.answer(body, **how))


class RequestCase(SynchronousTestCase):
    """Requests that nothing answers but the test."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.began: list[Record] = []
        self.ended: list[Record] = []
        self.start()

    def start(self, body: int = 1000) -> None:
        self.hold = Hold()
        self.edge = Edge(
            self.hold,
            EdgeLimits(Limits(body=body)),
            Deadlines(self.clock),
            began=self.began.append,
            ended=self.ended.append,
        )
        self.client = Client(self.clock, self.edge, Wire(self.clock, "192.0.2.1"))

    def asked(self, data: bytes = request("GET", "/")) -> Request:
        self.client.send(data)
        return self.hold.requests[-1]


class TwistedNames(SynchronousTestCase):
    """What is taken from Twisted: a release that changes it fails here first."""

    def test_private_names_of_twisted_are_what_they_were(self) -> None:
        """Every private name of Twisted's that is used still is there, as what it was."""
        made = {
            Headers: (Headers({b"a": [b"b"]}), {"_rawHeaders": {b"A": [b"b"]}}),
            FileDescriptor: (FileDescriptor(Clock()), {"_tempDataBuffer": []}),
        }
        for module in (headers, writing):
            for owner, names in module.TWISTED_INTERNALS.items():
                one, known = made.pop(owner)
                self.assertEqual({name: getattr(one, name) for name in names}, known)
        self.assertEqual(made, {})

    def test_public_names_of_twisted_have_their_meaning(self) -> None:
        """What is public and relied on is there, with the meaning it had."""
        twisted = http.Request(_silent())
        for name, value in (
            ("startedWriting", 0),
            ("chunked", 0),
            ("finished", 0),
            ("code", 200),
            ("producer", None),
            ("queued", False),
            ("content", None),
            ("notifications", []),
        ):
            self.assertEqual(getattr(twisted, name), value, name)
        for name in ("method", "uri", "clientproto", "path"):
            self.assertTrue(hasattr(http.Request, name), name)
        for name in ("finish", "write", "registerProducer", "unregisterProducer", "notifyFinish"):
            self.assertTrue(callable(getattr(http.Request, name)), name)
        for name in ("channel", "transport", "requestHeaders", "responseHeaders"):
            self.assertTrue(hasattr(twisted, name), name)
        for name in ("site", "prepath", "postpath"):
            self.assertIsNone(getattr(server.Request, name), name)
        self.assertEqual(server.Request.defaultContentType, b"text/html")

    def test_no_private_name_hides_one_of_twisted(self) -> None:
        """No private name of our own hides one of Twisted's."""
        for ours, twisted in (
            (Request, server.Request(_silent(), parsePOSTFormSubmission=False)),
            (Edge, server.Site(Resource())),
            (BackendConnection, Protocol()),
        ):
            known = {name for cls in type(twisted).__mro__ for name in vars(cls)} | set(
                vars(twisted)
            )
            self.assertEqual(_private(ours) & known, set(), ours.__name__)


class _Silent(Connection):
    """A channel that is asked by `http.Request` for its addresses and no more."""

    transport = None  # type: ignore[assignment]

    def getPeer(self) -> Any:
        return None

    getHost = getPeer


def _silent() -> Any:
    return _Silent.__new__(_Silent)


def _private(cls: type) -> set[str]:
    """The private names of a class itself, and those that its own methods set or use."""
    source = textwrap.dedent(inspect.getsource(cls))
    names = set(re.findall(r"self\.(_[a-z]\w*)(?: *[:=] *)", source)) | set(vars(cls))
    return {name for name in names if name.startswith("_") and not name.startswith("__")}


class RequestId(RequestCase):
    def given(self, *headers: str) -> str:
        return self.asked(request("GET", "/", *headers)).record.request_id

    def test_id_of_the_client_is_kept(self) -> None:
        """A client's own id is kept, from X-Request-ID or else from Request-Id."""
        for header in ("X-Request-ID: abc", "Request-Id: abc", "x-request-id:abc"):
            self.start()
            self.assertEqual(self.given(header), "abc")
        self.start()
        self.assertEqual(self.given("Request-Id: second", "X-Request-ID: first"), "first")

    def test_id_may_have_these_characters(self) -> None:
        """An id is 1 to 128 visible ASCII characters but for the quote and the backslash."""
        every = "".join(map(chr, range(33, 127))).replace('"', "").replace("\\", "")
        for good in ("a", "A-Z.a_z:0-9", "Root=1-67;Parent=5/a+b|{c}", "x" * 128, every):
            self.start()
            self.assertEqual(self.given(f"X-Request-ID: {good}"), good)

    def test_any_other_id_is_replaced(self) -> None:
        """Any other id is replaced, and never echoed, into a header or a log."""
        for bad in ("", "x" * 129, "a b", "ä", "a\tb", '"', "\\", "a, b"):
            self.start()
            given = self.given(f"X-Request-ID: {bad}")
            self.assertNotEqual(given, bad)
            self.assertEqual(uuid.UUID(given).version, 4, bad)

    def test_useless_id_leaves_the_other_field_to_be_asked(self) -> None:
        """Where X-Request-ID is of no use, Request-Id is still asked."""
        self.assertEqual(self.given("X-Request-ID: a b", "Request-Id: good"), "good")

    def test_request_without_id_gets_a_uuid_4(self) -> None:
        """A request without an id gets one of its own, a UUID 4."""
        first = self.given()
        self.start()
        second = self.given()
        self.assertNotEqual(first, second)
        self.assertEqual(uuid.UUID(first).version, 4)


class Head(RequestCase):
    def test_record_opens_with_what_the_head_says(self) -> None:
        """A record opens with what the head says: the path without its query, and who asked."""
        asked = self.asked(request("PATCH", "/a/b?key=secret", "X-Stainless-Retry-Count: 2"))
        record = asked.record
        self.assertEqual((record.method, record.path), ("PATCH", "/a/b"))
        self.assertEqual((record.client, record.retry_count), ("192.0.2.1", 2))
        self.assertIs(self.began[0], record)

    def test_repeated_head_opens_a_record_of_its_own(self) -> None:
        """A head that comes again on a connection says the same of another request, which has an id
        of its own, in its answer's fields too."""
        records = []
        for _ in range(2):
            asked = self.asked(request("POST", "/v1/messages/x", "X-Stainless-Retry-Count: 2"))
            self.assertIn((b"request-id", asked.record.request_id.encode()), asked.extra_fields)
            self.assertEqual(len(asked.extra_fields), 1)
            self.successResultOf(answering(asked, b"x"))
            asked.finish()
            records.append(asked.record)
        first, second = records
        self.assertNotEqual(first.request_id, second.request_id)
        for record in records:
            self.assertEqual((record.method, record.path), ("POST", "/v1/messages/x"))
            self.assertEqual((record.client, record.retry_count), ("192.0.2.1", 2))

    def test_retry_count_that_is_no_small_number_is_not_logged(self) -> None:
        """A retry count that is no small number is not logged."""
        for bad in ("x", "-1", "12345", "1.0", ""):
            self.start()
            asked = self.asked(request("GET", "/", f"X-Stainless-Retry-Count: {bad}"))
            self.assertIsNone(asked.record.retry_count, bad)

    def test_fields_are_found_in_the_way_of_twisted_too(self) -> None:
        """Who asks in Twisted's own way finds the fields too."""
        asked = self.asked(request("GET", "/", "X-Some: a", "X-Some: b"))
        self.assertEqual(asked.requestHeaders.getRawHeaders("x-some"), ["a", "b"])
        self.assertEqual(asked.getHeader("x-some"), "b")
        self.assertEqual(asked.getHeader("x-other"), None)

    def test_parts_of_twisted_are_made_for_who_asks(self) -> None:
        """What a Twisted request has and an answer of our own does without is there for a resource
        that needs it, and who waits for the end of the answer is told."""
        asked = self.asked()
        self.assertFalse(hasattr(asked, "responseHeaders"))
        told = asked.notifyFinish()
        self.assertIs(asked.complete(), asked)
        self.assertEqual(asked.client, self.client.wire.getPeer())
        self.assertEqual((asked.prepath, asked.cookies), ([], []))
        self.successResultOf(answering(asked, b"x"))
        asked.finish()
        self.assertIsNone(self.successResultOf(told))

    def test_path_is_not_percent_decoded(self) -> None:
        """A path is not percent-decoded, so that nobody behind reads it in another way."""
        self.assertEqual(
            self.asked(request("GET", "/a%2Fb/%63")).complete().postpath, [b"a%2Fb", b"%63"]
        )


def reading(request: Request) -> Deferred[bytes]:
    """A handler that reads the body."""
    return maybeDeferred(request.read_body)


class Body(RequestCase):
    def test_body_comes_when_its_last_byte_has_come(self) -> None:
        """Who asks before the body is there gets it when its last byte has come."""
        asked = self.asked(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhe")
        body = reading(asked)
        self.assertNoResult(body)
        self.client.send(b"l")
        self.assertNoResult(body)
        self.client.send(b"lo")
        self.assertEqual(self.successResultOf(body), b"hello")
        self.assertEqual(asked.record.bytes_in, 5)

    def test_body_that_is_there_comes_at_once(self) -> None:
        """Who asks afterwards gets it at once."""
        asked = self.asked(request("POST", "/", body=b"hello"))
        self.assertEqual(self.successResultOf(reading(asked)), b"hello")

    def test_body_in_small_chunks_takes_no_more_than_its_bytes(self) -> None:
        """A body in many small chunks takes no more memory than its bytes do."""
        self.start(body=10_000)
        head = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
        asked = self.asked(head + b"2\r\nab\r\n" * 2000)
        self.client.send(b"2\r\nab\r\n" * 2000 + b"0\r\n\r\n")
        self.assertIsInstance(asked.body._data, BytesIO)
        self.assertEqual(self.successResultOf(reading(asked)), b"ab" * 4000)

    def test_body_that_never_is_whole_fails_whoever_asks(self) -> None:
        """A body that will never be whole fails who waits for it and who asks later, alike."""
        for early in (True, False):
            self.start()
            asked = self.asked(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhe")
            body = reading(asked) if early else None
            asked.body.fail(GatewayTimeout())
            asked.body.fail(BackendError())
            if body is not None:
                self.failureResultOf(body, GatewayTimeout)
            self.failureResultOf(reading(asked), GatewayTimeout)

    def test_body_after_the_answer_is_counted_not_kept(self) -> None:
        """What still comes of a body after the answer has begun is counted, not kept."""
        asked = self.asked(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nhe")
        asked.begin(200, b"text/plain")
        self.client.send(b"llo")
        self.assertEqual((asked.record.bytes_in, bytes(asked.body._data)), (5, b"he"))


class Continue(RequestCase):
    EXPECTING = b"POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n"

    def test_client_that_waits_is_told_when_its_body_is_wanted(self) -> None:
        """A client that waits is told to go on when its body is wanted, and not before."""
        asked = self.asked(self.EXPECTING)
        self.assertEqual(self.client.received, b"")
        reading(asked)
        self.assertEqual(self.client.received, b"HTTP/1.1 100 Continue\r\n\r\n")

    def test_client_that_does_not_wait_is_not_told(self) -> None:
        """A client that did not wait is not told to."""
        asked = self.asked(self.EXPECTING + b"he")
        reading(asked)
        self.assertEqual(self.client.received, b"")
        self.start()
        reading(self.asked(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n"))
        self.assertEqual(self.client.received, b"")


class Answers(RequestCase):
    def test_answer_has_length_id_and_date(self) -> None:
        """An answer has its length, its id and its date, and nothing of the server's name."""
        asked = self.asked(request("GET", "/", "X-Request-ID: abc"))
        asked.extra_fields.append((b"x-standing", b"1"))
        answering(
            asked, b"hello", status=202, content_type=b"text/plain", headers=[(b"X-More", b"2")]
        )
        asked.finish()
        answer = self.client.answer
        self.assertEqual((answer.status, answer.body, answer.whole), (202, b"hello", True))
        date = answer.headers.pop("date")
        self.assertIsNotNone(parsedate_to_datetime(date))
        self.assertTrue(date.endswith(" GMT"))
        self.assertEqual(
            answer.headers,
            {
                "x-request-id": "abc",
                "content-type": "text/plain",
                "x-standing": "1",
                "x-more": "2",
                "content-length": "5",
            },
        )
        self.assertEqual((asked.record.status, asked.record.bytes_out), (202, 5))

    def test_value_of_a_header_begins_no_line(self) -> None:
        """No value of a header can begin another line."""
        self.asked().begin(
            200, b"text/plain\r\nX-Evil: 1", [(b"Retry-After", b"1\r\nX-Evil: 2\x00")], b""
        )
        answer = self.client.answer
        self.assertNotIn("x-evil", answer.headers)
        self.assertEqual(answer.headers["retry-after"], "1  X-Evil: 2 ")

    def test_large_answer_is_written_as_the_client_takes_it(self) -> None:
        """A large answer is written piece by piece, and only as the client takes it."""
        asked = self.asked()
        body = b"0123456789abcdef" * (WRITE_CHUNK // 4)
        self.client.stop_reading()
        done = answering(asked, body)
        self.assertEqual(asked.record.bytes_out, WRITE_CHUNK)
        self.client.read_again()
        self.successResultOf(done)
        asked.finish()
        self.assertEqual(self.client.answer.body, body)
        self.assertEqual(asked.record.bytes_out, len(body))

    def test_small_answer_is_done_when_it_was_taken(self) -> None:
        """Also a small answer is done only when the client has taken it."""
        asked = self.asked()
        self.client.stop_reading()
        done = answering(asked, b"hello")
        self.assertNoResult(done)
        self.client.read_again()
        self.successResultOf(done)

    def test_answer_of_unknown_length_goes_in_chunks(self) -> None:
        """An answer of unknown length goes in chunks, and ends with the last of them."""
        asked = self.asked()
        asked.begin(200, b"text/event-stream")
        asked.write(b"one")
        asked.write(b"")  # as a chunk it would be the last
        asked.write(b"three")
        self.assertFalse(self.client.answer.whole)
        asked.finish()
        answer = self.client.answer
        self.assertEqual((answer.body, answer.whole), (b"onethree", True))
        self.assertEqual(answer.headers["transfer-encoding"], "chunked")
        self.assertNotIn("content-length", answer.headers)
        self.assertEqual(asked.record.bytes_out, 8)

    def test_head_and_last_part_of_a_stream_go_out_with_what_follows(self) -> None:
        """A stream's head may wait for its first part, and what is known to be its last part for
        its end; no other part waits."""
        asked = self.asked()
        channel: Any = asked.channel
        outlet = channel._outlet
        waits: list[bytes] = []
        channel.write_ahead = lambda data: (waits.append(data[-5:]), outlet.write_ahead(data))
        asked.begin(200, b"text/event-stream")
        asked.write(b"one")
        asked.write(b"two", last=True)
        asked.finish()
        self.assertEqual(waits, [b"d\r\n\r\n", b"two\r\n"])
        self.assertEqual(self.client.answer.body, b"onetwo")

    def test_stream_to_http_1_0_ends_with_its_connection(self) -> None:
        """HTTP/1.0 knows no chunks: the body ends where the connection does."""
        asked = self.asked(request("GET", "/", version="1.0"))
        asked.begin(200, b"text/event-stream")
        asked.write(b"one")
        asked.finish()
        answer = self.client.answer
        self.assertEqual(answer.body, b"one")
        self.assertEqual(answer.headers["connection"], "close")
        self.assertNotIn("transfer-encoding", answer.headers)
        self.assertTrue(self.client.wire.disconnecting)
        self.assertFalse(self.client.wire.aborted)

    def test_head_request_gets_no_body(self) -> None:
        """HEAD has the head of the answer and no body, whole or streamed."""
        asked = self.asked(request("HEAD", "/"))
        self.successResultOf(answering(asked, b"x" * (WRITE_CHUNK + 1)))
        asked.finish()
        (answer,) = self.client.answers(bodiless=True)
        self.assertEqual(answer.headers["content-length"], str(WRITE_CHUNK + 1))
        self.start()
        asked = self.asked(request("HEAD", "/"))
        asked.begin(200, b"text/event-stream")
        asked.write(b"one")
        asked.finish()
        self.assertEqual(len(self.client.answers(bodiless=True)), 1)
        self.assertTrue(self.client.received.endswith(b"\r\n\r\n"))
        self.assertEqual(asked.record.bytes_out, 0)


class Ends(RequestCase):
    def test_exchange_is_recorded_once_when_it_ends(self) -> None:
        """An exchange is recorded when its answer has ended, and only then and once."""
        asked = self.asked()
        answering(asked, b"")
        self.assertEqual(self.ended, [])
        self.clock.advance(3)
        asked.finish()
        self.assertEqual(self.ended, [asked.record])
        self.assertEqual(asked.record.duration, 3)
        asked.finish()
        self.client.close()
        self.assertEqual(self.ended, [asked.record])
        self.assertEqual(asked.record.outcome, "ok")

    def test_refusal_has_status_fields_and_body_of_its_error(self) -> None:
        """A refusal is an answer with the error's status, headers and body."""
        asked = self.asked(request("GET", "/", "X-Request-ID: abc"))
        asked.refuse(GatewayTimeout())
        asked.finish()
        answer = self.client.answer
        self.assertEqual((answer.status, answer.code), (504, "gateway_timeout"))
        self.assertEqual(answer.json["request_id"], "abc")
        self.assertEqual(answer.headers["x-should-retry"], "false")
        self.assertEqual(asked.record.outcome, "timeout")

    def test_answer_that_fails_in_its_middle_is_cut(self) -> None:
        """An answer that fails in its middle is cut, without its end, and with a FIN."""
        asked = self.asked()
        asked.begin(200, b"text/plain")
        asked.write(b"one")
        asked.refuse(BackendError())
        asked.write(b"never")
        asked.begin(500, b"text/plain", (), b"never")
        asked.finish()
        answer = self.client.answer
        self.assertEqual((answer.status, answer.body, answer.whole), (200, b"one", False))
        self.assertTrue(self.client.wire.disconnecting)
        self.assertFalse(self.client.wire.aborted)
        self.clock.advance(0)
        self.assertEqual([record.outcome for record in self.ended], ["backend_error"])

    def test_stream_that_fails_says_so_in_one_last_event(self) -> None:
        """A stream that fails says so in one last event."""
        asked = self.asked()
        asked.record.stream = True
        asked.begin(200, b"text/event-stream")
        asked.refuse(BackendError("It broke."))
        asked.refuse(GatewayTimeout())
        answer = self.client.answer
        self.assertEqual(answer.body, BackendError("It broke.").event())
        self.assertFalse(answer.whole)

    def test_answer_to_http_1_0_that_fails_is_reset(self) -> None:
        """An HTTP/1.0 client is reset, since it would take the end of the connection for the end
        of the answer; what was written still goes out before."""
        asked = self.asked(request("GET", "/", version="1.0"))
        asked.begin(200, b"text/plain")
        asked.write(b"one")
        asked.refuse(BackendError())
        self.assertFalse(self.client.wire.disconnecting)
        self.clock.advance(0.2)
        self.assertTrue(self.client.wire.aborted)
        self.assertEqual(self.client.answer.body, b"one")

    def test_client_that_leaves_ends_the_exchange(self) -> None:
        """Who leaves ends the exchange: whoever works on it is told, and nothing is written."""
        asked = self.asked()
        told: Deferred[None] = asked.notifyFinish()
        self.client.reset()
        self.failureResultOf(told)
        asked.begin(200, b"text/plain")
        asked.write(b"x")
        asked.refuse(BackendError())
        asked.break_off()
        asked.finish()
        self.successResultOf(answering(asked, b"x"))
        self.assertEqual(self.client.received, b"")
        (record,) = self.ended
        self.assertEqual((record.status, record.outcome), (499, "client_disconnected"))

    def test_client_that_leaves_in_an_answer_has_its_status(self) -> None:
        """Who leaves in the middle of the answer has the status that was sent."""
        asked = self.asked()
        asked.begin(200, b"text/plain")
        asked.write(b"one")
        self.client.close()
        self.assertEqual(
            (self.ended[0].status, self.ended[0].outcome), (200, "client_disconnected")
        )

    def test_fault_of_our_own_is_a_500_without_details(self) -> None:
        """A fault of the gateway's own is a 500 that tells the client nothing about it, and a
        line of the log that does."""
        self.patch(self.hold, "render", lambda request: {}["canary"])
        self.client.send(request("GET", "/"))
        answer = self.client.answer
        self.assertEqual((answer.status, answer.code), (500, "internal_error"))
        self.assertNotIn(b"canary", answer.body)
        self.assertEqual([r.outcome for r in self.ended], ["internal_error"])
        self.assertEqual(len(self.flushLoggedErrors(KeyError)), 1)

    def test_edge_decides_how_errors_read(self) -> None:
        """The edge that a request came in by decides how its errors read."""
        self.edge.error_format = "openai"
        asked = self.asked()
        asked.refuse(BackendError())
        self.assertEqual(self.client.answer.json["error"]["code"], "backend_error")


class Parsing(SynchronousTestCase):
    def test_reader_of_these_tests_tells_cut_answers(self) -> None:
        """The reader that these tests use tells a cut answer from a whole one."""
        head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        self.assertTrue(parse_answers(head + b"1\r\nx\r\n0\r\n\r\n")[0].whole)
        self.assertFalse(parse_answers(head + b"1\r\nx\r\n")[0].whole)
        self.assertFalse(parse_answers(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nx")[0].whole)
