"""The members of a request, judged one by one.

Each operation lists its members in the order of the contract, and `judge` takes them in that order.
None of the values stays behind as an object that is larger than the text it was made from.

A member's value is its text in JSON, a `Raw`: its first byte says what it is, and most judgements
need no more. What msgspec says of a value that does not fit is put into the words of the contract
by `at_fault`, which names the member and leads to the place within it:

    {"messages": [{"role": 5}]}      `messages[0].role` is wrong: expected `str`, got `int`.
    {"max_tokens": 1.5}              `max_tokens` is wrong: expected an integer without a fraction.
    {"n": null}                      is as if it were not there

The functions that read a value (`boolean`, `tokens`, `prompt`, ...) all take the member, its value
and the rules, and give what the value means. `judge` calls them, by way of `Member.read`, and makes
`InvalidRequest` of the `msgspec.ValidationError` and `BadMessage` that they raise. Those of members
that are marked `in_steps` are generators: the value may be many megabytes, and others are to be
served meanwhile.

Terms: `Rules` is what the settings leave open (the default model, the largest number of tokens), an
`Ask` a checked request, a `Check` the function of an operation that makes one, `Later` a list of
checks in steps that the caller runs afterwards, and `Steps` a generator that yields wherever other
requests may be served.

A function here whose docstring names no error raises none.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Raw, Struct
from msgspec.structs import replace

from infergate.api.batches import SCALAR_END, in_batches
from infergate.api.messages import BadMessage, check_messages
from infergate.api.objects import NULL, is_array, is_object, is_string, read
from infergate.api.operation import Ask, Check, Later, Route, Rules
from infergate.api.prompts import check_items
from infergate.api.steps import Steps
from infergate.api.strictjson import MAX_MEMBERS
from infergate.errors import InvalidRequest

_EMPTY_ARRAY = re.compile(rb"\[[ \t\r\n]*\]")
_EMPTY = re.compile(rb'""|' + _EMPTY_ARRAY.pattern)

_LARGEST = 2**63 - 1

# msgspec's strict mode is the contract's: `true` is no integer, and neither are 1.0 and "1".
_string = msgspec.json.Decoder(str)
_string_or_strings: msgspec.json.Decoder[Any] = msgspec.json.Decoder(str | list[str])
_boolean = msgspec.json.Decoder(bool)
_integer = msgspec.json.Decoder(int)
_from_zero = msgspec.json.Decoder(Annotated[float, Meta(ge=0)])


class Member(Struct, frozen=True):
    """One member that is judged: its name, the code of its error, and `read`, which gives its value
    or raises `InvalidRequest`, or `msgspec.ValidationError` or `BadMessage` where these say enough.
    A large one may take long where `in_steps`: then `read` gives no value, but steps that are still
    to be done, and these may raise the same. Where it is `required`, its absence is an error, and
    so is null."""

    name: str
    code: str
    read: Read
    required: bool = False
    in_steps: bool = False


Read = Callable[[Member, Raw, Rules], Any]


def judge(
    members: dict[str, Raw], table: Sequence[Member], rules: Rules, later: Later | None = None
) -> dict[str, Any]:
    """Check the members of `table` that are there, in its order, and return their values by name;
    those that are `in_steps` have none. One that is null is absent, and is taken out of `members`:
    not every backend reads a null as an absence.

    Called by the `check` of each operation. Raises `InvalidRequest` for the first member at fault,
    or the first that is required and missing. What may take long is put into `later`, if given, as
    steps that raise `InvalidRequest` too; without it all is done before this returns.
    """
    values = {}
    for member in table:
        raw = members.get(member.name)
        if raw is None or raw == NULL:
            if member.required:
                raise missing(member, null=raw is not None)
            if raw is not None:
                del members[member.name]
            continue
        try:
            value = member.read(member, raw, rules)
            if not member.in_steps:
                values[member.name] = value
            elif later is not None:
                later.append(_later(member, value))
            else:
                for _ in value:
                    pass
        except (msgspec.ValidationError, BadMessage) as error:
            raise at_fault(member, error) from None
    return values


def _later(member: Member, steps: Iterable[None]) -> Steps[None]:
    """Do the steps of judging a member, for `judge`; raise `InvalidRequest` where they find it at
    fault."""
    try:
        yield from steps
    except (msgspec.ValidationError, BadMessage) as error:
        raise at_fault(member, error) from None


# What a member may be.


def boolean(member: Member, raw: Raw, rules: Rules) -> bool:
    """Return what ``true`` or ``false`` says; raise `msgspec.ValidationError` for anything else, 1
    and "true" too."""
    return _boolean.decode(raw)


def text(member: Member, raw: Raw, rules: Rules) -> str:
    """Return a string; raise `msgspec.ValidationError` for anything else."""
    return _string.decode(raw)


def number_from_zero(member: Member, raw: Raw, rules: Rules) -> float:
    """Return a number from 0 that a double can hold; raise `msgspec.ValidationError` for anything
    else, as for -1, 1e999 and "1"."""
    value: float = _from_zero.decode(raw)
    return value


def integer(member: Member, raw: Raw, rules: Rules, smallest: int = 1, hint: str = "") -> int:
    """Return an integer from `smallest` that fits into 64 bits with a sign. Raises `InvalidRequest`
    for a fraction, 1.0 too, for what is no number, and for one that is too small or too large;
    `hint` goes on with the message about a smaller one."""
    try:
        value: int = _integer.decode(raw)
    except msgspec.ValidationError as error:
        if _is_number(raw):
            raise wrong(member, "expected an integer without a fraction") from None
        raise at_fault(member, error) from None
    if value < smallest:
        raise wrong(member, f"the smallest is {smallest}{hint}")
    if value > _LARGEST:
        raise wrong(member, f"the largest is {_LARGEST}")
    return value


def tokens(member: Member, raw: Raw, rules: Rules, smallest: int = 1) -> int:
    """Return a number of tokens to make, from `smallest` up to ``MAX_TOKENS_LIMIT``. Raises
    `InvalidRequest` for anything else; of a smaller one the message says how to ask for no limit,
    where the member may be left out."""
    value = integer(
        member, raw, rules, smallest, "" if member.required else "; without it there is no limit"
    )
    if value > rules.max_tokens_limit:
        raise wrong(member, f"the largest is {rules.max_tokens_limit}, which MAX_TOKENS_LIMIT sets")
    return value


def tokens_from_zero(member: Member, raw: Raw, rules: Rules) -> int:
    """Return the same as `tokens`, where none may be made, as to fill a cache; raises as that
    does."""
    return tokens(member, raw, rules, 0)


def string_or_strings(member: Member, raw: Raw, rules: Rules) -> Steps[None]:
    """Check that a value is a string or an array of strings, in steps; raise
    `msgspec.ValidationError` for the first item that is none."""
    for _ in in_batches(raw, _string_or_strings.decode, SCALAR_END):
        yield


_KINDS = {"string": is_string, "array": is_array, "object": is_object}


def one_of(expected: str, refused: re.Pattern[bytes] | None = None) -> Read:
    """Return a function for `Member.read` that checks that a value is of one of the kinds that
    `expected` names, as in ``a string or an array``, and raises `InvalidRequest` for another, or
    for an empty one that is `refused`. What is inside is the backend's to judge. Called once for
    each such kind of member, when the modules are imported."""
    kinds = [is_kind for kind, is_kind in _KINDS.items() if kind in expected]

    def read(member: Member, raw: Raw, rules: Rules) -> None:
        """Check one value by its first byte, and by its emptiness; return nothing. Raises
        `InvalidRequest` for a value of another kind, or a refused empty one."""
        if not any(is_kind(raw) for is_kind in kinds):
            raise wrong(member, f"expected {expected}")
        if refused is not None and refused.fullmatch(memoryview(raw)):
            raise wrong(member, "it is empty")

    return read


string_or_array = one_of("a string or an array")
string_or_object = one_of("a string or an object")
filled_string_or_array = one_of("a string or an array", _EMPTY)
filled_array = one_of("an array", _EMPTY)
documents = one_of("an array, a string or an object", _EMPTY_ARRAY)
_any_prompt = one_of("a string, an array or an object", _EMPTY_ARRAY)
_filled_prompt = one_of("a string, an array or an object", _EMPTY)


def prompt(member: Member, raw: Raw, rules: Rules) -> Steps[None]:
    """Check, in steps, that a value is a string, an object, or an array that is not empty, of
    strings, integers, arrays or objects. Raises `InvalidRequest` for another kind and an empty
    array, `msgspec.ValidationError` for an item of another kind."""
    _any_prompt(member, raw, rules)
    if is_array(raw):
        yield from check_items(raw)


def filled_prompt(member: Member, raw: Raw, rules: Rules) -> Steps[None]:
    """Check the same as `prompt`, and that it is no empty string; raises as that does."""
    _filled_prompt(member, raw, rules)
    yield from prompt(member, raw, rules)


class StreamOptions(Struct):
    """Of ``stream_options``, what is judged: whether a stream is to end with its usage. All else in
    it is the backend's to judge."""

    include_usage: bool | None = None


_stream_options = msgspec.json.Decoder(StreamOptions)


def stream_options(member: Member, raw: Raw, rules: Rules) -> StreamOptions:
    """Return what is judged of an object. Raises `msgspec.ValidationError` where it is none or its
    ``include_usage`` is no boolean, and `InvalidRequest` where it has too many members: it is
    bounded, since `chat.settle_usage` takes it apart to ask for the usage."""
    options: StreamOptions = _stream_options.decode(raw)
    if bytes(raw).count(b":") > MAX_MEMBERS:
        raise wrong(member, f"it has more than {MAX_MEMBERS} members")
    return options


def messages(member: Member, raw: Raw, rules: Rules) -> Iterable[None]:
    """Check the messages of a chat, and return the steps of that which are left; raises as
    `check_messages` does, `BadMessage` or `msgspec.ValidationError`, at once or in the steps."""
    return check_messages(raw)


MODEL = Member("model", "invalid_model", text)
MESSAGES = Member("messages", "invalid_messages", messages, required=True, in_steps=True)
STREAM = Member("stream", "invalid_stream", boolean)
MAX_TOKENS = Member("max_tokens", "invalid_max_tokens", tokens)
MAX_COMPLETION_TOKENS = Member("max_completion_tokens", "invalid_max_tokens", tokens)
TEMPERATURE = Member("temperature", "invalid_temperature", number_from_zero)
TOP_P = Member("top_p", "invalid_top_p", number_from_zero)
STOP = Member("stop", "invalid_stop", string_or_strings, in_steps=True)
N = Member("n", "invalid_n", integer)
STREAM_OPTIONS = Member("stream_options", "invalid_stream_options", stream_options)
CHOICES = (TEMPERATURE, TOP_P, STOP, N, STREAM_OPTIONS)
"""What completions of either kind are judged by last."""


def settle_model(members: dict[str, Raw], rules: Rules) -> str | None:
    """Check ``model``, have `members` name the one that goes on to the backend, and return it; None
    where the backend is to choose. An empty one is none, and gives way to ``DEFAULT_MODEL``.

    Called first by the `check` of each operation that fills in a model. Raises `InvalidRequest` for
    a model that is no string, and for none at all where the rules want one (see `Rules`).
    """
    named = string_model(members)
    if named is not None:
        return named
    judge(members, (MODEL,), rules)  # which raises for what is no string
    members.pop("model", None)
    if rules.default_model is None:
        return None
    if not rules.default_model:
        raise missing(MODEL)
    members["model"] = Raw(msgspec.json.encode(rules.default_model))
    return rules.default_model


def string_model(members: dict[str, Raw]) -> str | None:
    """Return the model that a request names in an operation that neither judges nor fills in
    ``model``, or that a reply names; None where it names none, an empty one, or something that is
    no text. Called by the `check` or the `shape` of most operations, and for an event of a stream,
    which may hold anything."""
    return read(_string, members.get("model", NULL)) or None


def absent_beside(
    table: Sequence[Member], members: dict[str, Raw], *others: str
) -> tuple[Member, ...]:
    """Return `table`, the first of whose members may be absent where one of `others` is there and
    not null. Called for dialects in which what is asked may come in another member, as
    ``prompt_embeds`` in place of ``prompt``."""
    first, *rest = table
    if any(members.get(name, NULL) != NULL for name in others):
        first = replace(first, required=False)
    return (first, *rest)


def checked_by(table: Sequence[Member], counting: Sequence[Member], *others: str) -> Check:
    """Return the `Check` of a dialect of which nothing is settled but the model: by `table`, or by
    `counting` on its route that only counts tokens. Where one of `others` is there, the first
    member of these may be absent. Called once each for messages and responses, when the modules are
    imported."""

    def check(
        members: dict[str, Raw], route: Route, rules: Rules, later: Later | None = None
    ) -> Ask:
        """Check the members of a request in the order of the table, and return the `Ask` that goes
        on; raise `InvalidRequest` for the first at fault. Called by the gateway for each request,
        and by ``infergate check``; see `Check`."""
        model = settle_model(members, rules)
        asked = absent_beside(table if route.costs else counting, members, *others)
        values = judge(members, asked, rules, later)
        return Ask(route, model, route.costs and values.get("stream", False), members)

    return check


# What a client is told.


def at_fault(member: Member, error: msgspec.ValidationError | BadMessage) -> InvalidRequest:
    """Return the error for a message at fault, or for a value that msgspec complains of, in the
    words of the contract, as in the examples at the top of this module. msgspec ends its words with
    the place, such as `$[0].role`; that goes to the member's name, and a field that msgspec misses
    is said to be missing, with its whole path. Raises nothing: `judge` and `integer` raise it."""
    if isinstance(error, BadMessage):
        if error.reason is None:
            return missing(member, error.path)
        return wrong(member, error.reason, error.path)
    reason, _, path = str(error).partition(" - at `$")
    path = path.removesuffix("`")
    if reason.startswith("Object missing required field"):
        return missing(member, f"{path}.{reason.split('`')[1]}")
    return wrong(member, reason[0].lower() + reason[1:], path)


def missing(member: Member, path: str = "", *, null: bool = False) -> InvalidRequest:
    """Return the error for a member that is not there or, with `null`, may not be null; or for what
    is missing within it, to which `path` leads on from the member: ``[1].role``. Raises nothing:
    the caller raises it."""
    param = member.name + path
    reason = "is null, and must not be" if null else "is missing"
    return InvalidRequest(f"`{param}` {reason}.", code=member.code, param=param)


def wrong(member: Member, reason: str, path: str = "") -> InvalidRequest:
    """Return the error for a member that is there and wrong, or for what is wrong within it, to
    which `path` leads; `reason` goes into the message as it is. Raises nothing: the caller raises
    it."""
    param = member.name + path
    return InvalidRequest(f"`{param}` is wrong: {reason}.", code=member.code, param=param)


def _is_number(raw: Raw) -> bool:
    """Return whether a value is a number, by its first byte. Called by `integer`, to tell a
    fraction from what is no number."""
    return memoryview(raw)[0] in b"-0123456789"
