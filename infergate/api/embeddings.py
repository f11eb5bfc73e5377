"""``/v1/embeddings``: texts into vectors."""

from __future__ import annotations

from msgspec import Raw

from infergate.api import members as m
from infergate.api.objects import NULL, is_array, read_reply_or_array
from infergate.api.operation import Ask, Later, Operation, Reply, Route, Rules, Stamp, same
from infergate.api.steps import Steps
from infergate.api.usage import NO_USAGE, read_usage
from infergate.errors import BrokenReply

_TABLE = (
    m.Member("input", "invalid_input", m.filled_prompt, required=True, in_steps=True),
    m.Member("dimensions", "invalid_dimensions", m.integer),
    m.Member("encoding_format", "invalid_encoding_format", m.text),
)


def check(members: dict[str, Raw], route: Route, rules: Rules, later: Later | None = None) -> Ask:
    """Judge a request for embeddings; a `Check`. llama.cpp also takes ``content``, and vLLM
    ``messages``, in place of ``input``."""
    model = m.settle_model(members, rules)
    m.judge(members, m.absent_beside(_TABLE, members, "messages", "content"), rules, later)
    return Ask(route, model, False, members, takes_array=members.get("content", NULL) != NULL)


def shape(body: bytes, ask: Ask, stamp: Stamp) -> Steps[Reply]:
    """The reply as it came. llama.cpp answers to ``content`` with an array, which says nothing of
    its usage."""
    reply = yield from read_reply_or_array(body, ask.takes_array)
    if reply is None:
        return Reply(body)
    if not is_array(reply.get("data", NULL)):
        raise BrokenReply("The backend's reply has no embeddings.")
    usage = read_usage(reply.get("usage", NULL))
    return Reply(body, usage or NO_USAGE, m.string_model(reply))


EMBEDDINGS = Operation(
    name="embeddings",
    metric_name="embeddings",
    routes=(same("/v1/embeddings", sample=b'{"input":"one"}'),),
    check=check,
    shape=shape,
    # vLLM's `encoding_format` of ``bytes``: the vectors, and in a header field what they are.
    passed_types=(b"application/octet-stream",),
    returned=(b"metadata",),
)
