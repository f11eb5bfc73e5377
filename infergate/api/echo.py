"""What the echo says: the prompt itself, its words counted as tokens.

The echo answers where the gateway runs without a backend (`EchoWorker`), so that clients can be
tried. The `echo` of each dialect of a chat calls `heard` with what was said to it, and `echoed`
with what is to be said back; that of text completions calls `echoed` alone.
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
    """A content part, of which only the text is read."""

    text: Raw = NULL


_parts = msgspec.json.Decoder(list[_Part])


def heard(said: Iterable[tuple[str, str]]) -> tuple[int, str]:
    """Return how many words were said in all, and what the user said last, "" where nothing was;
    takes the role and the text of each message in turn. Called by the `echo` of chat, messages and
    responses. Raises nothing of its own."""
    words, prompt = 0, ""
    for role, text in said:
        words += count_words(text)
        if role == "user":
            prompt = text
    return words, prompt


def echoed(words: int, prompt: str) -> tuple[str, Usage]:
    """Return the text of an echo of `prompt`, and its usage: `words` tokens for what was asked, and
    one for each word of the text. ``hello`` becomes ``Echo: hello``. Called by the `echo` of each
    dialect; raises nothing."""
    text = f"Echo: {prompt}"
    return text, counted(words, count_words(text))


def text_within(raw: Raw) -> str:
    """Return the text of a string, or of an array of parts such as
    ``[{"type":"text","text":"hello"}]``, a line for each that has one; "" of anything else. An
    array in which a part is no object is read no further than the batch before that part. Called by
    the `echo` of messages and of responses. Raises nothing for a value of a checked request."""
    if not is_array(raw):
        return text_of(raw)
    said: list[str] = []
    # A part that is no object ends it: the echo has nothing to say about it.
    with suppress(msgspec.ValidationError):
        for _, parts in in_batches(raw, _parts.decode, OBJECT_END):
            said += [text_of(part.text) for part in parts if is_string(part.text)]
    return "\n".join(said)
