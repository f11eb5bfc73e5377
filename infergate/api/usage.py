"""Tokens used, and who counted them."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta, Raw, Struct


class Usage(Struct, frozen=True, gc=False):
    """Tokens, and who counted them: the ``backend``, or ``counted`` here, or ``none``."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    total_tokens: int = 0
    source: str = "none"


NO_USAGE = Usage()

# Beyond 2**53 a JSON number is exact for nobody, and no count of tokens comes near.
_Count = Annotated[int, Meta(ge=0, le=2**53)]


class _Usage(Struct, gc=False):
    prompt_tokens: _Count | None = None
    completion_tokens: _Count | None = None
    total_tokens: _Count | None = None


_usage = msgspec.json.Decoder(_Usage | None).decode


def read_usage(member: Raw | bytes) -> Usage | None:
    """A ``usage`` member in JSON; None where it is null, makes no sense or counts nothing."""
    try:
        usage = _usage(member)
    except (ValueError, RecursionError):
        return None
    if usage is None:
        return None
    prompt, completion, total = usage.prompt_tokens, usage.completion_tokens, usage.total_tokens
    if prompt is None and completion is None:
        return None
    prompt, completion = prompt or 0, completion or 0
    return Usage(prompt, completion, prompt + completion if total is None else total, "backend")
