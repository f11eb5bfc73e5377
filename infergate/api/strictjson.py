"""JSON from a stranger: all of its text checked, none of its values changed.

msgspec knows the grammar of RFC 8259 and skips a member at the speed of C without losing
one of its bytes. What it leaves open is closed here: UTF-8, depth, the length of a number, and
how many members an object may have.

Nothing here makes a Python object for each value, member or string of a large text: ten
megabytes hold millions of these. A text is searched as a whole, or in blocks of `BLOCK` bytes.
"""

from __future__ import annotations

import re
from array import array
from codecs import utf_8_decode
from collections.abc import Iterator
from itertools import accumulate, chain, islice
from operator import add

import msgspec
from msgspec import Raw

MAX_DEPTH = 200
"""Arrays and objects inside one another: far above any tool schema, far below the depth at
which parsers behind the gateway run out of stack."""

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


class NotJSON(ValueError):
    """The text breaks RFC 8259 or a limit above; says how, in words fit for a client."""


def read_object(text: bytes) -> dict[str, Raw] | None:
    """The members of a JSON object, each value in the bytes it came in, a name given twice
    with its last value; None where the text is valid JSON, but no object.

    Refuses with `NotJSON` a byte order mark, NaN, Infinity, anything after the value, and half
    of a surrogate pair, which no UTF-8 can hold (RFC 8259, 8.1 and 8.2). Never raises anything
    else.
    """
    try:
        if not text.isascii():
            _check_utf8(text)
        # Each member has its colon: most texts have too few of these for too many members.
        if _has_more(text, b":", MAX_MEMBERS):
            _check_members(text)
        try:
            members = _object.decode(text)
        except msgspec.ValidationError:
            # It stopped at the wrong type: the rest of the text is still unread.
            _anything.decode(text)
            members = None
    except UnicodeDecodeError as error:
        raise NotJSON(f"it is not UTF-8 (byte {error.start})") from None
    except RecursionError:
        raise NotJSON(f"it is nested deeper than {MAX_DEPTH} levels") from None
    except msgspec.DecodeError as error:
        raise NotJSON(str(error).removeprefix("JSON is malformed: ")) from None
    _check_depth(text)
    _check_numbers(text)
    return members


def read_members(text: bytes) -> dict[str, Raw]:
    """The members of an object that is known to be valid JSON; `NotJSON` where there are more
    than `MAX_MEMBERS`."""
    if _has_more(text, b":", MAX_MEMBERS):
        _check_members(text)
    return _object.decode(text)


def member_names(text: bytes) -> Iterator[bytes]:
    """Each member's name in an object, quoted and spelled as it is there, also those given twice.

    A value is skipped in C; a step costs about a microsecond, so a caller bounds how many are
    taken. On a text that is not JSON it ends early, or with `msgspec.DecodeError` or `IndexError`.
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
    """Where the text goes on after the value that begins at `start` and the blanks after it.

    msgspec reads one value, finds that there is more, and its complaint says where.
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
    blanks = _BLANKS.match(text, at)
    assert blanks is not None
    return blanks.end()


def _check_utf8(text: bytes) -> None:
    at = 0
    while at < len(text):
        block = text[at : at + BLOCK]
        try:
            # A character that is cut in two is left for the next block.
            at += utf_8_decode(block, "strict", at + BLOCK >= len(text))[1]
        except UnicodeDecodeError as error:
            error.start += at
            raise


def _check_members(text: bytes) -> None:
    try:
        if sum(1 for _ in islice(member_names(text), MAX_MEMBERS + 1)) > MAX_MEMBERS:
            raise NotJSON(f"it has more than {MAX_MEMBERS} members")
    except (msgspec.DecodeError, IndexError):
        _anything.decode(text)  # it is not JSON, and this says where
        raise


def _has_more(text: bytes, byte: bytes, limit: int) -> bool:
    """Whether a text has one byte more than `limit` times, inside strings or outside. A text that
    has it millions of times mostly shows that in its first block, without all being counted."""
    if text.count(byte, 0, BLOCK) > limit:
        return True
    return len(text) > BLOCK and text.count(byte) > limit


def _check_depth(text: bytes) -> None:
    # Strings may hold brackets too, so counting those in is enough to acquit.
    half = MAX_DEPTH // 2
    if not _has_more(text, b"[", half) and not _has_more(text, b"{", half):
        return
    if _depth(_outside_strings(text, _NEITHER_BRACKET_NOR_QUOTE)) > MAX_DEPTH:
        raise NotJSON(f"it is nested deeper than {MAX_DEPTH} levels")


def _check_numbers(text: bytes) -> None:
    if not _has_long_number(text):
        return
    if _has_long_number(_outside_strings(text, _NO_DIGIT_IN_A_NUMBER)):
        raise NotJSON(f"it has a number of more than {MAX_NUMBER} digits")


def _has_long_number(text: bytes) -> bool:
    if len(text) <= MAX_NUMBER:
        return False
    return _TOO_MANY_DIGITS in text.translate(_ZEROS, _NO_DIGIT_IN_A_NUMBER)


def _outside_strings(text: bytes, dropped: bytes) -> bytes:
    """Valid JSON without its strings and without the bytes in `dropped`."""
    if b"\\" in text:
        text = text.replace(rb"\\", b"").replace(rb"\"", b"")
    # From here on every quote begins or ends a string, and two that have come to stand side by
    # side are either what is left of one string or the end of one and the beginning of the next:
    # without them all else is inside a string, or outside, as before.
    text = text.translate(None, dropped)
    kept = text.replace(b'""', b"")
    del text
    outside, first = [], 0
    for at in range(0, len(kept), BLOCK):
        between_quotes = kept[at : at + BLOCK].split(b'"')
        # Every second part is inside a string: the odd ones, or where the block before ended
        # inside one, the even ones.
        outside.append(b"".join(between_quotes[first::2]))
        first = (first + len(between_quotes) - 1) % 2
    return b"".join(outside)


# For each byte, read as eight brackets from its highest bit to its lowest, 1 for one that opens
# and 0 for one that closes: how much deeper it leads, and how deep it is at its deepest.
_LEADS_TO = [2 * bin(byte).count("1") - 8 for byte in range(256)]
_DEEPEST = [
    max(accumulate(1 if byte >> bit & 1 else -1 for bit in range(7, -1, -1))) for byte in range(256)
]
_LEADS_TO_BYTE = bytes(step & 0xFF for step in _LEADS_TO)
_DEEPEST_BYTE = bytes(step & 0xFF for step in _DEEPEST)


def _depth(brackets: bytes) -> int:
    """The depth of the deepest of `brackets`, which nothing else stands between.

    Eight brackets become one byte, so that ten million take a tenth of a second and not one:
    ``[[]{}{[]`` is 11010110, which leads 2 deeper, and at its deepest is 3 deeper (``[{}{[``).
    """
    length = -(-len(brackets) // 8)
    bits = brackets.translate(_AS_BITS).ljust(8 * length, b"0")
    packed = int(bits or b"0", 2).to_bytes(length, "big")
    del bits
    before = chain((0,), accumulate(array("b", packed.translate(_LEADS_TO_BYTE))))
    return max(map(add, before, array("b", packed.translate(_DEEPEST_BYTE))), default=0)
