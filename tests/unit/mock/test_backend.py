"""The mock backend: what it answers, and every way in which it can be told to fail."""

from __future__ import annotations

import gzip
import json
from typing import Any

from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IPushProducer
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyClass

from infergate.mock.backend import FLUSH, Mock, _Sender
from infergate.mock.script import Script

MESSAGES = [
    {"role": "system", "content": "be brief"},
    {"role": "user", "content": "hello big world"},
    {"role": "assistant", "content": "yes?"},
]


class Connection:
    """One connection to a mock, in memory."""

    def __init__(self, script: Script | None = None) -> None:
        self.clock = Clock()
        self.wire = StringTransport()
        site = Mock(script or Script(), self.clock).site()
        self.protocol = site.buildProtocol(None)
        self.protocol.makeConnection(self.wire)

    def send(self, method: str, path: str, body: bytes = b"", headers: str = "") -> None:
        head = f"{method} {path} HTTP/1.1\r\nHost: mock\r\nContent-Length: {len(body)}\r\n"
        self.protocol.dataReceived(f"{head}{headers}\r\n".encode() + body)
        self.clock.advance(0)

    def chat(self, mock: dict[str, Any] | None = None, **members: Any) -> None:
        document = {"messages": MESSAGES, **members} | ({"mock": mock} if mock else {})
        self.send("POST", "/v1/chat/completions", json.dumps(document).encode())

    @property
    def head(self) -> str:
        return self.wire.value().partition(b"\r\n\r\n")[0].decode()

    @property
    def status(self) -> int:
        return int(self.head.split()[1])

    @property
    def body(self) -> bytes:
        """What has come of the body, and its final chunk if it has one."""
        body = self.wire.value().partition(b"\r\n\r\n")[2]
        if "Transfer-Encoding: chunked" not in self.head:
            return body
        data = b""
        while body:
            size, _, body = body.partition(b"\r\n")
            data += body[: int(size, 16)] or b"<final chunk>"
            body = body[int(size, 16) + 2 :]
        return data

    @property
    def events(self) -> list[Any]:
        """The events of a stream, decoded where they are JSON."""
        items = self.body.split(b"\n\n")
        return [json.loads(i[6:]) if i.startswith(b"data: {") else i.decode() for i in items if i]


class Replies(SynchronousTestCase):
    def test_plain(self) -> None:
        """A plain reply holds the last user content, and usage counted in words."""
        connection = Connection()
        connection.chat()
        reply = json.loads(connection.body)
        self.assertEqual(connection.status, 200)
        self.assertEqual(reply["choices"][0]["message"]["content"], "Mock: hello big world")
        self.assertEqual(reply["choices"][0]["finish_reason"], "stop")
        self.assertEqual(
            reply["usage"], {"prompt_tokens": 6, "completion_tokens": 4, "total_tokens": 10}
        )
        self.assertNotIn("mock_received", reply)

    def test_same_twice(self) -> None:
        """The same request gets the same bytes, on one connection as on two."""
        one, other = Connection(), Connection()
        one.chat()
        other.chat()
        first = other.body
        other.wire.clear()
        other.chat()
        self.assertEqual([one.body, other.body], [first, first])

    def test_streamed(self) -> None:
        """A stream is a role, the words, a finish reason and [DONE]; usage only if asked for."""
        connection = Connection()
        connection.chat(stream=True, model="m")
        *chunks, done, final = connection.events
        self.assertEqual((done, final), ("data: [DONE]", "<final chunk>"))
        deltas = [chunk["choices"][0]["delta"] for chunk in chunks]
        self.assertEqual(deltas[0], {"role": "assistant", "content": None})
        words = [delta["content"] for delta in deltas[1:-1]]
        self.assertEqual(words, ["Mock: ", "hello ", "big ", "world"])
        self.assertEqual(deltas[-1], {})
        self.assertEqual(chunks[-1]["choices"][0]["finish_reason"], "stop")
        self.assertEqual({chunk["model"] for chunk in chunks}, {"m"})

    def test_request_id(self) -> None:
        """The X-Request-ID that came is given back, for a test to see what the gateway sent."""
        connection = Connection()
        body = b'{"messages": []}'
        connection.send("POST", "/v1/chat/completions", body, "X-Request-ID: a-1\r\n")
        self.assertIn("x-mock-request-id: a-1", connection.head.lower())

    def test_received(self) -> None:
        """If asked, a plain reply shows every member that came, as it came."""
        connection = Connection()
        body = b'{"messages": [], "seed": 1.50, "mock": {"received": true}}'
        connection.send("POST", "/v1/chat/completions", body)
        self.assertIn(b'"mock_received":' + body, connection.body)

    def test_other_routes(self) -> None:
        """There is a list of models, and a health check."""
        for path, text in (("/v1/models", b'"object":"list"'), ("/health", b'"status":"ok"')):
            connection = Connection()
            connection.send("GET", path)
            self.assertEqual(connection.status, 200)
            self.assertIn(text, connection.body)

    def test_bad_request(self) -> None:
        """What cannot be read, in the request or in its script, is a 400 that says why."""
        for body, why in (
            (b"{x", "malformed"),
            (b'{"messages": 1}', "$.messages"),
            (b'{"messages": [], "mock": {"fail": "x"}}', "$.fail"),
            (b'{"messages": [], "mock": {"nope": 1}}', "nope"),
            (b'{"messages": [{"content": "\xff"}]}', "utf-8"),
            (b'{"messages": [], "x": %b}' % (b"[" * 5000), "ecursion"),
        ):
            connection = Connection()
            connection.send("POST", "/v1/chat/completions", body)
            self.assertEqual(connection.status, 400)
            self.assertIn(why, json.loads(connection.body)["error"]["message"])


class Told(SynchronousTestCase):
    def test_default_and_request(self) -> None:
        """A request's own script goes over the options, member by member."""
        connection = Connection(Script(status=503, retry_after=9))
        connection.chat({"status": 429})
        self.assertEqual(connection.status, 429)
        self.assertIn("Retry-After: 9", connection.head)
        self.assertIn("message", json.loads(connection.body)["error"])

    def test_delay(self) -> None:
        """Nothing comes before the delay has passed."""
        connection = Connection()
        connection.chat({"delay": 2.5})
        connection.clock.advance(2.4)
        self.assertEqual(connection.wire.value(), b"")
        connection.clock.advance(0.2)
        self.assertEqual(connection.status, 200)

    def test_chunk_delay(self) -> None:
        """Chunks keep to their times, and a late one does not delay the rest."""
        connection = Connection()
        connection.chat({"chunk_delay": 1, "chunks": 10}, stream=True)
        connection.clock.advance(1)
        self.assertEqual(len(connection.events), 2)
        connection.clock.advance(1.5)
        self.assertEqual(len(connection.events), 3)
        connection.clock.advance(0.5)
        self.assertEqual(len(connection.events), 4)

    def test_chunks(self) -> None:
        """The number of chunks can be given, and counts as the completion's tokens."""
        plain, streamed = Connection(), Connection()
        plain.chat({"chunks": 3})
        streamed.chat({"chunks": 3}, stream=True)
        reply = json.loads(plain.body)
        self.assertEqual(reply["choices"][0]["message"]["content"], "1 2 3 ")
        self.assertEqual(reply["usage"]["completion_tokens"], 3)
        deltas = [event["choices"][0]["delta"] for event in streamed.events[1:4]]
        self.assertEqual([delta["content"] for delta in deltas], ["1 ", "2 ", "3 "])

    def test_left_out(self) -> None:
        """Usage and [DONE] can be left out."""
        plain, streamed = Connection(), Connection()
        plain.chat({"usage": False})
        streamed.chat(
            {"usage": False, "done": False}, stream=True, stream_options={"include_usage": True}
        )
        self.assertNotIn("usage", json.loads(plain.body))
        self.assertEqual(streamed.events[-2]["choices"][0]["finish_reason"], "stop")
        self.assertNotIn(b"usage", streamed.body)

    def test_plain(self) -> None:
        """A stream request can get plain JSON."""
        connection = Connection()
        connection.chat({"plain": True}, stream=True)
        self.assertIn("Content-Type: application/json", connection.head)
        self.assertEqual(json.loads(connection.body)["object"], "chat.completion")

    def test_gzip(self) -> None:
        """A body can be compressed, a stream's each chunk at once."""
        for stream, text in ((False, b"Mock: hello big world"), (True, b"data: [DONE]")):
            connection = Connection()
            connection.chat({"gzip": True}, stream=stream)
            self.assertIn("Content-Encoding: gzip", connection.head)
            self.assertIn(text, gzip.decompress(connection.body.removesuffix(b"<final chunk>")))


class Failures(SynchronousTestCase):
    def test_whole_answers(self) -> None:
        """Some failures are an answer of their own, to a plain and to a stream request."""
        for fail, status, content_type, body in (
            ("garbage", 200, None, b"This is not JSON.\n\n"),
            ("html", 500, "text/html; charset=utf-8", b"<!DOCTYPE html>"),
            ("empty", 200, None, b""),
            ("redirect", 302, "application/json", b""),
        ):
            for stream, usual in ((False, "application/json"), (True, "text/event-stream")):
                connection = Connection()
                connection.chat({"fail": fail}, stream=stream)
                self.assertEqual(connection.status, status)
                self.assertIn(f"Content-Type: {content_type or usual}\r\n", connection.head)
                self.assertTrue(connection.body.startswith(body))
                self.assertFalse(connection.wire.disconnecting)

    def test_html_status(self) -> None:
        """The page's and the redirect's status can be given."""
        for fail, status in (("html", 404), ("redirect", 307)):
            connection = Connection()
            connection.chat({"fail": fail, "status": status})
            self.assertEqual(connection.status, status)

    def test_cut_json(self) -> None:
        """The declared length can be more than what is sent."""
        connection = Connection()
        connection.chat({"fail": "cut_json"}, stream=True)
        self.assertIn(f"Content-Length: {len(connection.body) + 1}", connection.head)
        self.assertTrue(connection.wire.disconnecting)

    def test_error_event(self) -> None:
        """An error event breaks a stream off, an error object stands for a plain reply."""
        streamed, plain = Connection(), Connection()
        streamed.chat({"fail": "error_event", "fail_after": 3}, stream=True)
        plain.chat({"fail": "error_event"})
        self.assertEqual(len(streamed.events), 5)
        self.assertIn("error", streamed.events[3])
        self.assertEqual(plain.status, 200)
        self.assertIn("error", json.loads(plain.body))

    def test_close(self) -> None:
        """A stream can be closed between two chunks, without the final one."""
        connection = Connection()
        connection.chat({"fail": "close", "fail_after": 3}, stream=True)
        self.assertEqual(len(connection.events), 3)
        self.assertTrue(connection.wire.disconnecting)

    def test_reset(self) -> None:
        """A reset comes once what was written has had time to leave."""
        connection = Connection()
        connection.chat({"fail": "reset"}, stream=True)
        self.assertEqual(len(connection.events), 2)
        self.assertFalse(connection.wire.disconnected)
        connection.clock.advance(FLUSH)
        self.assertTrue(connection.wire.disconnected)

    def test_stall(self) -> None:
        """A stall is silence on an open connection."""
        connection = Connection()
        connection.chat({"fail": "stall"}, stream=True)
        connection.clock.advance(10_000)
        self.assertEqual(len(connection.events), 2)
        self.assertFalse(connection.wire.disconnecting)

    def test_cut_plain(self) -> None:
        """A plain reply breaks off at half of its body."""
        for fail in ("close", "reset", "stall"):
            connection = Connection()
            connection.chat({"fail": fail})
            half = len(connection.body)
            self.assertIn(int(connection.head.rpartition("Content-Length: ")[2]) - 2 * half, (0, 1))

    def test_before_the_headers(self) -> None:
        """Failing after no chunk at all is failing before the headers."""
        for stream in (False, True):
            connection = Connection()
            connection.chat({"fail": "close", "fail_after": 0}, stream=stream)
            self.assertEqual(connection.wire.value(), b"")
            self.assertTrue(connection.wire.disconnecting)


class Clients(SynchronousTestCase):
    def test_slow(self) -> None:
        """A client that does not read is not written to."""
        connection = Connection()
        connection.chat({"chunks": 10, "chunk_delay": 1}, stream=True)
        self.assertTrue(verifyClass(IPushProducer, _Sender))
        connection.wire.producer.pauseProducing()
        connection.clock.pump([1, 1, 1])
        self.assertEqual(len(connection.events), 1)
        connection.wire.producer.resumeProducing()
        self.assertEqual(len(connection.events), 2)

    def test_gone(self) -> None:
        """A client that leaves, in whatever phase, leaves no timer and no word in the log."""
        for script in ({"delay": 5}, {"chunk_delay": 5}, {"fail": "reset"}, {"fail": "stall"}):
            connection = Connection()
            connection.chat(script, stream=True)
            connection.protocol.connectionLost(Failure(ConnectionDone()))
            self.assertEqual(connection.clock.getDelayedCalls(), [])
        self.assertEqual(self.flushLoggedErrors(), [])
