"""``/infill`` and ``/completion``: llama.cpp's own completions, and their stream.

A plain reply, with the members that are looked at here, and the events of a stream:

    {"index":0, "content":" and so on.", "stop":true, "model":"qwen",
     "tokens_evaluated":9, "tokens_predicted":4}

    data: {"index":0,"content":" and","stop":false,"tokens_evaluated":9,"tokens_predicted":1}

    data: {"index":0,"content":"","stop":true,"tokens_evaluated":9,"tokens_predicted":4}

A request may hold several prompts. Then the plain reply is an array of such objects, and the events
of all prompts come mixed, each with the `index` of its own; each prompt ends with an event that
says ``"stop":true``, and there is no ``[DONE]``. A stream of one prompt is over with that event,
one of several when every prompt that began has had its own and the body has ended.

Terms: an `Ask` is a checked request, a `Reply` a whole answer with its usage and model, a `Raw` the
text of a value in JSON that nobody has read yet. `Steps` is a generator whose return value is the
result; it yields wherever other requests may be served before it goes on.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial

import msgspec
from msgspec import Raw, Struct, field

from infergate.api import members as m
from infergate.api.batches import OBJECT_END, in_batches
from infergate.api.events import FAIL, PASS, Verdict
from infergate.api.objects import (
    NULL,
    in_one_line,
    is_array,
    is_object,
    is_string,
    read,
    read_reply,
    read_reply_or_array,
)
from infergate.api.operation import Ask, Later, Operation, Reply, Route, Rules, Stamp, same
from infergate.api.repeats import Repeats, text_of
from infergate.api.steps import Steps
from infergate.api.usage import NO_USAGE, Count, Usage, settled, usage_of
from infergate.errors import BrokenReply

MAX_INDEXES = 4096
"""Prompts of one request that are told apart: more than any backend has slots for. A stream with
more is never whole."""

MAX_INDEX = 20
"""Digits of an index."""

_OTHERS = b"others"

_TRUE = Raw(b"true")
_EMPTY = Raw(b'""')


class _Counts(Struct, gc=False):
    """What a reply or an event says of tokens: those of the prompt, and those made so far."""

    tokens_evaluated: Count | None = None
    tokens_predicted: Count | None = None


class _Said(Struct, gc=False):
    """What else of an event decides something; all other members are skipped unread."""

    content: Raw = NULL
    index: Raw = NULL
    stop: Raw = NULL
    error: Raw = NULL
    model: Raw = NULL


_counts = msgspec.json.Decoder(_Counts)
_said = msgspec.json.Decoder(_Said)
_items = msgspec.json.Decoder(list[Raw])

_TEXT = text_of(b"content")


def check(members: dict[str, Raw], route: Route, rules: Rules, later: Later | None = None) -> Ask:
    """Check ``stream``, and nothing else, and return the `Ask` that goes on; a `Check`.

    Called by the gateway for each request on either route, and by ``infergate check``. The model is
    not settled: llama.cpp needs none, and what is named goes on. A null ``stream`` is taken out of
    `members`. Raises `InvalidRequest` where ``stream`` is no boolean.
    """
    values = m.judge(members, (m.STREAM,), rules, later)
    several = members.get("prompt", NULL)
    return Ask(
        route,
        m.string_model(members),
        values.get("stream", False),
        members,
        takes_array=is_array(several),
    )


def shape(body: bytes, ask: Ask, stamp: Stamp) -> Steps[Reply]:
    """Check the backend's plain reply, and return it as a `Reply` whose body is `body` itself: one
    object, or where the prompt was an array, an array of them too, whose usage adds up.

    Called as the operation's `shape`, by the worker and by ``infergate check``. Raises
    `BackendError` for an object without a string as ``content``, for an error object under a status
    of success, and for an array that is empty, holds anything but objects or more than
    `MAX_INDEXES` of them, or begins with an error object.
    """
    reply = yield from read_reply_or_array(body, ask.takes_array)
    if reply is not None:
        if not is_string(reply.get("content", NULL)):
            raise BrokenReply("The backend's reply has no content.")
        return Reply(body, _add_up([body]), m.string_model(reply))
    items = yield from _replies(Raw(body.strip()))
    first = yield from read_reply(bytes(items[0]))
    return Reply(body, _add_up(items), m.string_model(first))


def _replies(raw: Raw) -> Steps[list[Raw]]:
    """Return the replies in an array of them, each in its bytes, for `shape`. Raises `BackendError`
    where there are none or too many, or one is no object."""
    replies: list[Raw] = []
    for _, items in in_batches(raw, _items.decode, OBJECT_END):
        replies += items
        if len(replies) > MAX_INDEXES:
            raise BrokenReply(
                f"The backend's reply is an array of more than {MAX_INDEXES} replies."
            )
        yield
    if not replies or not all(map(is_object, replies)):
        raise BrokenReply("The backend's reply is an array of what is no reply.")
    return replies


def _add_up(replies: Sequence[bytes | Raw]) -> Usage:
    """Return the usage of all replies of one request; what is missing in one counts as 0 where
    another has it, and `NO_USAGE` is what none of them says. Called by `shape`."""
    counts = [read(_counts, reply) or _Counts() for reply in replies]
    prompt = _sum(count.tokens_evaluated for count in counts)
    completion = _sum(count.tokens_predicted for count in counts)
    if prompt is None and completion is None:
        return NO_USAGE
    return usage_of(prompt or 0, completion or 0)


def _sum(counts: Iterable[int | None]) -> int | None:
    """Return the sum of the counts that are known; None where none is. Called by `_add_up`, and for
    the counts of a stream."""
    known = [count for count in counts if count is not None]
    return sum(known) if known else None


def as_stream(reply: Reply, ask: Ask, stamp: Stamp) -> Steps[bytes]:
    """Return the events of a stream that says what `reply` says: one event for each reply in it,
    which says that it is the last of its prompt. Members that the backend gave go before those of
    the gateway's own, but for ``stop``.

    Called as the operation's `as_stream`, by the worker, for a client that asked for a stream where
    the backend gave a plain reply. Raises `BackendError` where one of several replies is an error
    object, or has too many members to be read.
    """
    replies = _items.decode(reply.body) if reply.body.lstrip().startswith(b"[") else [reply.body]
    events = []
    for index, one in enumerate(replies):
        said = yield from read_reply(bytes(one))
        members = {"index": Raw(b"%d" % index), **said, "stop": _TRUE}
        events.append(b"data: %b\n\n" % in_one_line(msgspec.json.encode(members)))
    return b"".join(events)


class InfillReader(Struct, eq=False):
    """Reads one stream of llama.cpp's own, and knows its tokens, its model and whether it is whole:
    a `Reader`.

    The operation makes one for each stream; a `Scanner` calls `hear` with each event, in order, and
    the relay asks for `usage` in the end, also where the stream was cut. With `several_prompts`
    each has an index, and each that was begun must have its ``"stop": true``.
    """

    several_prompts: bool = False

    tokens: int = 0
    model: str | None = None
    # Nothing is learnt: with every event come other counts.
    repeats: Repeats = field(default_factory=partial(Repeats, _TEXT))

    _stopped: dict[bytes, bool] = field(default_factory=dict)
    # What each index said last of either count. llama.cpp counts along with every event.
    _evaluated: dict[bytes, int] = field(default_factory=dict)
    _predicted: dict[bytes, int] = field(default_factory=dict)

    @property
    def finished(self) -> bool:
        """Whether each prompt that was begun has had its ``"stop": true``; False before the first
        event. Asked by the `Scanner` and the relay, to know the end of the answer."""
        return bool(self._stopped) and all(self._stopped.values())

    @property
    def end_is_certain(self) -> bool:
        """Whether nothing can follow a finished answer: not with several prompts, of which another
        may begin after one has ended. Asked by the `Scanner` and, before the stream begins, by the
        relay."""
        return not self.several_prompts

    @property
    def done_is_an_end(self) -> bool:
        """Whether ``[DONE]``, which llama.cpp does not send here, would end the stream well."""
        return self.finished

    def usage(self, prompt_estimate: int) -> Usage:
        """Return the tokens of the stream so far, the last counts of all prompts added up;
        `NO_USAGE` before the first event. A count that the backend has not said is replaced: the
        prompt's by `prompt_estimate`, that of the answer by the events that brought text. Called by
        the relay when the stream is over."""
        if not self._stopped:
            return NO_USAGE
        prompt, completion = _sum(self._evaluated.values()), _sum(self._predicted.values())
        return settled(prompt, completion, prompt_estimate, self.tokens)

    def hear(self, data: bytes, name: bytes) -> Verdict:
        """Learn what one event says, and return what becomes of it: `FAIL` for an error, by its
        type or by an ``error`` in it, `PASS` for all else, also for what cannot be read. See
        `Reader` for `data` and `name`."""
        said = read(_said, data)
        if said is None:
            return FAIL if name == b"error" else PASS
        if name == b"error" or said.error != NULL:
            return FAIL
        if is_string(said.content) and said.content != _EMPTY:
            self.tokens += 1
        index = self._key(said.index)
        if said.stop == _TRUE:
            self._stopped[index] = index != _OTHERS
            self.model = self.model or m.string_model({"model": said.model})
        else:
            self._stopped.setdefault(index, False)
        self._hear_counts(data, index)
        return PASS

    def _key(self, raw: Raw) -> bytes:
        """Return what a prompt is told from the others by: its index as it is written, ``b"0"``
        where it is left out; `_OTHERS` where the index is too long, or new where `MAX_INDEXES` are
        known, so that what is kept of a stream is bounded. Called by `hear` for each event."""
        if raw == NULL:
            return b"0"
        index = bytes(raw)
        known = index in self._stopped or len(self._stopped) < MAX_INDEXES
        return index if known and len(index) <= MAX_INDEX else _OTHERS

    def _hear_counts(self, data: bytes, index: bytes) -> None:
        """Keep what an event says of its prompt's tokens and of those made so far, by its index.
        Counts that make no sense must not cost the rest of the event, so that they are read apart,
        and change nothing. Called by `hear` for each event."""
        counts = read(_counts, data)
        if counts is None:
            return
        if counts.tokens_evaluated is not None:
            self._evaluated[index] = counts.tokens_evaluated
        if counts.tokens_predicted is not None:
            self._predicted[index] = counts.tokens_predicted


INFILL = Operation(
    name="infill",
    metric_name="infill",
    routes=(
        same("/infill", sample=b'{"input_prefix":"1, 2, ","input_suffix":", 9","n_predict":16}'),
        same("/completion", sample=b'{"prompt":"1, 2, 3,","n_predict":16}'),
    ),
    check=check,
    shape=shape,
    reader=lambda ask: InfillReader(several_prompts=ask.takes_array),
    as_stream=as_stream,
)
