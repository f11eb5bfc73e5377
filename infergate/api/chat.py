"""The chat request: decoded, then judged member by member, then passed on byte for byte.

What the gateway judged is what the backend reads. A member given twice is a text that two
parsers may read in two ways: at the top level and in ``stream_options`` only the last is
passed on, and a message that does it is refused.
"""

from __future__ import annotations

import json
import re
from typing import Annotated, Any

import attrs
import msgspec
from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from infergate.api.strictjson import NotJSON, read_object
from infergate.errors import InvalidJSON, InvalidRequest


# The Raw members are not judged, or only for being there. Those that most clients send are
# named all the same, so that `_check_messages` finds nothing in most messages that it does not
# know.
class _Part(Struct):
    type: str
    text: str | UnsetType | None = UNSET
    image_url: Raw | UnsetType = UNSET
    input_audio: Raw | UnsetType = UNSET
    file: Raw | UnsetType = UNSET


class _Message(Struct):
    role: str
    content: str | list[_Part] | UnsetType | None = UNSET
    name: Raw | UnsetType = UNSET
    tool_calls: Raw | UnsetType = UNSET
    tool_call_id: Raw | UnsetType = UNSET


class _StreamOptions(Struct):
    include_usage: bool | None = None


# msgspec's strict mode is the contract's: `true` is no integer, and neither are 1.0 and "1".
_Count = Annotated[int, Meta(ge=1, le=2**63 - 1)]
_FromZero = Annotated[float, Meta(ge=0)]
_checks = {
    name: (code, msgspec.json.Decoder(kind))
    for name, code, kind in (
        ("model", "invalid_model", Annotated[str, Meta(min_length=1)]),
        ("messages", "invalid_messages", Annotated[list[_Message], Meta(min_length=1)]),
        ("stream", "invalid_stream", bool),
        ("max_tokens", "invalid_max_tokens", _Count),
        ("max_completion_tokens", "invalid_max_tokens", _Count),
        ("temperature", "invalid_temperature", _FromZero),
        ("top_p", "invalid_top_p", _FromZero),
        ("stop", "invalid_stop", str | list[str]),
        ("n", "invalid_n", _Count),
        ("stream_options", "invalid_stream_options", _StreamOptions),
    )
}
_object = msgspec.json.Decoder(dict[str, Raw])
_items = msgspec.json.Decoder(list[Raw])
_pairs = json.JSONDecoder(object_pairs_hook=list)
_NULL, _TRUE = Raw(b"null"), Raw(b"true")

_JUDGED = {"role", "content", "tool_calls", "type", "text"}
_NONEMPTY_ARRAY = re.compile(rb"\[\s*[^]\s]")


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

    @property
    def prompt(self) -> str:
        """The text of the last user message, "" where there is none."""
        asked = (_text(message) for message in reversed(self._messages()) if message.role == "user")
        return next(asked, "")

    def texts(self) -> list[str]:
        """The text of each message."""
        return [_text(message) for message in self._messages()]

    def _messages(self) -> list[_Message]:
        messages: list[_Message] = _checks["messages"][1].decode(self.members["messages"])
        return messages


def parse_request(body: bytes, rules: Rules) -> ChatRequest:
    """Read and judge a request body; raises `InvalidJSON`, and only when all of it is JSON
    `InvalidRequest` for the first member at fault in the order of the contract."""
    try:
        members = read_object(body)
    except NotJSON as error:
        raise InvalidJSON(f"The body is not valid JSON: {error}.") from None
    if members is None:
        raise InvalidRequest("The body is JSON, but not an object.")
    model = _take(members, "model") or rules.default_model
    if not model:
        raise _missing("model")
    messages = _take(members, "messages")
    if messages is None:
        raise _missing("messages")
    _check_messages(messages, bytes(members["messages"]))
    stream = _take(members, "stream") or False
    for name in ("max_tokens", "max_completion_tokens"):
        if (_take(members, name) or 1) > rules.max_tokens_limit:
            raise _wrong(name, f"expected `int` <= {rules.max_tokens_limit}")
    for name in ("temperature", "top_p", "stop", "n"):
        _take(members, name)
    options = _take(members, "stream_options")
    return ChatRequest(
        model=model,
        stream=stream,
        wants_usage=options is not None and options.include_usage is True,
        members=members,
    )


def _take(members: dict[str, Raw], name: str) -> Any:
    """The value of a checked member. None where it is absent or null, which is then taken out
    of `members`: not every backend reads a null as an absence."""
    raw = members.get(name)
    if raw is None:
        return None
    if raw == _NULL:
        del members[name]
        return None
    try:
        return _checks[name][1].decode(raw)
    except msgspec.ValidationError as error:
        reason, _, path = str(error).partition(" - at `$")
        path = path.removesuffix("`")
        if reason.startswith("Object missing required field"):
            raise _missing(name, f"{path}.{reason.split('`')[1]}") from None
        raise _wrong(name, reason[0].lower() + reason[1:], path) from None


def _check_messages(messages: list[_Message], raw: bytes) -> None:
    for index, message in enumerate(messages):
        if message.content is not None and message.content is not UNSET:
            continue
        if message.role != "assistant" or not _calls(message):
            raise _missing("messages", f"[{index}].content")
    # What msgspec read, written again, has each member once. As long as the text has no more
    # quotes than that, it has no more strings, and so no member that msgspec passed over.
    once = msgspec.json.encode(messages)
    if raw != once and (rb"\u0022" in raw or raw.count(b'"') != once.count(b'"')):
        _refuse_repeats(raw)


def _calls(message: _Message) -> bool:
    """Whether the message calls a tool."""
    tools = message.tool_calls
    return tools is not UNSET and _NONEMPTY_ARRAY.match(bytes(tools)) is not None


def _refuse_repeats(raw: bytes) -> None:
    # One message at a time: the pairs of a large body all at once would be a million objects.
    for index, message in enumerate(_items.decode(raw)):
        pairs = _pairs.decode(str(message, "utf-8"))
        _refuse_repeat(pairs, f"[{index}]")
        content = dict(pairs).get("content")
        if isinstance(content, list):
            for place, part in enumerate(content):
                _refuse_repeat(part, f"[{index}].content[{place}]")


def _refuse_repeat(pairs: list[tuple[str, object]], path: str) -> None:
    seen = set()
    for name, _ in pairs:
        if name in seen:
            raise _wrong("messages", "it is there twice", f"{path}.{name}")
        if name in _JUDGED:
            seen.add(name)


def _text(message: _Message) -> str:
    if isinstance(message.content, list):
        return "\n".join(p.text for p in message.content if p.type == "text" and p.text)
    return message.content or ""


def _missing(name: str, path: str = "") -> InvalidRequest:
    param = name + path
    return InvalidRequest(f"`{param}` is missing.", code=_checks[name][0], param=param)


def _wrong(name: str, reason: str, path: str = "") -> InvalidRequest:
    param = name + path
    return InvalidRequest(f"`{param}` is wrong: {reason}.", code=_checks[name][0], param=param)
