"""The routes, and the order in which a request is checked."""

from __future__ import annotations

import json
import uuid
from functools import partial
from typing import Any
from unittest.mock import patch

from prometheus_client import generate_latest
from twisted.trial.unittest import SynchronousTestCase

from infergate.reactor import slices
from infergate.server.parser import Limits
from infergate.telemetry.exposition import TEXT
from tests.unit.inmemory import (
    CHAT,
    DONE,
    Running,
    chat,
    chat_body,
    completion,
    delta,
    request,
)

JSON_TYPE = "Content-Type: application/json"
KEY = "Authorization: Bearer key-of-bob"
ROUTES = {
    CHAT: "POST",
    "/v1/models": "GET",
    "/healthz": "GET",
    "/readyz": "GET",
    "/readyz/self": "GET",
    "/health": "GET",
    "/v1/health": "GET",
    "/metrics": "GET",
}


class Routes(SynchronousTestCase):
    def test_echo_lists_the_model_that_it_calls_itself(self) -> None:
        """With no backend the list of models holds DEFAULT_MODEL, or nothing where it is empty."""
        listed = Running().get("/v1/models").json
        self.assertEqual(listed["object"], "list")
        self.assertEqual([model["id"] for model in listed["data"]], ["default"])
        self.assertEqual(Running(default_model="").get("/v1/models").json["data"], [])

    def test_healthz_never_asks_the_backend(self) -> None:
        """The process says that it lives, without asking the backend."""
        running = Running(backend=True)
        answer = running.get("/healthz")
        self.assertEqual((answer.status, answer.json), (200, {"status": "ok"}))
        self.assertEqual(running.port.attempts, 0)
        self.assertEqual(running.line["outcome"], "ok")

    def test_readyz_says_whether_requests_can_be_served(self) -> None:
        """The process says whether it can serve: yes, draining, or that the backend is away."""
        answer = Running().get("/readyz")
        self.assertEqual((answer.status, answer.json), (200, {"status": "ready"}))
        running = Running(backend=True)
        self.assertEqual(running.get("/readyz").json, {"status": "ready"})
        running = Running(backend=True)
        running.port.refuse()
        answer = running.get("/readyz")
        self.assertEqual((answer.status, answer.json), (503, {"status": "backend_unavailable"}))
        running.edge.drain()
        self.assertEqual(running.get("/readyz").json, {"status": "draining"})

    def test_health_routes_of_llama_and_vllm_answer_as_readyz(self) -> None:
        """Probes that were written for llama.cpp or vLLM find what they look for."""
        running = Running(backend=True, keys="key", rate="1/hour")
        for path in ("/health", "/v1/health", "/health?full=1"):
            self.assertEqual(running.get(path).json, {"status": "ready"}, path)
        running.wait(60)
        running.port.refuse(2)
        for path in ("/health", "/v1/health"):
            answer = running.get(path)
            self.assertEqual(answer.status, 503)
            self.assertEqual(answer.json, {"status": "backend_unavailable"})
        self.assertEqual(running.records[0].route, "/health")

    def test_probe_that_is_not_ready_is_no_failure_and_names_its_cause(self) -> None:
        """Its line says why in the word of its answer; nothing has failed."""
        running = Running(backend=True)
        running.port.refuse()
        running.get("/readyz")
        running.edge.drain()
        running.get("/readyz/self")
        running.get("/healthz")
        self.assertEqual(
            [
                (record.status, record.outcome, record.error, record.cause)
                for record in running.records
            ],
            [
                (503, "ok", None, "backend_unavailable"),
                (503, "ok", None, "draining"),
                (200, "ok", None, None),
            ],
        )
        self.assertTrue(all(record.probe for record in running.records))

    def test_readyz_self_never_asks_the_backend(self) -> None:
        """A load balancer is told of this process alone: all replicas share the one backend."""
        running = Running(backend=True, keys="key")
        running.port.refuse()
        answer = running.get("/readyz/self")
        self.assertEqual((answer.status, answer.json), (200, {"status": "ready"}))
        self.assertEqual(running.port.attempts, 0)
        running.edge.drain()
        answer = running.get("/readyz/self")
        self.assertEqual((answer.status, answer.json), (503, {"status": "draining"}))

    def test_probes_and_metrics_are_answered_in_a_drain(self) -> None:
        """In a drain whoever watches is answered as ever, and everything else is refused."""
        running = Running()
        running.edge.drain()
        for path, status in (
            ("/healthz", 200),
            ("/readyz", 503),
            ("/readyz/self", 503),
            ("/health", 503),
            ("/v1/health", 503),
            ("/metrics", 200),
        ):
            answer = running.get(path)
            self.assertEqual(answer.status, status, path)
            self.assertNotIn(b"shutting_down", answer.body)
        for path in ("/v1/models", "/nope", "/models"):
            answer = running.get(path)
            self.assertEqual((answer.status, answer.code), (503, "shutting_down"), path)

    def test_not_found_names_the_path_that_was_likely_meant(self) -> None:
        """Whoever has left out or doubled /v1, or put a / behind, is told the right path."""
        for path, meant in (
            ("/chat/completions", CHAT),
            ("/chat/completions/", CHAT),
            ("/v1/chat/completions/", CHAT),
            ("/v1/v1/chat/completions", CHAT),
            ("/v1/v1/v1/chat/completions?a=b", CHAT),
            ("/models", "/v1/models"),
            ("/healthz/", "/healthz"),
            ("/nope", None),
            ("/v1/chat", None),
            ("/v1/", None),
        ):
            answer = Running().ask(request("POST", path))
            self.assertEqual((answer.status, answer.code), (404, "not_found"), path)
            if meant is None:
                self.assertNotIn("use", answer.json["message"], path)
            else:
                self.assertIn(f" {meant}.", answer.json["message"], path)
        running = Running(metrics_apart=True)
        self.assertNotIn("use", running.get("/metrics/").json["message"])

    def test_metrics_are_prometheus_text(self) -> None:
        """The figures are Prometheus text, of what has ended and of what is under way."""
        running = Running()
        running.ask(chat())
        answer = running.get("/metrics")
        self.assertEqual(answer.headers["content-type"], TEXT.decode())
        text = answer.body.decode()
        self.assertIn('route="/v1/chat/completions",status="200"} 1.0', text)
        self.assertIn("infergate_requests_in_flight 1.0", text)

    def test_metrics_listener_needs_no_key_and_serves_nothing_else(self) -> None:
        """With METRICS_LISTEN the figures are on their own listener, alone and without a key."""
        running = Running(metrics_apart=True, keys="key-of-bob")
        self.assertEqual(running.get("/metrics", KEY).status, 404)
        self.assertEqual(running.records[0].route, "other")
        apart = running.connect(edge=running.metrics_edge)
        self.assertEqual(apart.ask(request("GET", "/metrics")).status, 200)
        for path in ("/healthz", "/v1/models", "/"):
            self.assertEqual(apart.ask(request("GET", path)).code, "not_found")
        self.assertEqual(apart.ask(request("POST", "/metrics")).code, "method_not_allowed")

    def test_other_paths_are_not_found_however_near(self) -> None:
        """Any other path is a 404 in JSON, however near it comes to a route."""
        for path in (
            "/",
            "/v1",
            "/v1/",
            "/v1/nothing",
            "/healthz/",
            "//healthz",
            "/./healthz",
            "/%68ealthz",
            "/HEALTHZ",
            "/v1/chat/completions/",
            "/v1//models",
            "/healthz;x",
        ):
            running = Running()
            answer = running.get(path)
            self.assertEqual((answer.status, answer.code), (404, "not_found"), path)
            self.assertEqual(answer.headers["content-type"], "application/json")
            self.assertEqual(running.records[0].route, "other", path)
            self.assertEqual(running.line["path"], path)

    def test_other_paths_are_not_found_whatever_the_method(self) -> None:
        """A path that is no route is a 404 for every method, and takes no label of its own."""
        for path in ("//healthz", "///v1/models", "/v1//models", "/nope"):
            for method in ("PUT", "DELETE", "OPTIONS"):
                running = Running()
                answer = running.ask(request(method, path))
                self.assertEqual((answer.status, answer.code), (404, "not_found"), path)
                self.assertEqual(running.records[0].route, "other", path)

    def test_host_changes_no_route(self) -> None:
        """Whatever host a client calls us, a path that is no route is a 404."""
        for host in ("gateway", "a..b", "x" * 64, "[::1]:8080", "127.0.0.1:80", "xn--a", "."):
            data = f"GET /nope HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()
            self.assertEqual(Running().ask(data).code, "not_found", host)

    def test_query_changes_no_route_and_is_never_logged(self) -> None:
        """A query changes nothing about the route, and is never logged."""
        running = Running()
        self.assertEqual(running.get("/healthz?token=canary").status, 200)
        self.assertNotIn("canary", str(running.line))

    def test_wrong_method_is_told_the_right_ones(self) -> None:
        """A route with another method is a 405 that says which there are."""
        for path, right in ROUTES.items():
            running = Running(keys="key-of-bob")
            for method in ("GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"):
                if method == right:
                    continue
                answer = running.ask(request(method, path))
                self.assertEqual((answer.status, answer.code), (405, "method_not_allowed"))
                allowed = answer.headers["allow"].split(", ")
                self.assertEqual(allowed, ["GET", "HEAD"] if right == "GET" else ["POST"])
                self.assertEqual(running.records[-1].route, path)

    def test_wrong_method_at_a_model_is_counted_under_the_route_of_all(self) -> None:
        """Whatever ids clients make up, they are one label of the metrics."""
        for method in ("POST", "DELETE", "OPTIONS"):
            running = Running()
            self.assertEqual(running.ask(request(method, "/v1/models/made/up")).status, 405)
            self.assertEqual(running.records[0].route, "/v1/models/{id}")

    def test_head_is_get_without_its_body(self) -> None:
        """HEAD is GET without the body, for every route that GET has."""
        for path in (path for path, method in ROUTES.items() if method == "GET"):
            client = Running().connect()
            client.send(request("HEAD", path) + request("HEAD", path))
            answers = client.answers(bodiless=True)
            self.assertEqual([answer.status for answer in answers], [200, 200], path)
            self.assertGreater(int(answers[0].headers["content-length"]), 0)

    def test_absolute_target_is_the_path_in_it(self) -> None:
        """A target in absolute form is the path in it (RFC 9112, 3.2.2)."""
        answer = Running().ask(request("GET", "http://gateway/healthz"))
        self.assertEqual(answer.status, 200)


class Ids(SynchronousTestCase):
    def everywhere(self, running: Running, data: bytes) -> None:
        answer = running.ask(data)
        self.assertEqual(answer.headers["x-request-id"], "my-id")
        if answer.status >= 400:
            self.assertEqual(answer.json["request_id"], "my-id")
        self.assertEqual(running.line["request_id"], "my-id")

    def test_everywhere(self) -> None:
        """A client's id is in the answer of every route, in every error, and in the log."""
        given = "X-Request-ID: my-id"
        for path, method in ROUTES.items():
            self.everywhere(Running(), request(method, path, given))
            self.everywhere(Running(), request("DELETE", path, given))
        self.everywhere(Running(), request("GET", "/nope", given))
        self.everywhere(Running(), request("GET", "/", given, "Expect: tea"))
        self.everywhere(Running(error_format="openai"), chat(given, model=7))

    def test_in_the_reply(self) -> None:
        """It is the id of a plain reply, and of the chunks that an echo is streamed in."""
        reply = Running().ask(chat("Request-Id: my-id")).json
        self.assertEqual(reply["id"], "my-id")
        body = Running().ask(chat("Request-Id: my-id", stream=True)).body
        self.assertEqual(json.loads(body.split(b"\n")[0][6:])["id"], "my-id")

    def test_made(self) -> None:
        """Where there is none, one is made, and is the same everywhere."""
        running = Running()
        answer = running.ask(chat())
        made = answer.headers["x-request-id"]
        self.assertEqual(uuid.UUID(made).version, 4)
        self.assertEqual((answer.json["id"], running.line["request_id"]), (made, made))


class Echo(SynchronousTestCase):
    def test_plain(self) -> None:
        """Without a backend the reply is the last user content, and its words are counted."""
        running = Running()
        answer = running.ask(chat(prompt="good old days", model="any"))
        reply = answer.json
        self.assertEqual(answer.headers["content-type"], "application/json")
        self.assertEqual(reply["object"], "chat.completion")
        self.assertEqual(reply["model"], "any")
        (choice,) = reply["choices"]
        self.assertEqual(choice["message"], {"role": "assistant", "content": "Echo: good old days"})
        self.assertEqual(choice["finish_reason"], "stop")
        usage = {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}
        self.assertEqual(reply["usage"], usage)
        line = running.line
        self.assertEqual({name: line[name] for name in usage}, usage)
        self.assertEqual(line["usage_source"], "counted")
        self.assertEqual((line["model"], line["stream"]), ("any", False))
        self.assertEqual((line["ttft_ms"], line["backend_ms"]), (None, None))

    def test_streamed(self) -> None:
        """Streamed, it is one chunk with the whole reply, and then the end."""
        running = Running()
        answer = running.ask(chat(prompt="good old days", stream=True))
        self.assertEqual(answer.headers["content-type"], "text/event-stream; charset=utf-8")
        self.assertEqual(answer.headers["cache-control"], "no-cache")
        self.assertTrue(answer.whole)
        chunk, done, nothing = answer.body.split(b"\n\n")
        self.assertEqual((done, nothing), (b"data: [DONE]", b""))
        document = json.loads(chunk.removeprefix(b"data: "))
        self.assertEqual(document["choices"][0]["delta"]["content"], "Echo: good old days")
        line = running.line
        self.assertEqual((line["stream"], line["ttft_ms"]), (True, 0))
        self.assertEqual(running.in_flight, (0, 0))

    def test_usage(self) -> None:
        """A client that asks for usage in its stream gets it, in a chunk without choices."""
        body = Running().ask(chat(stream=True, stream_options={"include_usage": True})).body
        usage = json.loads(body.split(b"\n\n")[1].removeprefix(b"data: "))
        self.assertEqual((usage["choices"], usage["usage"]["total_tokens"]), ([], 3))

    def test_http_1_0(self) -> None:
        """An HTTP/1.0 client gets its stream too, ended by the end of the connection."""
        running = Running()
        client = running.connect()
        client.send(chat(stream=True, version="1.0"))
        self.assertTrue(client.answer.body.endswith(DONE))
        self.assertTrue(client.wire.lost)
        self.assertFalse(client.wire.aborted)


class Contract(SynchronousTestCase):
    def refused(self, body: bytes, **settings: Any) -> tuple[int, str, str | None]:
        running = Running(backend=True, **settings)
        answer = running.ask(request("POST", CHAT, JSON_TYPE, body=body))
        self.assertEqual(running.port.attempts, 0, "the backend saw it")
        self.assertEqual(running.line["outcome"], "client_error")
        self.assertEqual(running.line["error"], answer.code)
        self.assertEqual(running.records[0].route, CHAT)
        return answer.status, answer.code, answer.json["param"]

    def test_codes(self) -> None:
        """Whatever is wrong with a body is a 400 with its code and the member at fault, and never
        reaches the backend."""
        for members, code, param in (
            ({"model": 5}, "invalid_model", "model"),
            ({"messages": []}, "invalid_messages", "messages"),
            ({"messages": [{"role": 1, "content": ""}]}, "invalid_messages", "messages[0].role"),
            ({"messages": [{"role": "user"}]}, "invalid_messages", "messages[0].content"),
            ({"stream": 1}, "invalid_stream", "stream"),
            ({"max_tokens": 0}, "invalid_max_tokens", "max_tokens"),
            ({"max_tokens": 1001}, "invalid_max_tokens", "max_tokens"),
            ({"max_completion_tokens": True}, "invalid_max_tokens", "max_completion_tokens"),
            ({"temperature": -1}, "invalid_temperature", "temperature"),
            ({"top_p": "1"}, "invalid_top_p", "top_p"),
            ({"stop": [1]}, "invalid_stop", "stop[0]"),
            ({"n": 0}, "invalid_n", "n"),
            ({"stream_options": []}, "invalid_stream_options", "stream_options"),
        ):
            self.assertEqual(self.refused(chat_body(**members)), (400, code, param), members)
        self.assertEqual(self.refused(b"{}", default_model="")[1], "invalid_model")
        self.assertEqual(self.refused(b"{}")[1], "invalid_messages")
        self.assertEqual(self.refused(b"{")[1], "invalid_json")
        self.assertEqual(self.refused(b"")[1], "invalid_json")
        self.assertEqual(self.refused(b"[]")[1], "invalid_request")

    def test_media_type(self) -> None:
        """A body that is not declared JSON in UTF-8, or is compressed, is a 415."""
        for headers in (
            (),
            ("Content-Type: text/plain",),
            ("Content-Type: application/json; charset=latin-1",),
            (JSON_TYPE, "Content-Encoding: gzip"),
        ):
            answer = Running().ask(request("POST", CHAT, *headers, body=chat_body()))
            self.assertEqual((answer.status, answer.code), (415, "unsupported_media_type"))

    def test_sizes(self) -> None:
        """A body over MAX_BODY_BYTES is a 413, declared or in chunks, and one at it is none."""
        body = chat_body()
        for limit, status in ((len(body), 200), (len(body) - 1, 413)):
            running = Running(framing=Limits(body=limit))
            self.assertEqual(running.ask(chat()).status, status)
            chunked = request("POST", CHAT, JSON_TYPE, "Transfer-Encoding: chunked")
            for size in (len(body), 7):
                running = Running(framing=Limits(body=limit))
                pieces = [body[at : at + size] for at in range(0, len(body), size)]
                chunks = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
                answer = running.ask(chunked + chunks + b"0\r\n\r\n")
                self.assertEqual(answer.status, status)
                if status == 413:
                    self.assertEqual(answer.code, "body_too_large")
                    self.assertEqual(running.line["outcome"], "client_error")


class Order(SynchronousTestCase):
    """Each request here breaks several rules; the first in the order is the one it is told of."""

    def first(self, data: bytes, **settings: Any) -> str:
        running = Running(backend=True, keys="bob:key-of-bob", framing=Limits(body=100), **settings)
        code = running.ask(data).code
        self.assertEqual(running.port.attempts, 0)
        return code

    def test_framing_first(self) -> None:
        """Broken framing comes before everything, in the head or in the body beside it."""
        for data in (
            request("PUT", "/nope", "Content-Length: x"),
            request("POST", "/nope", "Transfer-Encoding: chunked") + b"zz\r\n",
            request("POST", CHAT, "Transfer-Encoding: chunked") + b"5\r\nhellooo",
        ):
            self.assertEqual(self.first(data), "bad_request")

    def test_route_before_credentials(self) -> None:
        """404 and 405 come before 401."""
        self.assertEqual(self.first(request("GET", "/nope")), "not_found")
        self.assertEqual(self.first(request("PUT", CHAT)), "method_not_allowed")

    def test_credentials_before_size(self) -> None:
        """401 comes before 413 and 415."""
        self.assertEqual(self.first(request("POST", CHAT, "Content-Length: 101")), "unauthorized")

    def test_credentials_before_rate(self) -> None:
        """401 comes before the caller's own 429."""
        running = Running(keys="key-of-bob", rate="1/hour")
        running.ask(request("GET", "/v1/models", KEY))
        self.assertEqual(running.ask(chat(KEY)).code, "rate_limit_exceeded")
        self.assertEqual(running.ask(chat()).code, "unauthorized")

    def test_rate_before_size(self) -> None:
        """429 comes before 413 and 415."""
        running = Running(rate="1/hour", framing=Limits(body=100))
        running.ask(request("GET", "/v1/models"))
        too_large = request("POST", CHAT, "Content-Length: 101")
        self.assertEqual(running.ask(too_large).code, "rate_limit_exceeded")

    def test_size_before_media_type(self) -> None:
        """413 comes before 415, and both before the body."""
        head = request("POST", CHAT, KEY, "Content-Type: text/plain", "Content-Length: 101")
        self.assertEqual(self.first(head), "body_too_large")
        head = request("POST", CHAT, KEY, "Content-Type: text/plain", "Content-Length: 100")
        self.assertEqual(self.first(head), "unsupported_media_type")

    def test_media_type_before_body(self) -> None:
        """415 comes before the real size and before the JSON."""
        head = request("POST", CHAT, KEY, "Transfer-Encoding: chunked")
        self.assertEqual(self.first(head + b"65\r\n" + b"x" * 101), "unsupported_media_type")
        chunked = request("POST", CHAT, KEY, JSON_TYPE, "Transfer-Encoding: chunked")
        self.assertEqual(self.first(chunked + b"65\r\n" + b"x" * 101), "body_too_large")

    def test_json_before_schema(self) -> None:
        """Bad JSON is told of before anything that it says."""
        body = b'{"stream":1,"messages":[}'
        data = request("POST", CHAT, KEY, JSON_TYPE, body=body)
        self.assertEqual(self.first(data), "invalid_json")


class Continue(SynchronousTestCase):
    """A client that sends its head, and its body when it is told to."""

    def expecting(self, *headers: str, path: str = CHAT, length: int | None = None) -> bytes:
        length = len(chat_body()) if length is None else length
        fields = ("Expect: 100-continue", f"Content-Length: {length}", *headers)
        return request("POST", path, *fields)

    def test_refused_without(self) -> None:
        """What the head alone decides is decided before the client is told to go on."""
        running = Running(keys="key-of-bob", rate="2/hour", framing=Limits(body=100))
        for data, status in (
            (self.expecting(path="/nope"), 404),
            (self.expecting(path="/v1/models"), 405),
            (self.expecting(JSON_TYPE), 401),
            (self.expecting(KEY, JSON_TYPE, length=101), 413),
            (self.expecting(KEY), 415),
            (self.expecting(KEY, JSON_TYPE), 429),
        ):
            client = running.connect()
            client.send(data)
            self.assertEqual(client.answer.status, status)
            self.assertTrue(client.closed)

    def test_told(self) -> None:
        """A good head is answered 100, once, and the body then decides."""
        running = Running()
        client = running.connect()
        client.send(self.expecting(JSON_TYPE))
        self.assertEqual([answer.status for answer in client.answers()], [100])
        body = chat_body()
        client.send(body[:10])
        client.send(body[10:])
        self.assertEqual([answer.status for answer in client.answers()], [100, 200])
        self.assertFalse(client.closed)


class Failing(SynchronousTestCase):
    def broken(self, **settings: Any) -> Running:
        class Broken:
            """A worker that is at fault itself."""

            async def answer(self, operation: Any, ask: Any, request: Any) -> None:
                if ask.stream:
                    request.begin(200, b"text/event-stream")
                raise ZeroDivisionError("canary")

            async def models(self, request: Any, allows: Any = None) -> None:
                raise ZeroDivisionError("canary")

        return Running(wrap=lambda _: Broken(), **settings)

    def test_own_fault(self) -> None:
        """A fault of the gateway's own is a 500 without a traceback; the log has one, with the
        id."""
        running = self.broken()
        for data in (chat(), request("GET", "/v1/models")):
            answer = running.ask(data)
            self.assertEqual((answer.status, answer.code), (500, "internal_error"))
            self.assertNotIn(b"canary", answer.body)
            self.assertNotIn(b"Traceback", answer.body)
        self.assertEqual(running.outcomes, ["internal_error"] * 2)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 2)

    def test_own_fault_in_a_stream(self) -> None:
        """In the middle of a stream it is one error event and a cut."""
        running = self.broken()
        answer = running.ask(chat(stream=True))
        self.assertIn(b'"code":"internal_error"', answer.body)
        self.assertFalse(answer.whole)
        self.assertEqual(running.in_flight, (0, 0))
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)


class Concurrency(SynchronousTestCase):
    def test_not_mixed_up(self) -> None:
        """However the backend's answers come, each goes to the request that it is for."""
        running = Running(backend=True)
        clients = [running.connect() for _ in range(20)]
        for number, client in enumerate(clients):
            client.send(
                chat(f"X-Request-ID: id-{number}", prompt=f"p{number}", stream=bool(number % 2))
            )
        backends = sorted(running.port.connections, key=lambda c: hash(c.request.body))
        for backend in backends:
            document = backend.request.json
            prompt = document["messages"][0]["content"]
            if document.get("stream"):
                backend.begin()
                backend.piece(delta(prompt, finish_reason="stop") + DONE)
                backend.end()
            else:
                backend.answer(completion(prompt))
        for number, client in enumerate(clients):
            answer = client.answer
            self.assertEqual(answer.headers["x-request-id"], f"id-{number}")
            self.assertIn(f'"content": "p{number}"'.encode(), answer.body)
        self.assertEqual(running.outcomes, ["ok"] * 20)
        self.assertEqual(running.in_flight, (0, 0))


class Endless(SynchronousTestCase):
    def test_model_name(self) -> None:
        """A name as long as a book does not fill the log, nor the metrics."""
        running = Running()
        running.ask(chat(model="m" * 9999))
        self.assertEqual(running.line["model"], "m" * 256)
        self.assertLess(len(generate_latest(running.metrics.registry)), 100_000)

    def test_metrics_apart(self) -> None:
        """With a port of their own, the main one knows nothing of the metrics."""
        running = Running(metrics_apart=True)
        for method in ("GET", "PUT"):
            answer = running.ask(request(method, "/metrics"))
            self.assertEqual((answer.status, running.records[-1].route), (404, "other"))

    def test_draining(self) -> None:
        """A drain says on a limited route, too, how its caller stands."""
        running = Running(rate="5/minute")
        running.edge.refusing = True
        answer = running.get("/v1/models")
        self.assertEqual((answer.status, answer.code), (503, "shutting_down"))
        self.assertEqual(answer.headers["x-ratelimit-limit-requests"], "5")
        self.assertEqual(running.records[-1].route, "/v1/models")


class CausesInTheLog(SynchronousTestCase):
    """What an operator reads beside the error."""

    def cause(self, running: Running) -> object:
        return running.line["cause"]

    def test_request_that_is_too_slow_names_the_setting(self) -> None:
        """HEADER_TIMEOUT and BODY_TIMEOUT are told apart, in the answer too."""
        for data, setting in (
            (b"GET /healthz HTTP/1.1\r\n", "HEADER_TIMEOUT"),
            (chat()[:-5], "BODY_TIMEOUT"),
        ):
            running = Running()
            client = running.connect()
            client.send(data)
            running.pass_time(61, step=1)
            self.assertEqual(client.answer.status, 408)
            self.assertIn(setting, client.answer.json["message"])
            self.assertEqual(self.cause(running), setting)

    def test_client_that_takes_nothing_is_told_from_one_that_leaves(self) -> None:
        """Both are gone; the one was cut for WRITE_STALL_TIMEOUT."""
        for stalls, cause in ((True, "WRITE_STALL_TIMEOUT"), (False, None)):
            running = Running(backend=True)
            client = running.connect()
            client.send(chat(stream=True))
            running.backend.begin()
            running.backend.piece(delta("a" * 100))
            if stalls:
                client.stop_reading()
                running.pass_time(61, step=1)
            else:
                client.close()
            line = running.line
            self.assertEqual((line["outcome"], line["cause"]), ("client_disconnected", cause))

    def test_backend_that_fails_is_named_by_its_status(self) -> None:
        """The status, and not what was said with it, which may quote a prompt."""
        running = Running(backend=True)
        client = running.connect()
        client.send(chat())
        running.backend.answer(b'{"error":{"message":"canary"}}', status=500)
        self.assertEqual(self.cause(running), "backend answered 500")
        self.assertEqual(running.line["backend_status"], 500)

    def test_reply_that_is_none_says_what_is_wrong_with_it(self) -> None:
        """In the gateway's own words."""
        running = Running(backend=True)
        client = running.connect()
        client.send(chat())
        running.backend.answer(b"canary")
        self.assertIn("not valid JSON", str(self.cause(running)))
        self.assertNotIn("canary", str(self.cause(running)))
        self.assertEqual(running.line["backend_status"], 200)

    def test_good_exchange_has_none(self) -> None:
        """Nor has what is the client's fault and named by its code."""
        running = Running()
        running.ask(chat())
        running.ask(chat(messages=[]))
        self.assertEqual([line["cause"] for line in running.lines], [None, None])


class Timing(SynchronousTestCase):
    """What a client is told of where the time went."""

    def timing(self, answer: Any) -> dict[str, float]:
        entries = answer.headers["server-timing"].split(", ")
        pairs = (entry.split(";dur=") for entry in entries)
        return {name: float(duration) for name, duration in pairs}

    def test_reply_says_how_long_the_backend_took(self) -> None:
        """From the call to the head of its reply."""
        running = Running(backend=True)
        client = running.connect()
        client.send(chat())
        running.wait(0.6)
        running.backend.answer(completion())
        timing = self.timing(client.answer)
        self.assertEqual(list(timing), ["admission", "checks", "backend"])
        self.assertAlmostEqual(timing["backend"], 600, delta=1)

    def test_stream_says_when_its_first_event_came(self) -> None:
        """Its head, and comments, are no answer yet."""
        running = Running(backend=True)
        client = running.connect()
        client.send(chat(stream=True))
        running.wait(0.2)
        running.backend.begin()
        running.backend.piece(b": wait\n\n")
        running.wait(0.3)
        running.backend.piece(delta("a"))
        self.assertAlmostEqual(self.timing(client.answer)["backend"], 500, delta=1)

    def test_error_says_what_is_known(self) -> None:
        """A refused request has come as far as it has come."""
        running = Running(backend=True, keys="alice:key-of-alice")
        answer = running.ask(chat())
        self.assertEqual((answer.status, "server-timing" in answer.headers), (401, False))
        answer = running.ask(chat("Authorization: Bearer key-of-alice", messages=[]))
        self.assertEqual((answer.status, list(self.timing(answer))), (400, ["admission"]))
        client = running.connect()
        client.send(chat("Authorization: Bearer key-of-alice"))
        running.backend.answer(b"{}", status=500)
        self.assertEqual(list(self.timing(client.answer)), ["admission", "checks", "backend"])

    def test_only_operations_say_it(self) -> None:
        """A probe has nothing to tell."""
        self.assertNotIn("server-timing", Running().get("/healthz").headers)


class Traces(SynchronousTestCase):
    """The trace that a client has begun."""

    GOOD = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

    def asked(self, *headers: str) -> tuple[dict[str, object], dict[str, str]]:
        """The log line of a request, and what the backend saw of it."""
        running = Running(backend=True)
        client = running.connect()
        client.send(chat(*headers))
        seen = running.backend.request.headers
        running.backend.answer(completion())
        return running.line, seen

    def test_trace_is_in_the_log_and_goes_on(self) -> None:
        """Without tracing of our own there is no span of ours in it."""
        line, seen = self.asked(f"traceparent: {self.GOOD}", "tracestate: a=b")
        self.assertEqual(line["trace_id"], "0af7651916cd43dd8448eb211c80319c")
        self.assertIsNone(line["span_id"])
        self.assertEqual((seen["traceparent"], seen["tracestate"]), (self.GOOD, "a=b"))

    def test_broken_trace_ends_here(self) -> None:
        """It is in no log and reaches no backend."""
        for headers in (
            ("traceparent: 00-1-2-01", "tracestate: a=b"),
            (f"traceparent: {self.GOOD}", f"traceparent: {self.GOOD}"),
            (f"traceparent: ff{self.GOOD[2:]}",),
            ("tracestate: a=b",),
        ):
            line, seen = self.asked(*headers)
            self.assertIsNone(line["trace_id"])
            self.assertEqual({"traceparent", "tracestate"} & set(seen), set())


class LargeTexts(SynchronousTestCase):
    def setUp(self) -> None:
        self.patch(slices, "SLICE", 0)  # each step is one too many for an iteration
        self.running = Running(backend=True, framing=Limits(body=1 << 23), max_response=1 << 23)
        self.later: list[Any] = []

    def others_turn(self, times: int) -> None:
        """So many event loop iterations, in each of which somebody else is answered."""
        for _ in range(times):
            self.later.pop(0)()
            self.assertEqual(self.running.ask(request("GET", "/healthz")).status, 200)

    def held(self) -> Any:
        """What is put off to another event loop iteration goes to `later`."""

        def call_later(_: float, call: Any, *args: Any) -> None:
            self.later.append(partial(call, *args))

        return patch.object(self.running.clock, "callLater", call_later)

    def test_others_have_their_turn_while_a_large_body_is_judged(self) -> None:
        """While a body of many megabytes is looked at, others are served in between; it goes on all
        the same, and a client that leaves meanwhile is no fault."""
        client, leaver = self.running.connect(), self.running.connect()
        with self.held():
            for one in (client, leaver):
                one.send(chat(prompt="x" * (1 << 21)))
            self.others_turn(20)
            self.assertEqual(self.running.port.connections, [])
            leaver.close()
            while self.later:
                self.later.pop(0)()
        self.assertEqual(self.running.outcomes, [*["ok"] * 20, "client_disconnected"])
        self.assertGreater(len(self.running.backend.received), 1 << 21)

    def test_others_have_their_turn_while_a_large_reply_is_judged(self) -> None:
        """The same for what the backend answers."""
        client = self.running.connect()
        client.send(chat())
        message = {"role": "assistant", "content": "x" * (1 << 21)}
        with self.held():
            self.running.backend.answer(json.dumps({"choices": [{"message": message}]}).encode())
            self.others_turn(20)
            self.assertEqual(client.received, b"")
            while self.later:
                self.later.pop(0)()
        self.assertEqual(client.answer.json["choices"][0]["message"], message)

    def test_large_body_at_fault_is_told_of_its_first_fault(self) -> None:
        """What takes long to judge comes before what stands after it in the contract's order."""
        good = [{"role": "user", "content": "x" * 600_000}]
        for messages, model, param in (
            ([*good, {"role": 1}], "m", "messages[1].role"),
            (good, "m", "temperature"),
            ([*good, {"role": 1}], 5, "model"),
        ):
            client = self.running.connect()
            client.send(chat(model=model, messages=messages, temperature="hot"))
            self.assertIn(b"`%b`" % param.encode(), client.received)


class Origins(SynchronousTestCase):
    def test_page_sees_why_its_head_was_refused(self) -> None:
        """An answer to a listed origin says so also where the request's head was no good; one to
        another origin, or to two at once, does not."""
        good, other = "Origin: https://a.example", "Origin: https://b.example"
        for method, path, field, status in (
            ("GET", "/" + "x" * 9000, "A: b", 414),
            ("GET", "/healthz", "A: \x01", 400),
            ("BREW", "/healthz", "A: b", 501),
            ("GET", "/healthz", "A: " + "x" * 20_000, 431),
        ):
            running = Running(cors="https://a.example")
            for origins, allowed in (([good], "https://a.example"), ([other], None)):
                answer = running.ask(request(method, path, *origins, field))
                self.assertEqual(answer.status, status)
                self.assertEqual(answer.headers.get("access-control-allow-origin"), allowed)
            answer = running.ask(request(method, path, good, other, field))
            self.assertNotIn("access-control-allow-origin", answer.headers)
