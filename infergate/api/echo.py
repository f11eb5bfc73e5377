"""What the echo says: the prompt itself, its words counted as tokens.

The `echo` of each dialect of a chat calls `heard` with what was said to it, and `echoed` with what
is to be said back.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress

import msgspec
from msgspec import Raw, Struct

from infergate.api.batches import OBJECT_END, in_batches
from infergate.api.objects import NULL, is_array, is_string, text_of
from infergate.api.usage import Usage, count_words, counted


class _Part(Struct, gc=False):
    text: Raw = NULL


_parts = msgspec.json.Decoder(list[_Part])


def heard(said: Iterable[tuple[str, str]]) -> tuple[int, str]:
    """How many words were said in all, and what the user said last; takes the role and the text
    of each message in turn."""
    words, prompt = 0, ""
    for role, text in said:
        words += count_words(text)
        if role == "user":
            prompt = text
    return words, prompt


def echoed(words: int, prompt: str) -> tuple[str, Usage]:
    """The text of an echo, and its usage."""
    text = f"Echo: {prompt}"
    return text, counted(words, count_words(text))


def text_within(raw: Raw) -> str:
    """The text of a string, or of an array of parts such as ``[{"type":"text","text":"hello"}]``,
    a line for each that has one; "" of anything else."""
    if not is_array(raw):
        return text_of(raw)
    said: list[str] = []
    # A part that is no object ends it: the echo has nothing to say about it.
    with suppress(msgspec.ValidationError):
        for _, parts in in_batches(raw, _parts.decode, OBJECT_END):
            said += [text_of(part.text) for part in parts if is_string(part.text)]
    return "\n".join(said)
