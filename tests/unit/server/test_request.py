"""One request in hand, and every way to answer it."""

from __future__ import annotations

import inspect
import re
import textwrap
import uuid
from email.utils import parsedate_to_datetime
from typing import Any

from twisted.internet.abstract import FileDescriptor
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Protocol
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from twisted.web import http, server
from twisted.web.http_headers import Headers
from twisted.web.resource import Resource

from infergate.backend import connection as upstream
from infergate.errors import BackendError, GatewayTimeout
from infergate.reactor import headers, writing
from infergate.reactor.deadlines import Deadlines
from infergate.server import connection as edge
from infergate.server import request as request_module
from infergate.server.connection import Connection, EdgeLimits
from infergate.server.edge import Edge
from infergate.server.parser import Limits
from infergate.server.request import WRITE_PIECE, Request
from infergate.telemetry.record import Record
from tests.unit.inmemory import Client, Hold, Wire, parse_answers, request


def answering(held: Request, body: bytes, **how: Any) -> Deferred[None]:
    """Begin to send a whole answer."""
    return Deferred.fromCoroutine(held.answer(body, **how))


class Held(SynchronousTestCase):
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

    def held(self, data: bytes = request("GET", "/")) -> Request:
        self.client.send(data)
        return self.hold.requests[-1]


class TwistedNames(SynchronousTestCase):
    """What is taken from Twisted: a release that changes it fails here first."""

    def test_internals(self) -> None:
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

    def test_public(self) -> None:
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

    def test_no_clash(self) -> None:
        """No private name of our own hides one of Twisted's."""
        for ours, twisted in (
            (Request, server.Request(_silent(), parsePOSTFormSubmission=False)),
            (Edge, server.Site(Resource())),
            (upstream.Connection, Protocol()),
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


class RequestId(Held):
    def given(self, *headers: str) -> str:
        return self.held(request("GET", "/", *headers)).record.request_id

    def test_taken(self) -> None:
        """A client's own id is kept, from X-Request-ID or else from Request-Id."""
        for header in ("X-Request-ID: abc", "Request-Id: abc", "x-request-id:abc"):
            self.start()
            self.assertEqual(self.given(header), "abc")
        self.start()
        self.assertEqual(self.given("Request-Id: second", "X-Request-ID: first"), "first")

    def test_allowed(self) -> None:
        """An id is 1 to 128 characters out of letters, digits, dot, underscore, colon, hyphen."""
        for good in ("a", "A-Z.a_z:0-9", "x" * 128):
            self.start()
            self.assertEqual(self.given(f"X-Request-ID: {good}"), good)

    def test_refused(self) -> None:
        """Any other id is replaced, and never echoed, into a header or a log."""
        for bad in ("", "x" * 129, "a b", "a/b", "ä", "a,b", "<b>", "a\tb", '"'):
            self.start()
            given = self.given(f"X-Request-ID: {bad}")
            self.assertNotEqual(given, bad)
            self.assertEqual(uuid.UUID(given).version, 4, bad)

    def test_fallback(self) -> None:
        """Where X-Request-ID is of no use, Request-Id is still asked."""
        self.assertEqual(self.given("X-Request-ID: a b", "Request-Id: good"), "good")

    def test_new(self) -> None:
        """A request without an id gets one of its own, a UUID 4."""
        first = self.given()
        self.start()
        second = self.given()
        self.assertNotEqual(first, second)
        self.assertEqual(uuid.UUID(first).version, 4)


class Head(Held):
    def test_record(self) -> None:
        """A record opens with what the head says: the path without its query, and who asked."""
        held = self.held(request("PATCH", "/a/b?key=secret", "X-Stainless-Retry-Count: 2"))
        record = held.record
        self.assertEqual((record.method, record.path), ("PATCH", "/a/b"))
        self.assertEqual((record.client, record.retry_count), ("192.0.2.1", 2))
        self.assertIs(self.began[0], record)

    def test_retry_count(self) -> None:
        """A retry count that is no small number is not logged."""
        for bad in ("x", "-1", "12345", "1.0", ""):
            self.start()
            held = self.held(request("GET", "/", f"X-Stainless-Retry-Count: {bad}"))
            self.assertIsNone(held.record.retry_count, bad)

    def test_twisted_headers(self) -> None:
        """Who asks in Twisted's own way finds the fields too."""
        held = self.held(request("GET", "/", "X-Some: a", "X-Some: b"))
        self.assertEqual(held.requestHeaders.getRawHeaders("x-some"), ["a", "b"])
        self.assertEqual(held.getHeader("x-some"), "b")
        self.assertEqual(held.getHeader("x-other"), None)

    def test_no_decoding(self) -> None:
        """A path is not percent-decoded, so that nobody behind reads it in another way."""
        self.assertEqual(self.held(request("GET", "/a%2Fb/%63")).postpath, [b"a%2Fb", b"%63"])


class Body(Held):
    def test_late(self) -> None:
        """Who asks before the body is there gets it when its last byte has come."""
        held = self.held(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhe")
        body = held.read_body()
        self.assertNoResult(body)
        self.client.send(b"l")
        self.assertNoResult(body)
        self.client.send(b"lo")
        self.assertEqual(self.successResultOf(body), b"hello")
        self.assertEqual(held.record.bytes_in, 5)

    def test_early(self) -> None:
        """Who asks afterwards gets it at once."""
        held = self.held(request("POST", "/", body=b"hello"))
        self.assertEqual(self.successResultOf(held.read_body()), b"hello")

    def test_chunks(self) -> None:
        """A body in many small chunks takes no more memory than its bytes do."""
        self.start(body=10_000)
        head = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
        held = self.held(head + b"2\r\nab\r\n" * 2000)
        self.client.send(b"2\r\nab\r\n" * 2000 + b"0\r\n\r\n")
        self.assertIsInstance(held.body._data, bytearray)
        self.assertEqual(self.successResultOf(held.read_body()), b"ab" * 4000)

    def test_failed(self) -> None:
        """A body that will never be whole fails who waits for it and who asks later, alike."""
        for early in (True, False):
            self.start()
            held = self.held(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhe")
            body = held.read_body() if early else None
            held.body.fail(GatewayTimeout())
            held.body.fail(BackendError())
            if body is not None:
                self.failureResultOf(body, GatewayTimeout)
            self.assertRaises(GatewayTimeout, held.read_body)

    def test_after_the_answer(self) -> None:
        """What still comes of a body after the answer has begun is counted, not kept."""
        held = self.held(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nhe")
        held.begin(200, b"text/plain")
        self.client.send(b"llo")
        self.assertEqual((held.record.bytes_in, bytes(held.body._data)), (5, b"he"))


class Continue(Held):
    EXPECTING = b"POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n"

    def test_when_wanted(self) -> None:
        """A client that waits is told to go on when its body is wanted, and not before."""
        held = self.held(self.EXPECTING)
        self.assertEqual(self.client.received, b"")
        held.read_body()
        self.assertEqual(self.client.received, b"HTTP/1.1 100 Continue\r\n\r\n")

    def test_not_needed(self) -> None:
        """A client that did not wait is not told to."""
        held = self.held(self.EXPECTING + b"he")
        held.read_body()
        self.assertEqual(self.client.received, b"")
        self.start()
        self.held(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n").read_body()
        self.assertEqual(self.client.received, b"")


class Answers(Held):
    def test_whole(self) -> None:
        """An answer has its length, its id and its date, and nothing of the server's name."""
        held = self.held(request("GET", "/", "X-Request-ID: abc"))
        held.standing.append((b"x-standing", b"1"))
        answering(
            held, b"hello", status=202, content_type=b"text/plain", headers=[(b"X-More", b"2")]
        )
        held.finish()
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
        self.assertEqual((held.record.status, held.record.bytes_out), (202, 5))

    def test_reason(self) -> None:
        """The reason phrase is the standard's, and empty where there is none."""
        for status, line in (
            (200, b"HTTP/1.1 200 OK\r\n"),
            (422, b"HTTP/1.1 422 Unprocessable "),
            (599, b"HTTP/1.1 599 \r\n"),
        ):
            self.start()
            self.held().begin(status, b"text/plain")
            self.assertTrue(self.client.received.startswith(line), self.client.received)

    def test_date(self) -> None:
        """The date goes on with the time, though it is formatted once a second."""
        now = [1_700_000_000.2]
        self.patch(request_module, "time", lambda: now[0])
        seen = []
        for _ in range(4):
            self.start()
            self.held().begin(200, b"text/plain")
            seen.append(self.client.answer.headers["date"])
            now[0] += 0.5
        self.assertEqual(seen[0], "Tue, 14 Nov 2023 22:13:20 GMT")
        self.assertEqual(seen[0], seen[1])
        self.assertEqual(seen[2], "Tue, 14 Nov 2023 22:13:21 GMT")

    def test_no_injection(self) -> None:
        """No value of a header can begin another line."""
        self.held().begin(
            200, b"text/plain\r\nX-Evil: 1", [(b"Retry-After", b"1\r\nX-Evil: 2\x00")], b""
        )
        answer = self.client.answer
        self.assertNotIn("x-evil", answer.headers)
        self.assertEqual(answer.headers["retry-after"], "1  X-Evil: 2 ")

    def test_large(self) -> None:
        """A large answer is written piece by piece, and only as the client takes it."""
        held = self.held()
        body = b"0123456789abcdef" * (WRITE_PIECE // 4)
        self.client.stop_reading()
        done = answering(held, body)
        self.assertEqual(held.record.bytes_out, WRITE_PIECE)
        self.client.read_again()
        self.successResultOf(done)
        held.finish()
        self.assertEqual(self.client.answer.body, body)
        self.assertEqual(held.record.bytes_out, len(body))

    def test_small_and_stalled(self) -> None:
        """Also a small answer is done only when the client has taken it."""
        held = self.held()
        self.client.stop_reading()
        done = answering(held, b"hello")
        self.assertNoResult(done)
        self.client.read_again()
        self.successResultOf(done)

    def test_streamed(self) -> None:
        """An answer of unknown length goes in chunks, and ends with the last of them."""
        held = self.held()
        held.begin(200, b"text/event-stream")
        held.write(b"one")
        held.write(b"")  # as a chunk it would be the last
        held.write(b"three")
        self.assertFalse(self.client.answer.whole)
        held.finish()
        answer = self.client.answer
        self.assertEqual((answer.body, answer.whole), (b"onethree", True))
        self.assertEqual(answer.headers["transfer-encoding"], "chunked")
        self.assertNotIn("content-length", answer.headers)
        self.assertEqual(held.record.bytes_out, 8)

    def test_streamed_to_http_1_0(self) -> None:
        """HTTP/1.0 knows no chunks: the body ends where the connection does."""
        held = self.held(request("GET", "/", version="1.0"))
        held.begin(200, b"text/event-stream")
        held.write(b"one")
        held.finish()
        answer = self.client.answer
        self.assertEqual(answer.body, b"one")
        self.assertEqual(answer.headers["connection"], "close")
        self.assertNotIn("transfer-encoding", answer.headers)
        self.assertTrue(self.client.wire.disconnecting)
        self.assertFalse(self.client.wire.aborted)

    def test_head(self) -> None:
        """HEAD has the head of the answer and no body, whole or streamed."""
        held = self.held(request("HEAD", "/"))
        self.successResultOf(answering(held, b"x" * (WRITE_PIECE + 1)))
        held.finish()
        (answer,) = self.client.answers(bodiless=True)
        self.assertEqual(answer.headers["content-length"], str(WRITE_PIECE + 1))
        self.start()
        held = self.held(request("HEAD", "/"))
        held.begin(200, b"text/event-stream")
        held.write(b"one")
        held.finish()
        self.assertEqual(len(self.client.answers(bodiless=True)), 1)
        self.assertTrue(self.client.received.endswith(b"\r\n\r\n"))
        self.assertEqual(held.record.bytes_out, 0)


class Ends(Held):
    def test_recorded_once(self) -> None:
        """An exchange is recorded when its answer has ended, and only then and once."""
        held = self.held()
        answering(held, b"")
        self.assertEqual(self.ended, [])
        self.clock.advance(3)
        held.finish()
        self.assertEqual(self.ended, [held.record])
        self.assertEqual(held.record.duration, 3)
        held.finish()
        self.client.close()
        self.assertEqual(self.ended, [held.record])
        self.assertEqual(held.record.outcome, "ok")

    def test_refused(self) -> None:
        """A refusal is an answer with the error's status, headers and body."""
        held = self.held(request("GET", "/", "X-Request-ID: abc"))
        held.refuse(GatewayTimeout())
        held.finish()
        answer = self.client.answer
        self.assertEqual((answer.status, answer.code), (504, "gateway_timeout"))
        self.assertEqual(answer.json["request_id"], "abc")
        self.assertEqual(answer.headers["x-should-retry"], "false")
        self.assertEqual(held.record.outcome, "timeout")

    def test_broken_off(self) -> None:
        """An answer that fails in its middle is cut, without its end, and with a FIN."""
        held = self.held()
        held.begin(200, b"text/plain")
        held.write(b"one")
        held.refuse(BackendError())
        held.write(b"never")
        held.begin(500, b"text/plain", (), b"never")
        held.finish()
        answer = self.client.answer
        self.assertEqual((answer.status, answer.body, answer.whole), (200, b"one", False))
        self.assertTrue(self.client.wire.disconnecting)
        self.assertFalse(self.client.wire.aborted)
        self.clock.advance(0)
        self.assertEqual([record.outcome for record in self.ended], ["backend_error"])

    def test_broken_stream(self) -> None:
        """A stream that fails says so in one last event."""
        held = self.held()
        held.record.stream = True
        held.begin(200, b"text/event-stream")
        held.refuse(BackendError("It broke."))
        held.refuse(GatewayTimeout())
        answer = self.client.answer
        self.assertEqual(answer.body, BackendError("It broke.").event())
        self.assertFalse(answer.whole)

    def test_broken_off_http_1_0(self) -> None:
        """An HTTP/1.0 client is reset, since it would take the end of the connection for the end
        of the answer; what was written still goes out before."""
        held = self.held(request("GET", "/", version="1.0"))
        held.begin(200, b"text/plain")
        held.write(b"one")
        held.refuse(BackendError())
        self.assertFalse(self.client.wire.disconnecting)
        self.clock.advance(0.2)
        self.assertTrue(self.client.wire.aborted)
        self.assertEqual(self.client.answer.body, b"one")

    def test_client_leaves(self) -> None:
        """Who leaves ends the exchange: whoever works on it is told, and nothing is written."""
        held = self.held()
        told: Deferred[None] = held.notifyFinish()
        self.client.reset()
        self.failureResultOf(told)
        held.begin(200, b"text/plain")
        held.write(b"x")
        held.refuse(BackendError())
        held.break_off()
        held.finish()
        self.successResultOf(answering(held, b"x"))
        self.assertEqual(self.client.received, b"")
        (record,) = self.ended
        self.assertEqual((record.status, record.outcome), (499, "client_disconnected"))

    def test_client_leaves_in_the_answer(self) -> None:
        """Who leaves in the middle of the answer has the status that was sent."""
        held = self.held()
        held.begin(200, b"text/plain")
        held.write(b"one")
        self.client.close()
        self.assertEqual(
            (self.ended[0].status, self.ended[0].outcome), (200, "client_disconnected")
        )

    def test_resource_fails(self) -> None:
        """A fault of the gateway's own is a 500 that tells the client nothing about it, and a
        line of the log that does."""
        self.patch(self.hold, "render", lambda request: {}["canary"])
        self.client.send(request("GET", "/"))
        answer = self.client.answer
        self.assertEqual((answer.status, answer.code), (500, "internal_error"))
        self.assertNotIn(b"canary", answer.body)
        self.assertEqual([r.outcome for r in self.ended], ["internal_error"])
        self.assertEqual(len(self.flushLoggedErrors(KeyError)), 1)

    def test_two_formats(self) -> None:
        """The edge that a request came in by decides how its errors read."""
        self.edge.error_format = "openai"
        held = self.held()
        held.refuse(BackendError())
        self.assertEqual(self.client.answer.json["error"]["code"], "backend_error")


class Parsing(SynchronousTestCase):
    def test_own_reader(self) -> None:
        """The reader that these tests use tells a cut answer from a whole one."""
        head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        self.assertTrue(parse_answers(head + b"1\r\nx\r\n0\r\n\r\n")[0].whole)
        self.assertFalse(parse_answers(head + b"1\r\nx\r\n")[0].whole)
        self.assertFalse(parse_answers(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nx")[0].whole)
        self.assertEqual(edge.LINGER, 2.0)
