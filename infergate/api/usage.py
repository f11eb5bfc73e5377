"""Tokens used, and who counted them.

What a backend says of them, best first:

    OpenAI and most     "usage":{"prompt_tokens":9,"completion_tokens":3,"total_tokens":12,
                                 "prompt_tokens_details":{"cached_tokens":4}}
    llama.cpp           "timings":{"prompt_n":5,"cache_n":4,"predicted_n":3,...}

Where it says nothing, the deltas of a stream are counted here, and the prompt is estimated by the
size of its text. Each `Usage` says who counted, so that nobody takes an estimate for a count.

The operations make a `Usage` for each reply, and the readers of their streams one when the stream
has ended; it goes into the request's record, for the log, the metrics, the budgets and the ledger.
Nothing here raises: counts that make no sense, such as a negative one, are none.
"""

from __future__ import annotations

import re
from typing import Annotated

import msgspec
from msgspec import Meta, Raw, Struct

WORDS_BLOCK = 65536
"""Characters whose words are counted in one step."""


class Usage(Struct, frozen=True, gc=False):
    """Tokens, and who counted them: the ``backend``, or ``counted`` here, or ``none``."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    total_tokens: int = 0
    source: str = "none"
    cached_tokens: int = 0
    """The part of the prompt's that the backend had from an earlier request."""


NO_USAGE = Usage()

_DATA_URL = re.compile(rb'"data:[^"]*')

MAX_COUNT = 2**40
"""The largest count of tokens that makes sense. No exchange comes near, and a database, which has
63 bits for the sum of an hour, can add up eight million of these."""

Count = Annotated[int, Meta(ge=0, le=MAX_COUNT)]
"""A count that a backend gives; what is no such number is no count."""


class _Details(Struct, gc=False):
    """Of the details of a prompt's count what is read."""

    cached_tokens: Count | None = None


class _Usage(Struct, gc=False):
    """The member ``usage`` of a completion; None for a count that the backend does not give."""

    prompt_tokens: Count | None = None
    completion_tokens: Count | None = None
    total_tokens: Count | None = None
    # Judged apart: what is wrong in it does not take the other counts along.
    prompt_tokens_details: Raw = Raw()


_usage = msgspec.json.Decoder(_Usage | None).decode
_details = msgspec.json.Decoder(_Details).decode


def read_usage(member: Raw | bytes) -> Usage | None:
    """Return a ``usage`` member in JSON as a `Usage`; None where it is null, makes no sense or
    counts nothing. Called with the plain replies of completions, embeddings and rerank, and for a
    chunk.

    A count that is missing beside another is 0, a missing total is the sum of the two.
    """
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
    total = prompt + completion if total is None else total
    return Usage(prompt, completion, total, "backend", _cached(usage.prompt_tokens_details))


class _Timings(Struct, gc=False):
    """Of llama.cpp's ``timings`` the counts: tokens of the prompt that were read, tokens that were
    made, and tokens of the prompt that were in the cache."""

    prompt_n: Count
    predicted_n: Count
    cache_n: Count = 0


_timings = msgspec.json.Decoder(_Timings).decode


def read_timings(member: Raw) -> Usage | None:
    """Return a ``timings`` member of llama.cpp's as a `Usage`; None where it makes no sense. Called
    by the reader of a stream of chunks whose backend gave no other usage."""
    try:
        timings = _timings(member)
    except (ValueError, RecursionError):
        return None
    return usage_of(timings.prompt_n + timings.cache_n, timings.predicted_n, timings.cache_n)


def usage_of(prompt: int, completion: int, cached: int = 0, *, source: str = "backend") -> Usage:
    """Return a usage of tokens that the backend counted, `cached` of them part of the prompt's;
    either may be the sum of several counts, and is `MAX_COUNT` at the most. For the readers and
    replies that add counts up, or name them in other words than `read_usage` knows."""
    prompt, completion = min(prompt, MAX_COUNT), min(completion, MAX_COUNT)
    return Usage(prompt, completion, prompt + completion, source, cached)


def counted(prompt: int, completion: int) -> Usage:
    """Return a usage of tokens that were counted here, by the echo or from a stream."""
    return Usage(prompt, completion, prompt + completion, "counted")


def settled(
    prompt: int | None, completion: int | None, prompt_estimate: int, tokens: int, cached: int = 0
) -> Usage:
    """Return the usage of a stream: what the backend said, and for what it did not say (None) what
    was counted here.

    Called by the readers of messages, responses and infill. `prompt_estimate` is of
    `estimate_prompt`, `tokens` the number of deltas. The source is ``backend`` only where both
    counts are the backend's.
    """
    if prompt is not None and completion is not None:
        return usage_of(prompt, completion, cached)
    prompt = prompt_estimate if prompt is None else prompt
    completion = tokens if completion is None else completion
    return usage_of(prompt, completion, cached, source="counted")


def estimate_prompt(body: bytes) -> int:
    """Return about how many tokens a prompt has, by the body that goes to the backend: one for each
    four bytes, without its images and the like, which stand in ``data:`` URLs. Called by the worker
    for a request that streams."""
    embedded = 0
    if b'"data:' in body:
        embedded = sum(match.end() - match.start() for match in _DATA_URL.finditer(body))
    return (len(body) - embedded) // 4


def _cached(details: Raw) -> int:
    """Return the part of the prompt that was cached, by the details of a usage; 0 where they say
    nothing. For `read_usage`."""
    if not details:
        return 0
    try:
        return _details(details).cached_tokens or 0
    except (ValueError, RecursionError):  # null too
        return 0


def count_words(text: str) -> int:
    """Return how many words a text has, which the echo takes for tokens.

    A block at a time: `split` makes an object of each word. Called with what was said to the echo,
    and with what it says.
    """
    words, in_word = 0, False
    for at in range(0, len(text), WORDS_BLOCK):
        block = text[at : at + WORDS_BLOCK]
        # A word that goes on from the block before was counted there.
        words += len(block.split()) - (in_word and not block[0].isspace())
        in_word = not block[-1].isspace()
    return words
