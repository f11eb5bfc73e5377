"""Five thousand mixed requests: log, ledger, metrics and backend say the same of them."""

from __future__ import annotations

import json
import random
import re
import socket
import sqlite3
import struct
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.e2e.harness import OFF, Process, gateway, get, running, wait_for

REQUESTS = 5000
THREADS = 12

KEYS = {name: f"sk-{name}-0123456789abcdef" for name in ("alice", "bob", "carol", "dave")}
RULES = {"carol": "models=small", "dave": "rate=20/hour"}

Sums = dict[tuple[str, ...], tuple[int, int, int]]


class Backend(BaseHTTPRequestHandler):
    """Does what the prompt says, and counts what it has served by model."""

    protocol_version = "HTTP/1.1"
    wbufsize = 0

    def log_message(self, *args: Any) -> None: ...

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        kind = body["messages"][0]["content"]
        model, counts = body["model"], self.server.counts  # type: ignore[attr-defined]
        usage = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
        with counts.lock:
            counts.received[model] += 1
        if kind == "reset":
            linger = struct.pack("ii", 1, 0)
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            self.close_connection = True
            self.connection.close()
            return
        if kind == "fail":
            self.answer(500, {"error": {"message": "no"}})
            return
        if not body.get("stream"):
            choice = {"index": 0, "message": {"role": "assistant", "content": "a b c"}}
            choice["finish_reason"] = "stop"
            with counts.lock:
                counts.served[model] += 1
            self.answer(200, {"object": "chat.completion", "choices": [choice], "usage": usage})
            return
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for word in ("a", " b", " c"):
            self.event({"choices": [{"index": 0, "delta": {"content": word}}]})
            if kind == "cut":
                self.close_connection = True
                return
            if kind == "slow":
                time.sleep(0.1)
        self.event({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
        self.event({"choices": [], "usage": usage})
        self.event("[DONE]")
        self.wfile.write(b"0\r\n\r\n")
        with counts.lock:
            counts.served[model] += 1

    def event(self, data: Any) -> None:
        text = data if isinstance(data, str) else json.dumps(data)
        chunk = f"data: {text}\n\n".encode()
        self.wfile.write(b"%x\r\n%b\r\n" % (len(chunk), chunk))

    def answer(self, status: int, document: dict[str, Any]) -> None:
        data = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


class Counts:
    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.received: Counter[str] = Counter()
        self.served: Counter[str] = Counter()


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that has left is what the test is about."""


@contextmanager
def backend() -> Iterator[tuple[str, Counts]]:
    server = Server(("127.0.0.1", 0), Backend)
    counts = server.counts = Counts()  # type: ignore[attr-defined]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", counts
    finally:
        server.shutdown()
        server.server_close()


def one(port: int, number: int) -> None:
    """One request of a kind, a caller and a model that its number chooses."""
    chance = random.Random(number)
    caller = chance.choice([*KEYS, "nobody"])
    model = chance.choice(["small", "large"])
    kind = chance.choices(
        ["ok", "fail", "reset", "cut", "slow", "leave", "broken"], [40, 5, 5, 5, 2, 5, 5]
    )[0]
    body: dict[str, Any] = {"model": model, "messages": [{"role": "user", "content": kind}]}
    body["stream"] = kind in ("cut", "slow", "leave") or chance.random() < 0.5
    if kind == "leave":
        body["messages"][0]["content"] = "slow"
    if kind == "broken":
        body["messages"] = "hello"
    data = json.dumps(body).encode()
    head = (
        "POST /v1/chat/completions HTTP/1.1\r\nHost: gateway\r\nConnection: close\r\n"
        f"Authorization: Bearer {KEYS.get(caller, 'wrong')}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.sendall(head.encode() + data)
        while connection.recv(65536):
            if kind == "leave":
                return


def logged(lines: list[dict[str, Any]]) -> Sums:
    accepted = {line["model"] for line in lines if line["outcome"] == "ok"}
    sums: dict[tuple[str, ...], list[int]] = {}
    for line in lines:
        if line["operation"] is None or line["status"] == 401:
            continue
        model = line["model"] or ""
        model = model if not model or model in accepted else "other"
        figures = sums.setdefault((line["caller"] or "", model, line["outcome"]), [0, 0, 0])
        for index, value in enumerate((1, line["prompt_tokens"], line["completion_tokens"])):
            figures[index] += value
    return {key: tuple(value) for key, value in sums.items()}  # type: ignore[misc]


def in_ledger(path: Path) -> Sums:
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    rows = connection.execute(
        "SELECT caller, model, outcome, sum(requests), sum(prompt_tokens), sum(completion_tokens) "
        "FROM infergate_usage GROUP BY caller, model, outcome"
    ).fetchall()
    connection.close()
    return {row[:3]: row[3:] for row in rows}


def scraped(process: Process) -> dict[str, float]:
    text = get(process.url + "/metrics", {"Authorization": f"Bearer {KEYS['alice']}"})[2].decode()
    lines = (line.rpartition(" ") for line in text.splitlines() if not line.startswith("#"))
    return {name: float(value) for name, _, value in lines}


class Accounts(SynchronousTestCase):
    skip = OFF

    def test_all_say_the_same(self) -> None:
        """By caller, model and outcome, with clients that leave and backends that break."""
        keys = "".join(f"{name}:{key} {RULES.get(name, '')}\n" for name, key in KEYS.items())
        with tempfile.TemporaryDirectory() as folder, backend() as (url, counts):
            ledger = Path(folder, "usage.db")
            process = gateway(
                {
                    "API_KEYS_FILE": "keys",
                    "BACKEND_URL": url,
                    "LOG_FORMAT": "json",
                    "USAGE_DB": str(ledger),
                },
                files={"keys": keys},
            )
            with running(process):
                # So that both models are known before one of them fails.
                for model in ("small", "large"):
                    self.first(process, model)
                with ThreadPoolExecutor(THREADS) as pool:
                    list(pool.map(lambda number: one(process.port, number), range(REQUESTS)))
                wait_for(lambda: self.over(process), 30, "the last exchange")
                metrics = scraped(process)
                process.stop()
            lines = [line for line in process.requests() if line["path"] != "/metrics"]
            sums = logged(lines)
            self.assertEqual(in_ledger(ledger), sums)
        outcomes = {outcome for _, _, outcome in sums}
        self.assertEqual(
            outcomes,
            {"ok", "client_error", "forbidden", "rate_limited", "backend_error",
             "backend_unavailable", "client_disconnected"},
        )  # fmt: skip
        self.same_in_metrics(sums, metrics)
        self.same_at_the_backend(lines, sums, counts)

    def first(self, process: Process, model: str) -> None:
        body = {"model": model, "messages": [{"role": "user", "content": "ok"}]}
        fields = {
            "Authorization": f"Bearer {KEYS['alice']}",
            "Content-Type": "application/json",
        }
        status = get(f"{process.url}/v1/chat/completions", fields, json.dumps(body).encode())[0]
        self.assertEqual(status, 200)

    def over(self, process: Process) -> bool:
        chats = [line for line in process.requests() if line["path"] == "/v1/chat/completions"]
        return len(chats) == REQUESTS + 2

    def same_in_metrics(self, sums: Sums, metrics: dict[str, float]) -> None:
        requests: Counter[tuple[str, str]] = Counter()
        tokens: Counter[tuple[str, str]] = Counter()
        models: Counter[tuple[str, str]] = Counter()
        for (caller, model, outcome), (count, prompt, completion) in sums.items():
            if caller:
                requests[caller, outcome] += count
                tokens[caller, "input"] += prompt
                tokens[caller, "output"] += completion
            models[model, "input"] += prompt
            models[model, "output"] += completion
        for name, value in metrics.items():
            labels = dict(re.findall(r'(\w+)="([^"]*)"', name))
            if name.startswith("infergate_caller_requests_total"):
                self.assertEqual(value, requests[labels["caller"], labels["outcome"]], name)
            elif name.startswith("infergate_caller_tokens_total"):
                self.assertEqual(value, tokens[labels["caller"], labels["gen_ai_token_type"]], name)
            elif name.startswith("gen_ai_client_token_usage_sum"):
                key = labels["gen_ai_request_model"], labels["gen_ai_token_type"]
                self.assertEqual(value, models[key], name)

    def same_at_the_backend(self, lines: list[dict[str, Any]], sums: Sums, counts: Counts) -> None:
        """What was answered well, and not before its last byte by a client that left."""
        for model in ("small", "large"):
            ok = [value for key, value in sums.items() if key[1:] == (model, "ok")]
            served = sum(count for count, _, _ in ok)
            self.assertEqual(sum(prompt for _, prompt, _ in ok), 7 * served)
            self.assertEqual(sum(completion for _, _, completion in ok), 3 * served)
            left = sum(
                line["outcome"] == "client_disconnected" for line in lines if line["model"] == model
            )
            self.assertTrue(served <= counts.served[model] <= served + left)
            asked = [line for line in lines if line["model"] == model]
            reached = sum(line["backend_ms"] is not None for line in asked)
            self.assertTrue(counts.received[model] <= reached, (counts.received[model], reached))
            self.assertGreaterEqual(counts.received[model], reached - left)
