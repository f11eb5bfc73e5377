"""``/v1/messages``: Anthropic's dialect of a chat, an operation (see `operation`).

A request and its message, with the members that are looked at here:

    {"model":"qwen", "max_tokens":20, "system":"Be brief.",
     "messages":[{"role":"user","content":"Say hello."}]}

    {"type":"message", "role":"assistant", "model":"qwen", "stop_reason":"end_turn",
     "content":[{"type":"text","text":"Hello!"}],
     "usage":{"input_tokens":9, "output_tokens":3}}

What differs from a chat: the system's text stands beside the messages, ``max_tokens`` must be
there, a reply is one message of several blocks (text, thinking, the use of a tool), and an error
has Anthropic's form whatever `ERROR_FORMAT` says.

Terms: an `Ask` is a checked request, a `Reply` a whole answer with its usage and model, a `Stamp`
the request's id and the time. `Steps` is a generator whose return value is the result; it yields
wherever other requests may be served before it goes on.
"""

from __future__ import annotations

from itertools import chain
from typing import Any

import msgspec

from infergate.api import members as m
from infergate.api.anthropic_events import MessageReader, error_event, read_counts
from infergate.api.echo import echoed, heard, text_within
from infergate.api.messages import SAMPLE, texts
from infergate.api.objects import NULL, event, is_array, read_reply, read_values
from infergate.api.operation import UNKNOWN_MODEL, Ask, Operation, Reply, Stamp, same
from infergate.api.steps import Steps
from infergate.api.usage import NO_USAGE
from infergate.errors import BrokenReply

MAX_BLOCKS = 4096
"""Content blocks of a message that become events: more than any model makes."""

COUNT_PATH = "/v1/messages/count_tokens"

_SYSTEM = m.Member("system", "invalid_system", m.string_or_array)
_MAX = m.Member("max_tokens", "invalid_max_tokens", m.tokens_from_zero, required=True)
_TABLE = (m.MESSAGES, _SYSTEM, _MAX, m.STREAM, m.TEMPERATURE, m.TOP_P)
_COUNT_TABLE = (m.MESSAGES, _SYSTEM, m.STREAM, m.TEMPERATURE, m.TOP_P)


def shape(body: bytes, ask: Ask, stamp: Stamp) -> Steps[Reply]:
    """Check the backend's plain reply, and return it as a `Reply` whose body is `body` itself.

    Called as the operation's `shape`, by the worker and by ``infergate check``. On the route that
    only counts tokens the reply need be no more than an object, and the `Reply` has no usage.
    Elsewhere it must have an array as ``content``; usage and model are read from it, and a usage
    that makes no sense is `NO_USAGE`. Raises `BackendError` for what is no JSON object, for an
    error object under a status of success, and for a message without such a ``content``.
    """
    reply = yield from read_reply(body)
    if ask.route.path == COUNT_PATH:
        return Reply(body)
    if not is_array(reply.get("content", NULL)):
        raise BrokenReply("The backend's reply is no message: it has no content.")
    counts = read_counts(reply.get("usage", NULL))
    return Reply(body, NO_USAGE if counts is None else counts.usage, m.string_model(reply))


def as_stream(reply: Reply, ask: Ask, stamp: Stamp) -> Steps[bytes]:
    """Return the events of a stream that says what the message in `reply` says, as bytes of whole
    events, each text in one delta:

        message_start                       the message without its content and its end
            content_block_start             a block without its text, thinking or input
                content_block_delta         these, in one delta each
            content_block_stop
        message_delta                       why it stopped, and the usage
        message_stop

    Called as the operation's `as_stream`, by the worker, for a client that asked for a stream where
    a whole message is there: of a backend that does not stream, or of the echo. Raises
    `BackendError` for a reply that cannot be taken apart so: of more than `MAX_BLOCKS` blocks, of
    more values than `read_values` takes, or with a number that no float holds.
    """
    message = yield from read_values(reply.body)
    yield
    if len(message["content"]) > MAX_BLOCKS:
        raise BrokenReply(f"The backend's message has more than {MAX_BLOCKS} content blocks.")
    usage = message.get("usage")
    usage = usage if isinstance(usage, dict) else {}
    begun = {**message, **dict.fromkeys(_ENDED), "content": []}
    begun["usage"] = {**usage, "output_tokens": 0}
    events = [("message_start", {"message": begun})]
    for index, block in enumerate(message["content"]):
        if isinstance(block, dict):
            events += _block_events(block, index)
    ended = {name: message.get(name) for name in _ENDED}
    counts = {name: usage.get(name) for name in _COUNTED}
    counts["output_tokens"] = counts["output_tokens"] or 0
    events += [("message_delta", {"delta": ended, "usage": counts}), ("message_stop", {})]
    return b"".join(event(kind, **said) for kind, said in events)


# What a `message_delta` says of the message's end, and of its tokens.
_ENDED = ("stop_reason", "stop_sequence", "stop_details")
_COUNTED = (
    "input_tokens",
    "cache_creation_input_tokens",
    "cache_read_input_tokens",
    "output_tokens",
    "server_tool_use",
)


def _block_events(block: dict[str, Any], index: int) -> list[tuple[str, dict[str, Any]]]:
    """Return the events of one content block, number `index` of its message, for `as_stream`: each
    the event's type and the members of its data. Clients put the block together out of its deltas,
    so that what comes in these is empty in the block that begins: the text, the thinking and its
    signature, and of a tool's input, an object there, the JSON, which comes as text. A block of any
    other kind is whole when it begins. Raises nothing."""
    begun, deltas = dict(block), []
    for name, kind in (("text", "text_delta"), ("thinking", "thinking_delta")):
        if block.get("type") == name and isinstance(block.get(name), str):
            begun[name] = ""
            deltas.append({"type": kind, name: block[name]})
    if block.get("type") == "thinking" and isinstance(block.get("signature"), str):
        begun["signature"] = ""
        deltas.append({"type": "signature_delta", "signature": block["signature"]})
    if block.get("type") == "tool_use":
        begun["input"] = {}
        written = msgspec.json.encode(block.get("input", {})).decode()
        deltas.append({"type": "input_json_delta", "partial_json": written})
    return [
        ("content_block_start", {"index": index, "content_block": begun}),
        *(("content_block_delta", {"index": index, "delta": delta}) for delta in deltas),
        ("content_block_stop", {"index": index}),
    ]


def _echo(ask: Ask, stamp: Stamp) -> Reply:
    """Return a message of the gateway's own that says the last user message again, or on the
    counting route the count of words, which stand for tokens.

    Called as the operation's `echo`, by `EchoWorker`. The words of the system's text count as part
    of the prompt. Raises nothing where `ask` was made by the operation's `check`.
    """
    system = ("system", text_within(ask.members.get("system", NULL)))
    words, prompt = heard(chain([system], texts(ask.members["messages"])))
    if ask.route.path == COUNT_PATH:
        return Reply(msgspec.json.encode({"input_tokens": words}), model=ask.model)
    text, usage = echoed(words, prompt)
    model = ask.model or UNKNOWN_MODEL
    message = {
        "id": f"msg_{stamp.request_id}",
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": [{"type": "text", "text": text, "citations": None}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "stop_details": None,
        "container": None,
        "usage": {
            "input_tokens": usage.prompt_tokens,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 0,
            "cache_creation": None,
            "output_tokens": usage.completion_tokens,
            "server_tool_use": None,
            "service_tier": None,
            "inference_geo": None,
        },
    }
    return Reply(msgspec.json.encode(message), usage, model)


MESSAGES = Operation(
    name="messages",
    metric_name="chat",
    routes=(same("/v1/messages", sample=SAMPLE), same(COUNT_PATH, costs=False)),
    check=m.checked_by(_TABLE, _COUNT_TABLE),
    shape=shape,
    reader=lambda ask: MessageReader(),
    as_stream=as_stream,
    echo=_echo,
    error_event=error_event,
    forwarded=(b"anthropic-version", b"anthropic-beta"),
)
