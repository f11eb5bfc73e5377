"""``/v1/embeddings``: texts into vectors, an operation (see `operation`).

    {"model":"bge", "input":["one","two"]}

    {"object":"list", "data":[{"index":0,"embedding":[0.1,...]},...],
     "usage":{"prompt_tokens":4,"total_tokens":4}}

Many megabytes of numbers may come back. They are checked to be JSON, and go on in the bytes in
which they came; no vector becomes a Python object. An `Ask` is a checked request, a `Reply` a whole
answer with its usage and model.
"""

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
    """Check the members of a request for embeddings in the order of the contract, and return the
    `Ask` that goes on; a `Check`.

    Called by the gateway for each request, and by ``infergate check``. llama.cpp also takes
    ``content``, and vLLM ``messages``, in place of ``input``, which must be there otherwise.
    Changes `members`: null ones that are judged are taken out, and the model is settled. Raises
    `InvalidRequest` for the first member at fault. Where `later` is given, ``input`` is not judged
    at once but put there, as steps that may raise the same.
    """
    model = m.settle_model(members, rules)
    m.judge(members, m.absent_beside(_TABLE, members, "messages", "content"), rules, later)
    return Ask(route, model, False, members, takes_array=members.get("content", NULL) != NULL)


def shape(body: bytes, ask: Ask, stamp: Stamp) -> Steps[Reply]:
    """Check the backend's plain reply, and return it as a `Reply` whose body is `body` itself.

    Called as the operation's `shape`, by the worker and by ``infergate check``. llama.cpp answers
    to ``content`` with an array, which says nothing of its usage, and is not looked into further
    than whether it is JSON. Any other reply must be an object with an array as ``data``; raises
    `BackendError` for what is not, and for an error object under a status of success.
    """
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
