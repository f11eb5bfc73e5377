"""The members of a request, judged one by one.

Each operation lists its members in the order of the contract; `take` judges one of them. None
of the values stays behind as an object that is larger than the text it was made from.
"""

from __future__ import annotations

from typing import Annotated, Any

import attrs
import msgspec
from msgspec import Meta, Raw, Struct

from infergate.api.batches import SCALAR_END, in_batches
from infergate.errors import InvalidRequest

NULL = Raw(b"null")


class StreamOptions(Struct):
    """Of ``stream_options``, what is judged."""

    include_usage: bool | None = None


# msgspec's strict mode is the contract's: `true` is no integer, and neither are 1.0 and "1".
_COUNT = Annotated[int, Meta(ge=1, le=2**63 - 1)]
_FROM_ZERO = Annotated[float, Meta(ge=0)]


@attrs.frozen
class Member:
    """One member that is judged: its name, the code of the error, and what it may be."""

    name: str
    code: str
    decoder: msgspec.json.Decoder[Any]


def _member(name: str, code: str, kind: Any) -> Member:
    return Member(name, code, msgspec.json.Decoder(kind))


MODEL = _member("model", "invalid_model", Annotated[str, Meta(min_length=1)])
MESSAGES = _member("messages", "invalid_messages", Raw)
STREAM = _member("stream", "invalid_stream", bool)
MAX_TOKENS = _member("max_tokens", "invalid_max_tokens", _COUNT)
MAX_COMPLETION_TOKENS = _member("max_completion_tokens", "invalid_max_tokens", _COUNT)
TEMPERATURE = _member("temperature", "invalid_temperature", _FROM_ZERO)
TOP_P = _member("top_p", "invalid_top_p", _FROM_ZERO)
STOP = _member("stop", "invalid_stop", Raw)
N = _member("n", "invalid_n", _COUNT)
STREAM_OPTIONS = _member("stream_options", "invalid_stream_options", StreamOptions)

_BRACKET = ord("[")
_string_or_array = msgspec.json.Decoder(str | list[str])
_strings = msgspec.json.Decoder(list[str])


def take(members: dict[str, Raw], member: Member) -> Any:
    """The value of a checked member. None where it is absent or null, which is then taken out
    of `members`: not every backend reads a null as an absence. Raises `InvalidRequest`."""
    raw = members.get(member.name)
    if raw is None:
        return None
    if raw == NULL:
        del members[member.name]
        return None
    try:
        return member.decoder.decode(raw)
    except msgspec.ValidationError as error:
        raise at_fault(member, error) from None


def check_stop(members: dict[str, Raw]) -> None:
    """``stop``: a string, or an array of strings."""
    raw = take(members, STOP)
    if raw is None:
        return
    try:
        if memoryview(raw)[0] != _BRACKET:
            _string_or_array.decode(raw)
            return
        for _ in in_batches(raw, _strings.decode, SCALAR_END):
            pass
    except msgspec.ValidationError as error:
        raise at_fault(STOP, error) from None


def at_fault(member: Member, error: msgspec.ValidationError) -> InvalidRequest:
    """What a client is told about msgspec's complaint."""
    reason, _, path = str(error).partition(" - at `$")
    path = path.removesuffix("`")
    if reason.startswith("Object missing required field"):
        return missing(member, f"{path}.{reason.split('`')[1]}")
    return wrong(member, reason[0].lower() + reason[1:], path)


def missing(member: Member, path: str = "") -> InvalidRequest:
    """`path` leads on from the member: ``[1].role``."""
    param = member.name + path
    return InvalidRequest(f"`{param}` is missing.", code=member.code, param=param)


def wrong(member: Member, reason: str, path: str = "") -> InvalidRequest:
    """The same for what is there and wrong."""
    param = member.name + path
    return InvalidRequest(f"`{param}` is wrong: {reason}.", code=member.code, param=param)
