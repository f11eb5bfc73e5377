"""What the mock was asked, what it says to that, and one route on which it says it.

On every route the answer is ``Mock: `` and the text that was asked last, of a chat the last user
content, a word a chunk. It depends on the request alone, so that the same request gets the same
bytes.

A *dialect* is one API's form of a request, a reply and a stream: OpenAI's chat, Anthropic's
messages, llama.cpp's infill. An `Asked` is a request read in any of them, a `Door` says how an
answer is written in one of them, and a `Script` how the answer is sent, or fails to be.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import attrs
import msgspec

from infergate.mock.script import Script

CREATED = 1_700_000_000
"""The Unix time in every answer: a constant, so that two answers to one request are the same
bytes."""

encode = msgspec.json.encode


@attrs.frozen
class Asked:
    """A request, and what is to be said to it by the `script`.

    `reply_to` makes one of each body that is an object of JSON, whose `members` are as `msgspec`
    reads them; the functions of a `Door` read it. Nothing in it is changed.
    """

    members: dict[str, Any]
    script: Script

    @property
    def words(self) -> Iterable[str]:
        """Return the words of the answer, each of them one chunk and one token: of ``hello you``
        they are ``Mock: ``, ``hello `` and ``you``.

        With ``chunks`` in the script they are the numbers from 1 on. Read by `text` for a plain
        reply, by `reply_tokens`, and by the doors' streams, which send each as a chunk.
        """
        if self.script.chunks:
            return map("{} ".format, range(1, self.script.chunks + 1))
        texts = _texts(self.members)
        users = [text for role, text in texts if role == "user"]
        asked = users or [text for role, text in texts if role is None]
        return re.findall(r"\S+\s*", f"Mock: {asked[-1] if asked else ''}")

    @property
    def text(self) -> str:
        """Return the whole answer, all of its words in one string, as a plain reply has it."""
        return "".join(self.words)

    @property
    def model(self) -> str:
        """Return the model that the request names, which the answer repeats; ``mock`` where it
        names none."""
        model = self.members.get("model")
        return model if isinstance(model, str) else "mock"

    @property
    def prompt_tokens(self) -> int:
        """Return how many tokens the prompt counts: the words, by the blanks between them, of all
        that was asked."""
        return sum(len(text.split()) for _, text in _texts(self.members))

    @property
    def reply_tokens(self) -> int:
        """Return how many tokens the answer counts: one for each of `words`."""
        return self.script.chunks or sum(1 for _ in self.words)

    def counts(self, prompt: str, reply: str = "", total: str = "") -> dict[str, int]:
        """Return the tokens under the names that a dialect has for them, as in ``{"input_tokens":
        3}``; an empty dictionary where the script leaves usage out.

        `prompt`, `reply` and `total` are the names of the three counts. One whose name is empty is
        left out, as an embedding has no reply. Called by `usage`, and by the doors for the bare
        counts.
        """
        if not self.script.usage:
            return {}
        counts = {prompt: self.prompt_tokens}
        if reply:
            counts[reply] = self.reply_tokens
        if total:
            counts[total] = sum(counts.values())
        return counts

    def usage(self, prompt: str, reply: str = "", total: str = "") -> dict[str, Any]:
        """Return what `counts` does as the member ``usage``, to be put into a reply: ``{"usage":
        {...}}``, or an empty dictionary where the script leaves usage out."""
        counts = self.counts(prompt, reply, total)
        return {"usage": counts} if counts else {}


@attrs.frozen
class Door:
    """What is said on one route, in its dialect. `DOORS` has one for each path; `reply_to` reads
    it.

    `plain` gives the JSON value of a plain reply. `events` gives the server-sent events of a
    stream, as bytes of whole events: the first piece is the stream's opening and the last its end,
    which may be several events; it is None where the route has no stream. `error` wraps an error
    object for a body, and for a stream too unless `error_event` does; `error_name` is the event
    type it has there, empty for none.
    """

    plain: Callable[[Asked], Any]
    events: Callable[[Asked], Iterator[bytes]] | None = None
    error: Callable[[dict[str, Any]], Any] = lambda error: {"error": error}
    error_name: str = ""
    error_event: Callable[[dict[str, Any]], Any] | None = None

    def failure(self, error: dict[str, Any]) -> bytes:
        """Return the event with which a stream fails, in bytes; `error` is the object of
        ``replies._error_object``. Called for the fault ``error_event``."""
        said = (self.error_event or self.error)(error)
        return event(said, self.error_name)


def event(data: Any, name: str = "") -> bytes:
    """Return one server-sent event in bytes, its empty line included: ``data: {"n":1}`` for the
    value ``{"n": 1}``, below ``event: NAME`` where there is a `name`. Raises `TypeError` for a
    value that is no JSON, which no door makes."""
    field = b"event: %b\n" % name.encode("ascii") if name else b""
    return field + b"data: %b\n\n" % encode(data)


def typed_event(kind: str, **members: Any) -> bytes:
    """Return an event in bytes that names its type twice, in its field and in its data, as
    Anthropic's messages and OpenAI's responses have it:

        event: message_stop
        data: {"type":"message_stop"}
    """
    return event({"type": kind, **members}, kind)


def _texts(members: dict[str, Any]) -> list[tuple[Any, str]]:
    """Return the role and the text of all that was asked, wherever the dialect has it.

    The first of the members below that is a string, or a list with something in it, counts: the
    list gives one pair for each of its items, the string one pair whose role is None. An empty list
    where there is none. Called by `words` and `prompt_tokens`.
    """
    for name in ("messages", "input", "prompt", "content", "query", "input_prefix"):
        said = members.get(name)
        if isinstance(said, str):
            return [(None, said)]
        if isinstance(said, list) and said:
            return [(role_of(item), text_of(item)) for item in said]
    return []


def role_of(item: Any) -> Any:
    """Return the role that a message gives, in whatever type it came; None for what is no object.
    The role tells a chat's messages from prompts, which have none."""
    return item.get("role") if isinstance(item, dict) else None


def text_of(item: Any) -> str:
    """Return the text of a message, of a content part, of a prompt, or tokens as their numbers:
    ``[72, 105]`` is ``72 105``, null is an empty text, and any other value is as Python writes
    it."""
    if isinstance(item, dict):
        return text_of(item.get("content", item.get("text", item.get("prompt_string", ""))))
    if isinstance(item, list):
        # Content parts follow one another as they are, as [{"text": "in "}, {"text": "parts"}] do.
        between = "" if item and isinstance(item[0], dict) else " "
        return between.join(map(text_of, item))
    return "" if item is None else str(item)
