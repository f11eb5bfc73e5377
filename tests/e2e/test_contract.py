"""The routes, requests, replies, errors, log lines and metrics that the world outside relies on."""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
from contextlib import ExitStack
from typing import Any
from unittest import skipUnless

from prometheus_client.parser import text_string_to_metric_families
from twisted.trial.unittest import SynchronousTestCase

from tests.e2e.faulty_backend import (
    CLOSE,
    DONE,
    EVENTS,
    HOLD,
    RESET,
    ROLE,
    STOP,
    STREAM_HEAD,
    USAGE,
    WORDS,
    FaultyBackend,
    chunk,
    completion,
    head,
    pause,
    stream,
    whole,
)
from tests.e2e.harness import (
    OFF,
    Process,
    SharedProcesses,
    chat,
    gateway,
    get,
    post,
    running,
    wait_for,
)
from tests.e2e.wire import Answer, ask, receive
from tests.unit.telemetry.test_jsonlines import CONTRACT as LOG_FIELDS

skip = OFF

CHAT = "/v1/chat/completions"
UUID4 = re.compile("[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")

METRICS = {
    "http_server_request_duration_seconds": {
        "http_route",
        "http_request_method",
        "http_response_status_code",
        "error_type",
    },
    "gen_ai_server_request_duration_seconds": {
        "gen_ai_operation_name",
        "gen_ai_request_model",
        "error_type",
    },
    "gen_ai_server_time_to_first_token_seconds": {
        "gen_ai_operation_name",
        "gen_ai_request_model",
        "error_type",
    },
    "gen_ai_server_time_per_output_token_seconds": {
        "gen_ai_operation_name",
        "gen_ai_request_model",
        "error_type",
    },
    "gen_ai_client_token_usage": {"gen_ai_token_type", "gen_ai_request_model"},
    "infergate_requests": {"route", "status", "outcome"},
    "infergate_requests_in_flight": set(),
    "infergate_streams_in_flight": set(),
    "infergate_overhead_seconds": set(),
    "infergate_connections": set(),
    "infergate_reactor_lag_seconds": set(),
    "infergate_log_lines_dropped": set(),
    "infergate_limited": {"limit"},
    # Of callers, without their samples where no key is needed.
    "infergate_caller_requests": set(),
    "infergate_caller_tokens": set(),
    "infergate_caller_tokens_limit": set(),
    "infergate_caller_tokens_used": set(),
    "infergate_build_info": {"version", "python", "twisted"},
}
"""The labels of each; the parser takes the `_total` off the counter."""


def send(port: int, request: bytes, *, shut: bool = False) -> Answer:
    """The answer to bytes that are or are not a request."""
    connection = socket.create_connection(("127.0.0.1", port), 10)
    connection.sendall(request)
    if shut:
        connection.shutdown(socket.SHUT_WR)
    return receive(connection, 10)


def get_request(target: str = "/healthz", *fields: str, method: str = "GET") -> bytes:
    return "\r\n".join([f"{method} {target} HTTP/1.1", "Host: test", *fields, "", ""]).encode()


class ContractCase(SharedProcesses):
    gateway: Process

    def assertRefused(
        self, answer: Answer, status: int, code: str, outcome: str, *members: str, at: str = ""
    ) -> dict[str, Any]:
        """An error in the form of the contract, and its one line in the log."""
        where = f"{at}: {answer}"
        self.assertEqual((answer.status, answer.ended), (status, "length"), where)
        self.assertEqual(answer.fields["content-type"], "application/json", where)
        document: dict[str, Any] = answer.document
        expected = {"error", "message", "request_id", *members, *["param"] * (status == 400)}
        self.assertEqual(set(document), expected, where)
        self.assertEqual(document["error"], code, where)
        self.assertRegex(document["message"], r"^[A-Z`][^\n]*\.$", where)
        self.assertEqual(document["request_id"], answer.fields["x-request-id"], where)
        line = self.gateway.request_line(document["request_id"])
        found = (line["status"], line["error"], line["outcome"])
        self.assertEqual(found, (status, code, outcome), where)
        return document


class EchoTests(ContractCase):
    """With no backend and no setting."""

    @classmethod
    def start(cls, stack: ExitStack) -> None:
        cls.gateway = gateway()
        stack.enter_context(running(cls.gateway))

    @skipUnless(shutil.which("curl"), "needs curl")
    def test_curl(self) -> None:
        """Each route answers curl as the table of routes says."""

        def curl(path: str, *options: str) -> tuple[str, str]:
            shown = "\n%{http_code} %{content_type}"
            command = ["curl", "-sS", "--max-time", "10", "-w", shown, self.gateway.url + path]
            done = subprocess.run([*command, *options], capture_output=True, text=True, check=True)
            body, _, line = done.stdout.rpartition("\n")
            return body, line

        asked = ("-H", "Content-Type: application/json", "-d")
        plain = '{"messages":[{"role":"user","content":"Hello, gateway"}]}'
        body, line = curl(CHAT, *asked, plain)
        self.assertEqual(line, "200 application/json")
        self.assertEqual(
            json.loads(body)["choices"][0]["message"]["content"], "Echo: Hello, gateway"
        )
        body, line = curl(CHAT, "-N", *asked, '{"stream":true,' + plain[1:])
        self.assertEqual(line, "200 text/event-stream; charset=utf-8")
        self.assertTrue(body.endswith("\n\ndata: [DONE]\n\n"), body)
        body, line = curl("/v1/models")
        self.assertEqual(line, "200 application/json")
        listed = json.loads(body)
        self.assertEqual(
            (listed["object"], [(model["id"], model["object"]) for model in listed["data"]]),
            ("list", [("default", "model")]),
        )
        self.assertEqual(curl("/healthz"), ('{"status":"ok"}', "200 application/json"))
        self.assertEqual(curl("/readyz"), ('{"status":"ready"}', "200 application/json"))
        body, line = curl("/metrics")
        self.assertTrue(line.startswith("200 text/plain"), line)
        self.assertIn("infergate_requests_total", body)
        body, line = curl("/nowhere")
        self.assertEqual((json.loads(body)["error"], line[:3]), ("not_found", "404"))
        body, line = curl("/healthz", "-X", "DELETE")
        self.assertEqual((json.loads(body)["error"], line[:3]), ("method_not_allowed", "405"))

    def test_other_paths(self) -> None:
        """A path that is no route is a 404 in JSON, whatever the method; never a redirect."""
        for path in ("/v1", CHAT + "/", "/healthz/", "//healthz", "/HEALTHZ", "/v1/images"):
            for method in ("GET", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"):
                answer = send(self.gateway.port, get_request(path, method=method))
                self.assertRefused(answer, 404, "not_found", "client_error", at=f"{method} {path}")

    def test_other_methods(self) -> None:
        """A route under another method is a 405 that names those it has."""
        allowed = {CHAT: "POST", "/v1/models": "GET, HEAD", "/healthz": "GET, HEAD"}
        allowed |= {"/readyz": "GET, HEAD", "/metrics": "GET, HEAD"}
        for path, methods in allowed.items():
            for method in ("DELETE", "PATCH", "GET" if path == CHAT else "POST"):
                answer = send(self.gateway.port, get_request(path, method=method))
                self.assertRefused(answer, 405, "method_not_allowed", "client_error")
                self.assertEqual(answer.fields["allow"], methods)

    def test_query(self) -> None:
        """A query after a route's path changes nothing."""
        self.assertEqual(get(self.gateway.url + "/healthz?a=b")[2], b'{"status":"ok"}')

    def test_request_id_kept(self) -> None:
        """`X-Request-ID`, else `Request-Id`, is the answer's and the log's id, if it can be one."""
        longest = "x" * 128
        for fields, kept in (
            (["X-Request-ID: A-z0._:-"], "A-z0._:-"),
            (["X-Request-ID: Root=1-67;a/b+c|{d},<e>"], "Root=1-67;a/b+c|{d},<e>"),
            (["Request-Id: second"], "second"),
            (["Request-Id: other", "X-Request-ID: first"], "first"),
            ([f"X-Request-ID: {longest}"], longest),
            (["X-Request-ID: not this one", "Request-Id: fallback"], "fallback"),
        ):
            answer = send(self.gateway.port, post({}, *fields))
            self.assertEqual(answer.fields["x-request-id"], kept)
            self.assertEqual(answer.document["id"], kept)
            self.assertEqual(self.gateway.request_line(kept)["path"], CHAT)

    def test_request_id_made(self) -> None:
        """Without an id that can be one, the request gets a new UUID 4."""
        for value in ("", "x" * 129, "a b", "é", 'a"b', "a\\b"):
            answer = send(self.gateway.port, post({}, f"X-Request-ID: {value}"))
            self.assertRegex(answer.fields["x-request-id"], UUID4)
            self.assertEqual(answer.document["id"], answer.fields["x-request-id"])

    def test_request_id_everywhere(self) -> None:
        """Every response of every route carries an id, also where there was hardly a request."""
        requests = [get_request(path) for path in ("/healthz", "/readyz", "/metrics", "/v1/models")]
        requests += [get_request("/x"), get_request(CHAT), post(b"{"), post({"stream": True})]
        requests += [b"\x00\r\n\r\n", b"GET / HTTP/3.0\r\n\r\n", get_request("/" + "x" * 9000)]
        for request in requests:
            answer = send(self.gateway.port, request)
            self.assertRegex(answer.fields["x-request-id"], UUID4)
            self.gateway.request_line(answer.fields["x-request-id"])

    def test_echo(self) -> None:
        """The echo is a whole chat completion, its tokens counted as words."""
        messages = [
            {"role": "system", "content": "be brief"},
            {"role": "user", "content": "one two three"},
            {"role": "assistant", "content": "x"},
        ]
        answer = ask(self.gateway.port, "echo", messages=messages, model="any", body=None)
        document = answer.document
        self.assertIsInstance(document.pop("created"), int)
        self.assertEqual(
            document,
            {
                "id": "echo",
                "object": "chat.completion",
                "model": "any",
                "choices": [
                    {
                        "index": 0,
                        "message": {"role": "assistant", "content": "Echo: one two three"},
                        "finish_reason": "stop",
                    }
                ],
                "usage": {"prompt_tokens": 6, "completion_tokens": 4, "total_tokens": 10},
            },
        )
        self.assertEqual(self.gateway.request_line("echo")["usage_source"], "counted")

    def test_prompt(self) -> None:
        """The prompt is the last user content: a string, or the text of its parts, or nothing."""
        user, parts = (
            {"role": "user"},
            [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}],
        )
        for messages, said in (
            ([{**user, "content": "first"}, {**user, "content": "last"}], "Echo: last"),
            ([{**user, "content": parts}], "Echo: a\nb"),
            ([{"role": "system", "content": "nobody asked"}], "Echo: "),
        ):
            _, _, body = chat(self.gateway.url, {"messages": messages})
            self.assertEqual(json.loads(body)["choices"][0]["message"]["content"], said)

    def test_streamed_echo(self) -> None:
        """The echo of a stream request is one chunk with the whole reply, then the end."""
        answer = ask(self.gateway.port, "chunk", stream=True)
        self.assertEqual(answer.fields["content-type"], "text/event-stream; charset=utf-8")
        first, end = answer.events
        self.assertEqual((end, answer.ended), (b"data: [DONE]", "last_chunk"))
        document = json.loads(first.removeprefix(b"data: "))
        self.assertEqual(document["object"], "chat.completion.chunk")
        self.assertEqual(
            document["choices"],
            [
                {
                    "index": 0,
                    "delta": {"role": "assistant", "content": "Echo: hello"},
                    "finish_reason": "stop",
                }
            ],
        )
        self.assertNotIn("usage", document)

    def test_streamed_echo_with_usage(self) -> None:
        """A client that asks for the usage of a stream gets it in a chunk of its own."""
        answer = ask(
            self.gateway.port, "usage", stream=True, stream_options={"include_usage": True}
        )
        _, usage, end = answer.events
        self.assertEqual(end, b"data: [DONE]")
        document = json.loads(usage.removeprefix(b"data: "))
        self.assertEqual(document["choices"], [])
        counted = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}
        self.assertEqual(document["usage"], counted)

    def test_schema(self) -> None:
        """Each checked member refuses what it must not be, with its code and its place."""
        user = {"role": "user", "content": "x"}
        for member, value, code, param in (
            ("model", 5, "invalid_model", "model"),
            ("messages", None, "invalid_messages", "messages"),
            ("messages", [], "invalid_messages", "messages"),
            ("messages", {}, "invalid_messages", "messages"),
            ("messages", "hello", "invalid_messages", "messages"),
            ("messages", [user, 5], "invalid_messages", "messages[1]"),
            ("messages", [user, {"content": "x"}], "invalid_messages", "messages[1].role"),
            ("messages", [{"role": 7, "content": "x"}], "invalid_messages", "messages[0].role"),
            ("messages", [{"role": "user"}], "invalid_messages", "messages[0].content"),
            ("messages", [user | {"content": None}], "invalid_messages", "messages[0].content"),
            ("messages", [user | {"content": 5}], "invalid_messages", "messages[0].content"),
            ("messages", [user | {"content": ["x"]}], "invalid_messages", "messages[0].content[0]"),
            ("messages", [{"role": "assistant"}], "invalid_messages", "messages[0].content"),
            ("stream", 1, "invalid_stream", "stream"),
            ("stream", 1.0, "invalid_stream", "stream"),
            ("stream", "true", "invalid_stream", "stream"),
            ("max_tokens", True, "invalid_max_tokens", "max_tokens"),
            ("max_tokens", 0, "invalid_max_tokens", "max_tokens"),
            ("max_tokens", 131073, "invalid_max_tokens", "max_tokens"),
            ("max_tokens", 1.5, "invalid_max_tokens", "max_tokens"),
            ("max_tokens", 10**300, "invalid_max_tokens", "max_tokens"),
            ("max_completion_tokens", -1, "invalid_max_tokens", "max_completion_tokens"),
            ("max_completion_tokens", "9", "invalid_max_tokens", "max_completion_tokens"),
            ("temperature", -0.1, "invalid_temperature", "temperature"),
            ("temperature", True, "invalid_temperature", "temperature"),
            ("temperature", "1", "invalid_temperature", "temperature"),
            ("top_p", -1, "invalid_top_p", "top_p"),
            ("top_p", [], "invalid_top_p", "top_p"),
            ("stop", 5, "invalid_stop", "stop"),
            ("stop", ["a", 5], "invalid_stop", "stop[1]"),
            ("n", 0, "invalid_n", "n"),
            ("n", True, "invalid_n", "n"),
            ("stream_options", [], "invalid_stream_options", "stream_options"),
            ("stream_options", True, "invalid_stream_options", "stream_options"),
        ):
            body = json.dumps({"messages": [user], member: value}).encode()
            answer = send(self.gateway.port, post(body))
            document = self.assertRefused(answer, 400, code, "client_error", at=f"{body!r}")
            self.assertEqual(document["param"], param, body)

    def test_schema_lets_in(self) -> None:
        """What the contract allows is let in: null is absence, and an assistant may only call."""
        calling = {"role": "assistant", "content": None, "tool_calls": [{"id": "a"}]}
        for members in (
            {"model": None, "stream": None, "max_tokens": None, "temperature": None, "n": None},
            {"top_p": None, "stop": None, "stream_options": None, "max_completion_tokens": None},
            {"max_tokens": 131072, "max_completion_tokens": 1, "temperature": 5, "top_p": 0},
            {"stop": ["a", "b"], "n": 2, "stream": False, "stream_options": {}},
            {"stop": "a", "temperature": 0.0, "unknown": {"a": [1, None]}},
            {"messages": [calling, {"role": "tool", "content": "x", "tool_call_id": "a"}]},
            {"messages": [{"role": "assistant", "tool_calls": [{"id": "a"}]}]},
            {"messages": [{"role": "anything", "content": [], "extra": 5}]},
        ):
            self.assertEqual(chat(self.gateway.url, members)[0], 200, members)

    def test_json(self) -> None:
        """What is not JSON is `invalid_json`, and what is no object is `invalid_request`."""
        for body, code in (
            (b"", "invalid_json"),
            (b"{", "invalid_json"),
            (b'{"messages": []', "invalid_json"),
            (b'{"messages": []} x', "invalid_json"),
            (b'\xef\xbb\xbf{"messages": []}', "invalid_json"),
            (b'{"messages": [], "x": "\xff"}', "invalid_json"),
            (b'{"x": NaN}', "invalid_json"),
            (b'{"temperature": Infinity}', "invalid_json"),
            (b'{"x": "\\ud800"}', "invalid_json"),
            (b'{"x": ' + b"[" * 200 + b"]" * 200 + b"}", "invalid_json"),
            (b'{"x": ' + b"9" * 401 + b"}", "invalid_json"),
            ('{"messages": []}'.encode("utf-16"), "invalid_json"),
            (b"[1, 2", "invalid_json"),
            (b"[]", "invalid_request"),
            (b'"text"', "invalid_request"),
            (b"null", "invalid_request"),
            (b"5", "invalid_request"),
        ):
            answer = send(self.gateway.port, post(body))
            document = self.assertRefused(answer, 400, code, "client_error", at=f"{body[:40]!r}")
            self.assertIsNone(document["param"])

    def test_framing(self) -> None:
        """A request that breaks HTTP is refused with its status, and the connection closed."""
        long = "x" * 8000
        chunked = ("Content-Type: application/json", "Transfer-Encoding: chunked")
        for request, status, code in (
            (b"nonsense\r\n\r\n", 400, "bad_request"),
            (b"GET /healthz HTTP/1.1\r\n\r\n", 400, "bad_request"),
            (get_request("/healthz", "Host: second"), 400, "bad_request"),
            (get_request("/healthz", "Bad Name: x"), 400, "bad_request"),
            (get_request("/healthz", "A: b\r\n folded"), 400, "bad_request"),
            (get_request("/healthz").replace(b"\r\n", b"\n"), 400, "bad_request"),
            (get_request(CHAT, "Content-Length: 1", "Content-Length: 2"), 400, "bad_request"),
            (get_request(CHAT, "Content-Length: +1", method="POST"), 400, "bad_request"),
            (post({}, "Transfer-Encoding: chunked"), 400, "bad_request"),
            (get_request(CHAT, *chunked, method="POST") + b"zz\r\n", 400, "bad_request"),
            (get_request(f"/{long}"), 414, "uri_too_long"),
            (
                get_request("/", f"A: {long}", f"B: {long}", "C: " + "x" * 400),
                431,
                "headers_too_large",
            ),
            (get_request("/", *(f"A{n}: b" for n in range(100))), 431, "headers_too_large"),
            (post({}, "Expect: a-miracle"), 417, "expectation_failed"),
            (get_request("/", method="BREW"), 501, "not_implemented"),
            (get_request("/", method="TRACE"), 501, "not_implemented"),
            (get_request(CHAT, "Transfer-Encoding: gzip", method="POST"), 501, "not_implemented"),
            (b"GET / HTTP/2.0\r\nHost: test\r\n\r\n", 505, "http_version_not_supported"),
        ):
            answer = send(self.gateway.port, request)
            self.assertRefused(answer, status, code, "client_error", at=f"{request[:60]!r}")
            self.assertEqual(answer.fields["connection"], "close", request[:60])

    def test_body_too_large(self) -> None:
        """A body that is declared too large is a 413 before any of it, and before any 100."""
        declared = post(b"")
        declared = declared.replace(b"Content-Length: 0", b"Content-Length: 33554433")
        for request in (declared, declared[:-2] + b"Expect: 100-continue\r\n\r\n"):
            answer = send(self.gateway.port, request)
            self.assertRefused(answer, 413, "body_too_large", "client_error")
            self.assertEqual(answer.fields["connection"], "close")

    def test_continue(self) -> None:
        """A client that waits for 100 Continue gets it once its head has passed every check."""
        request = post({}, "Expect: 100-continue")
        head_end = request.index(b"\r\n\r\n") + 4
        with socket.create_connection(("127.0.0.1", self.gateway.port), 10) as connection:
            connection.sendall(request[:head_end])
            self.assertEqual(connection.recv(99), b"HTTP/1.1 100 Continue\r\n\r\n")
            connection.sendall(request[head_end:])
            self.assertEqual(receive(connection).status, 200)

    def test_media_type(self) -> None:
        """A body that is not declared as plain JSON in UTF-8 is a 415."""
        body = json.dumps({"messages": [{"role": "user", "content": "x"}]}).encode()
        declared = b"Content-Type: application/json"
        for fields, status in (
            (b"Content-Type: application/json; charset=utf-8", 200),
            (b'content-type: APPLICATION/JSON;charset="UTF-8"', 200),
            (b"Content-Type: text/plain", 415),
            (b"Content-Type: application/json; charset=latin-1", 415),
            (b"Content-Type: application/x-www-form-urlencoded", 415),
            (b"X-Nothing: declared", 415),
            (declared + b"\r\nContent-Encoding: gzip", 415),
        ):
            answer = send(self.gateway.port, post(body).replace(declared, fields))
            self.assertEqual(answer.status, status, fields)
            if status == 415:
                self.assertRefused(answer, 415, "unsupported_media_type", "client_error")

    def test_order_of_checks(self) -> None:
        """Of several faults the first in the order of the checks is named."""
        wrong = post(b"{", "X-A: b").replace(b"application/json", b"text/plain")
        huge = wrong.replace(b"Content-Length: 1", b"Content-Length: 99999999")
        self.assertEqual(send(self.gateway.port, wrong).code, "unsupported_media_type")
        self.assertEqual(send(self.gateway.port, huge).code, "body_too_large")
        self.assertEqual(
            send(self.gateway.port, huge.replace(b"POST", b"PUT")).code, "method_not_allowed"
        )
        self.assertEqual(
            send(self.gateway.port, huge.replace(b"Host: test\r\n", b"")).code, "bad_request"
        )

    def test_log_line(self) -> None:
        """The line of a request has these fields in this order, and its numbers are right."""
        request = post({"model": "m"}, "X-Request-ID: line", "x-stainless-retry-count: 2")
        answer = send(self.gateway.port, request)
        line = self.gateway.request_line("line")
        self.assertEqual(list(line), LOG_FIELDS)
        self.assertRegex(line["time"], r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$")
        self.assertGreater(line["latency_ms"], 0)
        known = {
            "event": "request",
            "level": "info",
            "client": "127.0.0.1",
            "caller": None,
            "method": "POST",
            "path": CHAT,
            "operation": "chat",
            "cause": None,
            "backend_status": None,
            "trace_id": None,
            "span_id": None,
            "status": 200,
            "outcome": "ok",
            "error": None,
            "model": "m",
            "stream": False,
            "ttft_ms": None,
            "backend_ms": None,
            "prompt_tokens": 1,
            "completion_tokens": 2,
            "total_tokens": 3,
            "usage_source": "counted",
            "bytes_in": len(request.partition(b"\r\n\r\n")[2]),
            "bytes_out": len(answer.body),
            "retry_count": 2,
        }
        self.assertEqual(known, {name: line[name] for name in known})

    def test_log_line_of_a_stream(self) -> None:
        """A stream's line says so, and when its first token came."""
        ask(self.gateway.port, "streamed", stream=True)
        line = self.gateway.request_line("streamed")
        self.assertTrue(line["stream"])
        self.assertLessEqual(line["ttft_ms"], line["latency_ms"])

    def test_log_line_of_who_left(self) -> None:
        """A client that leaves before it was answered is in the log, with status 499."""
        request = post({}, "X-Request-ID: gone")
        with socket.create_connection(("127.0.0.1", self.gateway.port)) as connection:
            connection.sendall(request[:-5])
        line = self.gateway.request_line("gone")
        self.assertEqual((line["status"], line["outcome"]), (499, "client_disconnected"))

    def settled(self) -> dict[str, float]:
        """The metrics, once no exchange is under way but that which asks for them. One ends when
        the client's kernel has its last byte, which may be after the client has seen it."""
        found: dict[str, float] = {}

        def alone() -> bool:
            found.update(self.gateway.metrics())
            return found["infergate_requests_in_flight"] == 1

        wait_for(alone, 5, "every exchange to end")
        return found

    def test_one_line_each(self) -> None:
        """Requests and lines are as many, on one connection, on several, and on a closed one."""
        self.settled()
        before = {line["request_id"] for line in self.gateway.requests()}
        kept = get_request("/healthz", "X-Request-ID: kept") * 3
        closed = get_request("/healthz", "X-Request-ID: closed", "Connection: close")
        answer = send(self.gateway.port, kept + closed + kept)
        self.assertEqual(answer.status, 200)
        with socket.create_connection(("127.0.0.1", self.gateway.port)):
            pass  # a connection without a request has no line
        get(self.gateway.url + "/healthz", {"X-Request-ID": "last"})
        self.gateway.request_line("last")
        ids = [line["request_id"] for line in self.gateway.requests()]
        # The line of the scrape that saw all others ended may come after `before` was taken.
        new = [name for name in ids if name not in before and len(name) < 36]
        self.assertEqual(new, ["kept"] * 3 + ["closed", "last"])

    def test_metrics(self) -> None:
        """The metrics have these names and labels and no others."""
        ask(self.gateway.port, "metrics-plain")
        ask(self.gateway.port, "metrics-streamed", stream=True)
        text = get(self.gateway.url + "/metrics")[2].decode()
        found: dict[str, set[str]] = {}
        for family in text_string_to_metric_families(text):
            labels = found.setdefault(family.name, set())
            for sample in family.samples:
                labels |= set(sample.labels) - {"le"}
        ours = {name: labels for name, labels in found.items() if not name.startswith("process_")}
        self.assertEqual(ours, METRICS)
        self.assertIn("process_resident_memory_bytes", found)

    def test_metrics_count(self) -> None:
        """A request is counted under its route, status and outcome, and its tokens are added up."""
        url = self.gateway.url
        before = self.settled()
        chat(url, {})
        chat(url, {"stream": True})
        chat(url, {"n": 0})
        get(url + "/secret/path")
        send(self.gateway.port, get_request("/x", method="BREW"))
        after = self.settled()
        requests = 'infergate_requests_total{outcome="%s",route="%s",status="%s"}'
        http = (
            'http_server_request_duration_seconds_count{error_type="%s",http_request_method="%s",'
            'http_response_status_code="%s",http_route="%s"}'
        )
        used = (
            'gen_ai_client_token_usage_sum{gen_ai_request_model="default",gen_ai_token_type="%s"}'
        )
        chats = (
            'gen_ai_server_%s_seconds_count{error_type="",gen_ai_operation_name="chat",'
            'gen_ai_request_model="default"}'
        )
        for name, more in {
            requests % ("ok", CHAT, 200): 2,
            requests % ("client_error", CHAT, 400): 1,
            requests % ("client_error", "other", 404): 1,
            http % ("", "POST", 200, CHAT): 2,
            http % ("invalid_n", "POST", 400, CHAT): 1,
            http % ("not_found", "GET", 404, "other"): 1,
            http % ("not_implemented", "other", 501, "other"): 1,
            used % "input": 2,
            used % "output": 4,
            chats % "request_duration": 2,
            chats % "time_to_first_token": 1,
            chats % "time_per_output_token": 1,
            "infergate_overhead_seconds_count": 2,
        }.items():
            self.assertEqual(after.get(name, 0) - before.get(name, 0), more, name)
        self.assertEqual(after["infergate_streams_in_flight"], 0)
        self.assertNotIn("secret", get(url + "/metrics")[2].decode())

    def test_no_complaint(self) -> None:
        """Nothing that a client does is an error of the gateway's."""
        self.assertEqual(self.gateway.complaints(), [])


class BackendTests(ContractCase):
    """With a backend that keeps what it got, and answers each request as its test says."""

    backend: FaultyBackend

    @classmethod
    def start(cls, stack: ExitStack) -> None:
        cls.backend = FaultyBackend((whole(completion()),))
        stack.callback(cls.backend.stop)
        settings = {
            "BACKEND_URL": cls.backend.url + "/v1/",
            "BACKEND_API_KEY": "of-the-gateway",
            "BACKEND_TIMEOUT": "1",
            "STREAM_IDLE_TIMEOUT": "1",
        }
        cls.gateway = gateway(settings)
        stack.enter_context(running(cls.gateway))

    def answered(self, request_id: str, *script: Any, **members: Any) -> Answer:
        """The gateway's answer where the backend plays `script`."""
        self.backend.scripts[request_id] = script
        return ask(self.gateway.port, request_id, **members)

    def test_headers_to_the_backend(self) -> None:
        """The backend sees what the contract names, and nothing else of the client's."""
        parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
        trace = [f"traceparent: {parent}", "tracestate: a=b"]
        hidden = ["Authorization: Bearer of-the-client", "Cookie: a=b", "X-Forwarded-For: 1.2.3.4"]
        hidden += ["Accept: text/html", "Accept-Encoding: gzip", "User-Agent: me", "X-Custom: x"]
        hidden += ["Request-Id: other", "Forwarded: for=1.2.3.4", "OpenAI-Organization: x"]
        for request_id, streamed in (("to-plain", False), ("to-stream", True)):
            ask(self.gateway.port, request_id, *trace, *hidden, stream=streamed)
            lines = self.backend.exchange(request_id).head.decode().split("\r\n")[:-2]
            self.assertEqual(lines[0], f"POST {CHAT} HTTP/1.1")
            fields = dict(line.lower().split(": ", 1) for line in lines[1:])
            self.assertEqual(len(fields), len(lines) - 1)
            fields.pop("connection", None)
            self.assertRegex(fields.pop("user-agent"), r"^infergate/[0-9.]+$")
            self.assertGreater(int(fields.pop("content-length")), 0)
            self.assertEqual(
                fields,
                {
                    "host": self.backend.url.removeprefix("http://"),
                    "content-type": "application/json",
                    "accept": "text/event-stream" if streamed else "application/json",
                    "x-request-id": request_id,
                    "authorization": "bearer of-the-gateway",
                    "traceparent": parent,
                    "tracestate": "a=b",
                },
            )

    def test_members_to_the_backend(self) -> None:
        """Every member reaches the backend byte for byte, and no model where none was named."""
        members = (
            '"messages":[ {"role" : "user","content":"caf\\u00e9 \U0001f600", "x":1e2} ]',
            '"seed":-0.0',
            '"tools":[ {"type":"function" , "function":{"name":"f","parameters":{}}} ]',
            '"response_format":{"type":"json_schema","json_schema":{ "a":[1.0,1e5,null] }}',
            '"temperature":1.50',
            '"grammar":"root ::= \\"a\\" \\/ \\u0062"',
            '"n_probs":' + "9" * 400,
            '"unknown":null',
        )
        send(
            self.gateway.port, post(("{" + ", ".join(members) + "}").encode(), "X-Request-ID: raw")
        )
        body = self.backend.exchange("raw").body.decode()
        self.assertEqual(body, "{" + ",".join(members) + "}")

    def test_what_was_judged_is_what_is_sent(self) -> None:
        """Of a member given twice the last counts and goes; a null among the checked stays out."""
        body = b'{"n":0,"messages":[{"role":"user","content":"x"}],"stop":null,"n":2,"model":"a"}'
        send(self.gateway.port, post(body, "X-Request-ID: twice"))
        got = self.backend.exchange("twice").body
        self.assertEqual(got.count(b'"n"'), 1)
        self.assertEqual(
            json.loads(got), {"n": 2, "messages": [{"role": "user", "content": "x"}], "model": "a"}
        )

    def test_usage_is_asked_for(self) -> None:
        """A stream's usage is asked for with whatever other options it came with."""
        ask(self.gateway.port, "asks", stream=True, stream_options={"other": 1})
        options = json.loads(self.backend.exchange("asks").body)["stream_options"]
        self.assertEqual(options, {"other": 1, "include_usage": True})

    def test_plain_reply(self) -> None:
        """A plain reply is the backend's own but for its id; no other header of its comes along."""
        reply = completion(usage={"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5})
        reply = reply.replace(b"5}", b'5, "cached" : 1.50}').replace(b'"faulty"', b'"f\\u0061ulty"')
        fields = (b"Set-Cookie: a=b", b"Server: x", b"X-Request-ID: of-the-backend")
        answer = self.answered("reply", whole(reply, *fields))
        self.assertEqual(answer.status, 200)
        document = json.loads(reply) | {"id": "reply"}
        self.assertEqual(answer.document, document)
        self.assertIn(b'"cached" : 1.50', answer.body)
        self.assertIn(b'"f\\u0061ulty"', answer.body)
        names = ["content-length", "content-type", "date", "server-timing", "x-request-id"]
        self.assertEqual(sorted(answer.fields), names)
        line = self.gateway.request_line("reply")
        usage = ("prompt_tokens", "completion_tokens", "total_tokens", "usage_source")
        self.assertEqual([line[name] for name in usage], [3, 2, 5, "backend"])
        self.assertGreater(line["backend_ms"], 0)

    def test_filled_in(self) -> None:
        """What a backend leaves out of a plain reply is filled in, and no usage is made up."""
        choices = [{"message": {"role": "assistant", "content": "x"}}]
        body = json.dumps({"choices": choices}).encode()
        document = self.answered("filled", whole(body), model="asked-for").document
        self.assertIsInstance(document.pop("created"), int)
        self.assertEqual(
            document,
            {
                "id": "filled",
                "object": "chat.completion",
                "model": "asked-for",
                "choices": [{**choices[0], "index": 0, "finish_reason": "stop"}],
                "usage": {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0},
            },
        )
        self.assertEqual(self.gateway.request_line("filled")["usage_source"], "none")

    def test_stream(self) -> None:
        """A stream's events pass unchanged; the usage that only the gateway asked for does not."""
        script = stream(ROLE, WORDS, STOP, USAGE, DONE)
        answer = self.answered("events", script, stream=True)
        self.assertEqual((answer.status, answer.ended), (200, "last_chunk"))
        self.assertEqual(answer.body, ROLE + WORDS + STOP + DONE)
        wants = {"include_usage": True}
        answer = self.answered("with-usage", script, stream=True, stream_options=wants)
        self.assertEqual(answer.body, ROLE + WORDS + STOP + USAGE + DONE)
        for request_id in ("events", "with-usage"):
            line = self.gateway.request_line(request_id)
            self.assertEqual((line["total_tokens"], line["usage_source"]), (5, "backend"))

    def test_json_for_a_stream(self) -> None:
        """A backend that answers a stream request with JSON gives one chunk and the end."""
        answer = self.answered("fallback", whole(completion()), stream=True)
        first, end = answer.events
        document = json.loads(first.removeprefix(b"data: "))
        self.assertEqual((document["id"], end), ("fallback", b"data: [DONE]"))
        self.assertEqual(document["choices"][0]["delta"]["content"], "Hello there")

    def test_rejected(self) -> None:
        """The backend's own refusals pass with their status, message, error and `Retry-After`."""
        error = {"message": "The context is too small.", "type": "exceed_context", "n_ctx": 512}
        body = json.dumps({"error": error}).encode()
        for status in (400, 404, 409, 413, 415, 422, 429):
            said = whole(body, b"Retry-After: 7", status=b"%d Whatever" % status)
            answer = self.answered(f"rejected-{status}", said)
            outcome = "rate_limited" if status == 429 else "client_error"
            document = self.assertRefused(
                answer, status, "backend_rejected", outcome, "backend_error"
            )
            self.assertEqual(document["message"], error["message"])
            self.assertEqual(document["backend_error"], error)
            self.assertEqual(answer.fields["retry-after"], "7")

    def test_backend_errors(self) -> None:
        """Each way in which a backend fails has its row of the table of errors."""
        page = b"<html>Traceback (most recent call last)</html>"
        for name, script, status, code, outcome in (
            ("500", [whole(page, status=b"500 x")], 502, "backend_error", "backend_error"),
            ("302", [head(b"302 x", b"Location: /x")], 502, "backend_error", "backend_error"),
            ("401", [whole(b"{}", status=b"401 x")], 502, "backend_error", "backend_error"),
            ("403", [whole(b"{}", status=b"403 x")], 502, "backend_error", "backend_error"),
            ("page", [whole(page)], 502, "backend_error", "backend_error"),
            ("no-choices", [whole(b"{}")], 502, "backend_error", "backend_error"),
            ("short", [whole(completion())[:-9], CLOSE], 502, "backend_error", "backend_error"),
            ("reset", [RESET], 502, "backend_unavailable", "backend_unavailable"),
            ("closed", [CLOSE], 502, "backend_unavailable", "backend_unavailable"),
            ("silent", [HOLD], 504, "gateway_timeout", "timeout"),
        ):
            answer = self.answered(f"fails-{name}", *script)
            self.assertRefused(answer, status, code, outcome, at=name)
            self.assertEqual(answer.fields["x-should-retry"], "false", name)
            self.assertNotIn(b"Traceback", answer.body)

    def test_stream_breaks(self) -> None:
        """A stream that has begun and fails ends in one error event, no [DONE], and a cut."""
        begun = STREAM_HEAD + chunk(ROLE + WORDS)
        for name, ending, code, outcome in (
            ("cut", [pause(0.1), RESET], "backend_error", "backend_error"),
            ("stalled", [HOLD], "gateway_timeout", "timeout"),
        ):
            answer = self.answered(f"stream-{name}", begun, *ending, stream=True)
            self.assertEqual(answer.status, 200)
            self.assertIn(answer.ended, ("fin", "reset"))
            *events, last = answer.events
            self.assertEqual(b"\n\n".join(events) + b"\n\n", ROLE + WORDS)
            error = json.loads(last.removeprefix(b"data: "))["error"]
            self.assertEqual(set(error), {"message", "type", "code"})
            self.assertEqual((error["type"], error["code"]), ("server_error", code))
            line = self.gateway.request_line(f"stream-{name}")
            self.assertEqual((line["status"], line["outcome"]), (200, outcome))
            self.assertEqual((line["completion_tokens"], line["usage_source"]), (2, "counted"))

    def test_stream_fails_before_it_begins(self) -> None:
        """A stream that fails before its first whole event still has its true status."""
        begun = head(b"200 OK", EVENTS) + b": a comment\n\n" + ROLE[:9]
        answer = self.answered("early", begun, CLOSE, stream=True)
        self.assertRefused(answer, 502, "backend_error", "backend_error")

    def test_models(self) -> None:
        """The list of models is the backend's own."""
        listed = b'{"object": "list", "data": [{"id": "m", "extra" : 1.0}]}'
        self.backend.scripts["models"] = (whole(listed),)
        answer = send(self.gateway.port, get_request("/v1/models", "X-Request-ID: models"))
        self.assertEqual((answer.status, answer.body), (200, listed))
        got = self.backend.exchange("models").head
        self.assertTrue(got.startswith(b"GET /v1/models HTTP/1.1\r\n"), got)
        self.assertIn(b"Bearer of-the-gateway", got)

    def test_models_fail(self) -> None:
        """A list of models that cannot be had is an error like any other."""
        self.backend.scripts["no-models"] = (whole(b"<html>", status=b"500 x"),)
        answer = send(self.gateway.port, get_request("/v1/models", "X-Request-ID: no-models"))
        self.assertRefused(answer, 502, "backend_error", "backend_error")

    def test_nothing_invalid_reaches_the_backend(self) -> None:
        """A request that fails a check never reaches the backend."""
        for number, request in enumerate(
            [
                post(b"{", f"X-Request-ID: bad-{0}"),
                post({"n": 0}, f"X-Request-ID: bad-{1}"),
                post({}, "Content-Encoding: gzip", f"X-Request-ID: bad-{2}"),
                post({}, "Transfer-Encoding: chunked", f"X-Request-ID: bad-{3}"),
            ]
        ):
            self.assertGreaterEqual(send(self.gateway.port, request).status, 400)
            self.assertNotIn(f"bad-{number}", self.backend.exchanges)

    def test_models_become_labels(self) -> None:
        """A model's name becomes a label once the backend has accepted it, and not before."""
        refusal = whole(b"{}", status=b"404 Not Found")
        self.answered("label-no", refusal, model="made-up")
        self.answered("label-yes", whole(completion()), model="served")
        text = get(self.gateway.url + "/metrics")[2].decode()
        self.assertIn('gen_ai_request_model="served"', text)
        self.assertIn('gen_ai_request_model="other"', text)
        self.assertNotIn("made-up", text)

    def test_no_complaint(self) -> None:
        """Nothing that a backend does is an error of the gateway's."""
        self.assertEqual(self.gateway.complaints(), [])

    def test_no_words_in_the_log(self) -> None:
        """No prompt and no reply is ever logged."""
        said = whole(completion(choices=[{"message": {"role": "assistant", "content": "REPLIED"}}]))
        self.answered("words", said, messages=[{"role": "user", "content": "PROMPTED"}])
        self.gateway.request_line("words")
        self.assertNotRegex(self.gateway.log_text(), "REPLIED|PROMPTED|event: |of-the-gateway")


class NoBackendTests(SynchronousTestCase):
    def test_unreachable(self) -> None:
        """With nothing at the backend's address, requests fail as such and readiness says so."""
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))  # and does not listen
            served = gateway({"BACKEND_URL": f"http://127.0.0.1:{taken.getsockname()[1]}"})
            with running(served):
                status, fields, body = chat(served.url, {}, {"X-Request-ID": "nobody"})
                self.assertEqual((status, json.loads(body)["error"]), (502, "backend_unavailable"))
                self.assertNotIn("x-should-retry", fields)  # it was never sent
                self.assertEqual(served.request_line("nobody")["outcome"], "backend_unavailable")
                status, _, body = get(served.url + "/readyz")
                self.assertEqual((status, body), (503, b'{"status":"backend_unavailable"}'))
                self.assertEqual(get(served.url + "/healthz")[0], 200)
                self.assertEqual(get(served.url + "/v1/models")[0], 502)
                self.assertEqual(served.complaints(), [])
