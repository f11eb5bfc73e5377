"""The chat request that every client here sends, such as an SDK would."""

from __future__ import annotations

import http.client
import json
import socket

KEY = "sk-bench-4f1c0a9be27d48a3b6f05d9c7e81a2f3"
EVERY_LIMIT = (
    "rate=999999999/second tokens=900000000/minute tokens=900000000/hour tokens=900000000/day "
    "tokens=900000000/week tokens=900000000/month concurrent=100000 models=ben*,other "
    "routes=chat,responses,messages,metrics expires=2099-12-31 from=127.0.0.0/8 user=User-Agent"
)
"""The options of a key in a file, in every way that a limit can be set, none of which refuses what
is measured. The person is named by a field that is there anyway."""

_SYSTEM = "You are a helpful assistant. Answer in a few short sentences, and say so if unsure."


def caller_key(number: int) -> str:
    """The key of one of many callers."""
    return f"sk-bench-caller-{number:08}"


_MESSAGES = [
    {"role": "system", "content": _SYSTEM},
    {"role": "user", "content": "Why is the sky blue, and why the sea?"},
]
ASKED: dict[str, dict[str, object]] = {
    "/v1/responses": {"input": _MESSAGES},
    "/v1/messages": {"messages": _MESSAGES, "max_tokens": 512},
}
"""The same, asked in other dialects, by the path."""


def stream_of(path: str, port: int = 8080, prompt: str = "") -> bytes:
    """The bytes of such a request, which asks for a stream, with `prompt` as in `question`."""
    document = {"model": "bench", **ASKED[path], "stream": True}
    if prompt:
        document["metadata"] = {"prompt": prompt}
    return _request(port, path, document, KEY)


def question(port: int, prompt: str = "", *, stream: bool = False, key: str = KEY) -> bytes:
    """The bytes of the request; see `benchmarks.backend` for what `prompt` may ask for."""
    document: dict[str, object] = {
        "model": "bench",
        "messages": [
            {"role": "system", "content": _SYSTEM},
            {"role": "user", "content": f"Why is the sky blue, and why the sea? {prompt}"},
        ],
        "temperature": 0.7,
        "max_tokens": 512,
        "stream": stream,
    }
    return _request(port, "/v1/chat/completions", document, key)


def _request(port: int, path: str, document: dict[str, object], key: str) -> bytes:
    body = json.dumps(document).encode()
    head = (
        f"POST {path} HTTP/1.1",
        f"Host: 127.0.0.1:{port}",
        "Accept: application/json",
        "User-Agent: benchmarks",
        "Content-Type: application/json",
        f"Authorization: Bearer {key}",
        f"Content-Length: {len(body)}",
    )
    return "\r\n".join(head).encode() + b"\r\n\r\n" + body


def with_id(request: bytes, number: int) -> bytes:
    """The request with an id of its own in its head, as long as a UUID: some proxies send one."""
    line, _, rest = request.partition(b"\r\n")
    return b"%b\r\nX-Request-ID: %036d\r\n%b" % (line, number, rest)


def answered(port: int, timeout: float) -> bool:
    """Whether the question is answered with 200."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout) as connection:
            connection.sendall(question(port))
            reply = http.client.HTTPResponse(connection)
            reply.begin()
            return reply.status == 200
    except (OSError, http.client.HTTPException):
        return False
