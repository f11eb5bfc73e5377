"""OpenAI's three dialects of a completion, as llama.cpp speaks them: chat, text and responses.

A streamed response has the indexes that llama.cpp leaves out and OpenAI's ``.stream()`` helpers
need.

The functions here are called through `CHAT`, `COMPLETIONS` and `RESPONSES` alone, by `reply_to`:
with the request as an `Asked` they return a plain reply as a JSON value, or yield a stream in
pieces, bytes of whole events.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import count
from typing import Any

from infergate.mock.asked import CREATED, Asked, Door, encode, event, typed_event
from infergate.mock.script import Script


def _named(asked: Asked, name: str, kind: str) -> dict[str, Any]:
    """Return the members that every completion and every chunk of one begins with. `kind` is its
    ``object``, such as ``chat.completion.chunk``."""
    return {"id": name, "object": kind, "created": CREATED, "model": asked.model}


def _usage(asked: Asked) -> dict[str, Any]:
    """Return the member ``usage`` under OpenAI's names; an empty dictionary where the script leaves
    it out."""
    return asked.usage("prompt_tokens", "completion_tokens", "total_tokens")


def _done(asked: Asked) -> bytes:
    """Return the event that ends a stream of chat or text; no bytes where the script leaves it out,
    as a backend does that was cut off."""
    return b"data: [DONE]\n\n" if asked.script.done else b""


# Chat.


def _chat(asked: Asked) -> dict[str, Any]:
    """Return the plain reply of a chat: the answer as its content, or where the script names a
    ``tool_call`` as the argument of a call."""
    message: dict[str, Any] = {"role": "assistant", "content": None}
    if asked.script.tool_call:
        message["tool_calls"] = [_call(asked)]
    else:
        message["content"] = asked.text
    choice = {"index": 0, "message": message, "finish_reason": _reason(asked)}
    named = _named(asked, "chatcmpl-mock", "chat.completion")
    return {**named, "choices": [choice], **_usage(asked)}


def _chat_events(asked: Asked) -> Iterator[bytes]:
    """Yield the stream of a chat as llama.cpp sends it: the role, the words, and in one piece the
    finish reason, the usage where it was asked for, and the end.

    The JSON around a word is the same for each, and is put together once for the whole stream.
    """
    head = b"data: " + encode(_named(asked, "chatcmpl-mock", "chat.completion.chunk"))[:-1]
    head += b',"choices":['
    choice = b'{"index":0,"delta":%b,"finish_reason":%b}]}\n\n'
    yield head + choice % (b'{"role":"assistant","content":null}', b"null")
    if asked.script.tool_call:
        for piece in _call_in_pieces(asked):
            yield head + choice % (encode({"tool_calls": [piece]}), b"null")
    else:
        before, after = head + b'{"index":0,"delta":{"content":', b'},"finish_reason":null}]}\n\n'
        for word in asked.words:
            yield before + encode(word) + after
    last = head + choice % (b"{}", encode(_reason(asked)))
    usage, options = _usage(asked), asked.members.get("stream_options") or {}
    if usage and options.get("include_usage"):
        last += head + b'],"usage":%b}\n\n' % encode(usage["usage"])
    yield last + _done(asked)


def _call(asked: Asked) -> dict[str, Any]:
    """Return a call of the function that the script names in ``tool_call``. Its arguments are a
    string of JSON, ``{"text": "Mock: hello"}``, as OpenAI has them."""
    arguments = encode({"text": asked.text}).decode("utf-8")
    function = {"name": asked.script.tool_call, "arguments": arguments}
    return {"id": "call-mock", "type": "function", "function": function}


def _call_in_pieces(asked: Asked) -> Iterator[dict[str, Any]]:
    """Yield the same call as the deltas of a stream: the name first, then the arguments word by
    word, for the client to join."""
    call = _call(asked)
    pieces = re.findall(r"\S+\s*", call["function"]["arguments"])
    call["function"]["arguments"] = ""
    yield {"index": 0, **call}
    for piece in pieces:
        yield {"index": 0, "function": {"arguments": piece}}


def _reason(asked: Asked) -> str:
    """Return the ``finish_reason`` of a chat: ``tool_calls`` where it has called a function, else
    ``stop``."""
    return "tool_calls" if asked.script.tool_call else "stop"


# Completions.


def _completion(asked: Asked, text: str, reason: str | None, **more: Any) -> dict[str, Any]:
    """Return a text completion, whole or one chunk of a stream. Its finish `reason` is None for a
    chunk that is not the last; `more` are members to add, such as ``usage``."""
    choice = {"index": 0, "text": text, "logprobs": None, "finish_reason": reason}
    return {**_named(asked, "cmpl-mock", "text_completion"), "choices": [choice], **more}


def _completion_events(asked: Asked) -> Iterator[bytes]:
    """Yield the stream of a text completion: a chunk without text, one for each word, and in one
    piece the finish reason, with the usage, and the end."""
    yield event(_completion(asked, "", None))
    for word in asked.words:
        yield event(_completion(asked, word, None))
    yield event(_completion(asked, "", "stop", **_usage(asked))) + _done(asked)


# Responses.


def _response(asked: Asked, status: str = "completed") -> dict[str, Any]:
    """Return a response, the object of ``/v1/responses``. With the `status` ``completed`` it is the
    plain reply and has its text and usage; with ``in_progress`` and ``failed`` it has neither."""
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
        "usage": _response_counts(asked) if whole and asked.script.usage else None,
    }


def _response_counts(asked: Asked) -> dict[str, Any]:
    """Return the usage of a response, with the two objects of details that OpenAI has there: here
    all of them are 0, since nothing is cached and nothing reasoned."""
    return {
        **asked.counts("input_tokens", "output_tokens", "total_tokens"),
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens_details": {"reasoning_tokens": 0},
    }


def _item(text: str | None) -> dict[str, Any]:
    """Return the message of a response; where `text` is None, the one that is begun and has no
    content."""
    return {
        "type": "message",
        "id": "msg_mock",
        "role": "assistant",
        "status": "in_progress" if text is None else "completed",
        "content": [] if text is None else [_part(text)],
    }


def _part(text: str) -> dict[str, Any]:
    """Return the content part that holds a text of a response."""
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def _response_events(asked: Asked) -> Iterator[bytes]:
    """Yield the stream of a response: the opening, a delta for each word, and in one piece the end,
    which is without ``response.completed`` where the script leaves the end out.

    Each event has the next ``sequence_number``, from 0, and names the item and the part that it is
    about, as OpenAI's helpers need it.
    """
    numbers = count()

    def said(kind: str, **members: Any) -> bytes:
        """Return one event in bytes, with the next number; `kind` is its type without
        ``response.``."""
        return typed_event(f"response.{kind}", sequence_number=next(numbers), **members)

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
        + (said("completed", response=_response(asked)) if asked.script.done else b"")
    )


def _failed_response(error: dict[str, Any]) -> dict[str, Any]:
    """Return the data of the event ``response.failed``, in which a stream of a response reports an
    error: the error stands inside a response that has no output."""
    failed = _response(Asked({}, Script()), "failed")
    said = {"code": "server_error", "message": error["message"]}
    return {"type": "response.failed", "response": {**failed, "error": said}}


CHAT = Door(_chat, _chat_events)
COMPLETIONS = Door(
    lambda asked: _completion(asked, asked.text, "stop", **_usage(asked)), _completion_events
)
RESPONSES = Door(
    _response, _response_events, error_name="response.failed", error_event=_failed_response
)
