"""Which server a backend is: by its ``Server`` field, who owns its models, and what only it has.

Seen in their sources or on the wire in 2026: llama.cpp says ``Server: llama.cpp`` and owns its
models as ``llamacpp``; vLLM and SGLang are both ``uvicorn``, and own theirs as ``vllm`` and
``sglang``; Ollama has no ``Server`` field, and calls the owner by the models' namespace, which is
``library`` for its own.
"""

from __future__ import annotations

import msgspec

from infergate.doctor.asking import FAULTS, Answer, Asker

_OWNERS = {"llamacpp": "llama.cpp", "vllm": "vLLM", "sglang": "SGLang", "library": "Ollama"}

_SERVERS = {"llama.cpp": "llama.cpp", "ollama": "Ollama", "vllm": "vLLM", "sglang": "SGLang"}

_ROUTES = (
    ("/api/version", "version", "Ollama"),
    ("/get_server_info", "version", "SGLang"),
    ("/version", "version", "vLLM"),
)
"""A route, a member of what it answers with, and who answers so."""


class _Entry(msgspec.Struct):
    """An entry of a list of models: who owns the model."""

    owned_by: str = ""


class _List(msgspec.Struct):
    """A list of models in OpenAI's form, as far as it is looked at."""

    data: list[_Entry] = []


async def kind_of(backend: Asker, listed: Answer) -> str | None:
    """Return the kind of the backend that has answered the question for its models, such as
    ``vLLM``; None for one that is not known here.

    `listed` is that answer. Where neither its field ``Server`` nor the owners of its models say it,
    up to three more questions are asked of `backend`. One that gets no answer says nothing;
    `FAULTS` are not raised.
    """
    server = listed.field(b"server").lower()
    for word, kind in _SERVERS.items():
        if word in server:
            return kind
    try:
        owners = {entry.owned_by for entry in msgspec.json.decode(listed.body, type=_List).data}
    except (ValueError, RecursionError):
        owners = set()
    for owner, kind in _OWNERS.items():
        if owner in owners:
            return kind
    for path, member, kind in _ROUTES:
        if await _has(backend, path, member):
            return kind
    return None


async def _has(backend: Asker, path: str, member: str) -> bool:
    """Return whether the route at `path` answers with a JSON object that has a `member`; False for
    no answer as well."""
    try:
        answer = await backend.get(path)
        return answer.good and member in msgspec.json.decode(answer.body, type=dict)
    except (*FAULTS, ValueError, RecursionError):
        return False
