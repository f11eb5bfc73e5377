"""``/v1/chat/completions``: the request judged member by member, and passed on byte for byte.

What the gateway judged is what the backend reads: of a member given twice at the top level or in
``stream_options`` only the last is passed on.

    {"model":"qwen", "messages":[{"role":"user","content":"Say hello."}], "stream":true, "top_k":40}

becomes, for the backend, with the member that nobody here knows as it came:

    {"model":"qwen", "messages":[{"role":"user","content":"Say hello."}], "stream":true, "top_k":40,
     "stream_options":{"include_usage":true}}

and of the chunks that come back the one that holds nothing but the usage is taken out again, since
this client has not asked for it.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Raw

from infergate.api import members as m
from infergate.api.chunks import ChunkReader
from infergate.api.echo import echoed, heard
from infergate.api.messages import SAMPLE, texts
from infergate.api.objects import read_reply
from infergate.api.operation import Ask, Later, Operation, Reply, Route, Rules, Stamp, same
from infergate.api.reply import CHAT_KIND, as_chunks, own_reply, shape_reply
from infergate.api.steps import Steps

DONE = b"data: [DONE]\n\n"

COUNT_PATH = "/v1/chat/completions/input_tokens"

_TABLE = (m.MESSAGES, m.STREAM, m.MAX_TOKENS, m.MAX_COMPLETION_TOKENS, *m.CHOICES)
_COUNT_TABLE = (m.MESSAGES, m.STREAM, *m.CHOICES)

_object = msgspec.json.Decoder(dict[str, Raw])
_TRUE = Raw(b"true")


def check(members: dict[str, Raw], route: Route, rules: Rules, later: Later | None = None) -> Ask:
    """Judge a chat request; a `Check`."""
    model = m.settle_model(members, rules)
    if route.path == COUNT_PATH:
        m.judge(members, _COUNT_TABLE, rules, later)
        return Ask(route, model, False, members)
    values = m.judge(members, _TABLE, rules, later)
    wants_usage = settle_usage(members, values, rules)
    return Ask(route, model, values.get("stream", False), members, wants_usage=wants_usage)


def _shape(body: bytes, ask: Ask, stamp: Stamp) -> Steps[Reply]:
    if ask.route.path == COUNT_PATH:
        return _count(body)
    return shape_reply(body, ask, stamp, CHAT_KIND)


def _count(body: bytes) -> Steps[Reply]:
    yield from read_reply(body)
    return Reply(body)


def settle_usage(members: dict[str, Raw], values: dict[str, Any], rules: Rules) -> bool:
    """Have the backend send the usage of a stream, so that each one is accounted for; whether the
    client gets the chunk that says it.

        the client says                  the backend reads               the client gets the chunk
        no stream                        what was said                   there is none
        a stream, nothing of usage       include_usage: true             no
        include_usage: false             include_usage: true             no
        include_usage: true              the same                        yes

    With ``STREAM_USAGE=off`` nothing is written into the request, and the client gets what comes.
    """
    asked = values.get("stream_options")
    options = _object.decode(members["stream_options"]) if asked is not None else {}
    # llama.cpp would move its timings into that chunk, and who asked for them wants them in all.
    has_timings = any(
        members.get(name) == _TRUE for name in ("timings_per_token", "return_progress")
    )
    inject = values.get("stream", False) and rules.inject_usage and not has_timings
    if inject:
        options["include_usage"] = _TRUE
    if inject or (asked is not None and rules.inject_usage):
        # Written anew each member is there once, where the backend may take the first of two.
        members["stream_options"] = Raw(msgspec.json.encode(options))
    return not inject or (asked is not None and asked.include_usage is True)


def _echo(ask: Ask, stamp: Stamp) -> Reply:
    """The prompt itself, its words counted as tokens."""
    words, prompt = heard(texts(ask.members["messages"]))
    if ask.route.path == COUNT_PATH:
        return Reply(msgspec.json.encode({"input_tokens": words}), model=ask.model)
    content, usage = echoed(words, prompt)
    choice = {"message": {"role": "assistant", "content": content}}
    return own_reply(choice, usage, ask, stamp, CHAT_KIND)


CHAT = Operation(
    name="chat",
    metric_name="chat",
    routes=(same("/v1/chat/completions", sample=SAMPLE), same(COUNT_PATH, costs=False)),
    check=check,
    shape=_shape,
    reader=lambda ask: ChunkReader(strip_usage=not ask.wants_usage),
    as_stream=lambda reply, ask, _: as_chunks(reply.body, ask.wants_usage, CHAT_KIND),
    echo=_echo,
    stream_end=DONE,
)
