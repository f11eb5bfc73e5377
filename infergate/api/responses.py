"""``/v1/responses``: OpenAI's newer dialect of a chat, and the one of agents.

A request and its response, with the members that are looked at here:

    {"model":"qwen", "instructions":"Be brief.", "input":"Say hello.", "max_output_tokens":20}

    {"object":"response", "status":"completed", "model":"qwen", "output":[
        {"type":"message", "id":"msg_1", "role":"assistant", "content":[
            {"type":"output_text", "text":"Hello!"}]}],
     "usage":{"input_tokens":9, "output_tokens":3, "total_tokens":12}}

In place of a text the `input` may be an array of items: messages with a role and a content, which
is a text or an array of parts, calls of functions, what these gave back, and whatever else the
backend knows. The output is such an array too. Nothing of it is judged but that it is there, and
all of it goes on as it came: the dialect grows each month, and the backend knows what it speaks.

Responses are not stored, and none can be asked for later: nobody could tell whose they are.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import msgspec
from msgspec import Raw, Struct

from infergate.api import members as m
from infergate.api.batches import OBJECT_END, in_batches
from infergate.api.echo import echoed, heard, text_within
from infergate.api.objects import (
    NULL,
    event,
    is_array,
    is_string,
    read,
    read_reply,
    read_values,
    text_of,
)
from infergate.api.operation import UNKNOWN_MODEL, Ask, Operation, Reply, Stamp, same
from infergate.api.response_events import ResponseReader, error_event, read_usage
from infergate.api.steps import Steps
from infergate.api.usage import Usage
from infergate.errors import BrokenReply

MAX_ITEMS = 4096
"""Items of a response and parts of these that become events: more than any model makes."""

COUNT_PATH = "/v1/responses/input_tokens"
"""The route that only counts the tokens of a request, and makes none."""

_INPUT = m.Member("input", "invalid_input", m.filled_string_or_array, required=True)
_MAX = m.Member("max_output_tokens", "invalid_max_tokens", m.tokens)
_TABLE = (_INPUT, _MAX, m.STREAM, m.TEMPERATURE, m.TOP_P)
_COUNT_TABLE = (_INPUT, m.STREAM, m.TEMPERATURE, m.TOP_P)


class _Status(Struct, gc=False):
    """Of a response its status, such as ``completed``."""

    status: str | None = None


_status = msgspec.json.Decoder(_Status)


def shape(body: bytes, ask: Ask, stamp: Stamp) -> Steps[Reply]:
    """Return the reply as it came, with its usage and its model: a response, which has not failed,
    or a count of tokens, of which nothing is read. Called by the worker with the backend's plain
    reply.

    Raises `BrokenReply` where the body is no object, an error, has no output or has the status
    ``failed``.
    """
    reply = yield from read_reply(body)
    if ask.route.path == COUNT_PATH:
        return Reply(body)
    if not is_array(reply.get("output", NULL)):
        raise BrokenReply("The backend's reply is no response: it has no output.")
    yield
    status = read(_status, body)
    if status is not None and status.status == "failed":
        raise BrokenReply("The backend's response has failed.")
    return Reply(body, read_usage(reply.get("usage", NULL)), m.string_model(reply))


def as_stream(reply: Reply, ask: Ask, stamp: Stamp) -> Steps[bytes]:
    """Return the whole sequence of events that ends in this response, each text in one delta:

        response.created, response.in_progress                 the response without its output
            response.output_item.added                         the item without its content
                response.content_part.added                    the part without its text
                    response.output_text.delta, ...done        the text
                response.content_part.done                     the part
            response.output_item.done                          the item
        response.completed                                     the response

    The worker calls it for a client that asked for a stream where the backend gave a plain reply,
    or where the echo answers. The official clients build the response out of these events, and fail
    where one is missing. Raises `BrokenReply` for a reply that is too large to be taken apart so.
    """
    response = yield from read_values(reply.body)
    yield
    if _size(response["output"]) > MAX_ITEMS:
        raise BrokenReply(f"The backend's response has more than {MAX_ITEMS} items.")
    unfinished = {**response, "status": "in_progress", "output": [], "usage": None}
    if "completed_at" in unfinished:
        unfinished["completed_at"] = None
    events: list[tuple[str, dict[str, Any]]] = [
        ("response.created", {"response": unfinished}),
        ("response.in_progress", {"response": unfinished}),
    ]
    for index, item in enumerate(response["output"]):
        if isinstance(item, dict):
            events += _item_events(item, index, stamp)
    ended = "incomplete" if response.get("status") == "incomplete" else "completed"
    events.append((f"response.{ended}", {"response": response}))
    return b"".join(
        event(kind, sequence_number=number, **said) for number, (kind, said) in enumerate(events)
    )


def _size(output: list[Any]) -> int:
    """Return how many items and parts of items an output has, of which each becomes some events.
    For `as_stream`."""
    contents = [item.get("content") for item in output if isinstance(item, dict)]
    return len(output) + sum(len(content) for content in contents if isinstance(content, list))


def _item_events(
    item: dict[str, Any], index: int, stamp: Stamp
) -> list[tuple[str, dict[str, Any]]]:
    """Return the events of one item of the output, each as its type and its members: of a message
    those of its parts, of a function's call that of its arguments, of any other that it begins and
    that it ends.

    `index` is the item's place in the output. An item without an id gets one, since the events of
    one item are told from those of others by it. For `as_stream`.
    """
    item_id = item.get("id") or f"item_{stamp.request_id}_{index}"
    at = {"item_id": item_id, "output_index": index}
    begun = {**item, "id": item_id, "status": "in_progress"}
    events = []
    if isinstance(item.get("content"), list):
        begun["content"] = []
        for place, part in enumerate(item["content"]):
            if isinstance(part, dict):
                events += _part_events(part, {**at, "content_index": place})
    if isinstance(item.get("arguments"), str):
        begun["arguments"] = ""
        arguments = {"arguments": item["arguments"], "name": item.get("name")}
        kind = "response.function_call_arguments"
        events += [
            (f"{kind}.delta", {**at, "delta": item["arguments"]}),
            (f"{kind}.done", {**at, **arguments}),
        ]
    whole = {**item, "id": item_id}
    return [
        ("response.output_item.added", {"output_index": index, "item": begun}),
        *events,
        ("response.output_item.done", {"output_index": index, "item": whole}),
    ]


# By the type of a part: the member that its text is in, the event of a delta of it, and what else
# that event has.
_PARTS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "output_text": ("text", "response.output_text", {"logprobs": []}),
    "refusal": ("refusal", "response.refusal", {}),
    "reasoning_text": ("text", "response.reasoning_text", {}),
}


def _part_events(part: dict[str, Any], at: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """Return the events of one part of a message, each as its type and its members.

    `at` says which part of which item it is. A part of a kind that is not in `_PARTS` has no
    deltas: it is there as a whole when it begins, and again when it ends. For `_item_events`.
    """
    events = []
    begun = part
    if part.get("type") in _PARTS:
        name, kind, more = _PARTS[part["type"]]
        text = part.get(name) or ""
        begun = {**part, name: ""}
        events = [
            (f"{kind}.delta", {**at, "delta": text, **more}),
            (f"{kind}.done", {**at, name: text, **more}),
        ]
    return [
        ("response.content_part.added", {**at, "part": begun}),
        *events,
        ("response.content_part.done", {**at, "part": part}),
    ]


class _Item(Struct, gc=False):
    """Of an item of the input what the echo repeats."""

    role: Raw = NULL
    content: Raw = NULL


_items = msgspec.json.Decoder(list[_Item])


def _asked(members: dict[str, Raw]) -> Iterator[tuple[str, str]]:
    """Yield the role and the text of each message of the input, for the echo.

    The instructions come first, as a message of the developer's. An input that is neither a text
    nor an array of objects brings nothing, or no more than what comes before the fault. For
    `_echo`.
    """
    yield "developer", text_of(members.get("instructions", NULL))
    given = members.get("input", NULL)
    if is_string(given):
        yield "user", text_of(given)
    elif is_array(given):
        # An item that is no object ends it: the echo has nothing to say about it.
        with suppress(msgspec.ValidationError):
            for _, items in in_batches(given, _items.decode, OBJECT_END):
                for item in items:
                    if item.content is not NULL:
                        yield text_of(item.role), text_within(item.content)


def _echo(ask: Ask, stamp: Stamp) -> Reply:
    """Return the prompt itself as a response, its words counted as tokens; on the route that only
    counts tokens, their number. The `EchoWorker` calls it where there is no backend."""
    words, prompt = heard(_asked(ask.members))
    if ask.route.path == COUNT_PATH:
        counted_words = {"object": "response.input_tokens", "input_tokens": words}
        return Reply(msgspec.json.encode(counted_words), model=ask.model)
    text, usage = echoed(words, prompt)
    model = ask.model or UNKNOWN_MODEL
    return Reply(msgspec.json.encode(_response(text, usage, model, ask, stamp)), usage, model)


_REPEATED: dict[str, Any] = {
    "instructions": None,
    "metadata": {},
    "parallel_tool_calls": True,
    "temperature": None,
    "tool_choice": "auto",
    "tools": [],
    "top_p": None,
    "top_logprobs": 0,
    "presence_penalty": 0,
    "frequency_penalty": 0,
    "max_output_tokens": None,
    "max_tool_calls": None,
    "previous_response_id": None,
    "conversation": None,
    "prompt": None,
    "prompt_cache_key": None,
    "safety_identifier": None,
    "user": None,
    "text": {"format": {"type": "text"}},
    "truncation": "disabled",
}
"""Members of a response that repeat what was asked for, and what they are by default."""


def _response(text: str, usage: Usage, model: str, ask: Ask, stamp: Stamp) -> dict[str, Any]:
    """Return a response of the gateway's own, with every member that the public schema requires.

    Of `ask` it repeats what was asked for, such as the temperature, and what was not with its
    default. For `_echo`.
    """
    part = {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
    repeated = {
        name: default if ask.members.get(name, NULL) == NULL else ask.members[name]
        for name, default in _REPEATED.items()
    }
    return {
        "id": f"resp_{stamp.request_id}",
        "object": "response",
        "created_at": stamp.created,
        "completed_at": stamp.created,
        "status": "completed",
        "error": None,
        "incomplete_details": None,
        "model": model,
        **repeated,
        "background": False,
        "store": False,
        "service_tier": None,
        "reasoning": {"effort": None, "summary": None},
        "output": [
            {
                "type": "message",
                "id": f"msg_{stamp.request_id}",
                "status": "completed",
                "role": "assistant",
                "content": [part],
            }
        ],
        "usage": {
            "input_tokens": usage.prompt_tokens,
            "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
            "output_tokens": usage.completion_tokens,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": usage.total_tokens,
        },
    }


RESPONSES = Operation(
    name="responses",
    metric_name="chat",
    routes=(
        same("/v1/responses", sample=b'{"input":"Count from 1 to 9.","max_output_tokens":16}'),
        same(COUNT_PATH, costs=False),
    ),
    check=m.checked_by(_TABLE, _COUNT_TABLE, "prompt", "previous_response_id", "conversation"),
    shape=shape,
    reader=lambda ask: ResponseReader(),
    as_stream=as_stream,
    echo=_echo,
    error_event=error_event,
)
