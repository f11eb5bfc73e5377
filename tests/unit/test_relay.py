"""A stream on its way through, event by whole event."""

from __future__ import annotations

import json
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from infergate.backend.call import END_OF_BODY, Timeouts
from infergate.relay import HELD_COMMENTS, KEEPALIVE
from tests.unit.inmemory import DONE, Running, chat, delta, event, request

FINISH = event({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
ROLE = event({"choices": [{"index": 0, "delta": {"role": "assistant"}}]})
USAGE = event(
    {
        "choices": [],
        "usage": {"prompt_tokens": 3, "completion_tokens": 5, "total_tokens": 8},
    }
)


class StreamCase(SynchronousTestCase):
    """One stream, from a backend whose head is here."""

    def setUp(self) -> None:
        self.start()

    def start(
        self, *headers: str, version: str = "1.1", begin: bool = True, **settings: Any
    ) -> None:
        members = settings.pop("members", {})
        self.running = Running(backend=True, **settings)
        self.client = self.running.connect()
        self.client.send(chat(*headers, version=version, stream=True, **members))
        self.backend = self.running.backend
        if begin:
            self.backend.begin()

    @property
    def body(self) -> bytes:
        return self.client.answer.body

    def assert_broken(self, code: str, outcome: str, before: bytes) -> None:
        """What came before, one error event, no end, a FIN, and one line."""
        answer = self.client.answer
        self.assertEqual((answer.status, answer.whole), (200, False))
        self.assertTrue(answer.body.startswith(before))
        last = answer.body[len(before) :]
        self.assertEqual(last.count(b"\n\n"), 1)
        error = json.loads(last.removeprefix(b"data: "))["error"]
        self.assertEqual((error["code"], error["type"]), (code, "server_error"))
        self.assertTrue(error["message"])
        self.running.wait(0)
        self.assertTrue(self.client.wire.lost)
        self.assertFalse(self.client.wire.aborted)
        line = self.running.line
        self.assertEqual((line["status"], line["error"], line["outcome"]), (200, code, outcome))
        self.assert_over()

    def assert_over(self) -> None:
        self.assertEqual(self.running.in_flight, (0, 0))
        self.client.close()
        self.running.wait(3)
        self.assertTrue(self.backend.closed)
        self.assertEqual(self.running.clock.getDelayedCalls(), [])
        self.assertEqual(len(self.running.records), 1)


class Passing(StreamCase):
    def test_event_is_passed_on_when_it_is_whole(self) -> None:
        """Each event is passed on the moment it is whole, its bytes unchanged."""
        first = b'data: {"choices" : [ ] }\r\n\r\n'
        self.backend.piece(first[:9])
        self.assertEqual(self.client.received, b"")
        self.backend.piece(first[9:])
        self.assertEqual(self.body, first)
        second = b": a comment\nid: 1\nevent: x\ndata: a\ndata: b\n\n"
        self.backend.piece(second[:20])
        self.assertEqual(self.body, first)
        self.backend.piece(second[20:])
        self.assertEqual(self.body, first + second)

    def test_stream_is_held_back_and_kept_by_nobody(self) -> None:
        """The answer is an event stream that nobody on the way holds back or keeps."""
        self.backend.piece(ROLE)
        headers = self.client.answer.headers
        self.assertEqual(headers["content-type"], "text/event-stream")
        self.assertEqual(headers["cache-control"], "no-cache")
        self.assertEqual(headers["x-accel-buffering"], "no")
        self.start(begin=False)
        self.backend.begin("Set-Cookie: a=b", "Server: x", kind="Text/Event-Stream; charset=utf-8")
        self.backend.piece(ROLE)
        headers = self.client.answer.headers
        self.assertEqual(headers["content-type"], "Text/Event-Stream; charset=utf-8")
        self.assertEqual({"set-cookie", "server"} & set(headers), set())

    def test_nothing_comes_after_done(self) -> None:
        """The stream ends with [DONE], and nothing comes after it."""
        self.backend.piece(delta("hi") + DONE + delta("never"))
        self.assertEqual(self.body, delta("hi") + DONE)
        self.assertTrue(self.client.answer.whole)
        self.assertEqual(self.running.line["outcome"], "ok")
        self.backend.piece(delta("never"))
        self.backend.end()
        self.assertEqual(self.body, delta("hi") + DONE)
        self.assertFalse(self.client.closed)
        self.assert_over()

    def test_line_end_after_done_is_whole(self) -> None:
        """The line end after [DONE] is passed on whole, also where it comes in two pieces."""
        self.backend.piece(b"data: [DONE]\r\n\r")
        self.assertEqual(self.body, b"data: [DONE]\r\n\r\n")
        self.assertTrue(self.client.answer.whole)
        self.backend.piece(b"\n")
        self.backend.end()
        self.assertEqual(self.body, b"data: [DONE]\r\n\r\n")

    def test_line_end_in_two_pieces_is_passed_on_once(self) -> None:
        """That of an event before it, in two pieces, is passed on once."""
        self.backend.piece(b"data: 1\r\n\r")
        self.backend.piece(b"\ndata: [DONE]\r\n\r\n")
        self.assertEqual(self.body, b"data: 1\r\n\r\ndata: [DONE]\r\n\r\n")
        self.assertTrue(self.client.answer.whole)

    def test_clients_connection_is_used_again_and_the_backends_is_not(self) -> None:
        """After a stream that ended well the client's connection serves the next request; the
        backend's does not, which some backends close without having said so."""
        self.backend.piece(delta("hi") + DONE)
        self.backend.end()
        self.client.send(chat(stream=True))
        self.assertFalse(self.client.closed)
        self.assertEqual(self.running.port.attempts, 2)

    def test_body_that_goes_on_after_done_is_not_waited_for(self) -> None:
        """A backend that keeps its body open after [DONE] does not keep the client waiting."""
        self.backend.piece(DONE)
        self.assertTrue(self.client.answer.whole)
        self.running.wait(END_OF_BODY + 0.2)
        self.assertTrue(self.backend.closed)
        self.assertEqual(self.running.outcomes, ["ok"])

    def test_done_is_added_where_it_was_left_out(self) -> None:
        """A backend that ends its stream properly, only without [DONE], has not failed."""
        self.backend.piece(delta("hi") + FINISH)
        self.backend.end()
        self.assertEqual(self.body, delta("hi") + FINISH + DONE)
        self.assertTrue(self.client.answer.whole)
        self.assertEqual(self.running.outcomes, ["ok"])

    def test_http_1_0_client_gets_the_events_and_a_close(self) -> None:
        """An HTTP/1.0 client gets the same events, and the end of the connection."""
        self.start(version="1.0")
        self.backend.piece(delta("hi") + DONE)
        self.assertEqual(self.body, delta("hi") + DONE)
        self.running.wait(0)
        self.assertTrue(self.client.wire.lost)
        self.assertFalse(self.client.wire.aborted)


class Accounting(StreamCase):
    def tokens(self) -> tuple[object, ...]:
        line = self.running.line
        names = ("usage_source", "prompt_tokens", "completion_tokens", "total_tokens")
        return tuple(line[name] for name in names)

    def test_usage_chunk_is_taken_out_for_who_did_not_ask(self) -> None:
        """The backend is asked for usage, and its chunk taken out for a client that did not ask."""
        sent = self.backend.request.json
        self.assertEqual(sent["stream_options"], {"include_usage": True})
        self.backend.piece(delta("hi") + FINISH)
        self.backend.piece(USAGE)
        self.backend.piece(DONE)
        self.assertEqual(self.body, delta("hi") + FINISH + DONE)
        self.assertEqual(self.tokens(), ("backend", 3, 5, 8))

    def test_usage_chunk_is_for_who_asked(self) -> None:
        """A client that asked for it gets it."""
        self.start(members={"stream_options": {"include_usage": True, "x": 1}})
        self.assertEqual(
            self.backend.request.json["stream_options"], {"include_usage": True, "x": 1}
        )
        self.backend.piece(delta("hi") + FINISH + USAGE + DONE)
        self.assertEqual(self.body, delta("hi") + FINISH + USAGE + DONE)

    def test_cut_stream_is_counted(self) -> None:
        """A stream that was cut before it said its usage is counted: its deltas, and a token for
        each four bytes of what went to the backend."""
        for end in ("reset", "client"):
            self.start()
            prompt = len(self.backend.request.body) // 4
            self.backend.piece(ROLE + delta("a") + delta("b"))
            self.client.close() if end == "client" else self.backend.reset()
            self.assertEqual(self.tokens(), ("counted", prompt, 2, prompt + 2))

    def test_image_is_not_counted(self) -> None:
        """What stands in a data URL is no token."""
        url = "data:image/png;base64," + "A" * 4000
        part = {"type": "image_url", "image_url": {"url": url}}
        self.start(members={"messages": [{"role": "user", "content": [part]}]})
        self.backend.piece(ROLE)
        self.backend.reset()
        self.assertLess(self.running.line["prompt_tokens"], 100)  # type: ignore[operator]

    def test_no_event_costs_nothing(self) -> None:
        """Before its first event a stream costs nothing, however it ends."""
        for piece in (b": comment\n\n", event({"error": {"message": "No."}})):
            self.start()
            self.backend.piece(piece)
            self.backend.reset()
            self.assertEqual(self.tokens(), ("none", 0, 0, 0))

    def test_first_token_is_the_first_delta_that_says_something(self) -> None:
        """The first token is the first delta that says something."""
        self.running.wait(1)
        self.backend.piece(b": comment\n\n" + ROLE)
        self.running.wait(1)
        self.backend.piece(delta(""))
        self.running.wait(1)
        self.backend.piece(delta("a"))
        self.running.wait(1)
        self.backend.piece(delta("b") + DONE)
        self.assertEqual(
            (self.running.line["ttft_ms"], self.running.line["latency_ms"]), (3000, 4000)
        )
        self.assertEqual(self.running.line["backend_ms"], 4000)

    def test_running_stream_is_counted_as_one(self) -> None:
        """While it runs a stream is counted as one."""
        self.assertEqual(self.running.in_flight, (1, 1))
        self.backend.piece(DONE)
        self.assertEqual(self.running.in_flight, (0, 0))


class BeforeTheFirstEvent(StreamCase):
    """A failure before the first whole event has its true status."""

    def assert_status(self, status: int, code: str) -> None:
        answer = self.client.answer
        self.assertEqual((answer.status, answer.code), (status, code))
        self.assertEqual(answer.headers["content-type"], "application/json")
        self.assertTrue(answer.whole)
        self.assertEqual(self.running.line["status"], status)

    def test_empty_stream_is_a_backend_error(self) -> None:
        """A stream that ends before it has begun is a backend error."""
        self.backend.end()
        self.assert_status(502, "backend_error")

    def test_comments_alone_commit_no_status(self) -> None:
        """Comments alone commit nothing; they come with the first event."""
        self.backend.piece(b": working\n\n")
        self.assertEqual(self.client.received, b"")
        self.backend.reset()
        self.assert_status(502, "backend_error")
        self.start()
        self.backend.piece(b": working\n\n")
        self.backend.piece(b": on it\n\n" + ROLE)
        self.assertEqual(self.body, b": working\n\n: on it\n\n" + ROLE)

    def test_comments_are_not_held_without_an_end(self) -> None:
        """Comments without an end are not held without an end."""
        comment = b": " + b"x" * 60000 + b"\n\n"
        for _ in range(3):
            self.backend.piece(comment)
        self.assertGreaterEqual(len(self.body), HELD_COMMENTS)
        self.assertEqual(self.body, comment * (len(self.body) // len(comment)))

    def test_error_as_the_first_event(self) -> None:
        """An error object that comes as the first event has its true status, and the backend's
        words; where it says that the backend has not begun, an SDK may try again."""
        for code, status, error_code, retry in (
            (400, 400, "backend_rejected", None),
            (503, 502, "backend_error", None),
            (529, 502, "backend_error", None),
            (500, 502, "backend_error", "false"),
            ("x", 502, "backend_error", "false"),
        ):
            self.start()
            error = {"message": "The model is loading.", "type": "unavailable", "code": code}
            self.backend.piece(b": wait\n\n" + event({"error": error}) + DONE)
            self.assert_status(status, error_code)
            self.assertEqual(self.client.answer.json["message"], "The model is loading.")
            self.assertEqual(self.client.answer.json["backend_error"], error)
            self.assertEqual(self.client.answer.headers.get("x-should-retry"), retry)

    def test_error_about_the_gateways_key_as_the_first_event(self) -> None:
        """What a backend says with 401 or 403 is not shown."""
        self.backend.piece(event({"error": {"message": "canary", "code": 401}}))
        self.assert_status(502, "backend_error")
        self.assertNotIn(b"canary", self.client.answer.body)

    def test_half_an_event_is_none(self) -> None:
        """Half an event is none."""
        self.backend.piece(delta("hi")[:-1])
        self.backend.close()
        self.assert_status(502, "backend_error")

    def test_silence_is_a_timeout(self) -> None:
        """Silence is a timeout, and asks no SDK to try again."""
        self.running.wait(60.1)
        self.assert_status(504, "gateway_timeout")
        self.assertEqual(self.client.answer.headers["x-should-retry"], "false")

    def test_too_large(self) -> None:
        """A first event over MAX_EVENT_BYTES is a backend error."""
        self.start(max_event=100)
        self.backend.piece(b"data: " + b"x" * 101)
        self.assert_status(502, "backend_error")
        self.running.wait(0)
        self.assertTrue(self.backend.closed)


class EndsOfTheirOwn(SynchronousTestCase):
    """Streams whose answer ends with an event that says so."""

    STREAMS = (
        ("/v1/responses", {"input": "hi"}, b"response.completed"),
        ("/v1/messages", {"messages": [], "max_tokens": 9}, b"message_stop"),
    )

    def start(self, path: str, body: dict[str, Any]) -> None:
        if "messages" in body:
            body = {**body, "messages": [{"role": "user", "content": "hi"}]}
        self.running = Running(backend=True)
        self.client = self.running.connect()
        data = json.dumps({**body, "stream": True}).encode()
        json_type = "Content-Type: application/json"
        self.client.send(request("POST", path, json_type, body=data))

    def test_body_that_goes_on_is_not_waited_for(self) -> None:
        """A backend that keeps its body open after that does not keep the client waiting; what it
        sends meanwhile is passed on."""
        for path, body, name in self.STREAMS:
            self.start(path, body)
            self.running.backend.begin()
            last = b'event: %b\ndata: {"type":"%b"}\n\n' % (name, name)
            self.running.backend.piece(last)
            self.running.backend.piece(DONE)
            self.assertEqual(self.client.answer.body, last + DONE)
            self.assertTrue(self.client.answer.whole)
            self.start(path, body)
            self.running.backend.begin()
            self.running.backend.piece(last)
            self.assertFalse(self.client.answer.whole)
            self.running.wait(END_OF_BODY + 0.2)
            self.running.wait(0.2)
            self.assertEqual((self.client.answer.body, self.client.answer.whole), (last, True))
            self.assertEqual(self.running.outcomes, ["ok"])
            self.running.wait(END_OF_BODY + 0.2)
            self.running.wait(0.2)
            self.assertTrue(self.running.backend.closed)

    def test_body_that_breaks_after_that_event_is_whole(self) -> None:
        """However its connection ends: nothing of the answer can be missing."""
        for path, body, name in self.STREAMS:
            for end in ("reset", "close"):
                self.start(path, body)
                self.running.backend.begin()
                last = b'event: %b\ndata: {"type":"%b"}\n\n' % (name, name)
                self.running.backend.piece(last)
                getattr(self.running.backend, end)()
                self.assertEqual((self.client.answer.body, self.client.answer.whole), (last, True))
                self.assertEqual(self.running.outcomes, ["ok"])

    def test_body_without_framing_is_whole_with_that_event(self) -> None:
        """A body that ends where its connection does is whole with that event, and cut without."""
        for path, body, name in self.STREAMS:
            for kind, whole in ((name, True), (b"ping", False)):
                self.start(path, body)
                event = b'event: %b\ndata: {"type":"%b"}\n\n' % (kind, kind)
                head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"
                self.running.backend.send(head + event)
                self.running.backend.close()
                self.assertEqual(self.client.answer.whole, whole, kind)
                self.assertTrue(self.client.answer.body.startswith(event))


class Breaking(StreamCase):
    """A failure once the stream has begun."""

    def test_stream_cut_by_its_backend_is_a_backend_error(self) -> None:
        """A backend that is reset or closes before the end has cut its stream short."""
        for end in ("reset", "close", "end"):
            self.start()
            self.backend.piece(delta("hi") + delta("half")[:-3])
            getattr(self.backend, end)()
            self.assert_broken("backend_error", "backend_error", delta("hi"))

    def test_broken_chunk_is_a_backend_error(self) -> None:
        """So has one that breaks the protocol."""
        self.backend.piece(delta("hi"))
        self.backend.send(b"zz\r\n")
        self.assert_broken("backend_error", "backend_error", delta("hi"))

    def test_stalled_stream_is_a_timeout(self) -> None:
        """One that stalls for STREAM_IDLE_TIMEOUT is a timeout."""
        self.start(timeouts=Timeouts(idle=5))
        self.backend.piece(delta("hi"))
        for _ in range(3):
            self.running.wait(4.9)
            self.backend.piece(b": on it\n\n")
        self.running.wait(5.1)
        self.assert_broken("gateway_timeout", "timeout", delta("hi") + b": on it\n\n" * 3)

    def test_endless_stream_is_a_timeout(self) -> None:
        """One that never ends is a timeout after REQUEST_TIMEOUT."""
        self.start(timeouts=Timeouts(total=10, idle=5))
        events = b""
        for _ in range(6):
            if not self.client.closed:
                self.backend.piece(delta("on"))
                events += delta("on")
            self.running.wait(2)
        self.assert_broken("gateway_timeout", "timeout", events)

    def test_too_large(self) -> None:
        """An event that is too large ends the stream; those before it are delivered."""
        self.start(max_event=400)
        self.backend.piece(delta("hi") + b"data: " + b"x" * 401 + b"\n\n" + DONE)
        self.assert_broken("backend_error", "backend_error", delta("hi"))

    def test_backends_own_error_is_passed_on_once(self) -> None:
        """An error event of the backend's own is passed on once, and no [DONE] after it."""
        error = event({"error": {"message": "out of memory", "code": 500}})
        for rest in (b"", DONE, delta("never") + DONE):
            self.start()
            self.backend.piece(delta("hi"))
            self.backend.piece(error + rest)
            self.assertEqual(self.body, delta("hi") + error)
            self.assertFalse(self.client.answer.whole)
            self.running.wait(0)
            self.assertTrue(self.client.wire.lost)
            self.assertEqual(self.running.line["error"], "backend_error")
            self.assert_over()

    def test_cut_in_one_of_several_choices(self) -> None:
        """A stream of several choices is whole only where every one that was begun has ended."""
        other = event({"choices": [{"index": 1, "delta": {"content": "half"}}]})
        self.backend.piece(delta("hi") + other + FINISH)
        self.backend.end()
        self.assert_broken("backend_error", "backend_error", delta("hi") + other + FINISH)

    def test_done_in_another_spelling(self) -> None:
        """What some client takes for [DONE] is given out as the exact one, or not at all."""
        self.backend.piece(delta("hi") + b"data:  [DONE] \n\n" + delta("never"))
        self.assertEqual(self.body, delta("hi") + DONE)
        self.assertTrue(self.client.answer.whole)
        self.assertEqual(self.running.line["outcome"], "ok")

    def test_traceback_in_an_error_event(self) -> None:
        """An error event with a traceback in it is not shown; one of ours takes its place."""
        self.backend.piece(delta("hi"))
        canary = b'data: {"error":{"message":"Trac\\u0065back (most recent call last)"}}\n\n'
        self.backend.piece(canary + DONE)
        self.assertNotIn(b"most recent", self.body)
        self.assert_broken("backend_error", "backend_error", delta("hi"))

    def test_http_1_0_client_is_reset(self) -> None:
        """An HTTP/1.0 client is reset, since it would take the end for the right one."""
        self.start(version="1.0")
        self.backend.piece(delta("hi"))
        self.backend.reset()
        self.running.wait(0.2)
        self.assertTrue(self.client.wire.aborted)
        self.assertTrue(self.body.startswith(delta("hi")))
        self.assertNotIn(b"[DONE]", self.body)

    def test_body_without_framing_needs_done(self) -> None:
        """A backend whose body ends where its connection does may have been cut: without [DONE]
        that is a failure."""
        for end, whole in ((FINISH, False), (FINISH + DONE, True)):
            self.start(begin=False)
            self.backend.send(
                b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n" + delta("hi") + end
            )
            self.backend.close()
            self.assertEqual(self.client.answer.whole, whole)


class Leaving(StreamCase):
    def test_leaves(self) -> None:
        """A client that leaves in the middle ends the backend's work, and is accounted for."""
        for leave in ("close", "reset"):
            for before in (b"", delta("hi")):
                self.start()
                if before:
                    self.backend.piece(before)
                getattr(self.client, leave)()
                self.running.wait(0)
                self.assertTrue(self.backend.closed)
                line = self.running.line
                self.assertEqual(line["outcome"], "client_disconnected")
                self.assertEqual(line["status"], 200 if before else 499)
                self.assertEqual(line["completion_tokens"], 1 if before else 0)
                self.assert_over()

    def test_late_pieces(self) -> None:
        """What the backend still had on its way goes nowhere."""
        self.backend.piece(delta("hi"))
        self.client.close()
        received = self.client.received
        self.backend.send(b"5\r\nhello\r\n")
        self.assertEqual(self.client.received, received)
        self.assertEqual(self.running.line["bytes_out"], len(delta("hi")))


class FlowControl(StreamCase):
    def test_paused(self) -> None:
        """While the client does not read, the backend is not read either; then nothing is lost."""
        self.backend.piece(delta("a"))
        self.client.stop_reading()
        self.assertTrue(self.backend.paused)
        self.backend.piece(delta("b"))
        self.assertEqual(self.body, delta("a"))
        self.client.read_again()
        self.assertFalse(self.backend.paused)
        self.assertEqual(self.body, delta("a") + delta("b"))

    def test_paused_before(self) -> None:
        """A client that does not read from the start pauses the backend from the start."""
        self.start(begin=False)
        self.client.stop_reading()
        self.backend.begin()
        self.assertTrue(self.backend.paused)

    def test_idle_deadline(self) -> None:
        """While the client holds the stream up the backend is not late."""
        self.start(timeouts=Timeouts(idle=5), write_stall_timeout=60)
        self.backend.piece(delta("a"))
        self.client.stop_reading()
        self.running.wait(50)
        self.client.read_again()
        self.backend.piece(DONE)
        self.assertEqual(self.running.outcomes, ["ok"])

    def test_stalled_client(self) -> None:
        """A client that takes nothing is cut, and the backend's work ended."""
        self.start(write_stall_timeout=20)
        self.backend.piece(delta("a"))
        self.client.stop_reading()
        self.running.wait(20.2)
        self.assertTrue(self.client.wire.aborted)
        self.running.wait(0)
        self.assertTrue(self.backend.closed)
        self.assertEqual(
            (self.running.line["status"], self.running.outcomes), (200, ["client_disconnected"])
        )

    def test_end_while_paused(self) -> None:
        """A stream that is whole is over for its client when it has taken all of it."""
        self.backend.piece(delta("a"))
        self.client.stop_reading()
        self.client.wire.producer.resumeProducing()
        self.client.wire.producer.pauseProducing()
        self.backend.wire.resumeProducing()
        self.backend.piece(DONE)
        self.assertFalse(self.client.answer.whole)
        self.client.read_again()
        self.assertTrue(self.client.answer.whole)
        self.assertEqual(self.running.outcomes, ["ok"])


class KeepAlive(StreamCase):
    """SSE_KEEPALIVE: comments in the silence."""

    def start(self, *headers: str, **settings: Any) -> None:
        settings.setdefault("keepalive", 5)
        settings.setdefault("timeouts", Timeouts(response=100, idle=100))
        super().start(*headers, **settings)

    def test_silence_is_a_timeout(self) -> None:
        """A client hears from us each so many seconds, also while the backend thinks."""
        self.start(begin=False)
        self.running.wait(4.9)
        self.assertEqual(self.client.received, b"")
        self.running.wait(0.2)
        self.assertEqual(self.body, KEEPALIVE)
        self.running.wait(5.1)
        self.assertEqual(self.body, KEEPALIVE * 2)
        self.backend.begin()
        self.backend.piece(delta("hi") + DONE)
        self.assertEqual(self.body, KEEPALIVE * 2 + delta("hi") + DONE)
        self.assertEqual(self.running.line["ttft_ms"], 10200)

    def test_only_in_silence(self) -> None:
        """Between events that come often enough there is none."""
        for _ in range(5):
            self.running.wait(4.9)
            self.backend.piece(delta("x"))
        self.assertEqual(self.body, delta("x") * 5)

    def test_between_events(self) -> None:
        """It never stands inside an event, however long its second half takes."""
        self.backend.piece(delta("a") + delta("b")[:5])
        self.running.wait(5.1)
        self.backend.piece(delta("b")[5:])
        self.assertEqual(self.body, delta("a") + KEEPALIVE + delta("b"))

    def test_true_status(self) -> None:
        """A failure within the first interval has its true status, a later one is an event."""
        self.start(begin=False)
        self.running.wait(4.9)
        self.backend.answer(b"{}", status=500)
        self.assertEqual(self.client.answer.status, 502)
        self.start(begin=False)
        self.running.wait(5.1)
        self.backend.answer(b"{}", status=500)
        self.assert_broken("backend_error", "backend_error", KEEPALIVE)

    def test_held_comments(self) -> None:
        """The backend's own comments are not lost when ours comes first."""
        self.backend.piece(b": working\n\n")
        self.running.wait(5.1)
        self.backend.piece(delta("hi") + DONE)
        self.assertEqual(self.body, KEEPALIVE + b": working\n\n" + delta("hi") + DONE)

    def test_json_instead(self) -> None:
        """A plain reply after the first comment still becomes a chunk of the stream."""
        self.start(begin=False)
        self.running.wait(5.1)
        self.backend.answer(
            b'{"choices":[{"index":0,"message":{"role":"assistant","content":"hi"}}]}'
        )
        self.assertTrue(self.body.startswith(KEEPALIVE + b"data: {"))
        self.assertTrue(self.body.endswith(DONE))

    def test_slow_client(self) -> None:
        """A client that does not take what is there is not sent more of it."""
        self.backend.piece(delta("a"))
        self.client.stop_reading()
        self.running.wait(5.1)
        self.running.wait(5.1)
        self.assertEqual(self.body, delta("a"))

    def test_off(self) -> None:
        """Without the setting, and for a plain reply, there is none."""
        self.start(keepalive=0, begin=False)
        self.running.wait(50)
        self.assertEqual(self.client.received, b"")
        running = Running(backend=True, keepalive=5)
        client = running.connect()
        client.send(chat())
        running.wait(50)
        self.assertEqual(client.received, b"")

    def test_stops(self) -> None:
        """It ends with the stream, whoever ended it."""
        self.running.wait(5.1)
        self.client.close()
        self.running.wait(3)
        self.assertEqual(self.running.clock.getDelayedCalls(), [])
        self.start()
        self.backend.piece(DONE)
        self.backend.end()
        received = self.client.received
        self.running.wait(6)
        self.assertEqual(self.client.received, received)
        self.client.send(request("GET", "/healthz"))
        self.assertEqual(len(self.client.answers()), 2)
