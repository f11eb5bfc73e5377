"""The worker: a checked request in, an answer out, from the backend or as an echo.

Written once for all operations: what tells them apart is in the `Operation` that is handed in. An
exchange with the backend goes through these, in this order:

    Ask.body                the members that go on, written anew
    Backend.send            the request out, the response's head in
    rejection               a refusal or a failure of the backend becomes an error
    Relay.run               a stream: passed on event by event; or, where it turns out to be none,
    Call.read_all           a whole body, which
    Operation.shape         holds to the contract, and
    send                    answers with, as a stream where one was asked for

The client may ask for a stream and the backend answer with a whole reply, and what a backend
declares its answer to be may be wrong:

    asked for    the backend sends           the client gets
    a reply      a reply                     the reply, held to the contract
    a stream     a stream                    the stream, event by event as it comes
    a stream     a reply                     the reply, as the events of a stream
    either       a refusal                   the refusal, as the gateway's own error
    either       a type that passes unread   the same bytes (vectors, for example)

Words of `api.operation` that stand in the signatures: an `Operation` is what can be asked for, such
as chat or embeddings, with all that tells it from the others; an `Ask` is a checked request, and
its members those of the JSON object that it came as; a `Reply` is a whole answer, ready for the
client; a `Stamp` is the id and the time that go on it. A `Reader` learns from the events of one
stream, which a `Scanner` takes apart. `shape` and `as_stream` return `Steps` (`api.steps`): a
generator that does long work a little at a time, so that the event loop has its turn between two.

Prompts and replies may be large. So the members of the request are let go of when its body is
written, the body when it is sent, and the backend's reply when it is shaped.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable
from functools import partial

import attrs
import msgspec
from twisted.internet.task import deferLater
from zope.interface import Interface, implementer

from infergate.acceptance import SUCCESS, rejection
from infergate.api.events import Reader, Scanner
from infergate.api.operation import Ask, Operation, Reply, Stamp
from infergate.api.operations import MODELS_PATH
from infergate.api.passing import forwarded, returned
from infergate.api.steps import LARGE, Steps, at_once
from infergate.api.strictjson import NotJSON, object_in_steps
from infergate.api.usage import estimate_prompt
from infergate.backend.call import Call
from infergate.backend.client import Backend
from infergate.backend.connection import Response
from infergate.backend.head import Head
from infergate.backend.health import Health
from infergate.errors import (
    BackendError,
    BackendUnavailable,
    BrokenReply,
    GatewayError,
    NoBackend,
)
from infergate.reactor.deadlines import Deadlines
from infergate.reactor.slices import in_slices
from infergate.relay import MODEL_NAME, STREAM_LINES, Pulse, Relay
from infergate.server.request import EVENT_STREAM, JSON, Request
from infergate.telemetry.tracecontext import backend_fields

EVENTS = b"text/event-stream"

STREAM = b"Accept: text/event-stream\r\nContent-Type: application/json\r\n"
REPLY = b"Accept: application/json\r\nContent-Type: application/json\r\n"
LIST = b"Accept: application/json\r\n"
"""What a request to the backend says of the answer that is wanted, and of its own body."""

WHEN_TO_RETURN = (b"retry-after", b"retry-after-ms")
"""Header fields of the backend's that every client gets."""


class IWorker(Interface):
    """Answers what the gateway has let in: `EchoWorker`, `BackendWorker`, or one of a test."""

    def answer(operation: Operation, ask: Ask, request: Request) -> Awaitable[None]:
        """Answer a checked request of an operation, by the methods of `request`.

        `Gateway.operate` awaits it once for each request; it is cancelled when the client leaves,
        and returns None when the answer is written. The caller keeps no reference to `ask`, which
        may be large. Errors are `GatewayError`.
        """

    def models(request: Request) -> Awaitable[tuple[bytes, bytes]]:
        """Return the list of models, an object of JSON, and its media type, for ``GET /v1/models``.
        Errors are `GatewayError`."""

    def ready() -> Awaitable[str]:
        """Return ``ready`` where an answer can be expected now, else the word that says why not,
        such as ``backend_loading``. Called for probes of readiness and for the status page; never
        fails."""


@implementer(IWorker)
@attrs.frozen
class EchoWorker:
    """Answers with the prompt, so that the gateway runs with no backend at all. `model` is the one
    that it lists; "" lists none."""

    model: str

    async def answer(self, operation: Operation, ask: Ask, request: Request) -> None:
        """Answer with what the operation's `echo` makes of the request; `IWorker` says who calls
        this. Raises `NoBackend` (501) for an operation that has none, such as those that need a
        real model."""
        if operation.echo is None:
            raise NoBackend
        reply = operation.echo(ask, _stamp(request))
        # The client may read slowly, and the prompt may be large.
        ask = ask.without_members()
        _write_down(reply, request)
        request.record.model_accepted = True
        await send(reply, operation, ask, request)

    async def models(self, request: Request) -> tuple[bytes, bytes]:
        """Return a list of the one model, as OpenAI would write it, and its media type. Raises
        nothing."""
        models = [{"id": self.model, "object": "model", "created": 0, "owned_by": "infergate"}]
        listed = {"object": "list", "data": models if self.model else []}
        return msgspec.json.encode(listed), JSON

    async def ready(self) -> str:
        """Return ``ready``: there is nothing that could be away."""
        return "ready"


@implementer(IWorker)
@attrs.frozen(eq=False, repr=False)
class BackendWorker:
    """Turns a request into a call of the backend, and its answer into the client's.

    The gateway calls `answer` or `models` once for each request that it has let in, and cancels it
    when the client leaves. What they raise the gateway turns into the answer: `GatewayError`, in
    most cases one of the backend's failures. `ready` is for the probes.

    `max_response` and `max_event` are in bytes, `keepalive` in seconds. The header fields named in
    `forward` go on to the backend, those in `give_back` back to the client.
    """

    _backend: Backend
    _health: Health
    _deadlines: Deadlines
    _max_response: int
    _max_event: int
    _keepalive: float
    _forward: tuple[bytes, ...] = ()
    _give_back: tuple[bytes, ...] = ()

    async def answer(self, operation: Operation, ask: Ask, request: Request) -> None:
        """Send the request to the backend and answer with what comes back; the module's docstring
        has the steps, and `IWorker` says who calls this.

        Raises what `Backend.send`, `rejection`, `Call.read_all`, `Relay.run` and the operation's
        `shape` do, all of it `GatewayError`: `BackendUnavailable` where the backend was not
        reached, `GatewayTimeout` where it was too slow, `BackendRejected` where it refused,
        `BackendError` and `BrokenReply` for an answer that is none. After the first event of a
        stream the client cannot be told by a status.
        """
        record = request.record
        call = self._backend.call(record)
        streams = ask.stream and operation.reader is not None
        body = ask.body()
        if len(body) > LARGE:
            # To write it anew was one slice, to copy it to the socket will be another.
            await deferLater(self._deadlines.clock, 0)
        # The answer may take long, and the prompt may be large.
        ask = ask.without_members()
        estimate = estimate_prompt(body) if streams else 0
        fields = self._fields(request, STREAM if streams else REPLY, operation.forwarded)
        target = ask.route.target + _query(request)
        sending = self._backend.send(call, "POST", target, fields, body)
        del body
        pulse = None
        if streams and self._keepalive:
            # A comment may commit the status before there is a reader.
            request.error_event = partial(_error_event, operation, None)
            pulse = Pulse(request, self._deadlines, self._keepalive)
        try:
            response = await sending
            self._pass_back(response, request)
            if response.code not in SUCCESS:
                raise await rejection(call, response, self._deadlines)
            record.model_accepted = True
            if streams:
                relay = self._relay(operation, ask, request, call, response, pulse, estimate)
                answer = await relay.run()
                if answer is None:
                    return
            else:
                answer = await call.read_all(self._max_response)
            head = response.head
            if head.media_type in operation.passed_types:
                kept = returned(head.fields, operation.returned, ())
                content_type = head.fields[b"content-type"][0]
                await request.answer(answer, content_type=content_type, headers=kept)
                return
            shaping = operation.shape(answer, ask, _stamp(request))
            large = len(answer) > LARGE
            del answer
            reply = await in_slices(shaping, self._deadlines.clock) if large else at_once(shaping)
            _write_down(reply, request)
            await send(reply, operation, ask, request, _declared(head, JSON) or JSON)
        finally:
            if pulse is not None:
                pulse.stop()

    def _relay(
        self,
        operation: Operation,
        ask: Ask,
        request: Request,
        call: Call,
        response: Response,
        pulse: Pulse | None,
        prompt_estimate: int,
    ) -> Relay:
        """Return what passes a stream on, or whatever else the backend answered with.

        Some backends declare their streams to be JSON or plain text, and some answer with plain
        JSON though a stream was asked for. Which of the two it is shows in the first bytes, so that
        a body which is not declared to be a stream may have `max_response` bytes.
        `prompt_estimate` counts as the prompt's tokens where the stream does not say how many it
        had. Called by `answer`.
        """
        assert operation.reader is not None
        reader = operation.reader(ask)
        request.error_event = partial(_error_event, operation, reader)
        declared = _declared(response.head, EVENTS)
        return Relay(
            request,
            call,
            Scanner(self._max_event, reader),
            pulse,
            self._deadlines,
            declared or EVENT_STREAM,
            stream_end=operation.stream_end,
            prompt_estimate=prompt_estimate,
            max_plain=None if declared else self._max_response,
        )

    async def models(self, request: Request) -> tuple[bytes, bytes]:
        """Return the backend's list as it came, once it is known to be an object of JSON, and its
        media type.

        Raises what `Backend.send`, `rejection` and `Call.read_all` do, and `BrokenReply` for what
        is no object. Asking for the list costs nothing: a `BackendError` or `BackendUnavailable`
        tells the client that it may try again.
        """
        call = self._backend.call(request.record)
        try:
            response = await self._backend.send(
                call, "GET", MODELS_PATH, self._fields(request, LIST), None
            )
            self._pass_back(response, request)
            if response.code not in SUCCESS:
                raise await rejection(call, response, self._deadlines)
            body = await call.read_all(self._max_response)
            try:
                listed = await in_slices(object_in_steps(body), self._deadlines.clock)
            except NotJSON:
                listed = None
            if listed is None:
                raise BrokenReply("The backend's list of models is not a JSON object.")
        except (BackendError, BackendUnavailable) as error:
            error.invite_retry()
            raise
        return body, _declared(response.head, JSON) or JSON

    async def ready(self) -> str:
        """Ask how the backend is, at most once in two seconds (`Health`), and return its word."""
        return (await self._health.ask()).word

    def _fields(self, request: Request, wanted: bytes, names: tuple[bytes, ...] = ()) -> bytes:
        """Return the header fields of the request to the backend, as lines: what of the client's it
        may see, and nothing else.

        Those are `wanted`, which says how the answer is wanted and what the body is; the request's
        id; the fields that `forward` names and, beside them, those in `names`, which the operation
        lets through; and the trace. Called for each request to the backend.
        """
        record = request.record
        lines = b"%bX-Request-Id: %b\r\n" % (wanted, record.request_id.encode("ascii"))
        names += self._forward
        if names:
            assert request.head is not None
            lines += forwarded(request.head.fields, names)
        return lines + backend_fields(record.trace, record.traceparent)

    def _pass_back(self, response: Response, request: Request) -> None:
        """Let the client have the header fields of the response that `give_back` names, and
        ``Retry-After``.

        They are put into `request.extra_fields`, and so are part of the answer whatever that
        becomes, an error too. A field that the gateway sends itself is not overwritten. Called once
        the response's head is here, before its status is looked at.
        """
        fields = response.head.fields
        if self._give_back:
            said = [name for name, _ in request.extra_fields]
            lines = b"\r\n".join(request.standing).split(b"\r\n")
            said += [line.partition(b":")[0] for line in lines]
            request.extra_fields += returned(fields, self._give_back, said)
        for name in WHEN_TO_RETURN:
            if name in fields:
                # The first value counts alone.
                request.extra_fields += returned({name: fields[name][:1]}, (name,), ())


def send(
    reply: Reply, operation: Operation, ask: Ask, request: Request, content_type: bytes = JSON
) -> Awaitable[None]:
    """Answer with a whole reply, as a stream where the client asked for one.

    Awaited by both workers at their end: by the echo always, by the other where the backend did not
    stream. Returns None when the client has taken what is written, or is gone; raises what the
    operation's `as_stream` does.
    """
    if ask.stream and operation.as_stream is not None:
        return _send_stream(operation.as_stream(reply, ask, _stamp(request)), operation, request)
    return request.answer(reply.body, content_type=content_type)


async def _send_stream(streaming: Steps[bytes], operation: Operation, request: Request) -> None:
    """Answer with the events that the steps of `as_stream` make of a reply, for `send`. The head of
    the stream may have been sent by then, by a keep-alive comment."""
    events = await in_slices(streaming, request.site.deadlines.clock)
    request.error_event = partial(_error_event, operation, None)
    request.record.first_token = request.site.deadlines.now()
    if not request.startedWriting:
        request.begin(200, EVENT_STREAM, lines=STREAM_LINES)
    request.write(events)
    await request.drained()


def _write_down(reply: Reply, request: Request) -> None:
    """Put into the request's record what a reply says of itself: its usage and, where the client
    named no model, its model, cut to `MODEL_NAME` characters. Called by either worker's `answer`,
    before the reply is sent."""
    record = request.record
    record.usage = reply.usage
    if record.model is None and reply.model is not None:
        record.model = reply.model[:MODEL_NAME]


def _stamp(request: Request) -> Stamp:
    """Return what goes on a reply of this exchange: the request's id, and the time in Unix seconds.
    Called where a reply is made."""
    return Stamp(request.record.request_id, int(time.time()))


def _error_event(operation: Operation, reader: Reader | None, error: GatewayError) -> bytes:
    """Return the last event of a stream of the operation that fails with `error`; `reader` may know
    what number that event is to have.

    Both workers put this, its first two arguments filled in, at `Request.error_event`, which
    `Request.refuse` calls.
    """
    return operation.error_event(error, reader)


def _query(request: Request) -> str:
    """Return the query of the request's target with its ``?``, or "" where it has none: it goes on
    to the backend as it came. Called by `BackendWorker.answer`."""
    path, uri = request.path, request.uri
    return "" if len(uri) == len(path) else uri[len(path) :].decode("ascii")


def _declared(head: Head, media_type: bytes) -> bytes | None:
    """Return the ``Content-Type`` of a response, with its parameters, where it is of this media
    type (``application/json``, in small letters), else None."""
    return head.fields[b"content-type"][0] if head.media_type == media_type else None
