"""The mock's other doors, and the table of all: Anthropic's messages, llama.cpp's own completions,
and what is no text.

Each says what a chat says, in the form of its dialect as llama.cpp writes it. The functions here
are called through their `Door` alone, by `reply_to`: with the request as an `Asked` they return a
plain reply as a JSON value, or yield a stream in pieces, bytes of whole events. The word for word
answer and the counts of tokens are those of `Asked`.
"""

from __future__ import annotations

import base64
import struct
import zlib
from collections.abc import Iterator
from typing import Any

from infergate.mock.asked import Asked, Door, event, role_of, text_of, typed_event
from infergate.mock.openai import CHAT, COMPLETIONS, RESPONSES

DIMENSIONS = 8
"""Numbers in an embedding."""

# Messages.


def _message(asked: Asked, **members: Any) -> dict[str, Any]:
    """Return Anthropic's message: the plain reply of ``/v1/messages``, and with other `members` the
    one that its stream begins with."""
    return {
        "id": "msg_mock",
        "type": "message",
        "role": "assistant",
        "model": asked.model,
        "content": [{"type": "text", "text": asked.text}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        **asked.usage("input_tokens", "output_tokens"),
        **members,
    }


def _message_events(asked: Asked) -> Iterator[bytes]:
    """Yield the stream of ``/v1/messages``: the opening, a delta for each word, and in one piece
    the end, which is without ``message_stop`` where the script leaves the end out.

    As with Anthropic, the opening counts the prompt's tokens, and ``message_delta`` those of the
    reply.
    """
    usage = asked.counts("input_tokens", "output_tokens")
    before = {**usage, "output_tokens": 0} if usage else {}
    begun = _message(asked, content=[], stop_reason=None, usage=before)
    block = {"type": "text", "text": ""}
    yield (
        typed_event("message_start", message=begun)
        + typed_event("content_block_start", index=0, content_block=block)
    )
    for word in asked.words:
        delta = {"type": "text_delta", "text": word}
        yield typed_event("content_block_delta", index=0, delta=delta)
    after = {"output_tokens": usage["output_tokens"]} if usage else {}
    ended = {"stop_reason": "end_turn", "stop_sequence": None}
    yield (
        typed_event("content_block_stop", index=0)
        + typed_event("message_delta", delta=ended, usage=after)
        + (typed_event("message_stop") if asked.script.done else b"")
    )


def _anthropic_error(error: dict[str, Any]) -> dict[str, Any]:
    """Return an error in Anthropic's form, for a body and for the event ``error`` alike. `error` is
    that of ``replies._error_object``."""
    kind = "api_error" if error["type"] == "server_error" else error["type"]
    return {"type": "error", "error": {"type": kind, "message": error["message"]}}


# llama.cpp's own completions.


def _infill(asked: Asked) -> dict[str, Any]:
    """Return the plain reply of llama.cpp's ``/infill`` and ``/completion``. Its counts stand
    beside the text and not in a ``usage``."""
    return {
        "index": 0,
        "content": asked.text,
        "model": asked.model,
        "stop": True,
        "stop_type": "eos",
        **asked.counts("tokens_evaluated", "tokens_predicted"),
    }


def _infill_events(asked: Asked) -> Iterator[bytes]:
    """Yield the stream of ``/infill`` and ``/completion``: an event without text, one for each
    word, and as its end one with ``"stop": true`` and the counts. There is no ``[DONE]``."""
    yield event({"index": 0, "content": "", "tokens": [], "stop": False})
    for word in asked.words:
        yield event({"index": 0, "content": word, "tokens": [], "stop": False})
    if asked.script.done:
        yield event({**_infill(asked), "content": ""})


# What is no text.


def _embeddings(asked: Asked) -> dict[str, Any]:
    """Return an embedding of `DIMENSIONS` numbers for each text or list of tokens in ``input``.

    A list of numbers is one text in tokens, and not several texts. With ``"encoding_format":
    "base64"`` an embedding is the base64 of its numbers as 32-bit floats, little-endian, which
    OpenAI's SDKs ask for.
    """
    given = asked.members.get("input", "")
    several = given if isinstance(given, list) and given else [given]
    if several and isinstance(several[0], int):
        several = [given]
    as_base64 = asked.members.get("encoding_format") == "base64"
    data = []
    for index, one in enumerate(several):
        numbers: Any = _embedding(text_of(one))
        if as_base64:
            packed = struct.pack(f"<{DIMENSIONS}f", *numbers)
            numbers = base64.b64encode(packed).decode("ascii")
        data.append({"object": "embedding", "index": index, "embedding": numbers})
    usage = asked.usage("prompt_tokens", total="total_tokens")
    return {"object": "list", "model": asked.model, "data": data, **usage}


def _embedding(text: str) -> list[float]:
    """Return `DIMENSIONS` numbers from -1 to 1 that the text decides: the same for the same text.
    They mean nothing."""
    seeds = (zlib.crc32(b"%d %b" % (place, text.encode())) for place in range(DIMENSIONS))
    return [seed / 2**31 - 1 for seed in seeds]


def _rerank(asked: Asked) -> Any:
    """Return the documents' indexes and scores, best first: a score is the part of the query's
    words that a document has.

    The reply is an object with ``results``, as of Jina and Cohere, for ``documents``, and a bare
    array with the member ``score`` for ``texts``, as of Hugging Face's text embeddings server.
    """
    query = set(text_of(asked.members.get("query")).split())
    given = asked.members.get("documents") or asked.members.get("texts") or []
    documents = given if isinstance(given, list) else [given]
    scores = [len(query & set(text_of(one).split())) / max(len(query), 1) for one in documents]
    order = sorted(range(len(scores)), key=lambda index: -scores[index])
    if not asked.members.get("documents"):
        return [{"index": index, "score": scores[index]} for index in order]
    return {
        "object": "list",
        "model": asked.model,
        "results": [{"index": index, "relevance_score": scores[index]} for index in order],
        **asked.usage("prompt_tokens", total="total_tokens"),
    }


def _tokenize(asked: Asked) -> dict[str, Any]:
    """Return the bytes of a text for its tokens, so that `_detokenize` gives it back: ``Hi`` is
    ``[72, 105]``."""
    return {"tokens": list(text_of(asked.members.get("content", "")).encode())}


def _detokenize(asked: Asked) -> dict[str, Any]:
    """Return the text of which the tokens are the bytes. What is no byte is left out, and bytes
    that are no UTF-8 are replaced by U+FFFD."""
    given = asked.members.get("tokens")
    tokens = given if isinstance(given, list) else []
    known = [token for token in tokens if isinstance(token, int) and 0 <= token < 256]
    return {"content": bytes(known).decode("utf-8", "replace")}


def _template(asked: Asked) -> dict[str, Any]:
    """Return the prompt that a chat template would make of the messages: a line for each with its
    role, and ``assistant: `` at the end."""
    given = asked.members.get("messages")
    messages = given if isinstance(given, list) else []
    lines = [f"{role_of(message)}: {text_of(message)}\n" for message in messages]
    return {"prompt": "".join([*lines, "assistant: "])}


def _count(asked: Asked) -> dict[str, Any]:
    """Return how many tokens a request has, for the counting routes of chat and of Anthropic's
    messages."""
    return {"input_tokens": asked.prompt_tokens}


def _response_count(asked: Asked) -> dict[str, Any]:
    """Return how many tokens a request has, in the form of ``/v1/responses/input_tokens``."""
    return {"object": "response.input_tokens", "input_tokens": asked.prompt_tokens}


DOORS = {
    "/v1/chat/completions": CHAT,
    "/v1/completions": COMPLETIONS,
    "/v1/responses": RESPONSES,
    "/v1/messages": Door(_message, _message_events, _anthropic_error, "error"),
    "/infill": Door(_infill, _infill_events),
    "/completion": Door(_infill, _infill_events),
    "/v1/embeddings": Door(_embeddings),
    "/v1/rerank": Door(_rerank),
    "/tokenize": Door(_tokenize),
    "/detokenize": Door(_detokenize),
    "/apply-template": Door(_template),
    "/v1/chat/completions/input_tokens": Door(_count),
    "/v1/responses/input_tokens": Door(_response_count),
    "/v1/messages/count_tokens": Door(_count, error=_anthropic_error),
}
"""By its path at the backend, each route that a POST may come by. `Mock` makes a route of each, and
`reply_to` finds the door by the path of a request."""
