"""The list of models: held to what a caller may see, and one entry out of it.

    {"object":"list", "data":[{"id":"qwen","object":"model",...}, {"id":"bge",...}]}

    {"models":[{"name":"qwen","model":"qwen",...}], "object":"list", "data":[{"id":"qwen",...}]}

The first is OpenAI's list, the second llama.cpp's, which has Ollama's array beside OpenAI's. A
member of the list is taken for an array of entries whatever its name is, so that no model is shown
by one array that another hides; each entry stays in its bytes.

The functions return `Steps`: a generator whose return value is the result, and which yields
wherever other requests may be served before it goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import msgspec
from msgspec import Raw, Struct

from infergate.api.batches import OBJECT_END, in_batches
from infergate.api.objects import NULL, array, is_array, joined, read, read_reply
from infergate.api.steps import Steps
from infergate.errors import BrokenReply

MAX_ENTRIES = 10_000
"""Entries of a list that are looked at one by one: more than any backend has models."""


class _Entry(Struct, gc=False):
    """An entry of OpenAI's array, `data`, or of Ollama's, `models`; llama.cpp's list has both."""

    id: str = ""
    model: str = ""
    name: str = ""


_entry = msgspec.json.Decoder(_Entry | str)
_items = msgspec.json.Decoder(list[Raw])


def visible_models(listed: bytes, wanted: Callable[[str], bool]) -> Steps[bytes]:
    """Return the list with no other models than those of which `wanted` says True, in every array
    of it; all else in it stays as it is. An entry that names no model is asked about as "".

    Called by the gateway for ``GET /v1/models`` of a caller whose key is held to some models;
    `listed` is the backend's list, bytes of JSON. Raises `BackendError` for what is no JSON object,
    or too long to look through.
    """
    members = yield from read_reply(listed)
    for name, raw in members.items():
        if is_array(raw):
            kept = []
            for model, item in _entries(raw):
                if wanted(model):
                    kept.append(item)
                yield
            members[name] = array(kept)
    return joined(members)


def entry(listed: bytes, model: str) -> Steps[bytes | None]:
    """Return the entry of one model, as it stands in the list, of OpenAI's array first; None where
    there is none. Called by the gateway for ``GET /v1/models/{id}``. Raises `BackendError` for what
    is no JSON object, or too long to look through."""
    return next((item for name, item in (yield from _ordered(listed)) if name == model), None)


def names(listed: bytes) -> Steps[list[str]]:
    """Return the models of a list, each once, in the order of OpenAI's array. Called by
    ``infergate check``. Raises `BackendError` for what is no JSON object, or too long to look
    through."""
    return list(dict.fromkeys(name for name, _ in (yield from _ordered(listed)) if name))


def _ordered(listed: bytes) -> Steps[list[tuple[str, bytes]]]:
    """Return the entries of every array of a list, each with its model, those of OpenAI's first.
    Called by `entry` and `names`. Raises `BackendError` as these do."""
    members = yield from read_reply(listed)
    entries = []
    # llama.cpp's list has Ollama's array before OpenAI's.
    for raw in [members.pop("data", NULL), *members.values()]:
        if is_array(raw):
            for entry_of_model in _entries(raw):
                entries.append(entry_of_model)
                yield
    return entries


def _entries(raw: Raw) -> Iterator[tuple[str, bytes]]:
    """Yield the model that each entry of an array is about, "" where it names none, and the entry
    in its bytes. An entry may be an object or the model's name alone, a string. Raises
    `BackendError` once there are more than `MAX_ENTRIES`."""
    count = 0
    for _, items in in_batches(raw, _items.decode, OBJECT_END):
        count += len(items)
        if count > MAX_ENTRIES:
            raise BrokenReply("The backend's list of models is too long to look through.")
        for item in items:
            said = read(_entry, item)
            if isinstance(said, _Entry):
                said = said.id or said.model or said.name
            yield said or "", bytes(item)
