"""The names of members, counted in the text of many objects at once.

To count bytes is quicker than to look at objects. But a name may be spelled ``"r\\u006fle"``, and
what looks like a name may be a value. So a count is of a text in which each letter stands for
itself, and never less than the names that are there.
"""

from __future__ import annotations

from typing import Any

import msgspec

from infergate.api.batches import BATCH
from infergate.api.steps import Steps


def says_all(objects: list[Any], text: bytes) -> bool:
    """Return whether `objects`, which have each member once, are all that `text` says. Written
    again they have no fewer quotes than the text, unless a member was passed over: of
    ``{"a":1,"a":2}`` four quotes are in the text, and two in ``{"a":2}``. Called where names are
    counted more often than they should be there."""
    return rb"\u0022" not in text and text.count(b'"') == msgspec.json.encode(objects).count(b'"')


# Each letter of a name that is judged, by its last two digits where it is spelled as \\u0061.
_LETTER_OF = {
    digits: letter.encode()
    for letter in sorted(set("rolecontent_calls_typetext"))
    for digits in (b"%02x" % ord(letter), b"%02X" % ord(letter))
}
# Bytes that stand in no JSON, for ``\\u00`` and the first of the two digits behind it.
_STAND_INS = {b"5": b"\x01", b"6": b"\x02", b"7": b"\x03"}


def in_plain_letters(text: bytes) -> Steps[bytes]:
    """Return the text with each \\u0061 as the letter that it is, for the names that are judged may
    be spelled so, a block at a time. Good for counting alone: behind an escaped backslash there was
    no letter. Raises nothing. Called for a batch that has a backslash in it."""
    parts, at = [], 0
    while at < len(text):
        end = at + BATCH
        # No letter is cut in two.
        cut = text.rfind(b"\\", end - 5, end)
        end = cut if cut > at else end
        parts.append(without_spelled_letters(text[at:end]))
        at = end
        yield
    return b"".join(parts)


def without_spelled_letters(text: bytes) -> bytes:
    """Return the same for a text of at most some `BATCH` bytes, in one go; the text itself where
    nothing in it is spelled so.

    Ten megabytes hold 1.6 million such letters: where they stand close together, none of them
    becomes a Python object. Where they are far apart, looking at each is quicker.
    """
    spelled_letters = text.count(rb"\u00") if b"\\" in text else 0
    if not spelled_letters:
        return text
    if spelled_letters < len(text) // 32:
        head, *rest = text.split(rb"\u00")
        return b"".join([head, *[_LETTER_OF.get(part[:2], b"?") + part[2:] for part in rest]])
    short = text.replace(rb"\u00", b"\x00")
    for digit, byte in _STAND_INS.items():
        short = short.replace(b"\x00" + digit, byte)
    if any(byte in short for byte in _STAND_INS.values()):
        for digits, letter in _LETTER_OF.items():
            short = short.replace(_STAND_INS[digits[:1]] + digits[1:], letter)
    return short


def count_names(text: bytes, name: bytes) -> int:
    """Return how often a text has a member of this name, or more: never less. What a comma or a
    brace follows is a value, as the second of these is: ``"type":"text"}``. Called for the ``text``
    of parts."""
    quoted = b'"%b"' % name
    count = text.count(quoted)
    return count and count - text.count(quoted + b",") - text.count(quoted + b"}")
