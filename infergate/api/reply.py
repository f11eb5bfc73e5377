"""The chat reply: the backend's held to the contract, the echo's made, either as a stream."""

from __future__ import annotations

import re

import msgspec
from msgspec import Raw, Struct

from infergate.api.batches import OBJECT_END, in_batches
from infergate.api.operation import Ask, Reply, Stamp
from infergate.api.strictjson import NotJSON, read_members, read_object
from infergate.api.usage import NO_USAGE, Usage, read_usage
from infergate.errors import BrokenReply

MAX_ITEMS = 4096
"""Choices of a reply, and tool calls of a message: more than any client asks for, and few enough
to look at each."""

UNKNOWN_MODEL = "default"
"""The model of a reply where nobody named one."""

_NULL = Raw(b"null")
_QUOTE, _BRACE = b'"{'


class _Choice(Struct, gc=False):
    message: Raw = _NULL
    index: Raw = _NULL
    finish_reason: Raw = _NULL

    @property
    def lacks_something(self) -> bool:
        return self.index == _NULL or self.finish_reason == _NULL


class _Message(Struct, gc=False):
    tool_calls: Raw = _NULL
    function_call: Raw = _NULL


class _Call(Struct, gc=False):
    index: Raw = _NULL


_choices = msgspec.json.Decoder(list[_Choice])
_message = msgspec.json.Decoder(_Message)
_calls = msgspec.json.Decoder(list[_Call])
_items = msgspec.json.Decoder(list[Raw])
_object = msgspec.json.Decoder(dict[str, Raw])
_string = msgspec.json.Decoder(str)
_NONEMPTY_ARRAY = re.compile(rb"\[\s*[^]\s]")

# Line ends in valid JSON stand between its tokens only, but in an event stream they end a field.
_ONE_LINE = bytes.maketrans(b"\r\n", b"  ")


def shape_reply(body: bytes, ask: Ask, stamp: Stamp) -> Reply:
    """The backend's plain reply under the request's id, with what the backend left out of the
    contract filled in, and every other member as it came.

    Raises `BackendError` where it is no chat completion.
    """
    try:
        reply = read_object(body)
    except NotJSON as error:
        raise BrokenReply(f"The backend's reply is not valid JSON: {error}.") from None
    if reply is None:
        raise BrokenReply("The backend's reply is not a JSON object.")
    if reply.get("error", _NULL) != _NULL:
        raise BrokenReply("The backend's reply is an error under a status of success.")
    choices = _shape_choices(reply.get("choices", _NULL))
    reply["id"] = _written(stamp.request_id)
    _fill(reply, "object", "chat.completion")
    _fill(reply, "created", stamp.created)
    _fill(reply, "model", ask.model or UNKNOWN_MODEL)
    reply["choices"] = choices
    usage = reply.get("usage", _NULL)
    if not _is_object(usage):
        reply["usage"] = _written(_counts(NO_USAGE))
    model = _string.decode(reply["model"]) if _is_string(reply["model"]) else None
    return Reply(msgspec.json.encode(reply), read_usage(usage) or NO_USAGE, model)


def chat_reply(content: str, usage: Usage, ask: Ask, stamp: Stamp) -> Reply:
    """A reply of the gateway's own."""
    model = ask.model or UNKNOWN_MODEL
    reply = {
        "id": stamp.request_id,
        "object": "chat.completion",
        "created": stamp.created,
        "model": model,
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": content},
                "finish_reason": "stop",
            }
        ],
        "usage": _counts(usage),
    }
    return Reply(msgspec.json.encode(reply), usage, model)


def as_chunks(reply_body: bytes, include_usage: bool) -> bytes:
    """A reply that one of the functions above made, as a whole event stream: one chunk, one
    more with the usage if that is to be included, and the end."""
    reply = _object.decode(reply_body)
    reply["object"] = _written("chat.completion.chunk")
    choices = _items.decode(reply["choices"])
    reply["choices"] = _array([_as_delta(bytes(choice)) for choice in choices])
    usage = reply.pop("usage")
    events = [_joined(reply)]
    if include_usage:
        shared = {name: reply[name] for name in ("id", "object", "created", "model")}
        events.append(msgspec.json.encode({**shared, "choices": [], "usage": usage}))
    events.append(b"[DONE]")
    del reply, choices  # each may be as large as the reply itself
    stream: list[bytes] = []
    for event in events:
        stream += (b"data: ", _in_one_line(event), b"\n\n")
    return b"".join(stream)


def _shape_choices(raw: Raw) -> Raw:
    """The choices with what they leave out filled in; `raw` itself where they leave out nothing.
    Raises `BackendError`."""
    count, whole = 0, True
    try:
        for _, choices in in_batches(raw, _choices.decode, OBJECT_END):
            count += len(choices)
            if count > MAX_ITEMS:
                raise BrokenReply(f"The backend's reply has more than {MAX_ITEMS} choices.")
            for choice in choices:
                if not _is_object(choice.message):
                    raise BrokenReply("The backend's reply has a choice without a message.")
                whole = whole and not choice.lacks_something
    except msgspec.ValidationError:
        count = 0
    if not count:
        raise BrokenReply("The backend's reply has no choices.")
    return raw if whole else _filled_choices(raw)


def _filled_choices(raw: Raw) -> Raw:
    filled: list[bytes] = []
    for text, choices in in_batches(raw, _choices.decode, OBJECT_END):
        for item, choice in zip(_items.decode(text), choices, strict=True):
            lacks = choice.lacks_something
            filled.append(_filled_choice(item, choice, len(filled)) if lacks else bytes(item))
    return _array(filled)


def _filled_choice(item: Raw, choice: _Choice, index: int) -> bytes:
    members = _members(bytes(item))
    _fill(members, "index", index)
    if choice.finish_reason == _NULL:
        _fill(members, "finish_reason", _finish_reason(_message.decode(choice.message)))
    return _joined(members)


def _finish_reason(message: _Message) -> str:
    """Why a choice ended whose backend does not say: clients look here for whether a tool is to
    be called."""
    if _NONEMPTY_ARRAY.match(bytes(message.tool_calls)):
        return "tool_calls"
    return "function_call" if _is_object(message.function_call) else "stop"


def _as_delta(choice: bytes) -> bytes:
    """A choice whose message became a delta, with its tool calls numbered as in any stream."""
    members = _members(choice)
    delta = _members(bytes(members["message"]))
    if "tool_calls" in delta:
        delta["tool_calls"] = _numbered(delta["tool_calls"])
    named = {"message": ("delta", Raw(_joined(delta)))}
    return _joined(dict(named.get(name, (name, raw)) for name, raw in members.items()))


def _numbered(calls: Raw) -> Raw:
    """Tool calls with the index of each; `calls` itself where it is none, or has them all."""
    numbered: list[bytes] = []
    try:
        for text, batch in in_batches(calls, _calls.decode, OBJECT_END):
            if len(numbered) + len(batch) > MAX_ITEMS:
                raise BrokenReply(f"The backend's reply has more than {MAX_ITEMS} tool calls.")
            for item in _items.decode(text):
                call = _members(bytes(item))
                _fill(call, "index", len(numbered))
                numbered.append(msgspec.json.encode(call))
    except msgspec.ValidationError:
        return calls
    return _array(numbered)


def _members(text: bytes) -> dict[str, Raw]:
    try:
        return read_members(text)
    except NotJSON as error:
        raise BrokenReply(f"Of the backend's reply a part is wrong: {error}.") from None


def _joined(members: dict[str, Raw]) -> bytes:
    """The object that has these members. `msgspec.json.encode` is quicker for a small one, and
    takes up to three times the memory of a large one."""
    parts: list[bytes | Raw] = []
    for name, raw in members.items():
        parts += (b"," if parts else b"{", msgspec.json.encode(name), b":", raw)
    return b"".join([*parts, b"}"] if parts else [b"{}"])


def _array(items: list[bytes]) -> Raw:
    return Raw(b"[%b]" % b",".join(items))


def _is_object(raw: Raw) -> bool:
    return memoryview(raw)[0] == _BRACE


def _is_string(raw: Raw) -> bool:
    return memoryview(raw)[0] == _QUOTE


def _in_one_line(text: bytes) -> bytes:
    return text.translate(_ONE_LINE) if b"\n" in text or b"\r" in text else text


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
