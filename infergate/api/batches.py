"""A large array of JSON, decoded a part at a time.

Ten megabytes hold 400,000 small messages, and each that is decoded takes several times the
memory of its text. Decoded in batches, no more than one batch of them is there at any time.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import TypeVar

import msgspec
from msgspec import Raw

BATCH = 65536
"""Bytes of text in one batch; more where one item has more."""

LONG = 1 << 20
"""Bytes of an item whose end takes long to find."""

T = TypeVar("T")

# What may end an item: of an array of objects, and of one of strings or numbers. Both begin with a
# byte that is looked for at once, which is why blanks before the comma of a scalar stay with it.
OBJECT_END = re.compile(rb"\}()[ \t\r\n]*,")
SCALAR_END = re.compile(rb"(),")

_BRACKET = ord("[")
_PATH = re.compile(r"(.*at `\$)\[(\d+)\](.*)", re.DOTALL)


def in_batches(
    array: Raw, decode: Callable[[bytes | memoryview], list[T]], item_end: re.Pattern[bytes]
) -> Iterator[tuple[bytes, list[T]]]:
    """The text of each batch, itself an array, and what `decode` makes of it. A batch may be empty:
    whoever takes them in steps is given one where a batch took long to find.

    `array` is valid JSON, though perhaps no array, and begins with no blank. Raises
    `msgspec.ValidationError` for the first item at fault, with its path from `array`, just as
    decoding all of it at once would.
    """
    view = memoryview(array)
    if len(view) <= BATCH or view[0] != _BRACKET:
        yield bytes(view), decode(view)
        return
    at, size, count = 1, BATCH, 0
    while at < len(view):
        cut = item_end.search(view, at + size)
        end = cut.start(1) if cut else len(view) - 1
        if end - at > LONG:
            yield b"[]", []
        batch = b"".join((b"[", view[at:end], b"]"))
        try:
            items = decode(batch)
        except msgspec.ValidationError as error:
            raise msgspec.ValidationError(_shift_path(str(error), count)) from None
        except msgspec.DecodeError:
            # The cut fell inside an item, as in {"content":"say },{ twice"}. What follows an
            # item's beginning is never whole JSON before the item ends, so this always shows. A
            # long string may have put this cut far away: it is not tried a second time.
            size = max(2 * size, end - at + 1)
            yield b"[]", []
            continue
        yield batch, items
        at, size, count = cut.end() if cut else len(view), BATCH, count + len(items)


def _shift_path(message: str, count: int) -> str:
    """The same message, about item i of a batch that `count` items stand before."""
    path = _PATH.fullmatch(message)
    return f"{path[1]}[{int(path[2]) + count}]{path[3]}" if path else message
