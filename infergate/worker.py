"""The worker: a checked request in, an answer out, from the backend or as an echo."""

from __future__ import annotations

import time
from collections.abc import Awaitable

import attrs
import msgspec
from zope.interface import Interface, implementer

from infergate.api.chat import ChatRequest
from infergate.api.chunks import ChunkReader
from infergate.api.events import Scanner
from infergate.api.operations import CHAT, MODELS_PATH
from infergate.api.passing import forwarded, returned
from infergate.api.refusals import NOT_SHOWN, refusal
from infergate.api.reply import as_chunks, echo_reply, shape_reply
from infergate.api.strictjson import NotJSON, read_object
from infergate.api.usage import estimate_prompt
from infergate.backend.call import Call
from infergate.backend.client import Backend
from infergate.backend.connection import Response
from infergate.backend.health import Health
from infergate.errors import BackendError, BackendFailure, BackendUnavailable
from infergate.reactor.deadlines import Deadlines
from infergate.relay import STREAM_HEADERS, Pulse, Relay
from infergate.server.request import EVENT_STREAM, JSON, Request

REJECTION_BYTES = 65536
"""The largest refusal that is read for its message."""

ONCE = {b"Connection": [b"close"]}
"""Of a stream's request: llama.cpp closes the connection after a stream without having said so,
and a request that was sent on it meanwhile would be lost."""


class IWorker(Interface):
    """Answers what the gateway has let in."""

    def chat(chat: ChatRequest, request: Request) -> Awaitable[None]:
        """Answer a chat completion; errors are `GatewayError`."""

    def models(request: Request) -> Awaitable[None]:
        """Answer with the list of models; errors are `GatewayError`."""

    def ready() -> Awaitable[str]:
        """``ready`` where an answer can be expected now, else the word that says why not."""


@implementer(IWorker)
@attrs.frozen
class EchoWorker:
    """Answers with the prompt, so that the gateway runs with no backend at all."""

    model: str

    async def chat(self, chat: ChatRequest, request: Request) -> None:
        reply, request.record.usage = echo_reply(chat, request.record.request_id, int(time.time()))
        request.record.model_accepted = True
        if chat.stream:
            await send_as_stream(reply, chat.wants_usage, request)
        else:
            await request.answer(reply)

    async def models(self, request: Request) -> None:
        models = [{"id": self.model, "object": "model", "created": 0, "owned_by": "infergate"}]
        listed = {"object": "list", "data": models if self.model else []}
        await request.answer(msgspec.json.encode(listed))

    async def ready(self) -> str:
        return "ready"


@implementer(IWorker)
class BackendWorker:
    """Turns a request into a call of the backend, and its answer into the client's.

    `max_response` and `max_event` are in bytes, `keepalive` in seconds. The header fields named in
    `forward` go on to the backend, those in `give_back` back to the client.
    """

    def __init__(
        self,
        backend: Backend,
        health: Health,
        deadlines: Deadlines,
        *,
        max_response: int,
        max_event: int,
        keepalive: float,
        forward: tuple[bytes, ...] = (),
        give_back: tuple[bytes, ...] = (),
    ) -> None:
        self._backend = backend
        self._deadlines = deadlines
        self._max_response = max_response
        self._max_event = max_event
        self._keepalive = keepalive
        self._health = health
        self._forward = forward
        self._give_back = give_back

    async def chat(self, chat: ChatRequest, request: Request) -> None:
        call = self._backend.call(request.record)
        model, stream, wants_usage = chat.model, chat.stream, chat.wants_usage
        headers = self._headers(request, b"text/event-stream" if stream else JSON, JSON)
        body = chat.backend_body()
        prompt_estimate = estimate_prompt(body) if stream else 0
        sending = self._backend.send(
            call, "POST", CHAT.path, headers | (ONCE if stream else {}), body
        )
        del body
        del chat  # the answer may take long, and the prompt may be large
        pulse = Pulse(request, self._deadlines, self._keepalive if stream else 0)
        try:
            response = await sending
            self._pass_back(response, request)
            await accepted(call, response)
            request.record.model_accepted = True
            if stream and (content_type := _declared(response, b"text/event-stream")):
                await Relay(
                    request,
                    call,
                    Scanner(self._max_event, ChunkReader(strip_usage=not wants_usage)),
                    pulse,
                    self._deadlines,
                    content_type,
                    prompt_estimate=prompt_estimate,
                ).run()
                return
            reply, request.record.usage = shape_reply(
                await call.read_all(self._max_response),
                request_id=request.record.request_id,
                model=model,
                created=int(time.time()),
            )
            if stream:
                await send_as_stream(reply, wants_usage, request)
            else:
                await request.answer(reply, content_type=_declared(response, JSON) or JSON)
        finally:
            pulse.stop()

    async def models(self, request: Request) -> None:
        call = self._backend.call(request.record)
        try:
            response = await self._backend.send(
                call, "GET", MODELS_PATH, self._headers(request, JSON), None
            )
            self._pass_back(response, request)
            await accepted(call, response)
            body = await call.read_all(self._max_response)
            if not _is_object(body):
                raise BackendError("The backend's list of models is not a JSON object.")
        except (BackendError, BackendUnavailable) as error:
            error.invite_retry()
            raise
        await request.answer(body, content_type=_declared(response, JSON) or JSON)

    async def ready(self) -> str:
        return (await self._health.ask()).word

    def _headers(
        self, request: Request, accept: bytes, content: bytes | None = None
    ) -> dict[bytes, list[bytes]]:
        """What of the request's head the backend sees, and nothing else."""
        assert request.head is not None
        fields = request.head.fields
        headers = forwarded(fields, (b"traceparent", b"tracestate", *self._forward))
        headers[b"Accept"] = [accept]
        headers[b"X-Request-Id"] = [request.record.request_id.encode("ascii")]
        if content is not None:
            headers[b"Content-Type"] = [content]
        return headers

    def _pass_back(self, response: Response, request: Request) -> None:
        """Let the client have what `give_back` names, whatever becomes of the response."""
        said = [name for name, _ in request.standing]
        request.standing += returned(response.fields, self._give_back, said)


async def accepted(call: Call, response: Response) -> None:
    """Return where the backend answers with a success. `BackendRejected` where it refuses the
    request, else `BackendError`."""
    status = response.code
    if 200 <= status < 300:
        return
    headers = [
        (name.title(), response.fields[name][0])
        for name in (b"retry-after", b"retry-after-ms")
        if name in response.fields
    ]
    if status in NOT_SHOWN:
        call.discard()
        raise refusal(status, b"", headers)
    try:
        body = await call.read_all(REJECTION_BYTES)
    except BackendFailure:
        body = b""  # the reason is broken, or late, or a whole book; the refusal stands
    raise refusal(status, body, headers)


async def send_as_stream(reply: bytes, include_usage: bool, request: Request) -> None:
    """A whole reply as a stream: one chunk, then ``data: [DONE]``."""
    request.record.first_token = request.site.deadlines.now()
    if not request.startedWriting:
        request.begin(200, EVENT_STREAM, STREAM_HEADERS)
    request.write(as_chunks(reply, include_usage))
    await request.drained()


def _is_object(body: bytes) -> bool:
    try:
        return read_object(body) is not None
    except NotJSON:
        return False


def _declared(response: Response, media_type: bytes) -> bytes | None:
    """The response's ``Content-Type``, where it is of this media type."""
    (value, *_) = response.headers.getRawHeaders(b"Content-Type", [b""])
    return value if value.partition(b";")[0].strip().lower() == media_type else None
