"""A prompt as ``/v1/completions`` takes it: a text, tokens, an object of llama.cpp's with images
beside the text, or an array of such."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import msgspec
from msgspec import Raw, Struct

from infergate.api.batches import SCALAR_END, in_batches
from infergate.api.objects import is_array, is_object, is_string, read


class _Prompt(Struct, gc=False):
    """An object of llama.cpp's, with images beside the text."""

    prompt_string: str = ""


_prompt_string = msgspec.json.Decoder(_Prompt)
_plain = msgspec.json.Decoder(list[str | int])
_items = msgspec.json.Decoder(list[Raw])
_string = msgspec.json.Decoder(str)
_NUMBER = re.compile(rb"-?[0-9]+")
_DIGITS = b"-0123456789"
_FRACTION = (b".", b"e", b"E")


def check_items(array: Raw) -> int:
    """How many prompts or tokens an array holds, which all must be strings, integers, arrays or
    objects: what is inside of these is the backend's to judge. Raises `msgspec.ValidationError`."""
    return sum(len(items) for _, items in in_batches(array, _decode, SCALAR_END))


def _decode(batch: bytes | memoryview) -> list[Any]:
    try:
        return _plain.decode(batch)
    except msgspec.ValidationError:
        pass
    items = _items.decode(batch)
    for index, item in enumerate(items):
        if not _is_prompt(item):
            raise msgspec.ValidationError(
                f"Expected a string, an integer, an array or an object - at `$[{index}]`"
            )
    return items


def _is_prompt(item: Raw) -> bool:
    text = bytes(item)
    if text[:1] in (b'"', b"[", b"{"):
        return True
    return text[0] in _DIGITS and not any(mark in text for mark in _FRACTION)


def several(prompt: Raw | None) -> bool:
    """Whether a prompt that was judged is a list of prompts, and not one of tokens."""
    if prompt is None or not is_array(prompt):
        return False
    inner = bytes(memoryview(prompt)[1:64]).lstrip(b" \t\r\n")
    return inner[:1] in (b'"', b"[", b"{")


def prompt_texts(prompt: Raw | None) -> Iterator[str]:
    """The text of a prompt that was judged, or of each of several: tokens as their numbers."""
    if prompt is None:
        return
    if not several(prompt):
        yield _text(prompt)
        return
    for _, items in in_batches(prompt, _items.decode, SCALAR_END):
        yield from map(_text, items)


def _text(prompt: Raw) -> str:
    if is_string(prompt):
        return _string.decode(prompt)
    if is_object(prompt):
        said = read(_prompt_string, prompt)
        return "" if said is None else said.prompt_string
    return " ".join(number.decode() for number in _NUMBER.findall(bytes(prompt)))
