"""``/v1/chat/completions``: the request judged member by member, and passed on byte for byte.

What the gateway judged is what the backend reads: of a member given twice at the top level or in
``stream_options`` only the last is passed on.

    {"model":"qwen", "messages":[{"role":"user","content":"Say hello."}], "stream":true, "top_k":40}

becomes, for the backend, with the member that nobody here knows as it came:

    {"model":"qwen", "messages":[{"role":"user","content":"Say hello."}], "stream":true, "top_k":40,
     "stream_options":{"include_usage":true}}

and of the chunks that come back the one that holds nothing but the usage is taken out again, since
this client has not asked for it.

Terms: `members` are the members of the request's object, each value a `Raw`, its text in JSON. An
`Ask` is a checked request, a `Reply` a whole answer with its usage and model, a `Stamp` the
request's id and the time. `Steps` is a generator whose return value is the result; it yields
wherever other requests may be served before it goes on.
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
    """Check the members of a chat request in the order of the contract, and return the `Ask` that
    goes on; a `Check`.

    Called by the gateway for each request on either route, and by ``infergate check``. Changes
    `members`: null ones are taken out, the model and ``stream_options`` are settled. Raises
    `InvalidRequest` for the first member at fault. Where `later` is given, the members that may be
    large (the messages, ``stop``) are not judged at once but put there, as steps that may raise the
    same.
    """
    model = m.settle_model(members, rules)
    if route.path == COUNT_PATH:
        m.judge(members, _COUNT_TABLE, rules, later)
        return Ask(route, model, False, members)
    values = m.judge(members, _TABLE, rules, later)
    wants_usage = settle_usage(members, values, rules)
    return Ask(route, model, values.get("stream", False), members, wants_usage=wants_usage)


def _shape(body: bytes, ask: Ask, stamp: Stamp) -> Steps[Reply]:
    """Return the work of checking the backend's plain reply and filling in what it lacks, which
    returns the client's `Reply`: a completion by `reply.shape_reply`, on the counting route
    whatever is an object. Called as the operation's `shape`, by the worker and by
    ``infergate check``. The work raises `BackendError` where the reply is none."""
    if ask.route.path == COUNT_PATH:
        return _count(body)
    return shape_reply(body, ask, stamp, CHAT_KIND)


def _count(body: bytes) -> Steps[Reply]:
    """Check that the reply of the counting route is a JSON object and no error, and return it as it
    came; raises `BackendError` else."""
    yield from read_reply(body)
    return Reply(body)


def settle_usage(members: dict[str, Raw], values: dict[str, Any], rules: Rules) -> bool:
    """Write into `members` that the backend is to send the usage of a stream, so that each one is
    accounted for; return whether the client gets the chunk that says it.

        the client says                  the backend reads               the client gets the chunk
        no stream                        what was said                   there is none
        a stream, nothing of usage       include_usage: true             no
        include_usage: false             include_usage: true             no
        include_usage: true              the same                        yes

    With ``STREAM_USAGE=off`` nothing is written into the request, and the client gets what comes.
    Nothing is asked for either where the request wants llama.cpp's timings in every chunk.

    Called by the `check` of chat and of text completions, with the `values` that `members.judge`
    gave for `members`; changes ``stream_options`` of these alone. Raises nothing: the options were
    judged.
    """
    asked, streams = values.get("stream_options"), values.get("stream", False)
    if asked is None and not streams:
        return True
    options = _object.decode(members["stream_options"]) if asked is not None else {}
    # llama.cpp would move its timings into that chunk, and who asked for them wants them in all.
    has_timings = (
        members.get("timings_per_token") == _TRUE or members.get("return_progress") == _TRUE
    )
    inject = streams and rules.inject_usage and not has_timings
    if inject:
        options["include_usage"] = _TRUE
    if inject or (asked is not None and rules.inject_usage):
        # Written anew each member is there once, where the backend may take the first of two.
        members["stream_options"] = Raw(msgspec.json.encode(options))
    return not inject or (asked is not None and asked.include_usage is True)


def _echo(ask: Ask, stamp: Stamp) -> Reply:
    """Return a reply of the gateway's own that says the last user message again, or on the counting
    route the count of words, which stand for tokens. Called as the operation's `echo`, by
    `EchoWorker`. Raises nothing where `ask` was made by `check`."""
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
