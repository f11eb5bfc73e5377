"""A checked request in, an answer out: echo or backend."""

from __future__ import annotations

import gc
import json
import tracemalloc
import weakref
from typing import Any

from prometheus_client import generate_latest
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from infergate.backend.call import Timeouts
from infergate.backend.client import Backend
from infergate.backend.health import PROBE_INTERVAL
from infergate.worker import (
    BackendWorker,
    EchoWorker,
    IWorker,
)
from tests.unit.inmemory import (
    CHAT,
    DONE,
    Answer,
    Client,
    Running,
    chat,
    completion,
    delta,
    request,
)


class Interfaces(SynchronousTestCase):
    def test_both_workers_provide_the_interface(self) -> None:
        """Both workers do the same for the gateway."""
        echo, backend = EchoWorker("default"), Running(backend=True).worker
        self.assertIsInstance(backend, BackendWorker)
        for worker in (echo, backend):
            verifyObject(IWorker, worker)


class BackendCase(SynchronousTestCase):
    def start(self, **settings: Any) -> None:
        self.running = Running(backend=True, **settings)
        self.client = self.running.connect()

    def setUp(self) -> None:
        self.start()

    def asked(self, *headers: str, **members: Any) -> Any:
        """Send a chat; the backend's connection."""
        self.client.send(chat(*headers, **members))
        return self.running.port.connections[-1]

    def assert_failed(self, status: int, code: str, outcome: str | None = None) -> Answer:
        answer = self.client.answer
        self.assertEqual((answer.status, answer.code), (status, code))
        self.assertEqual(self.running.line["status"], status)
        self.assertEqual(self.running.line["outcome"], outcome or code)
        self.assertEqual(self.running.line["error"], code)
        self.assertEqual(self.running.in_flight, (0, 0))
        return answer


class Plain(BackendCase):
    def test_backend_gets_members_and_headers_of_the_contract(self) -> None:
        """The backend gets the members as they came and the headers of the contract, and nothing
        else of the client's."""
        backend = self.asked(
            "X-Request-ID: my-id",
            "Traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "Tracestate: a=b",
            "User-Agent: curl",
            "Cookie: canary",
            "X-Forwarded-For: canary",
            "Accept-Language: canary",
            "Authorization: Bearer canary",
            temperature=0.1,
            seed=7,
        )
        sent = backend.request
        self.assertEqual((sent.method, sent.path), ("POST", CHAT))
        headers = dict(sent.headers)
        for name in ("host", "content-length", "connection"):
            headers.pop(name, None)
        self.assertEqual(
            headers,
            {
                "content-type": "application/json",
                "accept": "application/json",
                "user-agent": "infergate/0.1.0",
                "x-request-id": "my-id",
                "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
                "tracestate": "a=b",
            },
        )
        self.assertEqual(
            sent.json,
            {
                "messages": [{"role": "user", "content": "hello"}],
                "temperature": 0.1,
                "seed": 7,
                "model": "default",
            },
        )

    def test_reply_is_the_backends_under_the_requests_id(self) -> None:
        """The reply is the backend's under the request's id, and so are its tokens."""
        backend = self.asked("X-Request-ID: my-id", model="tiny")
        self.running.wait(2)
        backend.answer(completion("hi", extra=[1.50]), "Server: backend", "Set-Cookie: a=b")
        answer = self.client.answer
        self.assertEqual((answer.status, answer.json["id"]), (200, "my-id"))
        self.assertIn(b'"extra":[1.5]', answer.body)
        self.assertNotIn("server", answer.headers)
        self.assertNotIn("set-cookie", answer.headers)
        line = self.running.line
        for name, value in (
            ("outcome", "ok"),
            ("model", "tiny"),
            ("stream", False),
            ("backend_ms", 2000),
            ("ttft_ms", None),
            ("prompt_tokens", 3),
            ("completion_tokens", 5),
            ("total_tokens", 8),
            ("usage_source", "backend"),
        ):
            self.assertEqual(line[name], value, name)

    def test_content_type_of_a_reply_reaches_the_client(self) -> None:
        """The backend's Content-Type reaches the client, where it is that of a reply."""
        for sent, received in (
            ("application/json; charset=utf-8", "application/json; charset=utf-8"),
            ("text/plain", "application/json"),
            ("", "application/json"),
        ):
            self.start()
            self.asked().answer(completion(), kind=sent)
            self.assertEqual(self.client.answer.headers["content-type"], received)

    def test_second_request_goes_over_the_same_connections(self) -> None:
        """A second request goes over the same two connections."""
        self.asked().answer(completion())
        self.asked().answer(completion())
        self.assertEqual([answer.status for answer in self.client.answers()], [200, 200])
        self.assertEqual(self.running.port.attempts, 1)

    def test_no_number_is_made_up(self) -> None:
        """Where the backend counted nothing no number is made up."""
        self.asked().answer(completion(usage=None))
        self.assertEqual(self.client.answer.json["usage"]["total_tokens"], 0)
        self.assertEqual(self.running.line["usage_source"], "none")

    def test_no_completion(self) -> None:
        """A 200 that is no completion is a backend error, and never the client's answer."""
        for body in (
            b"",
            b"<html>canary</html>",
            b"[]",
            b"{}",
            b'{"choices":[]}',
            b'{"choices":[{}]}',
            b'{"error":{"message":"canary"},"choices":[]}',
            completion()[:-1],
            b"\xff",
        ):
            self.start()
            self.asked().answer(body)
            answer = self.assert_failed(502, "backend_error")
            self.assertNotIn(b"canary", answer.body)
            self.assertEqual(answer.headers["x-should-retry"], "false")

    def test_too_large(self) -> None:
        """A reply over MAX_RESPONSE_BYTES is a backend error."""
        self.start(max_response=100)
        self.asked().answer(completion())
        self.assert_failed(502, "backend_error")


class Statuses(BackendCase):
    def test_any_success_is_one(self) -> None:
        """A completion that came under any 2xx is answered with 200."""
        for status in (200, 201, 202, 206):
            self.start()
            self.asked().answer(completion(), status=status)
            self.assertEqual(self.client.answer.status, 200)

    def test_other_status_is_a_backend_error_with_its_words(self) -> None:
        """Any status but a success and the refusals below is a backend error, with what the
        backend says of it."""
        error = {"message": "Out of memory.", "code": "oom"}
        for status in (301, 402, 405, 418, 500, 503, 529):
            self.start()
            body = json.dumps({"error": error}).encode()
            self.asked().answer(body, "Retry-After: 5", status=status)
            answer = self.assert_failed(502, "backend_error")
            self.assertEqual(answer.json["message"], "Out of memory.")
            self.assertEqual(answer.json["backend_error"], error)
            self.assertEqual(answer.headers["retry-after"], "5")
            # A backend that answers 503 or 529 has not begun: an SDK may ask again.
            advice = None if status in (503, 529) else "false"
            self.assertEqual(answer.headers.get("x-should-retry"), advice)

    def test_page_and_words_about_the_key_are_not_shown(self) -> None:
        """A page or a traceback is not shown, and what is said of the gateway's own key is not
        either: there is the status alone."""
        for status, body in (
            (401, b'{"error":{"message":"canary"}}'),
            (403, b'{"error":{"message":"canary"}}'),
            (500, b"<html>canary</html>"),
            (500, b'{"error":{"message":"canary","x":"Trac\\u0065back (most recent call last)"}}'),
            (204, b""),
        ):
            self.start()
            self.asked().answer(body, status=status)
            answer = self.assert_failed(502, "backend_error")
            self.assertNotIn(b"canary", answer.body)
            if status != 204:
                self.assertIn(str(status), answer.json["message"])

    def test_failure_is_not_read_without_an_end(self) -> None:
        """What such a status says is not read without an end: its connection is closed."""
        backend = self.asked()
        backend.send(b"HTTP/1.1 500 No\r\nContent-Length: 1000000000\r\n\r\n")
        self.assert_failed(502, "backend_error")
        self.running.wait(0)
        self.assertTrue(backend.closed)

    def test_refusal_of_the_clients_is_passed_on(self) -> None:
        """A refusal for the client's fault is passed on: status, message, error object."""
        for status in (400, 404, 409, 413, 415, 422, 429, 501):
            self.start()
            error = {"message": "The model is too small.", "type": "x", "code": 1.5}
            self.asked().answer(json.dumps({"error": error}).encode(), status=status)
            outcome = "rate_limited" if status == 429 else "client_error"
            answer = self.assert_failed(status, "backend_rejected", outcome)
            self.assertEqual(answer.json["message"], "The model is too small.")
            self.assertEqual(answer.json["backend_error"], error)
            self.assertNotIn("x-should-retry", answer.headers)

    def test_refusal_in_the_other_format_is_the_backends_object(self) -> None:
        """In the other format the error is the backend's own, its code and type included."""
        for error, status in (({"message": "No.", "code": 7, "type": "x"}, 422), (None, 404)):
            self.start(error_format="openai")
            self.asked().answer(json.dumps({"error": error}).encode(), status=status)
            shown = self.client.answer.json["error"]
            self.assertEqual(shown if error else shown["code"], error or "backend_rejected")

    def test_retry_after_reaches_the_client_once(self) -> None:
        """The backend's own Retry-After reaches the client as it came, once."""
        for status in (429, 400):
            self.start()
            backend = self.asked()
            backend.answer(b"{}", "Retry-After: Wed, 21", "Retry-After: 9", status=status)
            self.assertEqual(self.client.answer.headers["retry-after"], "Wed, 21")

    def test_retry_after_of_a_success_reaches_the_client(self) -> None:
        """A backend that has answered and asks for a pause is heard by the client."""
        self.start()
        self.asked().answer(completion(), "Retry-After: 3", "Retry-After-Ms: 2500")
        self.assertEqual(self.client.answer.headers["retry-after"], "3")
        self.assertEqual(self.client.answer.headers["retry-after-ms"], "2500")

    def test_refusal_without_words_says_its_status(self) -> None:
        """A refusal that says nothing fit to be shown still says its status."""
        for body in (b"", b"<html>canary</html>", b"[]", b'{"error":"Traceback canary'):
            self.start()
            self.asked().answer(body, status=404)
            answer = self.assert_failed(404, "backend_rejected", "client_error")
            self.assertNotIn(b"canary", answer.body)
            self.assertIn("404", answer.json["message"])
            self.assertNotIn("backend_error", answer.json)

    def test_client_that_leaves_while_a_refusal_is_read(self) -> None:
        """A client that leaves then has left, and nothing of it stays."""
        backend = self.asked()
        backend.send(b"HTTP/1.1 422 No\r\nContent-Length: 99\r\n\r\n{")
        self.client.close()
        self.assertEqual(self.running.line["outcome"], "client_disconnected")
        self.running.wait(0.5)
        self.assertTrue(backend.closed)
        self.assertEqual(self.running.clock.getDelayedCalls(), [])

    def test_refusal_says_how_the_caller_stands(self) -> None:
        """A refusal by the backend still says how the caller stands with the gateway."""
        self.start(rate="5/second")
        self.asked().answer(b"{}", status=429)
        self.assertEqual(self.client.answer.headers["x-ratelimit-remaining-requests"], "4")

    def test_refused_model_becomes_no_label(self) -> None:
        """A model that the backend refuses becomes no label."""
        self.asked(model="typo").answer(b"{}", status=404)
        self.asked(model="real").answer(completion())
        text = generate_latest(self.running.metrics.registry)
        self.assertNotIn(b"typo", text)
        self.assertIn(b'gen_ai_request_model="real"', text)


class Failures(BackendCase):
    def test_backend_that_takes_no_connection_is_unavailable(self) -> None:
        """A backend that takes no connection is unavailable; an SDK may try again."""
        self.running.port.refuse(2)
        self.client.send(chat())
        answer = self.assert_failed(502, "backend_unavailable")
        self.assertNotIn("x-should-retry", answer.headers)
        self.assertEqual(self.running.port.attempts, 2)

    def test_failure_is_never_answered_with_an_echo(self) -> None:
        """No failure of the backend is ever answered with an echo."""
        for fail in ("close", "reset"):
            self.start()
            getattr(self.asked(prompt="canary"), fail)()
            answer = self.assert_failed(502, "backend_unavailable")
            self.assertEqual(answer.headers["x-should-retry"], "false")
            self.assertNotIn(b"canary", answer.body)

    def test_silent_backend_is_a_timeout(self) -> None:
        """A backend that is silent is a timeout, and its connection is closed."""
        self.start(timeouts=Timeouts(response=2))
        backend = self.asked()
        self.running.wait(2.1)
        answer = self.assert_failed(504, "gateway_timeout", "timeout")
        self.assertEqual(answer.headers["x-should-retry"], "false")
        self.assertTrue(backend.closed)
        self.assertFalse(self.client.closed)

    def test_backend_that_stops_in_its_reply_is_a_timeout(self) -> None:
        """So is one that stops in the middle of its reply."""
        self.start(timeouts=Timeouts(idle=2))
        backend = self.asked()
        backend.begin(kind="application/json")
        backend.piece(completion()[:10])
        self.running.wait(2.1)
        self.assert_failed(504, "gateway_timeout", "timeout")
        self.running.wait(0)
        self.assertTrue(backend.closed)

    def test_reply_cut_short_is_a_backend_error(self) -> None:
        """A reply that is cut short is a backend error."""
        backend = self.asked()
        backend.begin(kind="application/json")
        backend.piece(completion()[:10])
        backend.close()
        self.assert_failed(502, "backend_error")

    def test_stream_fails_with_its_true_status_before_its_first_event(self) -> None:
        """Before its first event a stream fails like anything else, with its true status."""
        self.running.port.refuse(2)
        self.client.send(chat(stream=True))
        self.assert_failed(502, "backend_unavailable")
        self.start()
        self.asked(stream=True).answer(b"{}", status=400)
        self.assert_failed(400, "backend_rejected", "client_error")
        self.start()
        self.asked(stream=True).answer(b"{}", status=500)
        self.assert_failed(502, "backend_error")


class Leaving(BackendCase):
    def assert_left(self, backend: Any) -> None:
        self.running.wait(0)
        self.assertTrue(backend.closed)
        line = self.running.line
        self.assertEqual((line["status"], line["outcome"]), (499, "client_disconnected"))
        self.assertEqual(self.running.in_flight, (0, 0))
        self.running.wait(3)
        self.assertEqual(self.running.clock.getDelayedCalls(), [])

    def test_waiting(self) -> None:
        """A client that leaves while the backend works ends that work, plain or streamed."""
        for stream in (False, True):
            for leave in ("close", "reset"):
                self.start()
                backend = self.asked(stream=stream)
                getattr(self.client, leave)()
                self.assert_left(backend)

    def test_in_the_reply(self) -> None:
        """Also in the middle of a reply that is read to its end before it is passed on."""
        for headers in ((), ("Content-Length: 9",)):
            self.start()
            backend = self.asked()
            if headers:
                backend.send(b"HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n{")
            else:
                backend.begin(kind="application/json")
                backend.piece(b"{")
            self.client.close()
            self.assert_left(backend)

    def test_connecting(self) -> None:
        """Also before there is a connection to the backend: none is made then."""
        self.running.port.silent = True
        self.client.send(chat())
        self.client.close()
        self.assertEqual(self.running.port.abandoned, 1)
        self.assertEqual(self.running.port.attempts, 1)
        self.assertEqual(self.running.outcomes, ["client_disconnected"])
        self.assertEqual(len(self.running.deadlines), 0)

    def test_sending(self) -> None:
        """A client that leaves before its body is here never reaches the backend."""
        self.client.send(chat()[:-1])
        self.client.close()
        self.assertEqual(self.running.port.attempts, 0)
        self.assertEqual(self.running.outcomes, ["client_disconnected"])


class JSONInsteadOfAStream(BackendCase):
    def test_reply_declared_too_large_is_refused_unread(self) -> None:
        """A reply that is no stream has its bound here too, and is not waited for."""
        self.start(max_response=100)
        backend = self.asked(stream=True)
        backend.send(
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 101\r\n\r\n"
        )
        self.assert_failed(502, "backend_error")
        self.assertTrue(backend.closed)

    def test_plain_reply_to_a_stream_is_one_chunk(self) -> None:
        """A backend that answers a stream request with plain JSON gives one chunk, and the end."""
        backend = self.asked("X-Request-ID: my-id", stream=True)
        self.assertEqual(backend.request.headers["accept"], "text/event-stream")
        self.running.wait(1)
        backend.answer(completion("hi there"))
        answer = self.client.answer
        self.assertEqual(answer.headers["content-type"], "text/event-stream; charset=utf-8")
        self.assertTrue(answer.whole)
        chunk, rest = answer.body.split(b"\n\n", 1)
        self.assertEqual(rest, DONE)
        document = json.loads(chunk.removeprefix(b"data: "))
        self.assertEqual(document["id"], "my-id")
        self.assertEqual(document["choices"][0]["delta"]["content"], "hi there")
        line = self.running.line
        self.assertEqual((line["usage_source"], line["total_tokens"]), ("backend", 8))
        self.assertEqual((line["ttft_ms"], line["stream"]), (1000, True))

    def test_usage(self) -> None:
        """Who asked for usage gets it in a chunk of its own."""
        backend = self.asked(stream=True, stream_options={"include_usage": True})
        backend.answer(completion())
        usage = json.loads(self.client.answer.body.split(b"\n\n")[1].removeprefix(b"data: "))
        self.assertEqual((usage["choices"], usage["usage"]["total_tokens"]), ([], 8))

    def test_no_completion(self) -> None:
        """JSON that is no completion fails with its true status."""
        self.asked(stream=True).answer(b"{}")
        self.assert_failed(502, "backend_error")

    def test_stream_under_another_type(self) -> None:
        """A body that begins as an event stream is one, whatever its type, however it is cut."""
        stream = b"\n" + delta("hi") + DONE
        for kind in ("application/json", "text/plain", "application/octet-stream"):
            for size in (1, 3, len(stream)):
                self.start()
                backend = self.asked(stream=True)
                backend.begin(kind=kind)
                for at in range(0, len(stream), size):
                    backend.piece(stream[at : at + size])
                answer = self.client.answer
                self.assertEqual((answer.body, answer.whole), (stream, True))
                self.assertTrue(answer.headers["content-type"].startswith("text/event-stream"))

    def test_reply_in_pieces(self) -> None:
        """A plain reply that comes a byte at a time is one chunk all the same, and one that is too
        large is none."""
        for limit, status in ((1 << 20, 200), (100, 502)):
            self.start(max_response=limit)
            backend = self.asked(stream=True)
            backend.begin(kind="application/json")
            for byte in b" " + completion("hi there"):
                if not backend.closed:
                    backend.piece(bytes([byte]))
            backend.end()
            self.assertEqual(self.client.answer.status, status)

    def test_empty_body(self) -> None:
        """A body with nothing in it, or nothing but line ends, is no answer."""
        for body in (b"", b"\n", b"da"):
            self.start()
            self.asked(stream=True).answer(body, kind="text/plain")
            self.assert_failed(502, "backend_error")

    def test_stream_not_asked_for(self) -> None:
        """A stream in place of a plain reply is no completion."""
        self.asked().answer(DONE, kind="text/event-stream")
        self.assert_failed(502, "backend_error")


class Models(BackendCase):
    def models(self, *headers: str) -> Any:
        self.client.send(request("GET", "/v1/models", *headers))
        return self.running.port.connections[-1]

    def test_passed_on(self) -> None:
        """The list is the backend's own, byte for byte."""
        backend = self.models("X-Request-ID: my-id")
        sent = backend.request
        self.assertEqual((sent.method, sent.path), ("GET", "/v1/models"))
        self.assertEqual(sent.headers["x-request-id"], "my-id")
        self.assertNotIn("content-type", sent.headers)
        body = b'{"object" : "list", "data" : []}'
        backend.answer(body, "X-Other: 1", kind="application/json; charset=utf-8")
        self.assertEqual(self.client.answer.body, body)
        self.assertNotIn("x-other", self.client.answer.headers)
        content_type = self.client.answer.headers["content-type"]
        self.assertEqual(content_type, "application/json; charset=utf-8")
        self.assertIsNone(self.running.line["model"])

    def test_no_list(self) -> None:
        """What is no JSON object is a backend error."""
        for body in (b"", b"[]", b"<html>", b'{"data":[}', b"[" * 5000):
            self.start()
            self.models().answer(body)
            self.assert_failed(502, "backend_error")

    def test_no_utf_8(self) -> None:
        """JSON is UTF-8 (RFC 8259, 8.1): a list that is not would break the client's reader."""
        self.models().answer(b'{"data":[{"id":"\xff"}]}')
        self.assertEqual(self.client.answer.status, 502)

    def test_failures(self) -> None:
        """It fails like a chat."""
        self.models().answer(b'{"detail":"Not Found"}', status=404)
        answer = self.assert_failed(404, "backend_rejected", "client_error")
        self.assertEqual(answer.json["message"], "Not Found")
        self.start(timeouts=Timeouts(response=1))
        self.models()
        self.running.wait(1.1)
        self.assert_failed(504, "gateway_timeout", "timeout")


class PassingFields(SynchronousTestCase):
    """FORWARD_HEADERS and RETURN_HEADERS."""

    def setUp(self) -> None:
        self.running = Running(
            backend=True, rate="5/second", forward=(b"x-a", b"user-agent"),
            give_back=(b"x-cost", b"x-ratelimit-limit-requests"),
        )  # fmt: skip
        self.client = self.running.connect()

    def test_named_fields_go_on_to_the_backend(self) -> None:
        """The client's fields that were named reach the backend, in place of the gateway's own."""
        self.client.send(chat("X-A: one", "User-Agent: mine", "X-B: two"))
        headers = self.running.backend.request.headers
        self.assertEqual((headers["x-a"], headers["user-agent"]), ("one", "mine"))
        self.assertNotIn("x-b", headers)

    def test_named_fields_come_back_whatever_the_answer_is(self) -> None:
        """The backend's fields that were named reach the client, with a reply, a stream, a refusal
        and a failure; what the gateway says of its own limit is not said twice."""
        fields = ("X-Cost: 7", "X-Other: 8", "X-RateLimit-Limit-Requests: 9")
        for status in (200, 400, 500):
            self.client.send(chat())
            body = completion() if status == 200 else b"{}"
            self.running.port.connections[-1].answer(body, *fields, status=status)
        self.client.send(chat(stream=True))
        backend = self.running.port.connections[-1]
        backend.begin(*fields)
        backend.piece(delta("hi"))
        for answer in self.client.answers():
            self.assertEqual(answer.headers["x-cost"], "7")
            self.assertNotIn("x-other", answer.headers)
            self.assertEqual(answer.headers["x-ratelimit-limit-requests"], "5")
        self.assertEqual(len(self.client.answers()), 4)

    def test_advice_to_wait_comes_back(self) -> None:
        """The backend's Retry-After and retry-after-ms reach the client of their own."""
        self.client.send(chat())
        advice = ("Retry-After: 1", "retry-after-ms: 250")
        self.running.backend.answer(b"{}", *advice, status=429)
        headers = self.client.answer.headers
        self.assertEqual((headers["retry-after"], headers["retry-after-ms"]), ("1", "250"))


class SlowModel(SynchronousTestCase):
    def test_answer_that_takes_over_a_minute_is_delivered(self) -> None:
        """By default a backend that says that it is well is waited for; one that does not is given
        up after a minute."""
        for status in (200, 404):
            running = Running(backend=True, health_path="/health")
            client = running.connect()
            client.send(chat())
            running.pass_time(60.2)
            answering, asked = running.port.connections
            self.assertEqual(asked.request.path, "/health")
            asked.answer(b"{}", status=status)
            running.pass_time(30)
            if status == 200:
                answering.answer(completion())
                self.assertEqual(client.answer.status, 200)
            else:
                self.assertEqual(client.answer.status, 504)
                self.assertIn("BACKEND_TIMEOUT", client.answer.json["message"])


class Ready(SynchronousTestCase):
    def setUp(self) -> None:
        self.running = Running(backend=True)

    def ready(self) -> int:
        return self.running.get("/readyz").status

    def test_asked_seldom(self) -> None:
        """However often the gateway is asked, it asks the backend once in some seconds."""
        self.assertEqual([self.ready() for _ in range(5)], [200] * 5)
        self.assertEqual(self.running.port.attempts, 1)
        self.running.port.refuse(1)
        self.running.wait(PROBE_INTERVAL - 0.1)
        self.assertEqual(self.ready(), 200)
        self.running.wait(0.1)
        self.assertEqual([self.ready() for _ in range(5)], [503] * 5)
        self.assertEqual(self.running.port.attempts, 2)
        self.running.wait(PROBE_INTERVAL)
        self.assertEqual(self.ready(), 200)

    def test_says_what_the_backends_health_route_says(self) -> None:
        """With a health route /readyz tells a backend that loads its model from one that is away,
        and takes any other answer for a sign of life."""
        for status, word, said in (
            (200, "ready", 200),
            (404, "ready", 200),
            (503, "backend_loading", 503),
            (500, "backend_unavailable", 503),
        ):
            running = Running(backend=True, health_path="/health")
            client = running.connect()
            client.send(request("GET", "/readyz"))
            running.backend.answer(b"{}", status=status)
            answer = client.answer
            self.assertEqual((answer.status, answer.json), (said, {"status": word}))
            self.assertEqual(running.backend.request.path, "/health")

    def test_asked_once_for_all(self) -> None:
        """Who asks while the backend is being asked waits for the same answer."""
        self.running.port.silent = True
        clients: list[Client] = [self.running.connect() for _ in range(3)]
        for client in clients:
            client.send(request("GET", "/readyz"))
        self.assertEqual(self.running.port.attempts, 1)
        clients[0].close()
        self.assertEqual(self.running.port.abandoned, 0)
        self.running.port.give_up()
        self.assertEqual([client.answer.status for client in clients[1:]], [503, 503])
        self.assertEqual(len(clients[0].answers()), 0)


class Memory(BackendCase):
    """An exchange that has ended holds no memory, and nothing of it waits for the garbage
    collector: a prompt is large, and many of them are more than a machine has."""

    def setUp(self) -> None:
        super().setUp()
        self.seen: list[weakref.ref[Any]] = []
        made = Backend.call

        def call(backend: Backend, record: Any) -> Any:
            one = made(backend, record)
            self.seen.append(weakref.ref(one))
            return one

        self.patch(Backend, "call", call)
        began = self.running.edge.began
        self.patch(self.running.edge, "began", lambda record: (self.see(), began(record)))
        gc.disable()
        self.addCleanup(gc.enable)

    def see(self) -> None:
        self.seen.append(weakref.ref(self.client.connection._request))

    def assert_nothing_left(self, *outcomes: str, seen: int) -> None:
        self.assertEqual(self.running.outcomes, list(outcomes))
        self.assertEqual([one() for one in self.seen], [None] * seen)

    def test_plain(self) -> None:
        """A plain one."""
        self.asked().answer(completion("hi"))
        self.assert_nothing_left("ok", seen=2)

    def test_stream(self) -> None:
        """A stream."""
        backend = self.asked(stream=True)
        backend.begin()
        backend.piece(delta("hi"))
        backend.piece(DONE)
        backend.end()
        self.assert_nothing_left("ok", seen=2)

    def test_backend_that_takes_no_connection_is_unavailable(self) -> None:
        """One that the gateway refuses, or the backend."""
        self.client.send(chat(n=0))
        self.asked().answer(b"{}", status=500)
        self.asked().answer(b"{}", status=400)
        self.assert_nothing_left("client_error", "backend_error", "client_error", seen=5)

    def test_broken(self) -> None:
        """One whose backend closes, or answers nonsense."""
        self.asked().close()
        self.asked().send(b"nonsense\r\n\r\n")
        self.assert_nothing_left("backend_unavailable", "backend_error", seen=4)

    def test_left(self) -> None:
        """One whose client leaves before the answer."""
        self.asked()
        self.client.close()
        self.client.connection._request = None
        self.assert_nothing_left("client_disconnected", seen=2)

    def test_late(self) -> None:
        """One whose backend takes too long."""
        self.asked()
        self.running.wait(60.1)
        self.running.wait(0.1)
        self.assert_nothing_left("timeout", seen=2)

    def test_left_in_the_answer(self) -> None:
        """One whose client leaves while it takes the answer."""
        backend = self.asked()
        self.client.stop_reading()
        backend.answer(completion("x" * 500_000))
        self.client.reset()
        self.client.connection._request = None
        self.assert_nothing_left("client_disconnected", seen=2)

    def test_left_in_the_reply(self) -> None:
        """One whose client leaves while its reply comes."""
        backend = self.asked()
        backend.begin()
        backend.piece(b"{")
        self.client.reset()
        self.client.connection._request = None
        self.assert_nothing_left("client_disconnected", seen=2)

    def test_not_connected(self) -> None:
        """One that never had a connection, or had it at the second try."""
        self.running.port.refuse(2)
        self.client.send(chat())
        self.running.port.refuse(1)
        self.asked().answer(completion("hi"))
        self.assert_nothing_left("backend_unavailable", "ok", seen=4)

    def test_too_large(self) -> None:
        """One whose reply is too large, is cut, or is no JSON."""
        self.asked().answer(b"x" * 2_000_000)
        backend = self.asked()
        backend.begin()
        for _ in range(20):
            backend.piece(b"x" * 100_000)
        backend = self.asked()
        backend.begin()
        backend.piece(b"{")
        backend.reset()
        self.asked().answer(b"x" * 100_000)
        self.assert_nothing_left(*["backend_error"] * 4, seen=8)

    def test_nothing_of_a_prompt_or_reply_stays_in_memory(self) -> None:
        """Of prompts and replies not a byte waits for the garbage collector either."""
        tracemalloc.start()
        self.addCleanup(tracemalloc.stop)
        self.refused_by_the_backend()
        self.left_in_an_answer()
        self.waiting_for_the_backend()
        self.left_in_its_own_body()
        self.assertLess(tracemalloc.get_traced_memory()[0], 200_000)

    def left_in_an_answer(self) -> None:
        backend = self.asked()
        self.client.stop_reading()
        backend.answer(completion("x" * 500_000))
        self.client.reset()
        self.start_over()

    def refused_by_the_backend(self) -> None:
        self.running.port.refuse(2)
        self.client.send(chat(prompt="x" * 500_000))
        self.start_over()

    def waiting_for_the_backend(self) -> None:
        self.client.send(chat(prompt="x" * 500_000))
        self.start_over()

    def left_in_its_own_body(self) -> None:
        self.client.send(chat(prompt="x" * 500_000)[:-1])
        self.client.close()
        self.start_over()

    def start_over(self) -> None:
        """Forget what this test's own wires hold."""
        self.client.wire.clear()
        for connection in self.running.port.connections:
            connection.wire.clear()
        self.client = self.running.connect()
