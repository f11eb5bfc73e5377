"""The chat reply: the backend's held to the contract, the echo's made, either as a stream."""

from __future__ import annotations

from typing import TypeVar

import msgspec
from msgspec import Raw

from infergate.api.chat import ChatRequest
from infergate.api.strictjson import NotJSON, read_object
from infergate.api.usage import NO_USAGE, Usage, read_usage
from infergate.errors import BackendError

MAX_MESSAGE = 2000
"""Characters of a backend's message that are passed on: a sentence, not a dump."""

MAX_DETAIL = 16384
"""Bytes of a backend's error object that are passed on; a larger one is left out."""

T = TypeVar("T")
_object = msgspec.json.Decoder(dict[str, Raw])
_objects = msgspec.json.Decoder(list[dict[str, Raw]])
_string = msgspec.json.Decoder(str)
_NULL = Raw(b"null")

# Line ends in valid JSON stand between its tokens only, but in an event stream they end a field.
_ONE_LINE = bytes.maketrans(b"\r\n", b"  ")


def shape_reply(body: bytes, *, request_id: str, model: str, created: int) -> tuple[bytes, Usage]:
    """The backend's plain reply under the request's id, with what the backend left out of the
    contract filled in, and every other member as it came. `created` is in Unix seconds.

    Raises `BackendError` where it is no chat completion.
    """
    try:
        reply = read_object(body)
    except NotJSON as error:
        raise BackendError(f"The backend's reply is not valid JSON: {error}.") from None
    if reply is None:
        raise BackendError("The backend's reply is not a JSON object.")
    if reply.get("error", _NULL) != _NULL:
        raise BackendError("The backend's reply is an error under status 200.")
    choices = _read(_objects, reply.get("choices"))
    if not choices:
        raise BackendError("The backend's reply has no choices.")
    reply["id"] = _written(request_id)
    for name, value in (("object", "chat.completion"), ("created", created), ("model", model)):
        _fill(reply, name, value)
    if _fill_choices(choices):
        reply["choices"] = _written(choices)
    usage = reply.get("usage")
    if _read(_object, usage) is None:
        reply["usage"] = _written(_counts(NO_USAGE))
    return msgspec.json.encode(reply), read_usage(usage or _NULL) or NO_USAGE


def echo_reply(request: ChatRequest, request_id: str, created: int) -> tuple[bytes, Usage]:
    """The answer where there is no backend: the prompt itself, its words counted as tokens."""
    content = f"Echo: {request.prompt}"
    asked = sum(len(text.split()) for text in request.texts())
    answered = len(content.split())
    usage = Usage(asked, answered, asked + answered, "counted")
    message = {"role": "assistant", "content": content}
    reply = {
        "id": request_id,
        "object": "chat.completion",
        "created": created,
        "model": request.model,
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": _counts(usage),
    }
    return msgspec.json.encode(reply), usage


def as_chunks(reply_body: bytes, include_usage: bool) -> bytes:
    """A reply that one of the functions above made, as a whole event stream: one chunk, one
    more with the usage if that is to be included, and the end."""
    reply = _object.decode(reply_body)
    reply["object"] = _written("chat.completion.chunk")
    reply["choices"] = _written([_as_delta(c) for c in _objects.decode(reply["choices"])])
    usage = reply.pop("usage")
    events = [msgspec.json.encode(reply)]
    if include_usage:
        shared = {name: reply[name] for name in ("id", "object", "created", "model")}
        events.append(msgspec.json.encode({**shared, "choices": [], "usage": usage}))
    events.append(b"[DONE]")
    return b"".join(b"data: %b\n\n" % event.translate(_ONE_LINE) for event in events)


def reject_detail(body: bytes) -> tuple[str | None, object]:
    """What a client may see of a backend's refusal: its message and its error object, each
    None where there is none. Only JSON passes, in the forms that OpenAI, llama.cpp, vLLM and
    FastAPI give it; never a page of HTML, never a traceback."""
    try:
        refusal = read_object(body)
    except NotJSON:
        refusal = None
    if refusal is None or b"Traceback (most recent call last)" in body:
        return None, None
    detail = refusal.get("error")
    error = _read(_object, detail)
    if error is not None:
        says = [error.get("message")]
    else:
        says = [detail, refusal.get("message"), refusal.get("detail")]
        detail = Raw(body) if _read(_string, refusal.get("object")) == "error" else None
    message = next((text for raw in says if (text := _read(_string, raw))), None)
    if message is not None and message.lstrip().startswith("<"):
        return None, None
    if detail is not None and len(detail) > MAX_DETAIL:
        detail = None
    return message and message[:MAX_MESSAGE], detail


def _fill_choices(choices: list[dict[str, Raw]]) -> bool:
    """Fill in what choices leave out; False where they leave out nothing."""
    filled = False
    for index, choice in enumerate(choices):
        if _read(_object, choice.get("message")) is None:
            raise BackendError("The backend's reply has a choice without a message.")
        filled |= _fill(choice, "index", index) | _fill(choice, "finish_reason", "stop")
    return filled


def _as_delta(choice: dict[str, Raw]) -> dict[str, Raw]:
    """A choice whose message became a delta, with its tool calls numbered as in any stream."""
    delta = _object.decode(choice["message"])
    calls = _read(_objects, delta.get("tool_calls")) or []
    for index, call in enumerate(calls):
        _fill(call, "index", index)
    if calls:
        delta["tool_calls"] = _written(calls)
    named = {"message": ("delta", _written(delta))}
    return dict(named.get(name, (name, raw)) for name, raw in choice.items())


def _counts(usage: Usage) -> dict[str, int]:
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.total_tokens,
    }


def _fill(members: dict[str, Raw], name: str, value: object) -> bool:
    """Give a member that is absent or null a value; False where it has one."""
    if members.get(name, _NULL) != _NULL:
        return False
    members[name] = _written(value)
    return True


def _written(value: object) -> Raw:
    return Raw(msgspec.json.encode(value))


def _read(decoder: msgspec.json.Decoder[T], raw: Raw | None) -> T | None:
    """A value of the decoder's type; None where it is absent or of another type."""
    try:
        return None if raw is None else decoder.decode(raw)
    except msgspec.ValidationError:
        return None
