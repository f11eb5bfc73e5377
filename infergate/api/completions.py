"""``/v1/completions``: text that goes on from a prompt, or from each of several.

    {"model":"qwen", "prompt":"Once upon a time", "max_tokens":20}

    {"object":"text_completion", "choices":[{"index":0,"text":", there was","logprobs":null,
     "finish_reason":"length"}], ...}

The older of OpenAI's two dialects of completions, and for most of it the same: what is judged last,
how a reply is held to the contract, and how its chunks are read, it shares with `chat`. Of several
prompts each has choices of its own, in one reply.

An `Ask` is a checked request, a `Reply` a whole answer with its usage and model, a `Stamp` the
request's id and the time.
"""

from __future__ import annotations

from functools import partial

from msgspec import Raw

from infergate.api import members as m
from infergate.api.chat import DONE, settle_usage
from infergate.api.chunks import ChunkReader
from infergate.api.echo import echoed
from infergate.api.operation import Ask, Later, Operation, Reply, Route, Rules, Stamp, same
from infergate.api.prompts import several, words_and_last
from infergate.api.reply import TEXT_KIND, as_chunks, own_reply, shape_reply

_PROMPT = m.Member("prompt", "invalid_prompt", m.prompt, required=True, in_steps=True)
_MAX = m.Member("max_tokens", "invalid_max_tokens", m.tokens_from_zero)
_TABLE = (_PROMPT, m.STREAM, _MAX, *m.CHOICES)


def check(members: dict[str, Raw], route: Route, rules: Rules, later: Later | None = None) -> Ask:
    """Check the members of a request for a text completion in the order of the contract, and return
    the `Ask` that goes on; a `Check`.

    Called by the gateway for each request, and by ``infergate check``. The prompt must be there
    unless there is ``prompt_embeds``, which vLLM takes in its place. Changes `members`: null ones
    are taken out, the model and ``stream_options`` are settled. Raises `InvalidRequest` for the
    first member at fault. Where `later` is given, the members that may be large (the prompt,
    ``stop``) are not judged at once but put there, as steps that may raise the same.
    """
    model = m.settle_model(members, rules)
    values = m.judge(members, m.absent_beside(_TABLE, members, "prompt_embeds"), rules, later)
    return Ask(
        route,
        model,
        values.get("stream", False),
        members,
        wants_usage=settle_usage(members, values, rules),
        several_prompts=several(members.get("prompt")),
    )


def _echo(ask: Ask, stamp: Stamp) -> Reply:
    """Return a reply of the gateway's own that says the last prompt again, the words of all prompts
    counted as tokens; a prompt of tokens is said as their numbers. Called as the operation's
    `echo`, by `EchoWorker`. Raises nothing where `ask` was made by `check`."""
    asked, last = words_and_last(ask.members.get("prompt"))
    text, usage = echoed(asked, last)
    return own_reply({"text": text, "logprobs": None}, usage, ask, stamp, TEXT_KIND)


COMPLETIONS = Operation(
    name="completions",
    metric_name="text_completion",
    routes=(same("/v1/completions", sample=b'{"prompt":"1, 2, 3,","max_tokens":16}'),),
    check=check,
    shape=partial(shape_reply, kind=TEXT_KIND),
    reader=lambda ask: ChunkReader(not ask.wants_usage, ask.several_prompts),
    as_stream=lambda reply, ask, _: as_chunks(reply.body, ask.wants_usage, TEXT_KIND),
    echo=_echo,
    stream_end=DONE,
)
