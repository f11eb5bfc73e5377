"""What the mock says on every route but that of a chat: the doors of llama.cpp beside it.

Each says the same as a chat, ``Mock: `` and what was asked, in the form of its dialect, as
llama.cpp writes it, but for the indexes of a streamed response, which llama.cpp leaves out and
OpenAI's ``.stream()`` helpers need.
"""

from __future__ import annotations

import base64
import struct
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import attrs
import msgspec

CREATED = 1_700_000_000  # a constant, so that two answers to one request are the same bytes
DIMENSIONS = 8
"""Numbers in an embedding."""

_encode = msgspec.json.encode


@attrs.frozen
class Asked:
    """A request, and what is to be said to it: `words`, which count as tokens, as do the
    `prompt_tokens` words that were asked. Without `usage` no tokens are told, without `end` a
    stream lacks what ends it."""

    members: dict[str, Any]
    words: list[str]
    prompt_tokens: int
    usage: bool = True
    end: bool = True

    @property
    def text(self) -> str:
        return "".join(self.words)

    @property
    def model(self) -> str:
        model = self.members.get("model")
        return model if isinstance(model, str) else "mock"

    def counts(self, prompt: str, completion: str, total: str | None = None) -> dict[str, int]:
        """The usage, under the names that a dialect has for it."""
        counts = {prompt: self.prompt_tokens, completion: len(self.words)}
        return counts if total is None else {**counts, total: sum(counts.values())}


@attrs.frozen
class Door:
    """One route: what is said in one piece, and in a stream, the first piece of which is its
    opening and the last of which its end; and how an error reads, as a body and as an event."""

    plain: Callable[[Asked], Any]
    events: Callable[[Asked], Iterator[bytes]] | None = None
    error: Callable[[dict[str, Any]], Any] = lambda error: {"error": error}
    error_name: str = ""
    error_event: Callable[[dict[str, Any]], Any] | None = None

    def failure(self, error: dict[str, Any]) -> bytes:
        """The event with which a stream fails."""
        said = (self.error_event or self.error)(error)
        return event(said, self.error_name)


def event(data: Any, name: str = "") -> bytes:
    field = b"event: %b\n" % name.encode("ascii") if name else b""
    return field + b"data: %b\n\n" % _encode(data)


def _typed(kind: str, **members: Any) -> bytes:
    return event({"type": kind, **members}, kind)


# What was asked.


def texts(members: dict[str, Any]) -> list[str]:
    """The texts of a request, the one that is answered last."""
    for name in ("messages", "input", "prompt", "content", "query", "input_prefix"):
        said = members.get(name)
        if isinstance(said, str):
            return [said]
        if isinstance(said, list) and said:
            users = [item for item in said if _role(item) == "user"]
            return [_text(item) for item in users or said]
    return []


def _role(item: Any) -> Any:
    return item.get("role") if isinstance(item, dict) else None


def _text(item: Any) -> str:
    """The text of a message, of a content part, of a prompt, or tokens as their numbers."""
    if isinstance(item, dict):
        return _text(item.get("content", item.get("text", item.get("prompt_string", ""))))
    if isinstance(item, list):
        return " ".join(map(_text, item))
    return "" if item is None else str(item)


# Completions.


def _completion(asked: Asked) -> dict[str, Any]:
    choice = {"index": 0, "text": asked.text, "logprobs": None, "finish_reason": "stop"}
    usage = {"usage": _openai_counts(asked)} if asked.usage else {}
    return {**_named(asked), "choices": [choice], **usage}


def _named(asked: Asked) -> dict[str, Any]:
    return {
        "id": "cmpl-mock",
        "object": "text_completion",
        "created": CREATED,
        "model": asked.model,
    }


def _openai_counts(asked: Asked) -> dict[str, int]:
    return asked.counts("prompt_tokens", "completion_tokens", "total_tokens")


def _completion_events(asked: Asked) -> Iterator[bytes]:
    def chunk(text: str, reason: str | None = None, **members: Any) -> bytes:
        choice = {"index": 0, "text": text, "logprobs": None, "finish_reason": reason}
        return event({**_named(asked), "choices": [choice], **members})

    yield chunk("")
    yield from map(chunk, asked.words)
    usage = {"usage": _openai_counts(asked)} if asked.usage else {}
    yield chunk("", "stop", **usage) + (b"data: [DONE]\n\n" if asked.end else b"")


# Responses.


def _response(asked: Asked, status: str = "completed") -> dict[str, Any]:
    whole = status == "completed"
    return {
        "id": "resp_mock",
        "object": "response",
        "created_at": CREATED,
        "status": status,
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "metadata": {},
        "model": asked.model,
        "output": [_item(asked.text)] if whole else [],
        "parallel_tool_calls": True,
        "temperature": None,
        "tool_choice": "auto",
        "tools": [],
        "top_p": None,
        "usage": _response_counts(asked) if whole and asked.usage else None,
    }


def _response_counts(asked: Asked) -> dict[str, Any]:
    return {
        **asked.counts("input_tokens", "output_tokens", "total_tokens"),
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens_details": {"reasoning_tokens": 0},
    }


def _item(text: str | None) -> dict[str, Any]:
    """The message of a response; without a text, the one that is begun."""
    return {
        "type": "message",
        "id": "msg_mock",
        "role": "assistant",
        "status": "in_progress" if text is None else "completed",
        "content": [] if text is None else [_part(text)],
    }


def _part(text: str) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def _response_events(asked: Asked) -> Iterator[bytes]:
    number = iter(range(1 << 62))

    def said(kind: str, **members: Any) -> bytes:
        return _typed(f"response.{kind}", sequence_number=next(number), **members)

    item = {"output_index": 0}
    part = {"item_id": "msg_mock", **item, "content_index": 0}
    begun = _response(asked, "in_progress")
    yield (
        said("created", response=begun)
        + said("in_progress", response=begun)
        + said("output_item.added", **item, item=_item(None))
        + said("content_part.added", **part, part=_part(""))
    )
    for word in asked.words:
        yield said("output_text.delta", **part, delta=word, logprobs=[])
    yield (
        said("output_text.done", **part, text=asked.text, logprobs=[])
        + said("content_part.done", **part, part=_part(asked.text))
        + said("output_item.done", **item, item=_item(asked.text))
        + (said("completed", response=_response(asked)) if asked.end else b"")
    )


def _failed_response(error: dict[str, Any]) -> dict[str, Any]:
    failed = _response(Asked({}, [], 0), "failed")
    said = {"code": "server_error", "message": error["message"]}
    return {"type": "response.failed", "response": {**failed, "error": said}}


# Messages.


def _message(asked: Asked, **members: Any) -> dict[str, Any]:
    return {
        "id": "msg_mock",
        "type": "message",
        "role": "assistant",
        "model": asked.model,
        "content": [{"type": "text", "text": asked.text}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        **({"usage": asked.counts("input_tokens", "output_tokens")} if asked.usage else {}),
        **members,
    }


def _message_events(asked: Asked) -> Iterator[bytes]:
    usage = {"input_tokens": asked.prompt_tokens, "output_tokens": 0} if asked.usage else {}
    begun = _message(asked, content=[], stop_reason=None, usage=usage)
    block = {"type": "text", "text": ""}
    yield (
        _typed("message_start", message=begun)
        + _typed("content_block_start", index=0, content_block=block)
    )
    for word in asked.words:
        delta = {"type": "text_delta", "text": word}
        yield _typed("content_block_delta", index=0, delta=delta)
    usage = {"output_tokens": len(asked.words)} if asked.usage else {}
    ended = {"stop_reason": "end_turn", "stop_sequence": None}
    yield (
        _typed("content_block_stop", index=0)
        + _typed("message_delta", delta=ended, usage=usage)
        + (_typed("message_stop") if asked.end else b"")
    )


def _anthropic_error(error: dict[str, Any]) -> dict[str, Any]:
    kind = "api_error" if error["type"] == "server_error" else error["type"]
    return {"type": "error", "error": {"type": kind, "message": error["message"]}}


# llama.cpp's own completions.


def _infill(asked: Asked) -> dict[str, Any]:
    counts = asked.counts("tokens_evaluated", "tokens_predicted") if asked.usage else {}
    return {
        "index": 0,
        "content": asked.text,
        "model": asked.model,
        "stop": True,
        "stop_type": "eos",
        **counts,
    }


def _infill_events(asked: Asked) -> Iterator[bytes]:
    yield event({"index": 0, "content": "", "tokens": [], "stop": False})
    for word in asked.words:
        yield event({"index": 0, "content": word, "tokens": [], "stop": False})
    if asked.end:
        yield event({**_infill(asked), "content": ""})


# What is no text.


def _embeddings(asked: Asked) -> dict[str, Any]:
    given = asked.members.get("input", "")
    several = given if isinstance(given, list) and given else [given]
    if several and isinstance(several[0], int):
        several = [given]
    as_base64 = asked.members.get("encoding_format") == "base64"
    data = []
    for index, one in enumerate(several):
        numbers: Any = _embedding(_text(one))
        if as_base64:
            packed = struct.pack(f"<{DIMENSIONS}f", *numbers)
            numbers = base64.b64encode(packed).decode("ascii")
        data.append({"object": "embedding", "index": index, "embedding": numbers})
    usage = {"prompt_tokens": asked.prompt_tokens, "total_tokens": asked.prompt_tokens}
    told = {"usage": usage} if asked.usage else {}
    return {"object": "list", "model": asked.model, "data": data, **told}


def _embedding(text: str) -> list[float]:
    """Numbers that a text decides; they mean nothing."""
    seeds = (zlib.crc32(b"%d %b" % (place, text.encode())) for place in range(DIMENSIONS))
    return [seed / 2**31 - 1 for seed in seeds]


def _rerank(asked: Asked) -> Any:
    """By the words that a document shares with the query."""
    query = set(_text(asked.members.get("query")).split())
    given = asked.members.get("documents") or asked.members.get("texts") or []
    documents = given if isinstance(given, list) else [given]
    scores = [len(query & set(_text(one).split())) / max(len(query), 1) for one in documents]
    order = sorted(range(len(scores)), key=lambda index: -scores[index])
    if not asked.members.get("documents"):
        return [{"index": index, "score": scores[index]} for index in order]
    usage = {"prompt_tokens": asked.prompt_tokens, "total_tokens": asked.prompt_tokens}
    return {
        "object": "list",
        "model": asked.model,
        "results": [{"index": index, "relevance_score": scores[index]} for index in order],
        **({"usage": usage} if asked.usage else {}),
    }


def _tokenize(asked: Asked) -> dict[str, Any]:
    """The bytes of a text for its tokens, so that `_detokenize` gives it back."""
    return {"tokens": list(_text(asked.members.get("content", "")).encode())}


def _detokenize(asked: Asked) -> dict[str, Any]:
    given = asked.members.get("tokens")
    tokens = given if isinstance(given, list) else []
    known = [token for token in tokens if isinstance(token, int) and 0 <= token < 256]
    return {"content": bytes(known).decode("utf-8", "replace")}


def _template(asked: Asked) -> dict[str, Any]:
    given = asked.members.get("messages")
    messages = given if isinstance(given, list) else []
    lines = [f"{_role(message)}: {_text(message)}\n" for message in messages]
    return {"prompt": "".join([*lines, "assistant: "])}


def _count(asked: Asked) -> dict[str, Any]:
    return {"input_tokens": asked.prompt_tokens}


def _response_count(asked: Asked) -> dict[str, Any]:
    return {"object": "response.input_tokens", "input_tokens": asked.prompt_tokens}


DOORS = {
    "/v1/completions": Door(_completion, _completion_events),
    "/v1/responses": Door(
        _response,
        _response_events,
        error_name="response.failed",
        error_event=_failed_response,
    ),
    "/v1/messages": Door(_message, _message_events, _anthropic_error, "error"),
    "/infill": Door(_infill, _infill_events),
    "/completion": Door(_infill, _infill_events),
    "/v1/embeddings": Door(_embeddings),
    "/v1/rerank": Door(_rerank),
    "/tokenize": Door(_tokenize),
    "/detokenize": Door(_detokenize),
    "/apply-template": Door(_template),
    "/v1/chat/completions/input_tokens": Door(_count),
    "/v1/responses/input_tokens": Door(_response_count),
    "/v1/messages/count_tokens": Door(_count, error=_anthropic_error),
}
"""By its path at the backend."""
