"""What the mock was asked, what it says to that, and one route on which it says it.

On every route the answer is ``Mock: `` and the text that was asked last, of a chat the last user
content, a word a chunk. It depends on the request alone, so that the same request gets the same
bytes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import attrs
import msgspec

from infergate.mock.script import Script

CREATED = 1_700_000_000  # a constant, so that two answers to one request are the same bytes

encode = msgspec.json.encode


@attrs.frozen
class Asked:
    """A request, and what is to be said to it by the `script`. A `Door` reads it."""

    members: dict[str, Any]
    script: Script

    @property
    def words(self) -> Iterable[str]:
        """What is said, each word of it a chunk and a token: of ``hello you`` the words are
        ``Mock: ``, ``hello `` and ``you``."""
        if self.script.chunks:
            return map("{} ".format, range(1, self.script.chunks + 1))
        texts = _texts(self.members)
        users = [text for role, text in texts if role == "user"]
        asked = users or [text for role, text in texts if role is None]
        return re.findall(r"\S+\s*", f"Mock: {asked[-1] if asked else ''}")

    @property
    def text(self) -> str:
        return "".join(self.words)

    @property
    def model(self) -> str:
        model = self.members.get("model")
        return model if isinstance(model, str) else "mock"

    @property
    def prompt_tokens(self) -> int:
        return sum(len(text.split()) for _, text in _texts(self.members))

    @property
    def reply_tokens(self) -> int:
        return self.script.chunks or sum(1 for _ in self.words)

    def counts(self, prompt: str, reply: str = "", total: str = "") -> dict[str, int]:
        """The tokens under the names that a dialect has for them; nothing where the script leaves
        usage out."""
        if not self.script.usage:
            return {}
        counts = {prompt: self.prompt_tokens}
        if reply:
            counts[reply] = self.reply_tokens
        if total:
            counts[total] = sum(counts.values())
        return counts

    def usage(self, prompt: str, reply: str = "", total: str = "") -> dict[str, Any]:
        """The same as the member of a reply, where there is to be one."""
        counts = self.counts(prompt, reply, total)
        return {"usage": counts} if counts else {}


@attrs.frozen
class Door:
    """One route: what is said in one piece, and in a stream, the first piece of which is its
    opening and the last of which its end; and how an error reads, as a body and as an event."""

    plain: Callable[[Asked], Any]
    events: Callable[[Asked], Iterator[bytes]] | None = None
    error: Callable[[dict[str, Any]], Any] = lambda error: {"error": error}
    error_name: str = ""
    error_event: Callable[[dict[str, Any]], Any] | None = None

    def failure(self, error: dict[str, Any]) -> bytes:
        """The event with which a stream fails."""
        said = (self.error_event or self.error)(error)
        return event(said, self.error_name)


def event(data: Any, name: str = "") -> bytes:
    field = b"event: %b\n" % name.encode("ascii") if name else b""
    return field + b"data: %b\n\n" % encode(data)


def typed_event(kind: str, **members: Any) -> bytes:
    """An event that names its type twice: in its field and in its data."""
    return event({"type": kind, **members}, kind)


def _texts(members: dict[str, Any]) -> list[tuple[Any, str]]:
    """The role and the text of all that was asked, wherever the dialect has it."""
    for name in ("messages", "input", "prompt", "content", "query", "input_prefix"):
        said = members.get(name)
        if isinstance(said, str):
            return [(None, said)]
        if isinstance(said, list) and said:
            return [(role_of(item), text_of(item)) for item in said]
    return []


def role_of(item: Any) -> Any:
    return item.get("role") if isinstance(item, dict) else None


def text_of(item: Any) -> str:
    """The text of a message, of a content part, of a prompt, or tokens as their numbers."""
    if isinstance(item, dict):
        return text_of(item.get("content", item.get("text", item.get("prompt_string", ""))))
    if isinstance(item, list):
        # Content parts follow one another as they are, as [{"text": "in "}, {"text": "parts"}] do.
        between = "" if item and isinstance(item[0], dict) else " "
        return between.join(map(text_of, item))
    return "" if item is None else str(item)
