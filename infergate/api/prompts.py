"""A prompt as ``/v1/completions`` takes it: a text, tokens, an object of llama.cpp's with images
beside the text, or an array of such."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Raw

from infergate.api.batches import SCALAR_END, in_batches
from infergate.api.objects import is_array

_plain = msgspec.json.Decoder(list[str | int])
_items = msgspec.json.Decoder(list[Raw])
_any = msgspec.json.Decoder()
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


def last_prompt(prompt: Raw | None) -> str:
    """The text of a prompt that was judged, of several the last: tokens as their numbers."""
    return "" if prompt is None else _text(_any.decode(prompt))


def _text(prompt: Any) -> str:
    if isinstance(prompt, list):
        if all(isinstance(item, int) for item in prompt):
            return " ".join(map(str, prompt)) if prompt else ""
        return _text(prompt[-1])
    if isinstance(prompt, dict):
        return _text(prompt.get("prompt_string", ""))
    return str(prompt)
