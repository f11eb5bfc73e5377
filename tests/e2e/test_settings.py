"""Each setting has its effect, wherever it was set, and a wrong one ends the start in one line."""

from __future__ import annotations

import gzip
import http.server
import importlib.util
import json
import os
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest import skipUnless

from twisted.trial.unittest import SynchronousTestCase

from tests.certificates import certificate
from tests.e2e.faulty_backend import (
    DONE,
    HOLD,
    LAST_CHUNK,
    ROLE,
    STOP,
    STREAM_HEAD,
    WORDS,
    FaultyBackend,
    chunk,
    completion,
    delta,
    drip,
    head,
    pause,
    pour,
    stream,
    whole,
)
from tests.e2e.harness import (
    OFF,
    ROOT,
    Process,
    SharedProcesses,
    chat,
    gateway,
    get,
    post,
    raw,
    running,
    wait_for,
)
from tests.e2e.servers import free_port
from tests.e2e.wire import Answer, ask, receive, send

skip = OFF

HEALTHZ = b"GET /healthz HTTP/1.1\r\nHost: test\r\n\r\n"
LATE = 1.5
"""Seconds by which a deadline may be late on a busy machine."""


class CrowdTests(SynchronousTestCase):
    def test_max_connections(self) -> None:
        """A connection over `MAX_CONNECTIONS` is told to come back, while the others work on, and
        probes get through."""
        served = gateway({"MAX_CONNECTIONS": "8"})
        with running(served), ExitStack() as stack:
            held = [
                stack.enter_context(socket.create_connection(("127.0.0.1", served.port), 10))
                for _ in range(8)
            ]
            answer = ask(served.port, "one-too-many")
            self.assertEqual((answer.status, answer.code), (503, "overloaded"))
            self.assertGreaterEqual(int(answer.fields["retry-after"]), 1)
            self.assertEqual(get(served.url + "/healthz")[0], 200)
            held[0].sendall(post({}))
            self.assertEqual(receive(held[0], close=False).status, 200)
            self.assertEqual(served.request_line("one-too-many")["outcome"], "overloaded")


class LimitTests(SharedProcesses):
    """Every limit and deadline that a client meets, set low."""

    gateway: Process

    @classmethod
    def start(cls, stack: ExitStack) -> None:
        cls.gateway = gateway(
            {
                "DEFAULT_MODEL": "house",
                "MAX_TOKENS_LIMIT": "50",
                "MAX_BODY_BYTES": "500",
                "MAX_URL_BYTES": "100",
                "MAX_HEADER_BYTES": "600",
                "MAX_HEADERS": "10",
                "MAX_REQUESTS_PER_CONNECTION": "3",
                "HEADER_TIMEOUT": "0.8",
                "BODY_TIMEOUT": "1",
                "KEEPALIVE_TIMEOUT": "0.5",
            }
        )
        stack.enter_context(running(cls.gateway))

    def codes(self, *requests: bytes) -> list[tuple[int, str | None]]:
        def ask_raw(request: bytes) -> tuple[int, str | None]:
            with socket.create_connection(("127.0.0.1", self.gateway.port), 10) as connection:
                connection.sendall(request)
                answer = receive(connection, 10)
            return answer.status, None if answer.status == 200 else answer.code

        return [ask_raw(request) for request in requests]

    def test_default_model(self) -> None:
        """`DEFAULT_MODEL` names the model of a request that names none, and the one listed."""
        self.assertEqual(ask(self.gateway.port, "model").document["model"], "house")
        listed = json.loads(get(self.gateway.url + "/v1/models")[2])
        self.assertEqual([model["id"] for model in listed["data"]], ["house"])

    def test_max_tokens_limit(self) -> None:
        """`MAX_TOKENS_LIMIT` is the largest `max_tokens` and `max_completion_tokens`."""
        refused = (400, "invalid_max_tokens")
        self.assertEqual(
            self.codes(
                post({"max_tokens": 50}),
                post({"max_tokens": 51}),
                post({"max_completion_tokens": 50}),
                post({"max_completion_tokens": 51}),
            ),
            [(200, None), refused, (200, None), refused],
        )

    def test_max_body_bytes(self) -> None:
        """`MAX_BODY_BYTES` is the largest body, as declared, and in chunks as it comes."""
        body = b'{"messages":[{"role":"user","content":"x"}]}'
        fits, too_large = body + b" " * (500 - len(body)), body + b" " * (501 - len(body))
        chunked = post(b"").replace(b"Content-Length: 0", b"Transfer-Encoding: chunked")
        refused = (413, "body_too_large")
        self.assertEqual(
            self.codes(
                post(fits),
                post(too_large),
                chunked + chunk(fits) + LAST_CHUNK,
                chunked + chunk(fits[:400]) + chunk(too_large[400:]),
                chunked + b"fffffff\r\n",
            ),
            [(200, None), refused, (200, None), refused, refused],
        )

    def test_max_url_bytes(self) -> None:
        """`MAX_URL_BYTES` is the longest target."""
        fits = b"/healthz?" + b"x" * 91
        self.assertEqual(
            self.codes(
                HEALTHZ.replace(b"/healthz", fits), HEALTHZ.replace(b"/healthz", fits + b"x")
            ),
            [(200, None), (414, "uri_too_long")],
        )

    def test_max_header_bytes(self) -> None:
        """`MAX_HEADER_BYTES` is the largest head, all of it."""
        filled = HEALTHZ[:-2] + b"A: " + b"x" * (600 - len(HEALTHZ) - 5) + b"\r\n\r\n"
        self.assertEqual(len(filled), 600)
        self.assertEqual(
            self.codes(filled, filled.replace(b"A: ", b"A: x")),
            [(200, None), (431, "headers_too_large")],
        )

    def test_max_headers(self) -> None:
        """`MAX_HEADERS` is the largest number of fields."""
        fits = HEALTHZ[:-2] + b"A: b\r\n" * 9 + b"\r\n"
        self.assertEqual(
            self.codes(fits, fits[:-2] + b"A: b\r\n\r\n"),
            [(200, None), (431, "headers_too_large")],
        )

    def test_max_requests_per_connection(self) -> None:
        """After `MAX_REQUESTS_PER_CONNECTION` the connection is closed, and the answer says so."""
        data, closed = raw(self.gateway.port, HEALTHZ * 4, 3)
        self.assertTrue(closed)
        self.assertEqual(data.count(b"HTTP/1.1 200 OK"), 3)
        self.assertEqual(data.count(b"Connection: close"), 1)
        self.assertIn(b"Connection: close", data[data.rindex(b"HTTP/1.1") :])

    def timed(self, *pieces: bytes) -> tuple[Answer, float]:
        """The answer to a client that sends pieces with a pause after each, and its seconds."""
        with socket.create_connection(("127.0.0.1", self.gateway.port), 10) as connection:
            began = time.monotonic()
            for piece in pieces:
                connection.sendall(piece)
                time.sleep(0.3)
            return receive(connection, 10), time.monotonic() - began

    def test_header_timeout(self) -> None:
        """A head must be whole within `HEADER_TIMEOUT`, however often a byte of it comes."""
        answer, seconds = self.timed(*(HEALTHZ[n : n + 1] for n in range(3)))
        self.assertEqual((answer.status, answer.code), (408, "request_timeout"))
        self.assertEqual(answer.fields["connection"], "close")
        self.assertTrue(0.8 <= seconds <= 0.8 + LATE, seconds)

    def test_body_timeout(self) -> None:
        """A body must be whole within `BODY_TIMEOUT`."""
        request = post({})
        answer, seconds = self.timed(request[:-10], b" ", b" ")
        self.assertEqual((answer.status, answer.code), (408, "request_timeout"))
        self.assertTrue(1 <= seconds <= 1 + LATE, seconds)
        line = self.gateway.request_line(answer.fields["x-request-id"])
        self.assertEqual((line["outcome"], line["error"]), ("client_error", "request_timeout"))

    def test_keepalive_timeout(self) -> None:
        """A connection that is idle for `KEEPALIVE_TIMEOUT` is closed without a word."""
        began = time.monotonic()
        data, closed = raw(self.gateway.port, HEALTHZ, 10)
        seconds = time.monotonic() - began
        self.assertEqual((data.count(b"HTTP/1.1"), closed), (1, True))
        self.assertTrue(0.5 <= seconds <= 0.5 + LATE, seconds)


class BackendLimitTests(SharedProcesses):
    """Every limit and deadline that a backend meets, and what else is set about it."""

    backend: FaultyBackend
    gateway: Process

    @classmethod
    def start(cls, stack: ExitStack) -> None:
        cls.backend = FaultyBackend((whole(completion()),))
        stack.callback(cls.backend.stop)
        cls.gateway = gateway(
            {
                "BACKEND_URL": cls.backend.url + "/",
                "DEFAULT_MODEL": "",
                "BACKEND_TIMEOUT": "0.6",
                "STREAM_IDLE_TIMEOUT": "0.8",
                "REQUEST_TIMEOUT": "1.5",
                "MAX_RESPONSE_BYTES": "2000",
                "MAX_EVENT_BYTES": "1000",
                # Twice this, where the kernel still drained when the client stopped.
                "WRITE_STALL_TIMEOUT": "0.4",
            }
        )
        stack.enter_context(running(cls.gateway))

    def answered(self, request_id: str, *script: Any, **members: Any) -> tuple[Answer, float]:
        self.backend.scripts[request_id] = script
        began = time.monotonic()
        return ask(self.gateway.port, request_id, model="m", **members), time.monotonic() - began

    def test_model_required(self) -> None:
        """An empty `DEFAULT_MODEL` makes the model a client's to name."""
        answer = ask(self.gateway.port, "nameless")
        self.assertEqual((answer.status, answer.code), (400, "invalid_model"))
        self.assertEqual(answer.document["param"], "model")

    def test_no_api_key(self) -> None:
        """Without `BACKEND_API_KEY` no credentials go to the backend."""
        ask(self.gateway.port, "keyless", "Authorization: Bearer x", model="m")
        self.assertNotIn(b"uthorization", self.backend.exchange("keyless").head)

    def test_backend_timeout(self) -> None:
        """The backend's head must come within `BACKEND_TIMEOUT`."""
        answer, seconds = self.answered("headless", HOLD)
        self.assertEqual((answer.status, answer.code), (504, "gateway_timeout"))
        self.assertTrue(0.6 <= seconds <= 0.6 + LATE, seconds)

    def test_stream_idle_timeout(self) -> None:
        """The pieces of a body must not be further apart than `STREAM_IDLE_TIMEOUT`."""
        slow = [STREAM_HEAD, drip([chunk(ROLE), chunk(STOP + DONE), LAST_CHUNK], 0.3)]
        self.assertEqual(self.answered("slow", *slow, stream=True)[0].body, ROLE + STOP + DONE)
        answer, seconds = self.answered("idle", STREAM_HEAD + chunk(ROLE), HOLD, stream=True)
        self.assertEqual(answer.last_event["error"]["code"], "gateway_timeout")
        self.assertTrue(0.8 <= seconds <= 0.8 + LATE, seconds)

    def test_request_timeout(self) -> None:
        """All of an exchange must be over within `REQUEST_TIMEOUT`."""
        endless = [STREAM_HEAD, drip([chunk(ROLE)] * 99, 0.3)]
        answer, seconds = self.answered("endless", *endless, stream=True)
        self.assertEqual(answer.last_event["error"]["code"], "gateway_timeout")
        self.assertTrue(1.5 <= seconds <= 1.5 + LATE, seconds)

    def test_max_response_bytes(self) -> None:
        """`MAX_RESPONSE_BYTES` is the largest reply that is no stream; a stream may be larger."""
        fits = completion(padding="x" * 1500)
        fits += b" " * (2000 - len(fits))
        self.assertEqual(self.answered("fits", whole(fits))[0].status, 200)
        answer, _ = self.answered("too-large", whole(fits + b" "))
        self.assertEqual((answer.status, answer.code), (502, "backend_error"))
        events = WORDS * 20 + STOP + DONE
        self.assertGreater(len(events), 2000)
        self.assertEqual(self.answered("long", stream(events), stream=True)[0].body, events)

    def test_max_event_bytes(self) -> None:
        """`MAX_EVENT_BYTES` is the largest event of a stream."""
        large = delta(content="x" * (1000 - len(delta(content=""))))
        self.assertEqual(len(large), 1000)
        answer, _ = self.answered("event", stream(large, STOP, DONE), stream=True)
        self.assertEqual(answer.body, large + STOP + DONE)
        larger = large.replace(b"xxx", b"xxxxxxx")
        answer, _ = self.answered("too-large-event", stream(ROLE, larger, DONE), stream=True)
        self.assertEqual(answer.last_event["error"]["code"], "backend_error")

    def test_write_stall_timeout(self) -> None:
        """A client that takes nothing for `WRITE_STALL_TIMEOUT` is cut off."""
        self.backend.scripts["stalls"] = (STREAM_HEAD, pour(chunk(WORDS * 50), 2000))
        with send(
            self.gateway.port, "stalls", stream=True, model="m", receive_buffer=4096, seconds=10
        ):
            line = self.gateway.request_line("stalls", 10)
        self.assertEqual((line["outcome"], line["status"]), ("client_disconnected", 200))

    def test_no_complaint(self) -> None:
        """No limit that is reached is an error of the gateway's."""
        self.assertEqual(self.gateway.complaints(), [])


class ConnectTests(SynchronousTestCase):
    def test_backend_connect_timeout(self) -> None:
        """A backend that takes no connection within `BACKEND_CONNECT_TIMEOUT` is a timeout."""
        with socket.create_server(("127.0.0.1", 0), backlog=0) as full, ExitStack() as stack:
            for _ in range(4):  # the queue is full now, and further attempts are left unanswered
                waiting = stack.enter_context(socket.socket())
                waiting.setblocking(False)
                waiting.connect_ex(full.getsockname())
            url = f"http://127.0.0.1:{full.getsockname()[1]}"
            served = gateway({"BACKEND_URL": url, "BACKEND_CONNECT_TIMEOUT": "0.5"})
            with running(served):
                began = time.monotonic()
                status, _, body = chat(served.url, {})
                seconds = time.monotonic() - began
        self.assertEqual((status, json.loads(body)["error"]), (504, "gateway_timeout"))
        self.assertTrue(0.5 <= seconds <= 0.5 + LATE, seconds)


class KeepaliveTests(SynchronousTestCase):
    def test_sse_keepalive(self) -> None:
        """With `SSE_KEEPALIVE` a streaming client hears a comment in each such silence."""
        backend = FaultyBackend()
        self.addCleanup(backend.stop)
        events = [STREAM_HEAD + chunk(ROLE), pause(0.7), chunk(STOP + DONE) + LAST_CHUNK]
        backend.scripts = {"late": [pause(0.7), *events], "fails": [pause(0.7), head(b"500 x")]}
        served = gateway({"BACKEND_URL": backend.url + "/v1", "SSE_KEEPALIVE": "0.3"})
        with running(served):
            answer = ask(served.port, "late", stream=True)
            comment = b": keep-alive\n\n"
            self.assertGreaterEqual(answer.body.count(comment), 2)
            self.assertTrue(answer.body.startswith(comment))
            self.assertIn(ROLE + comment, answer.body)
            self.assertEqual(answer.body.replace(comment, b""), ROLE + STOP + DONE)
            answer = ask(served.port, "fails", stream=True)
            self.assertEqual(answer.status, 200)  # committed by the first comment
            self.assertEqual(answer.last_event["error"]["code"], "backend_error")


class SourceTests(SynchronousTestCase):
    def test_precedence(self) -> None:
        """An option wins over the environment, that over ``.env``, that over the default."""
        dotenv = "DEFAULT_MODEL=file\nMAX_TOKENS_LIMIT=10\nMAX_URL_BYTES='60' # quoted\n"
        dotenv += "HOST=0.0.0.0\nLOG_FORMAT=text\n"
        environment = {"MAX_TOKENS_LIMIT": "20", "MAX_URL_BYTES": "70", "LOG_FORMAT": "json"}
        served = gateway(environment, "--max-url-bytes=80", files={".env": dotenv})
        with running(served):
            self.assertEqual(json.loads(chat(served.url, {})[2])["model"], "file")
            self.assertEqual(chat(served.url, {"max_tokens": 20})[0], 200)
            self.assertEqual(chat(served.url, {"max_tokens": 21})[0], 400)
            self.assertEqual(get(served.url + "/" + "x" * 79)[0], 404)
            self.assertEqual(get(served.url + "/" + "x" * 80)[0], 414)
            self.assertEqual(get(f"http://127.0.0.2:{served.port}/healthz")[0], 200)
            served.log_lines()  # not text


class LogTests(SynchronousTestCase):
    def test_log_level(self) -> None:
        """`LOG_LEVEL` leaves out what is below it, the lines about requests too."""
        served = Quiet("infergate", {"LOG_LEVEL": "warn"}, port=free_port())
        with running(served):
            self.assertEqual(chat(served.url, {})[0], 200)
            self.assertEqual(served.stop(), 0)
        self.assertEqual(served.log_text(), "")


class Quiet(Process):
    """One whose log does not say that it listens."""

    def _find_port(self) -> bool:
        self.port = int(self.process.args[-1].removeprefix("--port="))  # type: ignore[index, union-attr]
        with socket.socket() as connection:
            return connection.connect_ex(("127.0.0.1", self.port)) == 0


class Named(Process):
    """One that listens on a path."""

    def _find_port(self) -> bool:
        return (self.directory / "gate").exists()


class ListenTests(SynchronousTestCase):
    def test_unix(self) -> None:
        """`LISTEN=unix:` serves on a path; `LOG_FORMAT=text` is for people to read."""
        served = Named("infergate", {"LISTEN": "unix:gate", "LOG_FORMAT": "text"})
        with running(served):
            with socket.socket(socket.AF_UNIX) as connection:
                connection.connect(str(served.directory / "gate"))
                connection.sendall(post({}, "X-Request-ID: by-path"))
                answer = receive(connection, close=False)
                self.assertEqual(answer.document["choices"][0]["message"]["content"], "Echo: hello")
                connection.sendall(post({"n": 0}, "X-Request-ID: refused"))
                self.assertEqual(receive(connection).code, "invalid_n")
            wait_for(lambda: "refused" in served.log_text(), 5, "the log line")
            lines = served.log_text().splitlines()
        answered, refused = [line for line in lines if " POST chat " in line]
        self.assertRegex(
            answered, r"^\d\d:\d\d:\d\d 200 POST chat default [0-9.]+m?s .*1\+2 tokens .*by-path$"
        )
        self.assertRegex(refused, r"^\d\d:\d\d:\d\d 400 POST chat .*refused invalid_n")

    def test_tls(self) -> None:
        """`LISTEN=tls:` serves over TLS, HTTP/1.1 alone."""
        public, private = (text.decode() for text in certificate())
        settings = {"LISTEN": "tls:.:port=0:interface=127.0.0.1"}
        served = gateway(settings, files={"localhost.pem": public + private})
        with running(served):
            context = ssl.create_default_context(cadata=public)
            context.set_alpn_protocols(["h2", "http/1.1"])
            plain = socket.create_connection(("127.0.0.1", served.port), 10)
            with context.wrap_socket(plain, server_hostname="localhost") as connection:
                self.assertEqual(connection.selected_alpn_protocol(), "http/1.1")
                connection.sendall(post({"stream": True}, "X-Request-ID: tls"))
                answer = receive(connection, close=False)
                self.assertEqual((answer.status, answer.ended), (200, "last_chunk"))
                connection.sendall(b"nonsense\r\n\r\n")
                self.assertEqual(receive(connection).code, "bad_request")
            self.assertEqual(served.request_line("tls")["client"], "127.0.0.1")
            with socket.create_connection(("127.0.0.1", served.port), 10) as connection:
                connection.sendall(HEALTHZ)  # not TLS
                self.assertNotIn(b"HTTP", connection.recv(99))
            self.assertEqual(served.complaints(), [])

    def test_haproxy(self) -> None:
        """Behind `haproxy:`, the client's address is the one that the PROXY line names."""
        served = gateway({"LISTEN": "haproxy:tcp:0:interface=127.0.0.1"})
        with running(served):
            for line, address in (
                (b"PROXY TCP4 192.0.2.7 127.0.0.1 5000 80\r\n", "192.0.2.7"),
                (b"PROXY TCP6 2001:db8::7 ::1 5000 80\r\n", "2001:db8::7"),
            ):
                with socket.create_connection(("127.0.0.1", served.port), 10) as connection:
                    connection.sendall(line + post({}, f"X-Request-ID: {address}"))
                    self.assertEqual(receive(connection).status, 200)
                self.assertEqual(served.request_line(address)["client"], address)
            self.assertEqual(raw(served.port, HEALTHZ, 5), (b"", True))
            self.assertEqual(served.complaints(), [])

    def test_metrics_listen(self) -> None:
        """With `METRICS_LISTEN` the metrics are there, without a key, and there alone."""
        port = free_port()
        settings = {"METRICS_LISTEN": f"tcp:{port}:interface=127.0.0.1", "API_KEYS": "k"}
        served = gateway(settings)
        with running(served):
            key = {"Authorization": "Bearer k"}
            chat(served.url, {}, key)
            status, fields, text = get(f"http://127.0.0.1:{port}/metrics")
            self.assertEqual(status, 200)
            self.assertTrue(fields["content-type"].startswith("text/plain; version=0.0.4"))
            self.assertIn(b'route="/v1/chat/completions"', text)
            status, _, body = get(served.url + "/metrics", key)
            self.assertEqual((status, json.loads(body)["error"]), (404, "not_found"))
            status, _, body = get(f"http://127.0.0.1:{port}/healthz")
            self.assertEqual((status, json.loads(body)["error"]), (404, "not_found"))


def failed_start(
    settings: dict[str, str], *options: str, dotenv: str | None = None
) -> tuple[int, str, str]:
    """The exit status, standard output and standard error of a start that is to fail."""
    with tempfile.TemporaryDirectory() as directory:
        if dotenv is not None:
            Path(directory, ".env").write_text(dotenv)
        done = subprocess.run(
            [
                *(sys.executable, "-c", "from twisted.scripts.twistd import run; run()"),
                *("-n", "--pidfile=", "infergate", *options),
            ],
            capture_output=True,
            text=True,
            timeout=30,
            cwd=directory,
            env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "PORT": "0", **settings},
        )
        return done.returncode, done.stdout, done.stderr


class WrongSettingTests(SynchronousTestCase):
    def test_one_line(self) -> None:
        """What is wrong ends the start with status 1 and one line, which shows no secret."""
        taken = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(taken.close)
        port = str(taken.getsockname()[1])
        on_taken = f"tcp:{port}:interface=127.0.0.1"
        cases: list[tuple[dict[str, str], tuple[str, ...], str | None, str]] = [
            ({"PORT": "70000"}, (), None, r"PORT='70000': .*from 0 to 65535"),
            ({"PORT": port}, (), None, rf"PORT=.{port}.: .*[Aa]ddress already in use"),
            ({"METRICS_LISTEN": on_taken}, (), None, r"METRICS_LISTEN='tcp:.*': .*in use"),
            ({"LISTEN": "nonsense:1"}, (), None, r"LISTEN=.nonsense:1.: must begin with tcp:"),
            ({}, ("--log-level=loud",), None, r"LOG_LEVEL='loud': must be debug, info"),
            ({}, ("--nonsense",), None, r".*--nonsense"),
            ({}, (), "RATE_LIMIT=5/year", r"RATE_LIMIT='5/year': .*N/second"),
            ({}, (), "API_KEYS='hunter2", r"\.env: line 1"),
            ({"BACKEND_URL": "http://u:hunter2@host"}, (), None, r"BACKEND_URL: must be http"),
            ({"API_KEYS": "a:ok,:hunter2"}, (), None, r"API_KEYS: entry 2"),
            ({"JWT_SECRET": "hunter2", "JWT_JWKS_URL": "http://x"}, (), None, r"JWT_JWKS_URL=.*"),
            ({"HOST": "x86_64-conda-linux-gnu"}, (), None, r"HOST='x86_64-conda-linux-gnu': must"),
            ({"HOST": "192.0.2.1"}, (), None, r"HOST='192.0.2.1': must be an address of this"),
            ({}, ("--listen=systemd:domain=INET:index=0",), None, r"LISTEN=.*systemd hands over"),
            ({}, ("--listen=tls:",), None, r"LISTEN='tls:': must be tls:DIRECTORY"),
            ({}, ("--listen=ssl:0",), None, r"LISTEN='ssl:0': cannot be listened on: No such file"),
            ({"BACKEND_API_KEY": '"hunter2"'}, (), None, r"BACKEND_API_KEY: still has its quotes"),
            ({"BACKEND_URL": "http://${HOST}"}, (), None, r"BACKEND_URL=.*nobody has filled in"),
            ({}, (), "DEFAULT_MODEL=${MODEL}", r"DEFAULT_MODEL=.*nobody has filled in"),
            ({"JWT_SECRET": "hunter2"}, ("--jwt-secret-file=.env",), "A=b", r"JWT_SECRET_FILE=.*"),
            (
                {"BACKEND_API_KEY_FILE": "no"},
                (),
                None,
                r"BACKEND_API_KEY_FILE='no': must be a file",
            ),
        ]
        with ThreadPoolExecutor(3) as pool:
            ended = list(pool.map(lambda c: failed_start(c[0], *c[1], dotenv=c[2]), cases))
        for (*given, expected), (status, out, error) in zip(cases, ended, strict=True):
            self.assertEqual((status, out), (1, ""), given)
            self.assertRegex(error, rf"\Ainfergate: {expected}.*\n\Z", given)
            self.assertEqual(error.count("\n"), 1, error)
            self.assertNotRegex(error, "hunter2|Traceback|Usage", given)


class _Collector(http.server.BaseHTTPRequestHandler):
    pushed: list[tuple[str, bytes]]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        self.pushed.append((self.path, body))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *arguments: object) -> None:
        """Nothing on stderr."""


class PushTests(SynchronousTestCase):
    @skipUnless(importlib.util.find_spec("opentelemetry"), "needs the extra otlp")
    def test_otlp(self) -> None:
        """The metrics are pushed to `OTEL_EXPORTER_OTLP_ENDPOINT` under OpenTelemetry's names."""
        from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2

        pushed: list[tuple[str, bytes]] = []
        handler = type("Handler", (_Collector,), {"pushed": pushed})
        with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            self.addCleanup(server.shutdown)
            endpoint = f"http://127.0.0.1:{server.server_port}"
            served = gateway(
                {"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, "OTEL_TRACES_EXPORTER": "none"}
            )
            with running(served):
                chat(served.url, {})
                chat(served.url, {"stream": True})
                get(served.url + "/nowhere")
                served.stop()  # pushes a last time
                self.assertEqual(served.complaints(), [])
        path, body = pushed[-1]
        self.assertEqual(path, "/v1/metrics")
        request = metrics_service_pb2.ExportMetricsServiceRequest()
        request.ParseFromString(body)
        (resource,) = request.resource_metrics
        (scope,) = resource.scope_metrics
        metrics = {metric.name: metric for metric in scope.metrics}
        units = {name: metric.unit for name, metric in metrics.items()}
        for name, unit in (
            ("http.server.request.duration", "s"),
            ("gen_ai.server.request.duration", "s"),
            ("gen_ai.server.time_to_first_token", "s"),
            ("gen_ai.server.time_per_output_token", "s"),
            ("gen_ai.client.token.usage", "{token}"),
            ("infergate.requests", "{request}"),
            ("infergate.requests_in_flight", "{request}"),
            ("infergate.streams_in_flight", "{stream}"),
            ("infergate.overhead", "s"),
            ("infergate.log_lines_dropped", "{line}"),
        ):
            self.assertEqual(units[name], unit, name)
        counts = {
            tuple(sorted(attribute.key for attribute in point.attributes)): point.count
            for point in metrics["http.server.request.duration"].histogram.data_points
        }
        known = ("http.request.method", "http.response.status_code", "http.route")
        self.assertEqual(counts, {known: 2, ("error.type", *known): 1})
