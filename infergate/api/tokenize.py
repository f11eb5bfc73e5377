"""``/tokenize``, ``/detokenize`` and ``/apply-template``: what a model reads, without the model."""

from __future__ import annotations

from msgspec import Raw

from infergate.api.members import string_model
from infergate.api.objects import read_reply
from infergate.api.operation import Ask, Later, Operation, Reply, Route, Rules, Stamp, same
from infergate.api.steps import Steps


def check(members: dict[str, Raw], route: Route, rules: Rules, later: Later | None = None) -> Ask:
    """Take any object; a `Check`."""
    return Ask(route, string_model(members), False, members)


def shape(body: bytes, ask: Ask, stamp: Stamp) -> Steps[Reply]:
    """The reply as it came, which must be an object."""
    reply = yield from read_reply(body)
    return Reply(body, model=string_model(reply))


TOKENIZE = Operation(
    name="tokenize",
    metric_name="tokenize",
    routes=(
        # llama.cpp reads ``content``, vLLM ``prompt``.
        same("/tokenize", costs=False, sample=b'{"content":"one","prompt":"one"}'),
        same("/detokenize", costs=False),
        same("/apply-template", costs=False),
    ),
    check=check,
    shape=shape,
)
