"""What a backend says when all is well, in the dialect of each operation that streams, and what
the gateway says in it when something is wrong."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from tests.e2e import faulty_backend as chat
from tests.e2e.faulty_backend import CONTENT, DONE, ERROR

USAGE = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
Counts = tuple[int | None, int, int | None, str]


@dataclass(frozen=True)
class Dialect:
    """`good` is a plain reply, its text `CONTENT`. A stream is made of `opening`, of `words`, which
    are two tokens, of `stop`, after which nothing more is said, and of `end`, without which it is
    not whole; `error` is an event in which the backend fails. `counted` is the usage that is known
    after the words: the prompt's tokens are None where these are an estimate."""

    name: str
    path: str
    request: dict[str, Any]
    good: bytes
    opening: bytes
    words: bytes
    stop: bytes
    end: bytes
    error: bytes = ERROR
    counted: Counts = (None, 2, None, "counted")
    replaces_id: bool = False
    end_is_certain: bool = True
    """After `end` the body need not end properly, and what still comes passes."""
    text_at: tuple[Any, ...] = ()
    """Where in a plain reply its text stands."""
    last_mark: bytes = b""
    """What the last event says of a stream that the gateway made of a plain reply."""
    wrong: dict[str, Any] = field(default_factory=dict)
    """Plain replies that are none, by what is wrong with them."""

    @property
    def said(self) -> bytes:
        return self.opening + self.words

    def large(self, size: int) -> bytes:
        """An event with a text of `size` bytes."""
        return self.words.partition(b"\n\n")[0].replace(b"Hello", b"x" * size) + b"\n\n"


def named(kind: str, **members: Any) -> bytes:
    """An event that says its type twice."""
    data = json.dumps({"type": kind, **members})
    return f"event: {kind}\ndata: {data}\n\n".encode()


def _text(text: str, reason: str | None = None) -> bytes:
    choice = {"index": 0, "text": text, "logprobs": None, "finish_reason": reason}
    return chat.event(object="text_completion", choices=[choice])


def _piece(text: str, **members: Any) -> bytes:
    document = {"index": 0, "content": text, "tokens": [], "stop": False, **members}
    return b"data: " + json.dumps(document).encode() + b"\n\n"


def _delta(text: str) -> bytes:
    return named("content_block_delta", index=0, delta={"type": "text_delta", "text": text})


def _response(status: str, **members: Any) -> dict[str, Any]:
    return {"id": "resp_1", "object": "response", "model": "faulty", "status": status, **members}


_OUTPUT = [
    {
        "type": "message",
        "id": "msg_1",
        "role": "assistant",
        "content": [{"type": "output_text", "text": CONTENT, "annotations": []}],
    }
]
_TOKENS = {"input_tokens": 3, "output_tokens": 2}
_RESPONSE = _response("completed", output=_OUTPUT, usage={**_TOKENS, "total_tokens": 5})
_MESSAGE = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "faulty",
    "content": [{"type": "text", "text": CONTENT}],
    "stop_reason": "end_turn",
    "stop_sequence": None,
    "usage": _TOKENS,
}

CHAT = Dialect(
    name="chat",
    path="/v1/chat/completions",
    request={"messages": [{"role": "user", "content": "hello"}]},
    good=chat.completion(),
    opening=chat.ROLE,
    words=chat.WORDS,
    stop=chat.STOP,
    end=DONE,
    replaces_id=True,
    end_is_certain=False,
    text_at=("choices", 0, "message", "content"),
    last_mark=b"[DONE]",
    wrong={
        "no choices": chat.completion(choices=...),
        "empty choices": chat.completion(choices=[]),
        "null choices": chat.completion(choices=None),
        "choices as an object": chat.completion(choices={"0": {}}),
        "choices as text": chat.completion(choices="Hello"),
        "a choice as text": chat.completion(choices=["Hello"]),
        "a choice as null": chat.completion(choices=[None]),
        "a choice without a message": chat.completion(choices=[{"index": 0}]),
        "a message as text": chat.completion(choices=[{"message": "Hello"}]),
    },
)

COMPLETIONS = Dialect(
    name="completions",
    path="/v1/completions",
    request={"prompt": "hello"},
    good=chat.completion(
        object="text_completion", choices=[{"index": 0, "text": CONTENT, "finish_reason": "stop"}]
    ),
    opening=_text(""),
    words=_text("Hello") + _text(" there"),
    stop=_text("", "stop"),
    end=DONE,
    replaces_id=True,
    end_is_certain=False,
    text_at=("choices", 0, "text"),
    last_mark=b"[DONE]",
    wrong={
        "no choices": chat.completion(choices=...),
        "a choice without a text": chat.completion(choices=[{"index": 0}]),
        "a message for a text": chat.completion(),
    },
)

RESPONSES = Dialect(
    name="responses",
    path="/v1/responses",
    request={"input": "hello"},
    good=json.dumps(_RESPONSE).encode(),
    opening=named("response.created", response=_response("in_progress", usage=None)),
    words=named("response.output_text.delta", delta="Hello")
    + named("response.output_text.delta", delta=" there"),
    stop=named("response.output_text.done", text=CONTENT),
    end=named("response.completed", response=_RESPONSE),
    error=named("response.failed", response=_response("failed", error={"message": "no"})),
    text_at=("output", 0, "content", 0, "text"),
    last_mark=b'"type":"response.completed"',
    wrong={
        "no output": json.dumps(_response("completed")).encode(),
        "output as text": json.dumps({**_RESPONSE, "output": "Hello"}).encode(),
        "a response that failed": json.dumps({**_RESPONSE, "status": "failed"}).encode(),
    },
)

MESSAGES = Dialect(
    name="messages",
    path="/v1/messages",
    request={"messages": [{"role": "user", "content": "hello"}], "max_tokens": 9},
    good=json.dumps(_MESSAGE).encode(),
    opening=named(
        "message_start",
        message={**_MESSAGE, "content": [], "usage": {"input_tokens": 3, "output_tokens": 99}},
    ),
    words=_delta("Hello") + _delta(" there"),
    stop=named("content_block_stop", index=0),
    end=named("message_delta", delta={"stop_reason": "end_turn"}, usage={"output_tokens": 2})
    + named("message_stop"),
    error=named("error", error={"type": "overloaded_error", "message": "no"}),
    counted=(3, 2, 5, "counted"),
    text_at=("content", 0, "text"),
    last_mark=b'"type":"message_stop"',
    wrong={
        "no content": json.dumps({**_MESSAGE, "content": None}).encode(),
        "content as text": json.dumps({**_MESSAGE, "content": "Hello"}).encode(),
    },
)

INFILL = Dialect(
    name="infill",
    path="/completion",
    request={"prompt": "hello"},
    good=json.dumps(
        {"content": CONTENT, "stop": True, "tokens_evaluated": 3, "tokens_predicted": 2}
    ).encode(),
    opening=_piece(""),
    words=_piece("Hello") + _piece(" there"),
    stop=_piece(""),
    end=_piece("", stop=True, tokens_evaluated=3, tokens_predicted=2),
    text_at=("content",),
    last_mark=b'"stop":true',
    wrong={"no content": b'{"stop": true}', "content as a number": b'{"content": 5}'},
)

DIALECTS = (CHAT, COMPLETIONS, RESPONSES, MESSAGES, INFILL)
