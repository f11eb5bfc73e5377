"""The chunks of a streamed completion, of ``/v1/chat/completions`` and ``/v1/completions``.

A chunk as llama.cpp and vLLM send it, of a chat and of a text:

    {"id":...,"choices":[{"index":0,"delta":{"content":" word"},"finish_reason":null}]}
    {"id":...,"choices":[{"index":0,"text":" word","finish_reason":null}]}

Each choice ends with a chunk that has its ``finish_reason``. Then comes, where it was asked for,
one with the usage, ``{"choices":[],"usage":{...}}``, and ``data: [DONE]``.

A chunk is passed on as it came, in its bytes: what is read of it decides whether it goes on, and
what is known of the stream, its tokens, model and end. A `Raw` is the text of a value in JSON that
nobody has read yet; one without a byte stands for a member that is absent.

A function here whose docstring names no error raises none, whatever a backend sends.
"""

from __future__ import annotations

import re
from functools import partial

import msgspec
from msgspec import Raw, Struct, field

from infergate.api.batches import BATCH, OBJECT_END, in_batches
from infergate.api.events import DELTA, DROP, FAIL, PASS, Verdict
from infergate.api.objects import read
from infergate.api.repeats import Repeats, text_of
from infergate.api.usage import NO_USAGE, Usage, counted, read_timings, read_usage, usage_of

MAX_CHOICES = 4096
"""Choices of one stream that are told apart. A stream with more is never whole without its
``[DONE]``."""

_ABSENT = Raw()
_NULL = Raw(b"null")
_ERROR = Raw(b'"error"')
_BRACE = b"{"[0]
_NOT_EMPTY = re.compile(rb'"[^"]|[\[{][ \t\r\n]*[^]} \t\r\n]').match
_TEXT_NOT_EMPTY = re.compile(rb'"[^"]').match


# Only the members that decide something: msgspec skips all others unread. `Raw` where a surprise
# must not cost the rest of the chunk, and where a large value need not become an object.
class _Delta(Struct, gc=False):
    """What of a chat's delta brings a token, where it is not empty."""

    content: Raw = _ABSENT
    reasoning: Raw = _ABSENT
    reasoning_content: Raw = _ABSENT
    tool_calls: Raw = _ABSENT
    function_call: Raw = _ABSENT
    refusal: Raw = _ABSENT


class _Choice(Struct, gc=False):
    """A choice of a chunk: `delta` in a chat, `text` in a text completion."""

    delta: _Delta | None = None
    finish_reason: Raw = _ABSENT
    text: Raw = _ABSENT
    index: Raw = _ABSENT


class _Object(Struct, gc=False):
    """What stands beside the choices of a chunk; all that is read where the choices cannot be."""

    model: Raw = _ABSENT
    error: Raw = _ABSENT
    object: Raw = _ABSENT
    usage: Raw = _ABSENT
    timings: Raw = _ABSENT


class _Chunk(_Object, gc=False):
    """A chunk of a usual size, with all of its choices."""

    choices: list[_Choice] | None = None


class _LargeChunk(_Object, gc=False):
    """A chunk of more than `BATCH` bytes, whose choices are decoded in batches."""

    choices: Raw = _ABSENT


_chunk = msgspec.json.Decoder(_Chunk).decode
_large_chunk = msgspec.json.Decoder(_LargeChunk).decode
_choices = msgspec.json.Decoder(list[_Choice]).decode
_object = msgspec.json.Decoder(_Object).decode
_string = msgspec.json.Decoder(str)

_TEXT = text_of(rb"content|reasoning_content|reasoning|refusal|text")


class ChunkReader(Struct, eq=False):
    """Reads one stream of chunks, and knows its tokens, its model, its usage and whether it is
    whole: a `Reader`.

    The operation makes one for each stream. A `Scanner` calls `hear` with each chunk, in order; the
    relay asks for `usage` in the end, also where the stream was cut, and `usage` and `finished` may
    be asked at any time. Raises nothing, whatever the backend sends.

    With `strip_usage`, a chunk that holds usage and no choice is taken out, whole. What it says is
    recorded all the same. With `several_prompts` each choice accounts for a prompt of its own.
    """

    strip_usage: bool
    several_prompts: bool = False

    tokens: int = 0
    """Deltas that brought content, reasoning, a refusal or a tool call."""

    model: str | None = None
    """The model that a chunk names, up to the first that brought something."""

    # By its index as it is written, whether the choice gave its ``finish_reason``.
    _finished: dict[bytes, bool] = field(default_factory=dict)
    # Usage that came in chunks without a choice, the completion tokens of all of them added up:
    # with `n` over 1 llama.cpp sends one such chunk for each choice.
    _apart: Usage | None = None
    # The last that came beside each choice. vLLM may send it with every chunk, and llama.cpp sends
    # it so with the end of each choice of ``/v1/completions``.
    _beside: dict[bytes, Usage] = field(default_factory=dict)
    _timings: Raw = _ABSENT
    _heard: bool = False
    repeats: Repeats = field(default_factory=partial(Repeats, _TEXT))

    done_is_an_end = True
    # A chunk with the usage, or another choice, may follow.
    end_is_certain = False

    @property
    def finished(self) -> bool:
        """Whether every choice that was begun gave its ``finish_reason``; False before the first
        choice. Asked by the `Scanner` at the end of the body."""
        return bool(self._finished) and all(self._finished.values())

    def usage(self, prompt_estimate: int) -> Usage:
        """Return the best that is known of the tokens so far: the usage chunks, else what stood
        beside choices, else the timings of llama.cpp, else the deltas that were counted here, with
        `prompt_estimate` for the prompt; `NO_USAGE` where no chunk has come."""
        if self._apart is not None:
            return self._apart
        if self._beside:
            return self._sum_beside()
        timed = read_timings(self._timings) if self._timings is not _ABSENT else None
        if timed is not None:
            return timed
        return counted(prompt_estimate, self.tokens) if self._heard else NO_USAGE

    def _sum_beside(self) -> Usage:
        """Return the usage of a stream whose choices each say their own, for `usage`: the tokens of
        all answers, and the prompt once, unless each choice had one to itself."""
        usages = list(self._beside.values())
        if len(usages) == 1:
            return usages[0]
        completion = sum(usage.completion_tokens for usage in usages)
        prompts = [usage.prompt_tokens for usage in usages]
        prompt = sum(prompts) if self.several_prompts else prompts[-1]
        return usage_of(prompt, completion, usages[-1].cached_tokens)

    def hear(self, data: bytes, name: bytes) -> Verdict:
        """Learn what one chunk says, and return what becomes of it: `FAIL` for an error, by its
        type or by what is in it, `DROP` for a usage chunk that the client did not ask for, `DELTA`
        for one that brings one token and nothing else that is counted (another one like it would do
        the same), `PASS` for all else. A chunk that cannot be read passes as it is. See `Reader`
        for `data` and `name`."""
        self._heard = True
        chunk, choices = _read_chunk(data)
        tokens = self.tokens
        if self.model is None and not tokens:
            self.model = read(_string, chunk.model) or None
        for choice in choices or ():
            self._hear_choice(choice)
        if chunk.timings is not _ABSENT:
            self._timings = chunk.timings
        is_extra = self._hear_usage(chunk.usage, choices)
        if name == b"error" or _is_error(chunk):
            return FAIL
        if is_extra and self.strip_usage:
            return DROP
        counted_alone = chunk.usage in (_ABSENT, _NULL) and chunk.timings is _ABSENT
        return DELTA if self.tokens == tokens + 1 and counted_alone else PASS

    def _hear_choice(self, choice: _Choice) -> None:
        """Count what a choice brings, and note whether it is over. One that has ended stays so;
        those that are not told apart never end. Called by `hear` for each choice of each chunk."""
        if _brings_token(choice):
            self.tokens += 1
        index = self._key(choice)
        if _is_text(choice.finish_reason):
            self._finished[index] = index != _OTHERS
        else:
            self._finished.setdefault(index, False)

    def _key(self, choice: _Choice) -> bytes:
        """Return what a choice is told from the others by: its index, as it is written, ``b"0"``
        where it has none; `_OTHERS` for one of a new index where `MAX_CHOICES` are known, so that
        what is kept of a stream is bounded. Called for what is kept by choice, its end and its
        usage."""
        index = b"0" if choice.index is _ABSENT else bytes(choice.index)
        return index if index in self._finished or len(self._finished) < MAX_CHOICES else _OTHERS

    def _hear_usage(self, raw: Raw, choices: list[_Choice] | None) -> bool:
        """Record the usage of a chunk, where it makes sense; return whether the chunk holds a usage
        and no choice, so that it may be one that the client did not ask for. `raw` is the member,
        `choices` are those of the same chunk, None where they cannot be read. Called by `hear` for
        each chunk."""
        usage = None if raw is _ABSENT else read_usage(raw)
        if choices == []:
            if usage is not None:
                self._apart = usage if self._apart is None else _next_choice(self._apart, usage)
            return raw is not _ABSENT and memoryview(raw)[0] == _BRACE
        if usage is not None:
            self._beside[self._key(choices[0]) if choices else b"0"] = usage
        return False


_OTHERS = b"others"


def _next_choice(first: Usage, usage: Usage) -> Usage:
    """Return the usage of the choices before, `first`, and of one more, `usage`, together: the
    answers add up, the prompt is the same. Called by `_hear_usage`, for llama.cpp, which sends one
    usage chunk for each choice."""
    completion = first.completion_tokens + usage.completion_tokens
    return usage_of(usage.prompt_tokens, completion, usage.cached_tokens)


def _read_chunk(data: bytes) -> tuple[_Object, list[_Choice] | None]:
    """Return what `data` says, and its choices, for `hear`. The choices are None where there are
    none or they cannot be read, and what is no chunk at all is an object that says nothing. Raises
    nothing."""
    try:
        if len(data) <= BATCH:
            chunk = _chunk(data)
            return chunk, chunk.choices
        return _read_large_chunk(data)
    except (ValueError, RecursionError):
        pass
    # Choices of an unknown shape must not hide an error or the usage beside them.
    try:
        return _object(data), None
    except (ValueError, RecursionError):
        return _Object(), None


def _read_large_chunk(data: bytes) -> tuple[_Object, list[_Choice] | None]:
    """Return the same for a chunk of more than `BATCH` bytes, read a batch of choices at a time and
    no further than the batch with which there are more than `MAX_CHOICES`. Raises
    `msgspec.ValidationError`, `msgspec.DecodeError` or `RecursionError` where it cannot be read,
    which `_read_chunk` catches."""
    chunk = _large_chunk(data)
    if chunk.choices is _ABSENT or chunk.choices == _NULL:
        return chunk, None
    choices: list[_Choice] = []
    for _, batch in in_batches(chunk.choices, _choices, OBJECT_END):
        choices += batch
        if len(choices) > MAX_CHOICES:
            break
    return chunk, choices


def _is_error(chunk: _Object) -> bool:
    """Return whether a chunk is an error in the place of one: its ``object`` is ``error``, as vLLM
    once had it, or it has an ``error`` that is not null. Called by `ChunkReader.hear`."""
    return chunk.object == _ERROR or (chunk.error is not _ABSENT and chunk.error != _NULL)


def _brings_token(choice: _Choice) -> bool:
    """Return whether a choice brings something that the model said, which counts as a token. The
    first chunk of a choice most often brings a role alone, and the last a ``finish_reason``. Called
    by `ChunkReader._hear_choice`."""
    if _says(choice.text):
        return True
    delta = choice.delta
    return delta is not None and (
        _says(delta.content)
        or _says(delta.reasoning_content)
        or _says(delta.reasoning)
        or _says(delta.tool_calls)
        or _says(delta.function_call)
        or _says(delta.refusal)
    )


def _says(raw: Raw) -> bool:
    """Return whether a member is a string, an array or an object, and not empty. Called by
    `_brings_token`."""
    return raw is not _ABSENT and _NOT_EMPTY(raw) is not None


def _is_text(raw: Raw) -> bool:
    """Return whether a member is a string, and not empty. Called for a ``finish_reason``."""
    return _TEXT_NOT_EMPTY(raw) is not None
