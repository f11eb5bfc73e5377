"""The messages of a chat: judged, and read where the gateway answers them itself.

What the gateway judged is what the backend reads. A member given twice is a text that two
parsers may read in two ways, so a message that does it with a member that is judged is refused.
Beyond `BATCH` bytes no text of a message becomes a Python string before the echo asks for it.

    {"role":"user", "content":"Say hello."}                               a text
    {"role":"user", "content":[{"type":"text","text":"What is this?"},    parts, of which those with
                               {"type":"image_url","image_url":{...}}]}   a text are looked at
    {"role":"assistant", "tool_calls":[{...}]}                            says something else
    {"role":"tool", "content":null}                                       may say nothing
    {"role":"user", "content":"one", "content":"two"}                     refused: which is it?

Ten megabytes hold 400,000 messages. So a batch of them is judged as a whole first, by counting in
its text, which C does: where ``"content":"`` stands as often as there are messages, and
``"content"`` no more often, each content is a string, and none is there twice. Only what counting
cannot acquit is looked at message by message, and only what that cannot acquit name by name.

    counting      all of a batch at once        most requests end here
    messages      those whose content is no     what the contents and parts are; those of parts are
                  string, or is missing         counted in too, all of them together at first
    names         those in which something      the only way to find a name that is there twice,
                  may be there twice            a microsecond for each, and so bounded

Counting only acquits or hands on. What is at fault is decided by the two others, in the order of
the messages; the last one refuses too what has more names than it may look at.

A `Raw` is the text of a value in JSON that nobody has read yet; one without a byte stands for a
member that is absent. `Steps` is a generator that yields wherever other requests may be served
before the work goes on.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator
from itertools import chain, islice
from typing import Annotated

import msgspec
from msgspec import Meta, Raw, Struct

from infergate.api.batches import BATCH, LONG, OBJECT_END, in_batches
from infergate.api.names import count_names, in_plain_letters, says_all, without_spelled_letters
from infergate.api.objects import read
from infergate.api.steps import Steps
from infergate.api.strictjson import member_names

MAX_NAMES_SOUGHT = 10_000
"""Names of members that are looked at one by one, of all the messages of a request, to find one
that is there twice. Nearly always counting them is enough, and none has to be looked at."""

FEW = 100
"""Arrays of content parts that are looked at one by one before counting them is tried."""

MANY = 1000
"""Arrays of content parts that are counted in one step."""

SAMPLE = b'{"messages":[{"role":"user","content":"Count from 1 to 9."}],"max_tokens":16}'
"""A tiny request of the two operations that have messages."""

_ABSENT = Raw()
_NULL = Raw(b"null")
_SAYS_SOMETHING = re.compile(rb'"[^"]|[\[{][ \t\r\n]*[^]} \t\r\n]')
_MAY_BE_NULL = frozenset({"assistant", "tool", "function"})
_QUOTE, _BRACKET, _N, _BACKSLASH = b'"[n\\'


class _Message(Struct, gc=False):
    """Of a message, what decides whether it says something; its values stay in their bytes."""

    role: str
    content: Raw = _ABSENT
    tool_calls: Raw = _ABSENT
    function_call: Raw = _ABSENT
    refusal: Raw = _ABSENT
    audio: Raw = _ABSENT
    reasoning_content: Raw = _ABSENT
    reasoning: Raw = _ABSENT


class _Text(Struct, gc=False):
    """What most messages are."""

    role: str
    content: str


class _Part(Struct, gc=False):
    """Of a content part, what is judged."""

    type: str
    text: Raw = _ABSENT


_texts = msgspec.json.Decoder(Annotated[list[_Text], Meta(min_length=1)])
_messages = msgspec.json.Decoder(list[_Message])
_parts = msgspec.json.Decoder(list[_Part])
_part_arrays = msgspec.json.Decoder(list[list[_Part]])
_objects = msgspec.json.Decoder(list[dict[str, Raw]])
_object_arrays = msgspec.json.Decoder(list[list[dict[str, Raw]]])
_items = msgspec.json.Decoder(list[Raw])
_string = msgspec.json.Decoder(str)


_JUDGED_OF_MESSAGE = frozenset({b'"role"', b'"content"', b'"tool_calls"'})
_JUDGED_OF_PART = frozenset({b'"type"', b'"text"'})


class BadMessage(ValueError):
    """A message that breaks the contract: `path` leads to it from ``messages``, as
    ``[1].content[0].text``, and `reason` is None where what stands at that path is missing. Raised
    within this module alone, and made an `InvalidRequest` by `members.at_fault`."""

    def __init__(self, path: str, reason: str | None = None) -> None:
        super().__init__(path, reason)
        self.path = path
        self.reason = reason


def check_messages(raw: Raw) -> Iterable[None]:
    """Check the messages of a chat, which are valid JSON: at once, as far as that is quick, and the
    rest in the steps that are returned, which are to be run to their end.

    Called by `members.messages`, for each request of a chat. Raises `BadMessage` for the first
    message that is at fault or an empty array, and `msgspec.ValidationError` where one is of the
    wrong type or has no role; at once or in the steps.
    """
    if len(raw) > BATCH:
        return _batch_steps(raw)
    text = bytes(raw)
    if _are_texts(text):
        return ()
    messages = _messages.decode(raw)
    if not messages:
        raise BadMessage("", _EMPTY)
    plain = without_spelled_letters(text)
    once, texts_alone = _counted(messages, [plain.count(name) for name in _COUNTED])
    if once and texts_alone:
        return ()
    return _look_closer(text, messages, 0, _Seeker(), once=once, texts_alone=texts_alone)


def _are_texts(text: bytes) -> bool:
    """Return whether each message has a role and a content that is a string, each once: so have
    those of most requests, and need no other look. Called for the messages of a small request."""
    messages = read(_texts, text)
    return (
        messages is not None
        and text.count(b'"role"') == text.count(b'"content"') == len(messages)
        and text.find(b'"tool_calls"') < 0
        # No letter of a name is spelled as \\u0061.
        and (_BACKSLASH not in text or text.find(rb"\u00") < 0)
    )


def _batch_steps(raw: Raw) -> Steps[None]:
    """Check many or large messages, a batch at a time, for `check_messages`; raises what that
    raises."""
    seeker = _Seeker()
    count = 0
    for batch, messages in in_batches(raw, _messages.decode, OBJECT_END):
        yield
        if messages:
            plain = batch
            if b"\\" in batch:
                plain = yield from in_plain_letters(batch)
            counts = []
            for name in _COUNTED:
                counts.append(plain.count(name))
                if len(plain) > LONG:
                    yield
            once, alone = _counted(messages, counts)
            yield from _look_closer(batch, messages, count, seeker, once=once, texts_alone=alone)
            count += len(messages)
    if not count:
        raise BadMessage("", _EMPTY)


_EMPTY = "expected a non-empty array"

# What is counted in a text of messages, in this order. The two spellings of a content that is a
# string are those that clients use.
_COUNTED = (b'"role"', b'"tool_calls"', b'"content"', b'"content":"', b'"content": "')


def _counted(messages: list[_Message], counts: list[int]) -> tuple[bool, bool]:
    """Return what the `counts` of `_COUNTED`, in the text in which some messages stand, tell of
    them: whether each name is there once, and whether all contents are strings. False says no more
    than that a closer look is needed. Called for the messages of a small request, and of each batch
    of a large one."""
    roles, tools, contents, strings, spaced_strings = counts
    with_content = len([1 for message in messages if message.content is not _ABSENT])
    with_tools = 0
    if tools:
        with_tools = len([1 for message in messages if message.tool_calls is not _ABSENT])
    # An object that has a name twice has it once more in the text. The text may also have it for
    # other reasons, within the values of the object; it never has it less often.
    once = roles == len(messages) and contents == with_content and tools == with_tools
    texts_alone = contents == with_content == len(messages) and (
        strings == contents or strings + spaced_strings == contents
    )
    return once, texts_alone


def _look_closer(
    batch: bytes,
    messages: list[_Message],
    first: int,
    seeker: _Seeker,
    *,
    once: bool,
    texts_alone: bool,
) -> Steps[None]:
    """Check what counting could not acquit: contents unless all are strings, names unless each is
    there once. `first` is the number of the first of these messages in the request. Raises
    `BadMessage` for the first at fault, and `msgspec.ValidationError` for a content part of the
    wrong type."""
    if not texts_alone:
        yield from _content_steps(messages, first, seeker)
    if not once:
        yield
        seeker.seek(batch, _JUDGED_OF_MESSAGE, path="", first=first)


def _content_steps(messages: list[_Message], first: int, seeker: _Seeker) -> Steps[None]:
    """Check the content of each message, arrays of parts many at a time; `first` is the number of
    the first of them. Raises `BadMessage` or, for a part of the wrong type,
    `msgspec.ValidationError`, for the first message at fault."""
    arrays: list[tuple[int, Raw]] = []
    fault = None
    for index, message in enumerate(messages, first):
        content = message.content
        kind = _N if content is _ABSENT else memoryview(content)[0]
        if kind == _BRACKET:
            arrays.append((index, content))
        elif kind != _QUOTE:
            fault = _fault(message, kind)
            if fault is not None:
                break
    # Those before the message at fault are to be named first.
    for at in range(0, len(arrays), MANY):
        some = arrays[at : at + MANY]
        if len(some) < FEW or not _good_parts([content for _, content in some]):
            for number, content in some:
                yield from _part_steps(content, f"[{number}].content", seeker)
        yield
    if fault is not None:
        raise BadMessage(f"[{index}].content", *fault)


def _fault(message: _Message, kind: int) -> tuple[str | None] | None:
    """Return what is wrong with a content that is neither a string nor an array, as a tuple of the
    reason for `BadMessage`, which is None for a content that is missing; None in place of the tuple
    where nothing is wrong. `kind` is the first byte of the content, that of ``null`` for one that
    is absent.

    Assistants that call a tool say nothing, tools may return nothing, and a client that sends a
    history back may leave out what was null in it. Called by `_content_steps`.
    """
    if message.content is _ABSENT:
        says = message.role == "assistant" and any(
            raw is not _ABSENT and _SAYS_SOMETHING.match(memoryview(raw))
            for raw in (
                message.tool_calls,
                message.function_call,
                message.refusal,
                message.audio,
                message.reasoning_content,
                message.reasoning,
            )
        )
        return None if says else (None,)
    if kind != _N:
        return ("expected a string or an array of content parts",)
    if message.role in _MAY_BE_NULL:
        return None
    return ("it is null, which only that of assistant, tool and function messages may be",)


def _good_parts(contents: list[Raw]) -> bool:
    """Return whether these arrays of parts are all good, as far as one look at all of them tells;
    False says only that they must be looked at one by one. Called by `_content_steps` with up to
    `MANY` arrays. Raises nothing."""
    text = b"[%b]" % b",".join(map(bytes, contents))
    try:
        arrays = _part_arrays.decode(text)
    except msgspec.ValidationError:
        return False
    parts = list(chain.from_iterable(arrays))
    plain = without_spelled_letters(text)
    there, with_text = count_names(plain, b"text"), _with_text(parts)
    if not _are_strings(plain, b"text", there, with_text) and not all(map(_has_good_text, parts)):
        return False
    if plain.count(b'"type"') == len(parts) and there == with_text:
        return True
    # The results of tools have parts of their own inside, with types and texts.
    return says_all(_object_arrays.decode(text), text)


def _with_text(parts: list[_Part]) -> int:
    """Return how many of the parts have a text, null or wrong ones too. Called for the parts of a
    batch."""
    return len([1 for part in parts if part.text is not _ABSENT])


def _has_good_text(part: _Part) -> bool:
    """Return whether the text of a part is a string or null, or is not there. Called where counting
    does not acquit the texts."""
    return part.text is _ABSENT or memoryview(part.text)[0] in (_QUOTE, _N)


def _part_steps(raw: Raw, path: str, seeker: _Seeker) -> Steps[None]:
    """Check an array of content parts, to which `path` leads from ``messages``, a batch at a time.
    Raises `BadMessage` for a text that is no string or a name that is there twice, and
    `msgspec.ValidationError`, with the path from ``messages``, for a part that is no object or has
    no type."""
    count = 0
    try:
        for batch, parts in in_batches(raw, _parts.decode, OBJECT_END):
            text = batch
            if b"\\" in batch:
                text = yield from in_plain_letters(batch)
            there = count_names(text, b"text")
            with_text = _with_text(parts) if there else 0
            if there and not _are_strings(text, b"text", there, with_text):
                _check_text(parts, path, count)
            if text.count(b'"type"') != len(parts) or there != with_text:
                seeker.seek(batch, _JUDGED_OF_PART, path=path, first=count)
            count += len(parts)
            if len(raw) > BATCH:
                yield
    except msgspec.ValidationError as error:
        raise msgspec.ValidationError(str(error).replace("`$", f"`${path}", 1)) from None


def _check_text(parts: list[_Part], path: str, first: int) -> None:
    """Raise `BadMessage` for the first of these parts whose text is neither a string nor null;
    `first` is the number of the first of them in the array that `path` leads to. Returns where all
    are good."""
    for index, part in enumerate(parts, first):
        if not _has_good_text(part):
            raise BadMessage(f"{path}[{index}].text", "expected a string")


def _are_strings(text: bytes, name: bytes, there: int, count: int) -> bool:
    """Return whether the `count` members of this name are strings, in the two spellings that
    clients use, ``"text":"`` and ``"text": "``. False may mean no more than that counting does not
    tell: so where the text has the name in more places, which is what `there` says. Called for the
    texts of parts."""
    if there != count:
        return False
    strings = text.count(b'"%b":"' % name)
    return strings == count or strings + text.count(b'"%b": "' % name) == count


class _Seeker:
    """Looks for an object that has one of some names twice, in one request.

    `check_messages` makes one for each request, and `seek` is called with each batch that counting
    could not acquit. It looks at no more than `MAX_NAMES_SOUGHT` names in all, and takes what it
    can no longer look at for a fault.
    """

    def __init__(self) -> None:
        self._left = MAX_NAMES_SOUGHT

    def seek(self, batch: bytes, judged: Collection[bytes], *, path: str, first: int) -> None:
        """Raise `BadMessage` where an object in the array `batch` has a name of `judged` twice;
        return where none has. `path` leads to the array from ``messages``, `first` is the number of
        the array's first object."""
        if len(batch) <= 2 * BATCH and says_all(_objects.decode(batch), batch):
            return
        for index, item in enumerate(_items.decode(batch), first):
            self._seek_in(bytes(item), judged, f"{path}[{index}]")

    def _seek_in(self, item: bytes, judged: Collection[bytes], path: str) -> None:
        """Look at the names of one object, to which `path` leads, in the order of its text. Raises
        `BadMessage` for a name of `judged` that is there twice, and where more names would have to
        be looked at than are left."""
        seen = set()
        for name in islice(member_names(item), self._left + 1):
            self._left -= 1
            plain = b'"%b"' % _string.decode(name).encode()
            if plain in seen:
                raise BadMessage(f"{path}.{plain[1:-1].decode()}", "it is there twice")
            if plain in judged:
                seen.add(plain)
        if self._left < 0:
            raise BadMessage(path, "it has too many members to find one that is there twice")


def texts(raw: Raw) -> Iterator[tuple[str, str]]:
    """Yield the role and the text of each of some good messages, "" where one has no text; the
    texts of several parts are lines of one. Called by the echo of chat and of messages, which alone
    reads what is said. Raises nothing for messages that `check_messages` let through."""
    for _, messages in in_batches(raw, _messages.decode, OBJECT_END):
        for message in messages:
            yield message.role, _text(message.content)


def _text(content: Raw) -> str:
    """Return the text of a content: a string itself, the texts of an array of parts a line each, ""
    of none. Called by `texts` for each message."""
    if content is _ABSENT or content == _NULL:
        return ""
    if memoryview(content)[0] == _QUOTE:
        return _string.decode(content)
    return "\n".join(_part_texts(content))


def _part_texts(content: Raw) -> Iterable[str]:
    """Yield the texts of an array of content parts; those of other types than ``text`` have none.
    Called by `_text`."""
    for _, parts in in_batches(content, _parts.decode, OBJECT_END):
        for part in parts:
            if part.type == "text" and part.text is not _ABSENT and part.text != _NULL:
                yield _string.decode(part.text)
