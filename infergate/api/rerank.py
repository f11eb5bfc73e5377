"""``/v1/rerank``: documents in the order in which they fit a query.

    {"query":"one","documents":["one","two"]}
    {"results":[{"index":0,"relevance_score":0.9},{"index":1,"relevance_score":0.1}]}

An operation in the sense of `operation`: the gateway calls `check` with the members of a request,
the worker calls `shape` with the backend's reply. There is no stream, and no echo: only a model can
rank.
"""

from __future__ import annotations

from msgspec import Raw

from infergate.api import members as m
from infergate.api.objects import NULL, read_reply_or_array
from infergate.api.operation import Ask, Later, Operation, Reply, Route, Rules, Stamp, same
from infergate.api.steps import Steps
from infergate.api.usage import NO_USAGE, read_usage

_QUERY = m.Member("query", "invalid_query", m.string_or_object, required=True)
_DOCUMENTS = m.Member("documents", "invalid_documents", m.documents, required=True)
_TEXTS = m.Member("texts", "invalid_documents", m.filled_array, required=True)


def check(members: dict[str, Raw], route: Route, rules: Rules, later: Later | None = None) -> Ask:
    """Judge a request to rank, and return its `Ask`; a `Check`, which the gateway calls.

    ``texts`` is what Hugging Face's server calls the documents; it is judged where there are no
    ``documents``. Raises `InvalidRequest` for the first member at fault.
    """
    model = m.settle_model(members, rules)
    has_texts = members.get("texts", NULL) != NULL and members.get("documents", NULL) == NULL
    m.judge(members, (_QUERY, _TEXTS if has_texts else _DOCUMENTS), rules, later)
    return Ask(route, model, False, members, takes_array=has_texts)


def shape(body: bytes, ask: Ask, stamp: Stamp) -> Steps[Reply]:
    """Return the reply as it came, with the usage and the model that it names; called by the
    worker.

    llama.cpp answers to ``texts`` with an array, which says nothing of its usage. Raises
    `BrokenReply` where the body is neither an object nor such an array, or is an error.
    """
    reply = yield from read_reply_or_array(body, ask.takes_array)
    if reply is None:
        return Reply(body)
    usage = read_usage(reply.get("usage", NULL))
    return Reply(body, usage or NO_USAGE, m.string_model(reply))


RERANK = Operation(
    name="rerank",
    metric_name="rerank",
    routes=(
        same("/v1/rerank", sample=b'{"query":"one","documents":["one","two"]}'),
        # For clients whose path cannot be set.
        Route("/rerank", "/v1/rerank"),
        Route("/v2/rerank", "/v1/rerank"),
    ),
    check=check,
    shape=shape,
)
