"""The events of a streamed ``/v1/responses``.

Each names its type twice, in its field and in its data, and has a number:

    event: response.output_text.delta
    data: {"type":"response.output_text.delta","sequence_number":4,"item_id":"msg_1","delta":" hi"}

    event: response.completed
    data: {"type":"response.completed","sequence_number":9,"response":{...,"usage":{...}}}

The type in the data is what counts; that in the field is looked at for ``error`` alone. Whatever
ends in ``.delta`` and has a text counts as a token, a function's arguments too. The model and the
usage stand in the response that the first and the last events hold; what was said last counts.
The last event is one of `ENDS` or of `FAILURES`, so that a stream without either is broken off,
however its body ends. Not every backend numbers its events.
"""

from __future__ import annotations

from functools import partial

import msgspec
from msgspec import Raw, Struct, field

from infergate.api.events import DELTA, FAIL, PASS, Reader, Verdict
from infergate.api.objects import NULL, event, is_object, read
from infergate.api.repeats import Repeats, text_of
from infergate.api.usage import NO_USAGE, Count, Usage, settled, usage_of
from infergate.errors import GatewayError

ENDS = frozenset({"response.completed", "response.incomplete"})
"""The events that end a stream well."""

FAILURES = frozenset({"response.failed", "error"})
"""The events in which the backend says that it has failed; nothing counts after one."""

_EMPTY = Raw(b'""')
_QUOTE = ord('"')


class _Event(Struct, gc=False):
    """Of the data of an event what is looked at; `NULL` where it is absent."""

    type: str | None = None
    delta: Raw = NULL
    sequence_number: Raw = NULL
    response: Raw = NULL
    error: Raw = NULL


class _Response(Struct, gc=False):
    """Of the response in an event what is looked at."""

    model: str | None = None
    usage: Raw = NULL


class _Details(Struct, gc=False):
    """How many tokens of the prompt the backend had from an earlier request."""

    cached_tokens: Count = 0


class _Usage(Struct, gc=False):
    """The counts of a response; None where the backend does not give one."""

    input_tokens: Count | None = None
    output_tokens: Count | None = None
    input_tokens_details: Raw = NULL


_event = msgspec.json.Decoder(_Event)
_response = msgspec.json.Decoder(_Response)
_usage = msgspec.json.Decoder(_Usage)
_details = msgspec.json.Decoder(_Details)
_number = msgspec.json.Decoder(int)

_TEXT = text_of(b"delta")


def read_usage(member: Raw) -> Usage:
    """Return the ``usage`` of a plain response as a `Usage`; `NO_USAGE` where it is null or makes
    no sense. Called by `responses.shape`; raises nothing."""
    usage = read(_usage, member)
    if usage is None or (usage.input_tokens is None and usage.output_tokens is None):
        return NO_USAGE
    return usage_of(usage.input_tokens or 0, usage.output_tokens or 0, _cached(usage))


def _cached(usage: _Usage) -> int:
    """Return how many tokens of the prompt came from the backend's cache; 0 where it does not say.
    For `read_usage` and `ResponseReader`."""
    details = read(_details, usage.input_tokens_details)
    return 0 if details is None else details.cached_tokens


class ResponseReader(Struct, eq=False):
    """Reads one stream of ``/v1/responses``; a `Scanner` calls `hear` with each event, in order.
    Nothing that a backend sends makes it raise: an event that cannot be read passes as it is, and
    says nothing."""

    tokens: int = 0
    """Deltas of the text, of reasoning, of a refusal, or of a tool's arguments."""
    model: str | None = None
    finished: bool = False

    # What the backend said last of each count; None before that.
    _prompt: int | None = None
    _completion: int | None = None
    _cached: int = 0
    _last_number: int = -1
    _heard: bool = False
    repeats: Repeats = field(default_factory=partial(Repeats, _TEXT))

    end_is_certain = True

    @property
    def done_is_an_end(self) -> bool:
        """See `Reader`: here ``[DONE]`` ends the stream well only where the response was whole
        already."""
        return self.finished

    @property
    def next_number(self) -> int:
        """The ``sequence_number`` of an event that the gateway adds: one more than the highest so
        far."""
        return max(self._last_number, self.repeats.number) + 1

    def usage(self, prompt_estimate: int) -> Usage:
        """Return the backend's counts, and for those that it did not give what was counted here;
        `NO_USAGE` before the first event. The relay calls it when the stream has ended, however it
        has."""
        if not self._heard:
            return NO_USAGE
        return settled(self._prompt, self._completion, prompt_estimate, self.tokens, self._cached)

    def hear(self, data: bytes, name: bytes) -> Verdict:
        """Learn from one event, and return whether it is for the client; see `Reader`. Called by
        the `Scanner` with the event's data and its type.

        A delta with a text is `DELTA`: another one like it is counted and not read. One that has a
        response beside it is not, since that may bring a usage. `FAIL` is an error of the
        backend's, `PASS` everything else.
        """
        self._heard = True
        said = read(_event, data)
        if said is None:
            return FAIL if name == b"error" else PASS
        if said.sequence_number != NULL:
            self._count_on(said.sequence_number)
        if is_object(said.response):
            self._hear_response(said.response)
        kind = said.type or ""
        if kind in FAILURES or name == b"error" or (not kind and said.error != NULL):
            return FAIL
        if kind.endswith(".delta") and _says(said.delta):
            self.tokens += 1
            self.repeats.numbered = said.sequence_number != NULL
            return DELTA if said.response == NULL else PASS
        self.finished = self.finished or kind in ENDS
        return PASS

    def _count_on(self, raw: Raw) -> None:
        """Remember the highest number, so that an event of the gateway's own has the next one. What
        is no number is passed over. For `hear`."""
        number = read(_number, raw)
        if number is not None:
            self._last_number = max(self._last_number, min(number, 2**53))

    def _hear_response(self, raw: Raw) -> None:
        """Take the model and the usage out of the response that the first and the last events hold.
        For `hear`."""
        response = read(_response, raw)
        if response is not None:
            self.model = self.model or response.model
            self._hear_usage(response.usage)

    def _hear_usage(self, raw: Raw) -> None:
        """Take each count that is there; one that is left out does not undo an earlier one. For
        `_hear_response`."""
        usage = read(_usage, raw)
        if usage is not None:
            if usage.input_tokens is not None:
                self._prompt, self._cached = usage.input_tokens, _cached(usage)
            if usage.output_tokens is not None:
                self._completion = usage.output_tokens


def _says(raw: Raw) -> bool:
    """Return whether a delta is a string that is not empty. For `ResponseReader.hear`."""
    return memoryview(raw)[0] == _QUOTE and raw != _EMPTY


def error_event(error: GatewayError, reader: Reader | None) -> bytes:
    """Return the last event of a stream that fails. `Request.refuse` writes it, by way of
    `Operation.error_event`.

    `reader` knows the next ``sequence_number``; where it is None, since no stream has come, that is
    0. The SDKs read the flat members, and print the inner object: with the flat ones alone
    openai-python says "Connection error.".
    """
    number = reader.next_number if isinstance(reader, ResponseReader) else 0
    said = {"code": error.code, "message": error.message, "param": error.param}
    inner = {"type": error.kind, **said}
    return event("error", **said, sequence_number=number, error=inner)
