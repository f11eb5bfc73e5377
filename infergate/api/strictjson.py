"""JSON from a stranger: all of its text checked, none of its values changed.

msgspec knows the grammar of RFC 8259 and skips a member at the speed of C without losing
one of its bytes. What it leaves open is closed here: UTF-8, depth, and the length of a number.
"""

from __future__ import annotations

from array import array
from itertools import accumulate

import msgspec
from msgspec import Raw

MAX_DEPTH = 64
"""Arrays and objects inside one another: far above any tool schema, far below the depth at
which parsers behind the gateway run out of stack."""

MAX_NUMBER = 400
"""Digits of one number: all that a double can need, while a parser's cost may grow with
their square."""

_object = msgspec.json.Decoder(dict[str, Raw])
_anything = msgspec.json.Decoder(Raw)

_NEITHER_BRACKET_NOR_QUOTE = bytes(set(range(256)) - set(b'[{]}"'))
_STEPS = bytes.maketrans(b"[{]}", b"\x01\x01\xff\xff")
_DOWN_AND_UP = b"\xff\x01"
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
            text.decode()
        try:
            members = _object.decode(text)
        except msgspec.ValidationError:
            # It stopped at the wrong type: the rest of the text is still unread.
            _anything.decode(text)
            members = None
    except UnicodeDecodeError as error:
        raise NotJSON(f"it is not UTF-8 (byte {error.start})") from None
    except RecursionError:
        raise NotJSON("it is nested too deeply") from None
    except msgspec.DecodeError as error:
        raise NotJSON(str(error).removeprefix("JSON is malformed: ")) from None
    _hold_to_limits(text)
    return members


def _hold_to_limits(text: bytes) -> None:
    # Strings may hold brackets and digits too, so counting them in is enough to acquit, and
    # most texts are acquitted without their strings being taken out.
    if text.count(b"[") + text.count(b"{") > MAX_DEPTH and _depth(text) > MAX_DEPTH:
        raise NotJSON(f"it is nested deeper than {MAX_DEPTH} levels")
    if _has_long_number(text) and _has_long_number(_unquoted(text, _NO_DIGIT_IN_A_NUMBER)):
        raise NotJSON(f"it has a number of more than {MAX_NUMBER} digits")


def _depth(text: bytes) -> int:
    steps = _unquoted(text, _NEITHER_BRACKET_NOR_QUOTE).translate(_STEPS)
    return max(accumulate(array("b", steps.replace(_DOWN_AND_UP, b""))), default=0)


def _has_long_number(text: bytes) -> bool:
    return _TOO_MANY_DIGITS in text.translate(_ZEROS, _NO_DIGIT_IN_A_NUMBER)


def _unquoted(text: bytes, dropped: bytes) -> bytes:
    """Valid JSON without its strings and without some bytes.

    Two quotes that come to stand side by side end one string and begin the next, or are all
    that is left of one: without them every other byte is inside a string or outside as before.
    """
    kept = text.replace(rb"\\", b"").replace(rb"\"", b"").translate(None, dropped)
    return b"".join(kept.replace(b'""', b"").split(b'"')[::2])
