"""The reply of a completion, chat or text: the backend's held to the contract, the echo's made,
either as a stream.

What a backend sends, and what the client gets of it under the request's id. Members that are not
named here pass as they came, in their bytes:

    {"choices":[{"message":{"role":"assistant","content":"Hello!"}}],"system_fingerprint":"b1"}

    {"choices":[{"message":{"role":"assistant","content":"Hello!"},"index":0,
                 "finish_reason":"stop"}],
     "system_fingerprint":"b1","id":"3f2a","object":"chat.completion","created":1790000000,
     "model":"qwen","usage":{"prompt_tokens":0,"completion_tokens":0,"total_tokens":0}}

The official clients take the members that were filled in here for granted. A usage of zeros says
that the backend gave none; in the log it is none, and its source is ``none``.

Most choices are whole: then they are looked at in one pass, and their bytes are not touched. Only
where one lacks something is the array written again, choice by choice.

A choice is whole where it has an index and a finish reason; one without a message or a text is no
answer at all, and the reply that holds it is a `BrokenReply`. Replies may have megabytes: what
returns `Steps` is a generator that the worker runs over several event loop iterations.
"""

from __future__ import annotations

import re
from typing import Annotated, Any

import attrs
import msgspec
from msgspec import Meta, Raw, Struct

from infergate.api.batches import BATCH, OBJECT_END, in_batches
from infergate.api.objects import (
    NULL,
    array,
    fill,
    in_one_line,
    is_object,
    is_string,
    joined,
    read,
    read_inner,
    read_reply,
    read_small_reply,
    written,
)
from infergate.api.operation import UNKNOWN_MODEL, Ask, Reply, Stamp
from infergate.api.steps import Steps
from infergate.api.strictjson import BLOCK
from infergate.api.usage import NO_USAGE, Usage, read_usage
from infergate.errors import BrokenReply

MAX_ITEMS = 4096
"""Choices of a reply, and tool calls of a message: more than any client asks for, and few enough
to look at each."""


class _Choice(Struct, gc=False):
    """Of a choice what is looked at. Each member is still text, `NULL` where it is absent."""

    message: Raw = NULL
    text: Raw = NULL
    index: Raw = NULL
    finish_reason: Raw = NULL

    @property
    def lacks_something(self) -> bool:
        """Whether the index or the finish reason is to be filled in."""
        return self.index == NULL or self.finish_reason == NULL


class _Object(Struct, gc=False):
    """Any object, whatever is in it."""


class _WholeChoice(Struct, gc=False):
    """What most choices have beside their answer. Other values that a choice may have for these,
    and null, fit as little as an absence."""

    index: int
    finish_reason: str


class _ChatChoice(_WholeChoice, gc=False):
    """A choice of a chat that leaves out nothing."""

    message: _Object


class _TextChoice(_WholeChoice, gc=False):
    """The same of a text completion."""

    text: str


class _Message(Struct, gc=False):
    """Of a message what tells why it ended: whether it calls tools."""

    tool_calls: Raw = NULL
    function_call: Raw = NULL


class _Call(Struct, gc=False):
    """Of a tool call its index, which a stream must have and a plain reply need not."""

    index: Raw = NULL


@attrs.frozen
class Kind:
    """What tells one kind of completion from the other: its ``object``, that of its chunks, and
    the member of a choice in which the answer stands. `whole` decodes choices that are few, and of
    which none leaves out anything: what it refuses needs a closer look."""

    name: str
    chunk_name: str
    answer: str
    whole: msgspec.json.Decoder[Any]

    def has_answer(self, choice: _Choice) -> bool:
        """Return whether a choice has its message, which is an object, or its text, which is a
        string. For `_are_whole`."""
        return is_object(choice.message) if self.answer == "message" else is_string(choice.text)


_FEW = Meta(min_length=1, max_length=MAX_ITEMS)
_chats = msgspec.json.Decoder(Annotated[list[_ChatChoice], _FEW])
_texts = msgspec.json.Decoder(Annotated[list[_TextChoice], _FEW])

CHAT_KIND = Kind("chat.completion", "chat.completion.chunk", "message", _chats)
TEXT_KIND = Kind("text_completion", "text_completion", "text", _texts)

_choices = msgspec.json.Decoder(list[_Choice])
_message = msgspec.json.Decoder(_Message)
_calls = msgspec.json.Decoder(list[_Call])
_items = msgspec.json.Decoder(list[Raw])
_object = msgspec.json.Decoder(dict[str, Raw])
_string = msgspec.json.Decoder(str)
_NONEMPTY_ARRAY = re.compile(rb"\[\s*[^]\s]")


def shape_reply(body: bytes, ask: Ask, stamp: Stamp, kind: Kind) -> Steps[Reply]:
    """Return the backend's plain reply under the request's id, with what the backend left out of
    the contract filled in, and every other member as it came.

    This is the `shape` of the operations chat and completions, which the worker calls with the
    whole `body`. Raises `BrokenReply` where that is no completion of this kind.
    """
    reply = read_small_reply(body) if len(body) <= BLOCK else (yield from read_reply(body))
    choices = reply.get("choices", NULL)
    # A quick look, which spares most replies the closer one.
    if len(choices) > BATCH or read(kind.whole, choices) is None:
        choices = yield from _shape_choices(choices, kind)
    reply["id"] = written(stamp.request_id)
    fill(reply, "object", kind.name)
    fill(reply, "created", stamp.created)
    fill(reply, "model", ask.model or UNKNOWN_MODEL)
    reply["choices"] = choices
    usage = read_usage(reply.get("usage", NULL))
    if usage is None and not is_object(reply.get("usage", NULL)):
        reply["usage"] = written(_counts(NO_USAGE))
    # The record has the model that the client named, where it named one.
    model = None if ask.model else read(_string, reply["model"])
    if len(body) <= BATCH:
        shaped = msgspec.json.encode(reply)
    else:
        yield
        shaped = joined(reply)
    return Reply(shaped, usage or NO_USAGE, model)


def own_reply(choice: dict[str, Any], usage: Usage, ask: Ask, stamp: Stamp, kind: Kind) -> Reply:
    """Return a reply of the gateway's own, for the echo of chat and completions.

    `choice` is what its one choice says beside its index and finish reason, such as ``{"message":
    {...}}``.
    """
    model = ask.model or UNKNOWN_MODEL
    reply = {
        "id": stamp.request_id,
        "object": kind.name,
        "created": stamp.created,
        "model": model,
        "choices": [{"index": 0, **choice, "finish_reason": "stop"}],
        "usage": _counts(usage),
    }
    return Reply(msgspec.json.encode(reply), usage, model)


def as_chunks(reply_body: bytes, include_usage: bool, kind: Kind) -> Steps[bytes]:
    """Return a reply that one of the functions above made as a whole event stream: one chunk, one
    more with the usage if that is to be included, and the end.

        data: {"id":"3f2a","object":"chat.completion.chunk",...,"choices":[{"index":0,
               "delta":{"role":"assistant","content":"Hello!"},"finish_reason":"stop"}]}

        data: {"id":"3f2a",...,"choices":[],"usage":{...}}

        data: [DONE]

    The worker calls it, by `Operation.as_stream`, for a client that asked for a stream. Each event
    is one line. It may be as large as the reply, so that each is let go of as soon as what is made
    of it is there. Raises `BrokenReply` for a choice or a message that has too many members or tool
    calls.
    """
    reply = _object.decode(reply_body)
    yield
    reply["object"] = written(kind.chunk_name)
    if kind is CHAT_KIND:
        choices = _items.decode(reply["choices"])
        yield
        deltas = []
        for choice in choices:
            deltas.append((yield from _as_delta(choice)))
        yield
        reply["choices"] = array(deltas)
        del choices, deltas
        yield
    usage = reply.pop("usage")
    events = [joined(reply)]
    if include_usage:
        shared = {name: reply[name] for name in ("id", "object", "created", "model")}
        events.append(msgspec.json.encode({**shared, "choices": [], "usage": usage}))
    events.append(b"[DONE]")
    yield
    del reply  # each may be as large as the reply itself
    stream: list[bytes] = []
    for event in events:
        yield
        stream += (b"data: ", in_one_line(event), b"\n\n")
    yield
    return b"".join(stream)


def _shape_choices(raw: Raw, kind: Kind) -> Steps[Raw]:
    """Return the choices with what they leave out filled in; `raw` itself where they leave out
    nothing. For `shape_reply`, where they are many or one of them is not whole. Raises
    `BrokenReply`."""
    whole = yield from _judge_choices(raw, kind)
    return raw if whole else (yield from _filled_choices(raw))


def _judge_choices(raw: Raw, kind: Kind) -> Steps[bool]:
    """Return whether the choices leave out nothing, reading them a batch at a time.

    Raises `BrokenReply` where there is none, or more than `MAX_ITEMS`, or one without an answer.
    For `_shape_choices`.
    """
    count, whole = 0, True
    try:
        for _, choices in in_batches(raw, _choices.decode, OBJECT_END):
            whole = _are_whole(choices, kind) and whole
            count += len(choices)
            if count > MAX_ITEMS:
                raise BrokenReply(f"The backend's reply has more than {MAX_ITEMS} choices.")
            yield
    except msgspec.ValidationError:
        count = 0
    if not count:
        raise BrokenReply("The backend's reply has no choices.")
    return whole


def _are_whole(choices: list[_Choice], kind: Kind) -> bool:
    """Return whether these choices leave out nothing; raises `BrokenReply` where one has no answer.
    For `_judge_choices`."""
    whole = True
    for choice in choices:
        if not kind.has_answer(choice):
            raise BrokenReply(f"The backend's reply has a choice without a {kind.answer}.")
        whole = whole and not choice.lacks_something
    return whole


def _filled_choices(raw: Raw) -> Steps[Raw]:
    """Return the array of the choices with what some of them lack filled in. Others keep their
    bytes. Raises `BrokenReply` for a choice to be filled in that has too many members. For
    `_shape_choices`."""
    filled: list[bytes] = []
    for text, choices in in_batches(raw, _choices.decode, OBJECT_END):
        yield
        for item, choice in zip(_items.decode(text), choices, strict=True):
            lacks = choice.lacks_something
            if lacks:
                filled.append((yield from _filled_choice(item, choice, len(filled))))
            else:
                filled.append(bytes(item))
    return array(filled)


def _filled_choice(item: Raw, choice: _Choice, index: int) -> Steps[bytes]:
    """Return the text of one choice with its ``index`` and ``finish_reason``, whichever of these it
    lacks filled in. `choice` is `item` decoded. Raises `BrokenReply` as `read_inner` does. For
    `_filled_choices`."""
    members = yield from read_inner(item)
    fill(members, "index", index)
    if len(memoryview(item)) > BATCH:
        yield
    if choice.finish_reason == NULL:
        fill(members, "finish_reason", _finish_reason(choice.message))
    if len(memoryview(item)) > BATCH:
        yield
    return joined(members)


def _finish_reason(raw: Raw) -> str:
    """Return why a choice ended whose backend does not say: clients look here for whether a tool is
    to be called.

    `raw` is its message: ``tool_calls`` where that has any, ``function_call`` in the older form,
    else ``stop``; ``stop`` also for a choice of a text completion, which has no message. For
    `_filled_choice`.
    """
    if not is_object(raw):
        return "stop"
    message = _message.decode(raw)
    if _NONEMPTY_ARRAY.match(memoryview(message.tool_calls)):
        return "tool_calls"
    return "function_call" if is_object(message.function_call) else "stop"


def _as_delta(choice: Raw) -> Steps[bytes]:
    """Return the text of a choice whose ``message`` became a ``delta``, with its tool calls
    numbered as in any stream. For `as_chunks`; raises `BrokenReply` as `read_inner` and `_numbered`
    do."""
    members = yield from read_inner(choice)
    yield
    delta = yield from read_inner(members["message"])
    if "tool_calls" in delta:
        delta["tool_calls"] = yield from _numbered(delta["tool_calls"])
    yield
    named = {"message": ("delta", Raw(joined(delta)))}
    yield
    return joined(dict(named.get(name, (name, raw)) for name, raw in members.items()))


def _numbered(calls: Raw) -> Steps[Raw]:
    """Return the array of tool calls with the index of each filled in; `calls` itself where it is
    no array of objects. Raises `BrokenReply` where there are more than `MAX_ITEMS`. For
    `_as_delta`."""
    numbered: list[bytes] = []
    try:
        for text, batch in in_batches(calls, _calls.decode, OBJECT_END):
            if len(numbered) + len(batch) > MAX_ITEMS:
                raise BrokenReply(f"The backend's reply has more than {MAX_ITEMS} tool calls.")
            for item in _items.decode(text):
                call = yield from read_inner(item)
                fill(call, "index", len(numbered))
                numbered.append(msgspec.json.encode(call))
            yield
    except msgspec.ValidationError:
        return calls
    return array(numbered)


def _counts(usage: Usage) -> dict[str, int]:
    """Return the counts of a usage as the member ``usage`` of a completion has them. For
    `shape_reply` and `own_reply`."""
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.total_tokens,
    }
