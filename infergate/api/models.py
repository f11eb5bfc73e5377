"""The list of models, as a caller sees it that may use certain ones alone."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
from msgspec import Raw, Struct


class _Entry(Struct, gc=False):
    """What an entry may be known by: OpenAI's `id`, the `model` or `name` of llama.cpp's own."""

    id: str | None = None
    model: str | None = None
    name: str | None = None


_members = msgspec.json.Decoder(dict[str, Raw]).decode
_elements = msgspec.json.Decoder(list[Raw]).decode
_entry = msgspec.json.Decoder(_Entry | str).decode


def visible_models(body: bytes, allows: Callable[[str], bool]) -> bytes:
    """The JSON object `body` without the entries that `allows` refuses, in all of its arrays:
    llama.cpp's list holds two, with the same models. All else is as it was, byte for byte. An entry
    without a name is none that a caller may use."""
    members = _members(body)
    for name, value in members.items():
        if bytes(value).startswith(b"["):
            shown = [entry for entry in _elements(value) if _allowed(entry, allows)]
            members[name] = Raw(b"[%b]" % b",".join(map(bytes, shown)))
    return msgspec.json.encode(members)


def _allowed(entry: Raw, allows: Callable[[str], bool]) -> bool:
    try:
        known = _entry(entry)
    except msgspec.ValidationError:
        return False
    name = known if isinstance(known, str) else known.id or known.model or known.name
    return name is not None and allows(name)
