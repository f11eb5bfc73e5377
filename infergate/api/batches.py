"""A large array of JSON, decoded a part at a time.

Ten megabytes hold 400,000 small messages, and each that is decoded takes several times the memory
of its text. Decoded in batches, no more than one batch of them is there at any time.

An array is cut where a batch is full and something that looks like an item's end stands, ``},`` of
objects: ``[{"a":1},{"a":2},{"a":3}]`` becomes ``[{"a":1},{"a":2}]`` and ``[{"a":3}]``. Where that
was no end but part of a string, the batch is no JSON, and a larger one is tried. Nothing is parsed
to find the places.
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
    """Yield an array batch by batch, each as its text, itself an array, and what `decode` makes of
    it; an array of no more than `BATCH` bytes, or a value that is no array, is one batch, the whole
    of it. A batch may be empty: whoever takes them in steps is given one where a batch took long to
    find.

    `array` is valid JSON, though perhaps no array, and begins with no blank. `item_end` is
    `OBJECT_END`, `SCALAR_END` or one like them: its first group is where an item ends, its own end
    is where the next begins. Called by all that looks at each item of a client's or a backend's
    array: messages, prompts, choices, models.

    Raises `msgspec.ValidationError` for the first item at fault, with its path from `array`, just
    as decoding all of it at once would, but only after the batches before it were given out.
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
    """Return msgspec's complaint about item i of a batch as one about item i + `count` of the
    array, `count` items standing before the batch: with `count` 100 the path ``$[2].role`` in it
    becomes ``$[102].role``. A message without such a path is returned as it is. Called by
    `in_batches`; raises nothing."""
    path = _PATH.fullmatch(message)
    return f"{path[1]}[{int(path[2]) + count}]{path[3]}" if path else message
