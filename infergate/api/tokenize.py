"""``/tokenize``, ``/detokenize`` and ``/apply-template``: what a model reads, without the model.

They say how a text is cut into tokens, what text some tokens are, and which prompt the messages of
a chat become. The forms differ from backend to backend and nothing of them is judged; they cost
nothing of a caller's tokens, and the echo has no answer to them.
"""

from __future__ import annotations

from msgspec import Raw

from infergate.api.members import string_model
from infergate.api.objects import read_reply
from infergate.api.operation import Ask, Later, Operation, Reply, Route, Rules, Stamp, same
from infergate.api.steps import Steps


def check(members: dict[str, Raw], route: Route, rules: Rules, later: Later | None = None) -> Ask:
    """Take any object for a request, and return its `Ask`; a `Check`, which the gateway calls.
    Raises nothing."""
    return Ask(route, string_model(members), False, members)


def shape(body: bytes, ask: Ask, stamp: Stamp) -> Steps[Reply]:
    """Return the reply as it came, and the model that it names; called by the worker. Raises
    `BrokenReply` where the body is no object, or an error."""
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
