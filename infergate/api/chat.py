"""The chat request: decoded, then judged member by member, then passed on byte for byte.

What the gateway judged is what the backend reads: of a member given twice at the top level or in
``stream_options`` only the last is passed on.
"""

from __future__ import annotations

from collections.abc import Iterator

import attrs
import msgspec
from msgspec import Raw

from infergate.api import members as m
from infergate.api.messages import BadMessage, check_messages, texts
from infergate.api.strictjson import MAX_MEMBERS, NotJSON, read_object
from infergate.errors import InvalidJSON, InvalidRequest

_object = msgspec.json.Decoder(dict[str, Raw])
_TRUE = Raw(b"true")


@attrs.frozen
class Rules:
    """What the settings leave open. An empty `default_model` makes ``model`` required."""

    default_model: str
    max_tokens_limit: int


@attrs.frozen
class ChatRequest:
    """A chat request that keeps the contract.

    `members` are those to pass on, as they came; they are not in the `repr`, which may end up
    in a log.
    """

    model: str
    stream: bool
    wants_usage: bool
    members: dict[str, Raw] = attrs.field(repr=False)

    def backend_body(self) -> bytes:
        """What the backend reads: every member as it came, the model named, and a stream
        asked for its usage, so that each one is accounted for."""
        document: dict[str, object] = {**self.members}
        document.setdefault("model", self.model)
        options = self.members.get("stream_options")
        if options is not None or self.stream:
            known = {} if options is None else _object.decode(options)
            document["stream_options"] = known | {"include_usage": _TRUE} if self.stream else known
        return msgspec.json.encode(document)

    def texts(self) -> Iterator[tuple[str, str]]:
        """The role and the text of each message."""
        return texts(self.members["messages"])


def parse_request(body: bytes, rules: Rules) -> ChatRequest:
    """Read and judge a request body; raises `InvalidJSON`, and only when all of it is JSON
    `InvalidRequest` for the first member at fault in the order of the contract."""
    try:
        members = read_object(body)
    except NotJSON as error:
        raise InvalidJSON(f"The body is not valid JSON: {error}.") from None
    if members is None:
        raise InvalidRequest("The body is JSON, but not an object.")
    model = m.take(members, m.MODEL) or rules.default_model
    if not model:
        raise m.missing(m.MODEL)
    _check_messages(members)
    stream = m.take(members, m.STREAM) or False
    for limited in (m.MAX_TOKENS, m.MAX_COMPLETION_TOKENS):
        if (m.take(members, limited) or 1) > rules.max_tokens_limit:
            raise m.wrong(limited, f"expected `int` <= {rules.max_tokens_limit}")
    for number in (m.TEMPERATURE, m.TOP_P):
        m.take(members, number)
    m.check_stop(members)
    m.take(members, m.N)
    options = m.take(members, m.STREAM_OPTIONS)
    if options is not None and bytes(members["stream_options"]).count(b":") > MAX_MEMBERS:
        raise m.wrong(m.STREAM_OPTIONS, f"it has more than {MAX_MEMBERS} members")
    return ChatRequest(
        model=model,
        stream=stream,
        wants_usage=options is not None and options.include_usage is True,
        members=members,
    )


def _check_messages(members: dict[str, Raw]) -> None:
    raw = m.take(members, m.MESSAGES)
    if raw is None:
        raise m.missing(m.MESSAGES)
    try:
        check_messages(raw)
    except BadMessage as error:
        if error.reason is None:
            raise m.missing(m.MESSAGES, error.path) from None
        raise m.wrong(m.MESSAGES, error.reason, error.path) from None
    except msgspec.ValidationError as error:
        raise m.at_fault(m.MESSAGES, error) from None
