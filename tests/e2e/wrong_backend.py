"""A small good backend, and what is wrong with each of many others: each is wrong in one way."""

from __future__ import annotations

import json
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests import certificates

MODEL = "tiny"


def delta(text: str, finish_reason: str | None = None) -> bytes:
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": finish_reason}
    chunk = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": MODEL}
    return b"data: %b\n\n" % json.dumps({**chunk, "choices": [choice]}).encode()


WORDS = [delta(f" {number}") for number in range(1, 6)]
STOP, DONE = delta("", "stop"), b"data: [DONE]\n\n"


class Handler(BaseHTTPRequestHandler):
    """One connection of a client. What it does with a path, and with ``path stream`` where a stream
    is asked for, `server.answers` says."""

    protocol_version = "HTTP/1.1"
    server: Backend

    def setup(self) -> None:
        self.timeout = self.server.idle
        super().setup()

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.asked = json.loads(body) if body else {}
        stream = " stream" if self.asked.get("stream") else ""
        answer = self.server.answers.get(self.path + stream)
        answer = answer or self.server.answers.get("*", not_found)
        answer(self)

    def date_time_string(self, timestamp: float | None = None) -> str:
        return formatdate(time.time() + self.server.ahead, usegmt=True)

    def send(
        self, body: Any, status: int = 200, kind: str = "application/json", **fields: str
    ) -> None:
        """A whole answer."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in {
            "Content-Type": kind,
            "Content-Length": str(len(data)),
            **fields,
        }.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(data)

    def begin(self) -> None:
        """The head of a stream."""
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()

    def chunk(self, data: bytes) -> None:
        self.wfile.write(b"%x\r\n%b\r\n" % (len(data), data))

    def log_message(self, *arguments: object) -> None:
        """Silence."""


Answer = Callable[[Handler], None]


class Backend(ThreadingHTTPServer):
    """Answers by a table. A client's idle connection is closed after `idle` seconds; its clock is
    `ahead` of ours by as many."""

    daemon_threads = True

    def __init__(
        self,
        answers: dict[str, Answer],
        idle: float = 30.0,
        ahead: float = 0.0,
        certificate: Path | None = None,
    ) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers, self.idle, self.ahead = answers, idle, ahead
        self._tls = None
        if certificate is not None:
            self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._tls.load_cert_chain(certificate)

    @property
    def url(self) -> str:
        return f"{'http' if self._tls is None else 'https'}://127.0.0.1:{self.server_port}"

    def finish_request(self, request: Any, client_address: Any) -> None:
        """In the connection's own thread: a handshake may fail, or hang."""
        if self._tls is not None:
            request.settimeout(10)
            request = self._tls.wrap_socket(request, server_side=True)
        super().finish_request(request, client_address)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Silence."""


@contextmanager
def serving(answers: dict[str, Answer] | None = None, **more: Any) -> Iterator[Backend]:
    """A backend that is well but for `answers`."""
    backend = Backend({**WELL, **(answers or {})}, **more)
    threading.Thread(target=backend.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield backend
    finally:
        backend.shutdown()
        backend.server_close()


# What is said.


def says(body: Any, status: int = 200, kind: str = "application/json", **fields: str) -> Answer:
    return lambda handler: handler.send(body, status, kind, **fields)


def refuses(status: int, message: str) -> Answer:
    return says({"error": {"message": message, "type": "error"}}, status)


not_found = refuses(404, "File Not Found")


def chat(handler: Handler) -> None:
    message = {"role": "assistant", "content": "1, 2, 3"}
    handler.send(
        {
            "id": "c",
            "object": "chat.completion",
            "created": 1,
            "model": MODEL,
            "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 3, "completion_tokens": 5, "total_tokens": 8},
        }
    )


def streams(*chunks: bytes, pause: float = 0.02, end: bool = True) -> Answer:
    """A stream, chunk by chunk."""

    def answer(handler: Handler) -> None:
        handler.begin()
        for chunk in chunks:
            handler.chunk(chunk)
            time.sleep(pause)
        if end:
            handler.chunk(b"")
        else:
            handler.close_connection = True

    return answer


def buffered(through: int) -> Answer:
    """As what lets some events through, and the others once the stream is whole."""

    def answer(handler: Handler) -> None:
        handler.begin()
        for word in WORDS[:through]:
            handler.chunk(word)
        time.sleep(0.3)
        chunks = [b"%x\r\n%b\r\n" % (len(one), one) for one in (*WORDS[through:], STOP, DONE)]
        handler.wfile.write(b"".join([*chunks, b"0\r\n\r\n"]))

    return answer


def hangs(handler: Handler) -> None:
    time.sleep(20)


def compressed(handler: Handler) -> None:
    handler.send(b"\x1f\x8b", Content_Encoding="gzip")


def listing(*models: str, owner: str = "somebody") -> Answer:
    data = [{"id": model, "object": "model", "created": 1, "owned_by": owner} for model in models]
    return says({"object": "list", "data": data})


CHAT = "/v1/chat/completions"

WELL: dict[str, Answer] = {
    "/health": says({"status": "ok"}),
    "/v1/models": listing(MODEL),
    CHAT: chat,
    f"{CHAT} stream": streams(*WORDS, STOP, DONE),
}


# What else may be there.


@contextmanager
def silent() -> Iterator[str]:
    """A server that accepts connections, and never says anything; its URL."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


def certificate(folder: Path, days: float = 90, address: str = "127.0.0.1") -> Path:
    """A certificate for an address that is its own authority, and its key, in one PEM file."""
    file = folder / f"{address}-{days:g}.pem"
    file.write_bytes(b"".join(certificates.certificate(1, address, days)))
    return file
