"""A prompt as ``/v1/completions`` takes it: a text, tokens, an object of llama.cpp's with images
beside the text, or an array of such.

    "Once upon a time"                                       a text
    [101, 7592, 2088]                                        tokens
    ["Once", "Twice"], [[101, 7592], [101]]                  several of these
    {"prompt_string": "See <__media__>", "multimodal_data": [...]}

Ten megabytes hold five million tokens. An array is judged in batches, each of which msgspec reads
at once where all of its items are of one kind: the decoders in `_kinds` are tried in turn, and the
last one, which takes a mixture, says which item is at fault where no other would do.
"""

from __future__ import annotations

import re
from contextlib import suppress
from typing import Any

import msgspec
from msgspec import Raw, Struct

from infergate.api.batches import OBJECT_END, SCALAR_END, in_batches
from infergate.api.objects import is_array, is_object, is_string, read
from infergate.api.steps import Steps
from infergate.api.usage import count_words


class _Prompt(Struct, gc=False):
    """An object of llama.cpp's, with images beside the text."""

    prompt_string: str = ""


class _Object(Struct, gc=False):
    """An object of which nothing is read."""


_ARRAY_END = re.compile(rb"\]()[ \t\r\n]*,")
_FIRST = re.compile(rb"\[[ \t\r\n]*(.)", re.DOTALL)

_kinds: tuple[msgspec.json.Decoder[list[Any]], ...] = (
    msgspec.json.Decoder(list[int]),
    msgspec.json.Decoder(list[str]),
    msgspec.json.Decoder(list[_Object]),
    msgspec.json.Decoder(list[list[Raw]]),
    msgspec.json.Decoder(list[str | int | _Object | list[Raw]]),
)
_strings = msgspec.json.Decoder(list[str])
_tokens = msgspec.json.Decoder(list[list[int]])
_objects = msgspec.json.Decoder(list[_Prompt])
_items = msgspec.json.Decoder(list[Raw])
_string = msgspec.json.Decoder(str)
_prompt = msgspec.json.Decoder(_Prompt)
_SPACES = bytes.maketrans(b",\t\r\n", b"    ")


def check_items(array: Raw) -> Steps[int]:
    """Check that all items of an array are strings, integers, arrays or objects, and return how
    many there are, in steps: prompts, or the tokens of one.

    What is inside an item is the backend's to judge. Called by `members.prompt`, which judges
    ``prompt``. Raises `msgspec.ValidationError`, whose text names the first item at fault.
    """
    count = 0
    for _, items in in_batches(array, _decode, _item_end(array)):
        count += len(items)
        yield
    return count


def _decode(batch: bytes | memoryview) -> list[Any]:
    """Decode the items of one batch as far as it takes to know their kind, and return them.

    Raises `msgspec.ValidationError` for an item of a kind that no prompt has. Called by
    `in_batches` for `check_items`.
    """
    for decoder in _kinds[:-1]:
        with suppress(msgspec.ValidationError):
            return decoder.decode(batch)
    # A mixture; or this says which item is at fault.
    return _kinds[-1].decode(batch)


def _item_end(array: Raw) -> re.Pattern[bytes]:
    """Return the pattern that finds where an item of this array ends, chosen by its first item: in
    nearly every array all items are of one kind. For `in_batches`, which looks for places to cut.
    """
    first = _first(array)
    return {b"{": OBJECT_END, b"[": _ARRAY_END}.get(first, SCALAR_END)


def _first(array: Raw) -> bytes:
    """Return the byte with which an array's first item begins: a bracket, a brace, a quote or a
    digit; the closing bracket of one that is empty; ``b""`` where `array` is no array. For
    `_item_end` and `several`."""
    first = _FIRST.match(memoryview(array))
    return b"" if first is None else first[1]


def several(prompt: Raw | None) -> bool:
    """Return whether a prompt that was judged is a list of prompts, and not one text or one list of
    tokens. Such a request is answered with choices for each prompt; the check of completions asks.
    """
    if prompt is None or not is_array(prompt):
        return False
    return _first(prompt) in (b'"', b"[", b"{")


def words_and_last(prompt: Raw | None) -> tuple[int, str]:
    """Return how many words all prompts have, each token counted for one, and the text of the last
    prompt.

    For the echo of completions, with a prompt that was judged. Of tokens the text is their numbers;
    of no prompt at all it is "".
    """
    if prompt is None:
        return 0, ""
    if not several(prompt):
        text = _text(prompt)
        return count_words(text), text
    words, last = 0, ""
    for batch, items in in_batches(prompt, _items.decode, _item_end(prompt)):
        words += _words(batch, items)
        last = _text(items[-1]) if items else last
    return words, last


def _words(batch: bytes, items: list[Raw]) -> int:
    """Return how many words the prompts of one batch have, each token counted for one.

    `items` are the same prompts as `batch`, one by one; they are read only where the batch mixes
    kinds. For `words_and_last`.
    """
    if (strings := read(_strings, batch)) is not None:
        return count_words("\n".join(strings))
    if (tokens := read(_tokens, batch)) is not None:
        return sum(map(len, tokens))
    if (objects := read(_objects, batch)) is not None:
        return count_words("\n".join(one.prompt_string for one in objects))
    return sum(count_words(_text(item)) for item in items)


def _text(prompt: Raw) -> str:
    """Return the text of one prompt; of the tokens ``[101, 7592]`` that is ``101 7592``. An object
    of which no text can be read has none. For `words_and_last` and `_words`."""
    if is_string(prompt):
        return _string.decode(prompt)
    if is_object(prompt):
        said = read(_prompt, prompt)
        return "" if said is None else said.prompt_string
    numbers = bytes(prompt).translate(_SPACES, b"[]").strip()
    while b"  " in numbers:
        numbers = numbers.replace(b"  ", b" ")
    return numbers.decode("utf-8", "replace")
