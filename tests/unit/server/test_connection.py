"""One client connection: framing, phases and their deadlines, one record a request."""

from __future__ import annotations

import gc
import struct
import weakref
from typing import Any

from twisted.internet.address import UNIXAddress
from twisted.internet.interfaces import (
    IHalfCloseableProtocol,
    IProtocolFactory,
    IPushProducer,
    ISSLTransport,
)
from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import directlyProvides
from zope.interface.verify import verifyObject

from infergate.backend.call import Timeouts
from infergate.server import connection as connection_module
from infergate.server import flow
from infergate.server.connection import (
    LINGER,
    PIPELINE_BYTES,
    WRITE_BUFFER,
)
from infergate.server.edge import SHARE
from infergate.server.parser import Limits
from infergate.server.phases import IDLE
from tests.unit.inmemory import (
    CHAT,
    DONE,
    Client,
    Hold,
    Running,
    chat,
    chat_body,
    parse_answers,
    request,
)

HEALTHZ = request("GET", "/healthz")
CLOSING = request("GET", "/healthz", "Connection: close")


class Interfaces(SynchronousTestCase):
    def test_edge_connection_and_flow_are_what_twisted_asks_for(self) -> None:
        """An edge is a factory for a port, and a connection a producer for its transport."""
        running = Running()
        verifyObject(IProtocolFactory, running.edge)
        verifyObject(IPushProducer, running.connect().wire.producer)
        verifyObject(IHalfCloseableProtocol, running.connect().connection)

    def test_chunk_of_a_stream_is_not_held_back_by_nagle(self) -> None:
        """A piece of a stream goes out when it is written, and does not wait for the next."""
        self.assertTrue(Running().connect().wire.no_delay)

    def test_client_that_does_not_read_is_noticed_early(self) -> None:
        """A client that does not read is noticed before much is written for it."""
        transport: Any = Running().connect().wire
        self.assertEqual(transport.bufferSize, WRITE_BUFFER)

    def test_client_over_a_unix_socket_is_called_unix(self) -> None:
        """A client over a Unix socket has no address, and is called for what it came by."""
        running = Running()
        transport = StringTransport(
            hostAddress=UNIXAddress("/run/x"), peerAddress=UNIXAddress(None)
        )
        connection = running.edge.buildProtocol(None)
        connection.makeConnection(transport)
        connection.dataReceived(HEALTHZ)
        self.assertEqual(running.line["client"], "unix")


class Framing(SynchronousTestCase):
    """The requests that are refused before any route has seen them."""

    REFUSED = (
        (b"GET /healthz HTTP/1.1\r\n\r\n", 400, "bad_request"),
        (b"GET /healthz HTTP/1.1\r\nHost: x\nA: b\r\n\r\n", 400, "bad_request"),
        (b"\x16\x03\x01\x02\x00\x01", 400, "bad_request"),
        (request("GET", "/" + "x" * 8000), 414, "uri_too_long"),
        (request("GET", "/", "X: " + "x" * 16384), 431, "headers_too_large"),
        (request("GET", "/", *["X: y"] * 100), 431, "headers_too_large"),
        (request("GET", "/healthz", "Expect: tea"), 417, "expectation_failed"),
        (request("BREW", "/healthz"), 501, "not_implemented"),
        (request("POST", CHAT, "Transfer-Encoding: gzip"), 501, "not_implemented"),
        (b"GET /healthz HTTP/2.0\r\nHost: x\r\n\r\n", 505, "http_version_not_supported"),
    )

    def test_broken_request_is_answered_recorded_and_the_last(self) -> None:
        """Each is answered in JSON with its status and an id, counted, logged, and is the last on
        its connection."""
        for data, status, code in self.REFUSED:
            running = Running()
            client = running.connect()
            client.send(data)
            answer = client.answer
            self.assertEqual((answer.status, answer.code, answer.whole), (status, code, True), data)
            self.assertEqual(answer.headers["content-type"], "application/json")
            self.assertEqual(answer.headers["connection"], "close")
            self.assertEqual(answer.json["request_id"], answer.headers["x-request-id"])
            client.close()
            line = running.line
            self.assertEqual((line["status"], line["error"]), (status, code), data)
            self.assertEqual(line["outcome"], "client_error")
            self.assertEqual(line["request_id"], answer.headers["x-request-id"])
            counted = {"route": "other", "status": str(status), "outcome": "client_error"}
            self.assertEqual(running.sample("infergate_requests_total", **counted), 1)
            self.assertEqual(running.in_flight, (0, 0))

    def test_refusal_has_the_error_format_that_is_set(self) -> None:
        """ERROR_FORMAT holds for these refusals too."""
        answer = Running(error_format="openai").ask(b"nonsense\r\n\r\n")
        self.assertEqual(answer.json["error"]["type"], "invalid_request_error")
        self.assertEqual(answer.json["error"]["code"], "bad_request")

    def test_line_of_a_refused_request_has_what_was_understood(self) -> None:
        """What could be understood of a refused request is in its line: who, what, which."""
        running = Running(trusted="192.0.2.0/24")
        running.ask(request("GET", "/x?q=1", "Expect: tea", "X-Request-ID: abc"))
        self.assertEqual(
            [running.line[name] for name in ("method", "path", "request_id", "client")],
            ["GET", "/x", "abc", "192.0.2.1"],
        )
        running = Running()
        running.ask(b"nonsense\r\n\r\n")
        self.assertEqual([running.line[name] for name in ("method", "path")], [None, None])

    def test_password_in_a_refused_target_is_in_no_line(self) -> None:
        """A refused target may hold a password, and is then in no line."""
        running = Running()
        for target in ("http://user:canary@gateway/", "user:canary@gateway:80"):
            running.ask(request("GET", target))
        self.assertEqual([line["path"] for line in running.lines], [None, None])
        self.assertNotIn("canary", str(running.lines))

    def test_nothing_after_a_refused_request_is_read(self) -> None:
        """What follows a refused request on its connection is not read."""
        running = Running()
        client = running.connect()
        client.send(b"nonsense\r\n\r\n" + HEALTHZ)
        client.send(HEALTHZ)
        self.assertEqual(client.answer.status, 400)
        self.assertEqual(len(running.records), 1)

    def test_options_of_the_whole_server_is_no_broken_request(self) -> None:
        """``OPTIONS *`` is well-formed (RFC 9112, 3.2.4): there is nothing at that path, and the
        connection goes on."""
        running = Running()
        client = running.connect()
        answer = client.ask(request("OPTIONS", "*"))
        self.assertEqual((answer.status, answer.code), (404, "not_found"))
        self.assertEqual((running.line["method"], running.line["path"]), ("OPTIONS", "*"))
        self.assertEqual(client.ask(HEALTHZ).status, 200)

    def test_broken_framing_of_a_body_is_a_400(self) -> None:
        """A body whose framing breaks is a 400, whether its head came with it or before it."""
        head = request("POST", CHAT, "Content-Type: application/json", "Transfer-Encoding: chunked")
        for split in (False, True):
            running = Running()
            client = running.connect()
            if split:
                client.send(head)
                client.send(b"zz\r\n")
            else:
                client.send(head + b"zz\r\n")
            self.assertEqual((client.answer.status, client.answer.code), (400, "bad_request"))
            self.assertEqual(client.answer.headers["connection"], "close")
            self.assertEqual(running.outcomes, ["client_error"])
            self.assertEqual(running.in_flight, (0, 0))

    def test_packets_do_not_change_what_a_request_is(self) -> None:
        """However a request is cut into packets, it is one request with one answer."""
        data = chat("X-Request-ID: abc")
        whole = Running().ask(data).json
        for at in range(1, len(data), 7):
            client = Running().connect()
            client.send(data[:at])
            client.send(data[at:])
            answer = client.answer.json
            self.assertEqual((answer["id"], answer["usage"]), (whole["id"], whole["usage"]))


class Pipelining(SynchronousTestCase):
    def test_pipelined_requests_are_answered_in_order(self) -> None:
        """Pipelined requests are answered one after the other, in the order they came in."""
        client = Running().connect()
        client.send(
            chat("X-Request-ID: one", prompt="first")
            + request("GET", "/nope", "X-Request-ID: two")
            + chat("X-Request-ID: three", prompt="third", stream=True)
            + request("GET", "/healthz", "X-Request-ID: four")
        )
        answers = client.answers()
        ids = [answer.headers["x-request-id"] for answer in answers]
        self.assertEqual(ids, ["one", "two", "three", "four"])
        self.assertEqual([answer.status for answer in answers], [200, 404, 200, 200])
        self.assertIn(b"Echo: third", answers[2].body)

    def test_next_request_begins_after_the_answer(self) -> None:
        """The second request is not begun before the first is answered."""
        running = Running(backend=True)
        client = running.connect()
        client.send(chat(prompt="first") + chat(prompt="second"))
        self.assertEqual(len(running.backend.requests), 1)
        running.backend.answer(b'{"error":{}}', status=400)
        second = running.port.connections[1]
        self.assertEqual(len(second.requests), 1)
        second.answer(b'{"error":{}}', status=404)
        self.assertEqual([answer.status for answer in client.answers()], [400, 404])

    def test_hundreds_of_requests_in_one_packet_are_answered(self) -> None:
        """Hundreds of requests in one packet are so many answers, and no deep recursion."""
        client = Running().connect()
        client.send(HEALTHZ * 300)
        self.assertEqual([answer.status for answer in client.answers()], [200] * 300)
        client = Running().connect()
        client.send(chat() * 300)
        self.assertEqual([answer.status for answer in client.answers()], [200] * 300)

    def test_pipelined_requests_let_others_go_first(self) -> None:
        """Of what a client has pipelined only the first request is served before the others have
        their turn; the rest is served after them, and all of it in the end."""
        running = Running()
        client, other = running.connect(), running.connect()
        client.wire.deliver(HEALTHZ * 300)
        other.wire.deliver(HEALTHZ)
        self.assertEqual((len(client.answers()), len(other.answers())), (1, 1))
        running.wait(0)
        self.assertEqual(len(client.answers()), 300)

    def test_pipelined_requests_share_each_turn_of_the_reactor(self) -> None:
        """However many clients pipeline, one turn serves only so many of their requests, and each
        client's by turns."""
        running = Running()
        turns: list[Any] = []
        self.patch(running.deadlines, "soon", turns.append)
        clients = [running.connect() for _ in range(3)]
        for client in clients:
            client.wire.deliver(HEALTHZ * 10)
        self.assertEqual([len(client.answers()) for client in clients], [1, 1, 1])
        turns.pop(0)()
        self.assertEqual(sum(len(client.answers()) for client in clients), 3 + SHARE)
        self.assertEqual({len(client.answers()) for client in clients}, {3, 4})
        while turns:
            turns.pop(0)()
        self.assertEqual([len(client.answers()) for client in clients], [10, 10, 10])

    def test_waiting_for_a_turn_is_not_held_against_the_client(self) -> None:
        """A pipelined request that waits because others have their turn is in time."""
        running = Running(header_timeout=10)
        turns: list[Any] = []
        self.patch(running.deadlines, "soon", turns.append)
        client = running.connect()
        client.send(HEALTHZ * 2)
        running.wait(100)
        while turns:
            turns.pop(0)()
        self.assertEqual([answer.status for answer in client.answers()], [200, 200])

    def test_client_that_leaves_while_its_requests_wait(self) -> None:
        """What a client had pipelined and was not begun when it left is not served."""
        running = Running()
        client = running.connect()
        client.wire.deliver(HEALTHZ * 3)
        client.close()
        running.wait(0)
        self.assertEqual(running.outcomes, ["ok", "client_disconnected"])

    def test_end_of_a_body_and_next_requests_come_in_one_packet(self) -> None:
        """The end of one request and the beginning of others may come in one packet."""
        client = Running().connect()
        data = chat() + HEALTHZ + chat(prompt="last")
        client.send(data[:150])
        client.send(data[150:-10])
        client.send(data[-10:])
        self.assertEqual([answer.status for answer in client.answers()], [200] * 3)
        self.assertIn(b"Echo: last", client.answers()[2].body)

    def test_only_so_much_is_read_ahead_of_an_answer(self) -> None:
        """While a request runs only so much is read of what follows; then all of it is served."""
        running = Running(backend=True)
        client = running.connect()
        client.send(chat())
        count = PIPELINE_BYTES // len(HEALTHZ) + 1
        client.send(HEALTHZ * (count - 2))
        self.assertEqual(client.wire.producerState, "producing")
        client.send(HEALTHZ * 2)
        self.assertEqual(client.wire.producerState, "paused")
        client.send(HEALTHZ * 5)
        running.backend.answer(b"{}", status=500)
        running.wait(0)
        self.assertEqual(client.wire.producerState, "producing")
        self.assertEqual(len(client.answers()), 1 + count + 5)

    def test_requests_before_a_broken_one_are_answered(self) -> None:
        """What comes before a broken request is answered, what comes after it is not."""
        client = Running().connect()
        client.send(HEALTHZ + b"nonsense\r\n\r\n" + HEALTHZ)
        self.assertEqual([answer.status for answer in client.answers()], [200, 400])


class Persistence(SynchronousTestCase):
    def after(self, data: bytes, **settings: Any) -> tuple[bool, str | None]:
        """Whether the connection is closed after the answer, and what the answer said."""
        client = Running(**settings).connect()
        answer = client.ask(data)
        self.assertEqual(len(client.answers()), 1)
        return client.closed, answer.headers.get("connection")

    def test_connection_is_kept_for_the_next_request(self) -> None:
        """A connection is kept for the next request."""
        client = Running().connect()
        for _ in range(3):
            self.assertEqual(client.ask(HEALTHZ).status, 200)
        self.assertFalse(client.closed)
        self.assertEqual(self.after(request("GET", "/nope")), (False, None))

    def test_client_that_wants_it_closed_gets_it_closed(self) -> None:
        """A client that wants it closed, or speaks HTTP/1.0, gets it closed and is told so."""
        for data in (
            CLOSING,
            request("GET", "/healthz", "Connection: x, Close"),
            request("GET", "/healthz", version="1.0"),
            request("GET", "/healthz", "Connection: keep-alive", version="1.0"),
        ):
            self.assertEqual(self.after(data), (True, "close"), data)

    def test_connection_with_an_unread_body_is_not_kept(self) -> None:
        """A connection whose request was refused before its body came cannot be used again."""
        head = request("POST", "/nope", "Content-Length: 5")
        self.assertEqual(self.after(head), (True, "close"))
        self.assertEqual(self.after(head + b"hello"), (False, None))

    def test_request_on_a_closing_connection_has_one_line(self) -> None:
        """A request on a connection that is then closed has one line, like any other."""
        for data in (CLOSING, request("POST", "/nope", "Content-Length: 5"), b"nonsense\r\n\r\n"):
            running = Running()
            client = running.connect()
            client.send(data)
            client.close()
            self.assertEqual(len(running.records), 1, data)

    def test_last_request_of_a_connection_says_close(self) -> None:
        """After MAX_REQUESTS_PER_CONNECTION the connection is closed, and the last answer says
        so; what follows is for another one."""
        client = Running(requests_per_connection=3).connect()
        client.send(HEALTHZ * 5)
        self.assertEqual(
            [answer.headers.get("connection") for answer in client.answers()],
            [None, None, "close"],
        )
        self.assertTrue(client.closed)

    def test_connection_closes_when_its_answer_was_taken(self) -> None:
        """A connection that is over closes when what was written has been taken."""
        client = Running().connect()
        client.send(CLOSING)
        self.assertTrue(client.wire.lost)
        self.assertFalse(client.wire.aborted)


class Deadlines(SynchronousTestCase):
    """No trickle keeps a connection."""

    def test_head_that_trickles_in_is_a_408(self) -> None:
        """A head that is not whole after HEADER_TIMEOUT is a 408, however it trickles in."""
        for pause in (0.5, 3.0, 9.0):
            running = Running(header_timeout=10)
            client = running.connect()
            began = running.clock.seconds()
            client.trickle(request("GET", "/healthz", "X: " + "x" * 200), pause)
            self.assertTrue(client.closed)
            self.assertLessEqual(running.clock.seconds() - began, 10 + pause + 0.2)
            self.assertEqual((client.answer.status, client.answer.code), (408, "request_timeout"))
            self.assertEqual(running.line["outcome"], "client_error")
            self.assertGreaterEqual(float(str(running.line["latency_ms"])), 10_000)

    def test_client_in_time_is_served(self) -> None:
        """A client that is in time is served."""
        running = Running(header_timeout=10, body_timeout=5)
        client = running.connect()
        data = chat()
        client.send(data[:20])
        running.wait(9.8)
        client.send(data[20:-20])
        running.wait(4.8)
        client.send(data[-20:])
        self.assertEqual(client.answer.status, 200)

    def test_body_that_trickles_in_is_a_408(self) -> None:
        """A body that is not whole after BODY_TIMEOUT is a 408, however it trickles in."""
        running = Running(body_timeout=5)
        client = running.connect()
        data = chat()
        client.send(data[:-30])
        client.trickle(data[-30:], 0.9)
        self.assertEqual((client.answer.status, client.answer.code), (408, "request_timeout"))
        self.assertEqual(running.line["outcome"], "client_error")
        self.assertEqual(running.line["path"], CHAT)

    def test_late_reading_gives_no_more_time_for_a_body(self) -> None:
        """That the client took its earlier answers late gives it no more time for a body."""
        running = Running(body_timeout=5)
        client = running.connect()
        client.send(HEALTHZ + chat()[:-3])
        client.stop_reading()
        client.read_again()
        running.wait(5.2)
        self.assertEqual([answer.status for answer in client.answers()], [200, 408])

    def test_connection_on_which_nothing_comes_is_closed(self) -> None:
        """A connection on which nothing comes is closed after HEADER_TIMEOUT: without an answer,
        since there was no question, and without a line."""
        running = Running(header_timeout=10)
        client = running.connect()
        running.wait(9.9)
        self.assertFalse(client.closed)
        running.wait(0.2)
        self.assertTrue(client.closed)
        self.assertEqual((client.received, running.records), (b"", []))

    def test_empty_lines_buy_no_time(self) -> None:
        """Empty lines before a request are no request, and buy no time for ever."""
        running = Running(header_timeout=10)
        client = running.connect()
        for byte in (b"\r", b"\n", b"\r", b"\n"):
            client.send(byte)
            running.wait(9)
        self.assertTrue(client.closed)

    def test_idle_connection_is_closed_after_the_keepalive(self) -> None:
        """Between two requests a connection may idle for KEEPALIVE_TIMEOUT, and just closes."""
        running = Running(header_timeout=10, keepalive_timeout=75)
        client = running.connect()
        client.send(HEALTHZ)
        running.wait(74.9)
        client.send(HEALTHZ)
        running.wait(74.9)
        self.assertFalse(client.closed)
        running.wait(0.2)
        self.assertTrue(client.closed)
        self.assertEqual(len(client.answers()), 2)
        self.assertEqual(len(running.records), 2)

    def test_late_reading_gives_no_longer_keepalive(self) -> None:
        """A client that took its last answer late may idle no longer than another."""
        running = Running(keepalive_timeout=75)
        client = running.connect()
        client.stop_reading()
        client.send(request("GET", "/nope"))
        running.wait(30)
        client.read_again()
        running.wait(75.1)
        self.assertTrue(client.wire.lost)
        self.assertEqual(client.answer.status, 404)

    def test_later_head_has_a_deadline_of_its_own(self) -> None:
        """The head of a later request has a deadline of its own, from its first byte."""
        running = Running(header_timeout=10, keepalive_timeout=75)
        client = running.connect()
        client.send(HEALTHZ)
        running.wait(50)
        client.send(b"GET /he")
        running.wait(9.9)
        self.assertFalse(client.closed)
        running.wait(0.2)
        self.assertEqual(client.answers()[-1].status, 408)

    def test_head_begun_behind_a_request_has_a_deadline(self) -> None:
        """So has the head that had begun to come while another request was running."""
        running = Running(backend=True, header_timeout=10)
        client = running.connect()
        client.send(chat() + b"GET /he")
        running.wait(20)
        running.backend.answer(b"{}", status=500)
        running.wait(9.9)
        self.assertEqual(len(client.answers()), 1)
        running.wait(0.2)
        self.assertEqual([answer.status for answer in client.answers()], [502, 408])
        self.assertLess(float(str(running.lines[1]["latency_ms"])), 11_000)

    def test_client_is_not_timed_while_its_request_runs(self) -> None:
        """While a request runs the client is waited for by nobody."""
        running = Running(backend=True, header_timeout=1, body_timeout=1, keepalive_timeout=1)
        client = running.connect()
        client.send(chat())
        running.wait(50)
        self.assertFalse(client.closed)

    def test_no_timer_is_left_when_nobody_is(self) -> None:
        """When the last connection is gone no timer is left."""
        running = Running()
        clients = [running.connect() for _ in range(3)]
        clients[0].send(HEALTHZ)
        clients[1].send(b"GET")
        clients[2].send(chat()[:-1])
        for client in clients:
            client.close()
        running.wait(0.2)
        self.assertEqual((len(running.deadlines), running.clock.getDelayedCalls()), (0, []))


class Refusals(SynchronousTestCase):
    """A refusal must reach a client that is still sending."""

    def refused(self, **settings: Any) -> tuple[Running, Any]:
        running = Running(framing=Limits(body=1000), **settings)
        client = running.connect()
        client.send(
            request("POST", CHAT, "Content-Type: application/json", "Content-Length: 1000000000")
        )
        return running, client

    def test_large_upload_is_refused_on_its_head(self) -> None:
        """A large upload is refused on its head, before any of it is read."""
        running, client = self.refused()
        self.assertEqual((client.answer.status, client.answer.code), (413, "body_too_large"))
        self.assertEqual(running.line["bytes_in"], 0)

    def test_what_a_refused_client_still_sends_is_thrown_away(self) -> None:
        """Our side is closed at once, and what still comes is thrown away for a while: a reset
        could overtake the answer (RFC 9112, 9.6)."""
        running, client = self.refused()
        self.assertTrue(client.wire.half_closed)
        self.assertFalse(client.wire.disconnecting)
        for _ in range(10):
            client.send(b"x" * 65536)
            running.wait(0.1)
        self.assertEqual(client.answer.status, 413)
        self.assertEqual(len(running.records), 1)
        self.assertEqual(client.wire.producerState, "producing")

    def test_refused_client_that_sends_on_is_cut(self) -> None:
        """Who sends on for longer is cut."""
        running, client = self.refused()
        for _ in range(30):
            client.send(b"x" * 1000)
            running.wait(0.1)
        self.assertTrue(client.wire.aborted)
        self.assertEqual(len(running.edge.connections), 0)

    def test_refused_client_that_leaves_costs_nothing_more(self) -> None:
        """A client that leaves when it has read the answer costs nothing further."""
        running, client = self.refused()
        client.close()
        running.wait(0.2)
        self.assertEqual(running.clock.getDelayedCalls(), [])
        self.assertEqual(running.outcomes, ["client_error"])

    def test_refused_client_over_tls_is_closed_in_order(self) -> None:
        """Over TLS there is no closing of one direction; the connection is closed in order."""
        running = Running()
        client = running.connect()
        directlyProvides(client.wire, ISSLTransport)
        client.send(b"nonsense\r\n\r\n")
        self.assertTrue(client.wire.disconnecting)
        self.assertFalse(client.wire.half_closed)
        self.assertTrue(client.connection.isSecure())


class RequestTimeouts(SynchronousTestCase):
    """REQUEST_TIMEOUT bounds the whole exchange, until the client's kernel has its last byte."""

    BIG = b'{"data":"%b"}' % (b"x" * 500_000)

    def asked(self, data: bytes, total: float = 3) -> tuple[Running, Client]:
        running = Running(backend=True, timeouts=Timeouts(total=total))
        client = running.connect()
        client.send(data)
        return running, client

    def on_the_way(self, queued: int) -> None:
        """What the kernel says that the client has not taken."""
        self.patch(flow.fcntl, "ioctl", lambda *_: struct.pack("i", queued))

    def assertTimedOut(self, running: Running, client: Client, status: int = 200) -> None:
        self.assertTrue(client.wire.aborted)
        line = running.line
        self.assertEqual((line["status"], line["outcome"]), (status, "timeout"))
        self.assertLess(float(str(line["latency_ms"])), 3_500)

    def test_plain_reply_that_is_taken_too_slowly_is_cut(self) -> None:
        """A client that still takes its reply when REQUEST_TIMEOUT passes is cut: a timeout."""
        running, client = self.asked(request("GET", "/v1/models"))
        client.stop_reading()
        running.backend.answer(self.BIG)
        for queued in range(30):
            self.on_the_way(queued)
            running.wait(0.1)
        self.assertFalse(client.closed)
        running.pass_time(0.4)
        self.assertTimedOut(running, client)

    def test_stream_that_is_taken_too_slowly_is_cut(self) -> None:
        """The same holds for a stream, whose backend is let go too."""
        running, client = self.asked(chat(stream=True))
        running.backend.begin()
        running.backend.piece(b'data: {"choices":[]}\n\n')
        client.stop_reading()
        running.pass_time(3.4)
        self.assertTimedOut(running, client)
        self.assertTrue(running.backend.closed)

    def test_written_reply_that_is_not_taken_in_time_is_cut(self) -> None:
        """A reply that our kernel has whole, and the client's has not when the time is over, is a
        timeout as well, whether the connection was to go on or not."""
        for fields in ((), ("Connection: close",)):
            self.on_the_way(150_000)
            running, client = self.asked(request("GET", "/v1/models", *fields))
            running.backend.answer(self.BIG)
            self.assertTrue(client.answer.whole)
            running.pass_time(2.9)
            self.assertEqual((running.records, running.in_flight), ([], (1, 0)))
            self.assertFalse(client.wire.disconnecting)
            running.pass_time(0.5)
            self.assertTimedOut(running, client)
            self.assertEqual(running.in_flight, (0, 0))

    def test_written_reply_is_recorded_when_it_is_taken(self) -> None:
        """A reply that takes its time to the client is a success of the time at which it was
        written, and then the connection idles."""
        self.on_the_way(150_000)
        running, client = self.asked(request("GET", "/v1/models"), total=60)
        running.backend.answer(self.BIG)
        running.wait(1)
        self.assertEqual(running.records, [])
        self.on_the_way(60_000)
        running.wait(0.1)
        self.assertEqual((running.line["outcome"], running.line["latency_ms"]), ("ok", 0))
        self.assertEqual(client.connection.phase, IDLE)
        running.wait(70)
        self.assertFalse(client.closed)
        running.wait(6)
        self.assertTrue(client.closed)

    def test_next_request_tells_that_the_reply_was_taken(self) -> None:
        """Who asks again is not waited for, whatever the kernel says; nor is who had pipelined."""
        self.on_the_way(150_000)
        for at_once in (True, False):
            models = request("GET", "/v1/models")
            running, client = self.asked(models + HEALTHZ * at_once)
            running.backend.answer(self.BIG)
            if not at_once:
                client.send(HEALTHZ)
            self.assertEqual(running.outcomes, ["ok", "ok"])
            self.assertEqual(client.connection.phase, IDLE)

    def test_client_that_resets_before_it_has_its_reply_has_left(self) -> None:
        """A connection lost with much of a reply on its way is a client that left; one that closes
        in order has all that it wants."""
        for leave, outcome in (("reset", "client_disconnected"), ("close", "ok")):
            self.on_the_way(150_000)
            running, client = self.asked(request("GET", "/v1/models"))
            running.backend.answer(self.BIG)
            getattr(client, leave)()
            self.assertEqual(running.outcomes, [outcome])

    def test_last_reply_closes_its_connection_when_it_is_taken(self) -> None:
        """A connection that is to close is closed for writing at once, and wholly a little after
        its client has everything."""
        self.on_the_way(150_000)
        running, client = self.asked(request("GET", "/v1/models", "Connection: close"), total=60)
        running.backend.answer(self.BIG)
        self.assertTrue(client.wire.half_closed)
        running.wait(20)
        self.on_the_way(0)
        running.wait(0.1)
        self.assertEqual(running.outcomes, ["ok"])
        running.wait(LINGER + 0.2)
        self.assertTrue(client.wire.aborted)

    def test_small_answer_is_recorded_at_once(self) -> None:
        """An answer that any client's receive window holds is over when it is written."""
        self.on_the_way(60_000)
        running, _ = self.asked(HEALTHZ)
        self.assertEqual(running.outcomes, ["ok"])

    def test_body_that_takes_longer_than_the_whole_exchange_may(self) -> None:
        """A limit for everything that is shorter than that of a body ends a body too; nothing was
        sent to the backend then."""
        running, client = self.asked(chat()[:-5])
        running.pass_time(3.4)
        self.assertEqual((client.answer.status, client.answer.code), (504, "gateway_timeout"))
        self.assertNotIn("x-should-retry", client.answer.headers)
        self.assertIn("REQUEST_TIMEOUT", client.answer.json["message"])
        self.assertEqual(running.outcomes, ["timeout"])

    def test_head_that_takes_longer_than_the_whole_exchange_may(self) -> None:
        """So does it end a head."""
        running, client = self.asked(HEALTHZ[:-5])
        running.pass_time(3.4)
        self.assertEqual((client.answer.status, client.answer.code), (504, "gateway_timeout"))

    def test_answer_to_an_unread_body_is_bounded_too(self) -> None:
        """A body whose deadline has passed does not free its answer from the whole limit."""
        running = Running(backend=True, body_timeout=1, timeouts=Timeouts(total=3))
        client = running.connect()
        client.send(request("GET", "/v1/models", "Content-Length: 1"))
        client.stop_reading()
        running.backend.answer(self.BIG)
        for queued in range(35):
            self.on_the_way(queued)
            running.wait(0.1)
        self.assertTimedOut(running, client)

    def test_backend_says_first_why_it_was_too_slow(self) -> None:
        """A backend that is too slow is answered for by the exchange with it, which knows that the
        prompt was sent; the connection goes on."""
        running, client = self.asked(chat())
        running.pass_time(3.5)
        self.assertEqual((client.answer.status, client.answer.code), (504, "gateway_timeout"))
        self.assertEqual(client.answer.headers["x-should-retry"], "false")
        self.assertFalse(client.closed)

    def test_handler_that_waits_for_something_else_is_ended(self) -> None:
        """Whatever a handler waits for, its client has an answer when the time is over."""
        running = Running(timeouts=Timeouts(total=3))
        running.edge.resource = Hold()
        client = running.connect()
        client.send(HEALTHZ)
        running.pass_time(3.5)
        self.assertEqual((client.answer.status, client.answer.code), (504, "gateway_timeout"))
        self.assertTrue(client.closed)
        self.assertEqual(running.outcomes, ["timeout"])


class Leaving(SynchronousTestCase):
    def test_client_that_leaves_in_a_head_has_a_line(self) -> None:
        """A client that leaves in the middle of a head has a line, with what there is to say."""
        running = Running()
        client = running.connect()
        client.send(b"GET /he")
        running.wait(1)
        client.close()
        line = running.line
        self.assertEqual((line["status"], line["outcome"]), (499, "client_disconnected"))
        self.assertEqual((line["method"], line["latency_ms"]), (None, 1000))
        self.assertEqual(running.in_flight, (0, 0))

    def test_client_that_leaves_in_a_body_has_a_line(self) -> None:
        """A client that leaves in the middle of its body has a line."""
        running = Running()
        client = running.connect()
        client.send(chat()[:-5])
        client.reset()
        line = running.line
        self.assertEqual((line["status"], line["outcome"]), (499, "client_disconnected"))
        self.assertEqual((line["path"], line["bytes_in"]), (CHAT, len(chat_body()) - 5))
        self.assertEqual(running.in_flight, (0, 0))

    def test_client_that_leaves_between_requests_has_none(self) -> None:
        """A client that leaves between two requests, or before the first, has asked nothing."""
        running = Running()
        running.connect().close()
        client = running.connect()
        client.send(HEALTHZ + b"\r\n")
        client.close()
        self.assertEqual(len(running.records), 1)

    def test_pipelined_requests_of_who_left_are_not_begun(self) -> None:
        """What a client that left had pipelined is not begun."""
        running = Running(backend=True)
        client = running.connect()
        client.send(chat() + chat())
        client.close()
        self.assertEqual(running.outcomes, ["client_disconnected"])
        self.assertEqual(len(running.backend.requests), 1)

    def test_lost_connection_still_knows_its_addresses(self) -> None:
        """A transport that is lost knows no addresses any more; the connection still does."""
        running = Running()
        client = running.connect()
        host, peer = client.wire.getHost(), client.wire.getPeer()
        client.close()
        self.patch(client.wire, "getHost", None)
        self.patch(client.wire, "getPeer", None)
        self.assertEqual(client.connection.getHost(), host)
        self.assertEqual(client.connection.getPeer(), peer)

    def test_transport_that_stops_its_producer_says_nothing_new(self) -> None:
        """A transport tells its producer of its end too; once is enough."""
        running = Running()
        client = running.connect()
        client.wire.producer.stopProducing()
        self.assertFalse(client.closed)


class Memory(SynchronousTestCase):
    def test_lost_connection_is_freed_at_once(self) -> None:
        """Nothing of a connection that is gone, and of what its client did not take, waits for the
        garbage collector."""
        gc.disable()
        self.addCleanup(gc.enable)
        for stream in (False, True):
            running = Running()
            client = running.connect()
            client.stop_reading()
            client.send(chat(stream=stream))
            lost = weakref.ref(client.connection)
            client.reset()
            # A transport that is lost lets go of its protocol and its producer.
            client.wire.protocol = client.wire.producer = None  # type: ignore[assignment]
            del client
            running.wait(1)
            self.assertIsNone(lost())


class HalfClosed(SynchronousTestCase):
    """Clients that close their writing side."""

    def asked(self, data: bytes = b"", **settings: Any) -> tuple[Running, Client]:
        running = Running(backend=True, **settings)
        client = running.connect()
        client.send(data or chat())
        return running, client

    def test_client_that_shuts_with_its_request_gets_its_answer(self) -> None:
        """A client that closes its writing side with its request, as ``nc -N`` does, waits for the
        answer, gets it, and is closed; so does one of HTTP/1.0."""
        for version in ("1.1", "1.0"):
            running, client = self.asked(chat(version=version))
            client.shut()
            running.wait(5)
            self.assertFalse(running.backend.closed)
            running.backend.answer(b'{"error":{}}', status=400)
            self.assertEqual((client.answer.status, client.answer.whole), (400, True))
            self.assertEqual(client.answer.headers["connection"], "close")
            self.assertTrue(client.wire.lost)
            self.assertFalse(client.wire.aborted)
            self.assertEqual(running.outcomes, ["client_error"])

    def test_client_that_shuts_with_its_request_gets_its_stream(self) -> None:
        """It gets all of a stream too, though that began before its end was seen."""
        running, client = self.asked(chat(stream=True))
        running.backend.begin()
        running.backend.piece(b'data: {"choices":[]}\n\n')
        client.shut()
        running.wait(5)
        running.backend.piece(DONE)
        running.backend.end()
        self.assertTrue(client.answer.whole)
        self.assertTrue(client.answer.body.endswith(DONE))
        self.assertTrue(client.wire.lost)
        self.assertEqual(running.outcomes, ["ok"])

    def test_client_that_shuts_later_has_left(self) -> None:
        """One that closes more than 0.1 s after its last byte has left, and the backend is let
        go."""
        running, client = self.asked()
        running.wait(0.11)
        client.shut()
        self.assertTrue(client.wire.lost and running.backend.closed)
        self.assertEqual(running.outcomes, ["client_disconnected"])

    def test_end_that_was_read_late_counts_from_when_it_came(self) -> None:
        """Where the event loop was busy, the kernel knows how long the client was silent before its
        end."""
        for silence, left in ((0.05, False), (0.2, True)):
            self.patch(connection_module, "silence_before_end", lambda _, s=silence: s)
            running, client = self.asked()
            running.wait(3)
            client.shut()
            self.assertEqual(client.wire.lost, left)

    def test_client_that_shuts_in_the_middle_of_a_request_has_left(self) -> None:
        """A request that never becomes whole is not answered: its client is gone."""
        for data in (chat()[:20], chat()[:-5]):
            running, client = self.asked(data)
            client.shut()
            self.assertTrue(client.wire.lost)
            self.assertEqual((client.received, running.outcomes), (b"", ["client_disconnected"]))

    def test_pipelined_requests_are_answered_and_half_a_one_is_not(self) -> None:
        """All that was whole when the client shut its side is answered, in order."""
        running, client = self.asked(chat() + HEALTHZ * 3 + HEALTHZ[:9])
        client.shut()
        running.backend.answer(b'{"error":{}}', status=400)
        self.assertEqual([a.status for a in client.answers()], [400, 200, 200, 200])
        self.assertTrue(client.wire.lost)
        self.assertEqual(running.outcomes[-2:], ["ok", "client_disconnected"])

    def test_idle_client_that_shuts_is_closed(self) -> None:
        """Who has its answer, or never asked, is closed in order and has no line for it."""
        running = Running()
        for data in (b"", HEALTHZ):
            client = running.connect()
            client.send(data)
            client.shut()
            self.assertTrue(client.wire.lost)
            self.assertFalse(client.wire.aborted)
        self.assertEqual(running.outcomes, ["ok"])

    def test_refused_client_that_shuts_need_not_be_waited_for(self) -> None:
        """One that was refused, and has read why, is closed at once."""
        running = Running()
        client = running.connect()
        client.send(b"nonsense\r\n\r\n")
        client.shut()
        self.assertTrue(client.wire.lost)
        self.assertEqual(running.outcomes, ["client_error"])

    def test_client_that_shuts_and_takes_its_reply_slowly_gets_all_of_it(self) -> None:
        """A large reply is on its way for as long as it takes, and then the connection closes."""
        self.patch(flow.fcntl, "ioctl", lambda *_: struct.pack("i", 150_000))
        running, client = self.asked(request("GET", "/v1/models"))
        client.shut()
        running.backend.answer(b'{"data":"%b"}' % (b"x" * 500_000))
        running.wait(30)
        self.assertFalse(client.wire.lost)
        self.patch(flow.fcntl, "ioctl", lambda *_: struct.pack("i", 0))
        running.wait(0.1)
        self.assertTrue(client.wire.lost)
        self.assertFalse(client.wire.aborted)
        self.assertEqual(running.outcomes, ["ok"])

    def test_client_that_shuts_and_leaves_before_it_has_its_reply_is_noticed(self) -> None:
        """One that is gone with much of its reply on its way has left, and is not waited for: the
        kernel calls what it did not send unsent for ever."""
        self.patch(flow.fcntl, "ioctl", lambda *_: struct.pack("i", 150_000))
        running, client = self.asked(request("GET", "/v1/models"))
        client.shut()
        running.backend.answer(b'{"data":"%b"}' % (b"x" * 500_000))
        running.wait(1)
        self.assertEqual(running.in_flight, (1, 0))
        self.patch(flow, "has_ended", lambda _: True)
        running.wait(0.1)
        self.assertTrue(client.wire.lost)
        self.assertEqual(running.outcomes, ["client_disconnected"])


class Reading(SynchronousTestCase):
    def test_answer_that_needs_no_body_does_not_wait_for_it(self) -> None:
        """An answer that does not need the body does not wait for it."""
        running = Running()
        client = running.connect()
        client.send(request("GET", "/healthz", "Content-Length: 5"))
        self.assertEqual(client.answer.status, 200)
        self.assertEqual(client.answer.headers["connection"], "close")

    def test_client_receives_nothing_but_answers(self) -> None:
        """What a client receives is nothing but answers."""
        client = Running().connect()
        client.send(HEALTHZ * 3)
        self.assertEqual(len(parse_answers(client.received)), 3)
