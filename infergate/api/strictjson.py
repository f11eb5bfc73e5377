"""JSON from a stranger: all of its text checked, none of its values changed.

msgspec knows the grammar of RFC 8259 and skips a member at the speed of C without losing
one of its bytes. What it leaves open is closed here: UTF-8, depth, the length of a number, and
how many members an object may have.

Nothing here makes a Python object for each value, member or string of a large text: ten
megabytes hold millions of these. A text is searched as a whole, or in blocks of `BLOCK` bytes.

    what is refused                 how it is found, without reading value by value
    ----------------------------    -----------------------------------------------------------
    no UTF-8                        decoded a block at a time, and the text thrown away
    no JSON                         msgspec, which reads it once; its members stay as they came
    too many members                colons counted; where there are many, names one by one
    too deep                        brackets counted; where there are many, those outside strings
                                    are taken eight at a time, by two tables
    too long a number               digits become 0, and 401 of them side by side are looked for;
                                    where there are, once more without the strings
"""

from __future__ import annotations

import re
from array import array
from codecs import utf_8_decode
from collections.abc import Iterable, Iterator
from itertools import accumulate, chain
from operator import add

import msgspec
from msgspec import Raw

from infergate.api.steps import Steps, at_once

MAX_DEPTH = 200
"""Arrays and objects inside one another: far above any tool schema, far below the depth at
which parsers behind the gateway run out of stack."""

HALF_DEPTH = MAX_DEPTH // 2
"""With no more brackets of either kind a text cannot be too deep."""

MAX_NUMBER = 400
"""Digits of one number: all that a double can need, while a parser's cost may grow with
their square."""

MAX_MEMBERS = 1000
"""Members of the outermost object: each becomes a Python object, and the largest API has not
a hundred. A name that is given again counts again."""

BLOCK = 65536
"""Bytes looked at in one step, where each step makes objects."""

_object = msgspec.json.Decoder(dict[str, Raw])
_anything = msgspec.json.Decoder(Raw)
_OPENING = re.compile(rb"[ \t\r\n]*\{[ \t\r\n]*")
_BLANKS = re.compile(rb"[ \t\r\n]*")
_TRAILING = re.compile(r"trailing characters \(byte (\d+)\)")

_NEITHER_BRACKET_NOR_QUOTE = bytes(set(range(256)) - set(b'[{]}"'))
_AS_BITS = bytes.maketrans(b"[{]}", b"1100")
_NO_DIGIT_IN_A_NUMBER = b"+-.eE"
_ZEROS = bytes.maketrans(b"123456789", b"000000000")
_TOO_MANY_DIGITS = b"0" * (MAX_NUMBER + 1)

# A text of so many bytes has no room for too many members, each of which is `"":0,` at the least,
# or for too many brackets that open and close.
_FEW_MEMBERS = len('"":0,') * MAX_MEMBERS
_SHALLOW = len("[]") * MAX_DEPTH

# The digits of a number stand in three runs at most, as in 12.5e9. Of a number with too many, one
# run has a third of them, and among every `_STRIDE`-th byte of the text so many side by side.
_STRIDE = 32
_RUN_OF_DIGITS = b"0" * (MAX_NUMBER // 3 // _STRIDE)


class NotJSON(ValueError):
    """The text breaks RFC 8259 or a limit above; says how, in words fit for a client."""


def read_object(text: bytes) -> dict[str, Raw] | None:
    """Return the members of a JSON object, each value in the bytes it came in, a name given twice
    with its last value; None where the text is valid JSON, but no object.

    Called for the bodies of requests and for refusals and replies that are small. Raises `NotJSON`,
    and never anything else: for what is no JSON or is above a limit of this module, and for a byte
    order mark, NaN, Infinity, anything after the value, and half of a surrogate pair, which no
    UTF-8 can hold (RFC 8259, 8.1 and 8.2).
    """
    # What most texts are: then all that is left to check is the grammar.
    size = len(text)
    if (
        size <= BLOCK
        and text.isascii()
        and (size <= _FEW_MEMBERS or text.count(b":") <= MAX_MEMBERS)
        and (
            size <= _SHALLOW or (text.count(b"[") <= HALF_DEPTH and text.count(b"{") <= HALF_DEPTH)
        )
        and (size <= MAX_NUMBER or not _may_have_long_number(text))
    ):
        try:
            return _decoded(text)
        except (msgspec.DecodeError, RecursionError) as error:
            raise _not_json(error) from None
    return at_once(object_in_steps(text))


def object_in_steps(text: bytes) -> Steps[dict[str, Raw] | None]:
    """Return what `read_object` does, in steps, for a text of any size.

    The longest step is the one pass of msgspec's: a millisecond or two for each megabyte. Raises
    `NotJSON`. Called by `read_object`, and for large requests and replies.
    """
    try:
        if not text.isascii():
            yield from _utf8_steps(text)
        yield
        # Each member has its colon: most texts have too few of these for too many members.
        if (yield from has_more(text, b":", MAX_MEMBERS)):
            yield from _count_members(text)
        yield
        members = _decoded(text)
    except (UnicodeDecodeError, msgspec.DecodeError, RecursionError) as error:
        raise _not_json(error) from None
    yield
    # Strings may hold brackets too, so counting those in is enough to acquit.
    if (yield from has_more(text, b"[", HALF_DEPTH)) or (
        yield from has_more(text, b"{", HALF_DEPTH)
    ):
        yield from _depth_steps(text)
    yield
    # Strings may hold many digits too: only where there are any these are left out.
    if (yield from _number_steps(_blocks(text))) and (
        yield from _number_steps(_outside_strings(text, _NO_DIGIT_IN_A_NUMBER))
    ):
        raise NotJSON(f"it has a number of more than {MAX_NUMBER} digits")
    return members


def _decoded(text: bytes) -> dict[str, Raw] | None:
    """Return the members of an object; None where the text is something else, and all of it is
    JSON.

    Raises msgspec's `DecodeError` for what is no JSON, `RecursionError` for what is nested too
    deeply and `UnicodeDecodeError` for a name that is no UTF-8. For `read_object` and
    `object_in_steps`.
    """
    try:
        return _object.decode(text)
    except msgspec.ValidationError:
        # It stopped at the wrong type: the rest of the text is still unread.
        _anything.decode(text)
        return None


def _not_json(error: Exception) -> NotJSON:
    """Return the same fault as a `NotJSON`, in words fit for a client; the caller raises it.
    `error` is one of those that decoding raises. For `read_object` and `object_in_steps`."""
    if isinstance(error, UnicodeDecodeError):
        return NotJSON(f"it is not UTF-8 (byte {error.start})")
    if isinstance(error, RecursionError):
        return NotJSON(f"it is nested deeper than {MAX_DEPTH} levels")
    return NotJSON(str(error).removeprefix("JSON is malformed: "))


def member_steps(raw: Raw) -> Steps[dict[str, Raw]]:
    """Return the members of an object that is known to be valid JSON, in steps: one inside a text
    that was read before.

    They hold the text that `raw` is a part of, and no copy of it. Raises `NotJSON` where there are
    more than `MAX_MEMBERS`.
    """
    text = bytes(raw)
    if (yield from has_more(text, b":", MAX_MEMBERS)):
        yield from _count_members(text)
    if len(text) > BLOCK:
        yield
    return _object.decode(raw)


def has_more_values(text: bytes, limit: int) -> Steps[bool]:
    """Return whether a text that is known to be valid JSON has more values than `limit`, in steps:
    but for the last of each array or object a comma follows each. For `objects.read_values`."""
    # Strings may hold commas too: only where there are many these are left out.
    if not (yield from has_more(text, b",", limit)):
        return False
    count = 0
    for block in _outside_strings(text, b""):
        count += block.count(b",")
        yield
    return count > limit


def member_names(text: bytes) -> Iterator[bytes]:
    """Yield each member's name in an object, quoted and spelled as it is there, also those given
    twice.

    Called by `_count_members`, and by `messages` to find a name that is given twice. A value is
    skipped in C; a step costs about a microsecond, so a caller bounds how many are taken. On a text
    that is not JSON it ends early, or raises `msgspec.DecodeError` or `IndexError`; a text that is
    no object brings nothing.
    """
    opening = _OPENING.match(text)
    if opening is None:
        return
    at, view = opening.end(), memoryview(text)
    while text[at : at + 1] == b'"':
        name_end = _value_end(view, at)
        colon = text.find(b":", name_end)
        yield text[at:name_end].rstrip()
        # What stands at the value's end is the comma before the next name, or the last brace.
        at = _after_blanks(text, _value_end(view, colon + 1) + 1)


def _value_end(view: memoryview, start: int) -> int:
    """Return the index at which the text goes on after the value that begins at `start` and the
    blanks after it.

    msgspec reads one value, finds that there is more, and its complaint says where. Raises
    `IndexError` where nothing follows, and `msgspec.DecodeError` where there is no value at
    `start`. For `member_names`.
    """
    try:
        _anything.decode(view[start:])
    except msgspec.DecodeError as error:
        trailing = _TRAILING.search(str(error))
        if trailing is None:
            raise
        return start + int(trailing[1]) - _FIRST_BYTE
    raise IndexError("the object does not end")


# The number that msgspec gives the first byte of a text.
_FIRST_BYTE = 0
_FIRST_BYTE = _value_end(memoryview(b"0 0"), 0) - 2


def _after_blanks(text: bytes, at: int) -> int:
    """Return the index of the first byte from `at` on that is no blank. For `member_names`."""
    blanks = _BLANKS.match(text, at)
    assert blanks is not None
    return blanks.end()


def _blocks(text: bytes) -> Iterator[bytes]:
    """Return an iterator over the text in blocks of `BLOCK` bytes, of which the last may be
    shorter."""
    return (text[at : at + BLOCK] for at in range(0, len(text), BLOCK))


def _utf8_steps(text: bytes) -> Steps[None]:
    """Raise `UnicodeDecodeError`, which names the byte in the whole text, where it is no UTF-8. For
    `object_in_steps`."""
    at = 0
    while at < len(text):
        block = text[at : at + BLOCK]
        try:
            # A character that is cut in two is left for the next block.
            at += utf_8_decode(block, "strict", at + BLOCK >= len(text))[1]
        except UnicodeDecodeError as error:
            error.start += at
            raise
        yield


def _count_members(text: bytes) -> Steps[None]:
    """Raise `NotJSON` where an object has more than `MAX_MEMBERS`, those within strings and within
    its values not counted in. Raises `msgspec.DecodeError` where the text is not JSON. For
    `object_in_steps` and `member_steps`, where there are many colons."""
    try:
        for count, _ in enumerate(member_names(text)):
            if count == MAX_MEMBERS:
                raise NotJSON(f"it has more than {MAX_MEMBERS} members")
            yield
    except (msgspec.DecodeError, IndexError):
        yield
        _anything.decode(text)  # it is not JSON, and this says where
        raise


def has_more(text: bytes, byte: bytes, limit: int) -> Steps[bool]:
    """Return whether a text has one byte more than `limit` times, inside strings or outside; in
    steps of `BLOCK` bytes. A cheap look at what may be too much, before a closer one."""
    count = 0
    for at in range(0, len(text), BLOCK):
        count += text.count(byte, at, at + BLOCK)
        if count > limit:
            return True
        yield
    return False


def _depth_steps(text: bytes) -> Steps[None]:
    """Raise `NotJSON` where brackets stand inside one another more than `MAX_DEPTH` deep.

    The text is valid JSON, read a block at a time. A block rarely ends at a multiple of eight
    brackets, which `_depth` takes at once: the rest waits for the next. For `object_in_steps`,
    where there are many brackets.
    """
    depth, rest = 0, b""
    # Seven that close bring the last ones to a multiple of eight, or are left over themselves.
    for found in chain(_outside_strings(text, _NEITHER_BRACKET_NOR_QUOTE), (b"]" * 7,)):
        brackets = rest + found
        whole = len(brackets) & ~7
        deepest, depth = _depth(brackets[:whole], depth)
        if deepest > MAX_DEPTH:
            raise NotJSON(f"it is nested deeper than {MAX_DEPTH} levels")
        rest = brackets[whole:]
        yield


def _may_have_long_number(text: bytes) -> bool:
    """Return whether, digits in strings counted in, there are enough side by side for too long a
    number. For `read_object`."""
    if text[::_STRIDE].translate(_ZEROS).find(_RUN_OF_DIGITS) < 0:
        return False
    return _TOO_MANY_DIGITS in text.translate(_ZEROS, _NO_DIGIT_IN_A_NUMBER)


def _number_steps(blocks: Iterable[bytes]) -> Steps[bool]:
    """Return whether some block, or two with the seam between them, has more than `MAX_NUMBER`
    digits side by side; in steps. For `object_in_steps`."""
    before = b""
    for block in blocks:
        digits = before + block.translate(_ZEROS, _NO_DIGIT_IN_A_NUMBER)
        if _TOO_MANY_DIGITS in digits:
            return True
        before = digits[-MAX_NUMBER:]
        yield
    return False


def _outside_strings(text: bytes, dropped: bytes) -> Iterator[bytes]:
    """Yield valid JSON without its strings and without the bytes in `dropped`, a block at a time.

    Of ``{"a":[1,"]"]}`` that is ``{:[1,]}``, whose brackets and commas are those of the structure.
    """
    inside, escape = 0, b""
    for whole_block in _blocks(text):
        block = escape + whole_block
        # A block whose backslashes at its end are odd in number ends within an escape.
        escape = b"\\" * ((len(block) - len(block.rstrip(b"\\"))) % 2)
        if b"\\" in block:
            block = block.removesuffix(escape).replace(rb"\\", b"").replace(rb"\"", b"")
        # From here on every quote begins or ends a string, and two that have come to stand side by
        # side are either what is left of one string or the end of one and the beginning of the
        # next: without them all else is inside a string, or outside, as before.
        between_quotes = block.translate(None, dropped).replace(b'""', b"").split(b'"')
        # Every second part is inside a string: the odd ones, or where the block before ended
        # inside one, the even ones.
        yield b"".join(between_quotes[inside::2])
        inside = (inside + len(between_quotes) - 1) % 2


# For each byte, read as eight brackets from its highest bit to its lowest, 1 for one that opens
# and 0 for one that closes: how much deeper it leads, and how deep it is at its deepest.
_LEADS_TO = [2 * bin(byte).count("1") - 8 for byte in range(256)]
_DEEPEST = [
    max(accumulate(1 if byte >> bit & 1 else -1 for bit in range(7, -1, -1))) for byte in range(256)
]
_LEADS_TO_BYTE = bytes(step & 0xFF for step in _LEADS_TO)
_DEEPEST_BYTE = bytes(step & 0xFF for step in _DEEPEST)


def _depth(brackets: bytes, depth: int) -> tuple[int, int]:
    """Return how deep it is at the deepest of some brackets, and how deep at their end, where it is
    `depth` before them. The number of brackets is a multiple of eight.

    Eight brackets become one byte, so that ten million take a tenth of a second and not one:
    ``[[]{}{[]`` is 11010110, which leads 2 deeper, and at its deepest is 3 deeper (``[{}{[``). For
    `_depth_steps`.
    """
    if not brackets:
        return depth, depth
    packed = int(brackets.translate(_AS_BITS), 2).to_bytes(len(brackets) // 8, "big")
    *before, end = accumulate(array("b", packed.translate(_LEADS_TO_BYTE)), initial=depth)
    return max(map(add, before, array("b", packed.translate(_DEEPEST_BYTE)))), end
