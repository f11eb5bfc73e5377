"""The backend over treq: four deadlines, and a name for each failure."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from http.cookiejar import Cookie
from typing import Any, cast

import attrs
from hyperlink import EncodedURL
from treq.client import HTTPClient
from treq.content import collect
from treq.cookies import IndexableCookieJar
from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import (
    ConnectError,
    DNSLookupError,
    TCPTimedOutError,
    TimeoutError,  # noqa: A004  # Twisted's: the connect deadline
)
from twisted.internet.interfaces import (
    IConsumer,
    IPushProducer,
    IStreamClientEndpoint,
)
from twisted.internet.protocol import Factory, Protocol
from twisted.python.failure import Failure
from twisted.web.client import (
    ResponseFailed,
    ResponseNeverReceived,
)
from twisted.web.http_headers import Headers
from twisted.web.iweb import UNKNOWN_LENGTH, IAgent, IBodyProducer, IResponse
from zope.interface import implementer

from infergate import __version__
from infergate.deadlines import NEVER, Deadlines
from infergate.errors import BackendError, BackendUnavailable, GatewayTimeout
from infergate.origin import Close, discard
from infergate.record import Record

USER_AGENT = b"infergate/" + __version__.encode("ascii")

CHAT = "/v1/chat/completions"
MODELS = "/v1/models"

TWISTED_INTERNALS = {Headers: ("_rawHeaders",)}
"""Private names that are used here; a test checks each."""

END_OF_BODY = 1.0
"""Seconds the backend gets, after the last event, to end its body as it should. The client does not
wait for it."""

_NOT_SENT = (ConnectError, DNSLookupError, TimeoutError)
"""What fails before one byte of the request is out."""


@attrs.frozen
class Timeouts:
    """Seconds: to connect, until the response's head, between two pieces of its body, for all."""

    connect: float = 5
    response: float = 60
    idle: float = 60
    total: float = 600


@implementer(IAgent)
@attrs.frozen
class Plain:
    """Asks for no content coding, which treq does on its own, and refuses one: a small
    compressed reply can become a huge one in memory."""

    agent: IAgent

    def request(
        self,
        method: bytes,
        uri: bytes,
        headers: Headers | None = None,
        bodyProducer: IBodyProducer | None = None,
    ) -> Deferred[IResponse]:
        if headers is not None:
            headers.removeHeader(b"Accept-Encoding")
        return self.agent.request(method, uri, headers, bodyProducer).addCallback(self._refuse)

    @staticmethod
    def _refuse(response: IResponse) -> IResponse:
        codings = response.headers.getRawHeaders(b"Content-Encoding")
        if codings and any(coding.strip().lower() not in (b"", b"identity") for coding in codings):
            discard(response)
            raise BackendError("The backend sent a compressed answer, which was not asked for.")
        return response


class NoCookies(IndexableCookieJar):
    """One client is one cookie jar for all callers, so it takes none, and gives none."""

    def __iter__(self) -> Iterator[Cookie]:
        return iter(())

    def add_cookie_header(self, request: object) -> None:
        """Nothing to add."""

    def extract_cookies(self, response: object, request: object) -> None:
        """What the backend sets for one caller would go out with the next one's request."""


class FixedURL(EncodedURL):
    """An ASCII URL whose text is taken as it is, where treq would make it anew for each request."""

    def __init__(self, url: str) -> None:
        parsed = EncodedURL.from_text(url)
        super().__init__(parsed.scheme, parsed.host, parsed.path, parsed.query, port=parsed.port)
        self._text = url

    def to_uri(self) -> FixedURL:
        return self

    def to_text(self, with_password: bool = False) -> str:
        return self._text


class Fields(Headers):
    """Header fields that are known to be good, their names in capitals as Twisted has them: made,
    and copied, without a look at each."""

    __slots__ = ()

    def __init__(self, fields: dict[bytes, list[bytes]]) -> None:
        self._rawHeaders = fields

    def copy(self) -> Fields:
        return Fields(self._rawHeaders.copy())


@implementer(IBodyProducer)
class _Body:
    """A body that is whole: written at once, where treq's own would take a cooperative task."""

    def __init__(self, body: bytes) -> None:
        self.length = len(body)
        self._body = body

    def startProducing(self, consumer: IConsumer) -> Deferred[None]:
        consumer.write(self._body)
        self._body = b""  # the answer may take long, and the prompt may be large
        return succeed(None)

    def pauseProducing(self) -> None:
        """Nothing is left to hold back."""

    resumeProducing = stopProducing = pauseProducing


class Backend:
    """Where requests go. `url` has no trailing ``/`` or ``/v1``; `retries` counts further tries
    after a connection that failed before one byte of the request was out."""

    def __init__(
        self,
        agent: IAgent,
        endpoint: IStreamClientEndpoint,
        url: str,
        deadlines: Deadlines,
        *,
        timeouts: Timeouts,
        api_key: str | None = None,
        retries: int = 1,
    ) -> None:
        self._cookies = NoCookies()
        # A body is a producer already.
        self._client = HTTPClient(Plain(agent), self._cookies, lambda body: body)
        self._endpoint = endpoint
        self._urls = {path: FixedURL(url + path) for path in (CHAT, MODELS)}
        self._deadlines = deadlines
        self._timeouts = timeouts
        self._retries = retries
        self._fixed = {b"User-Agent": [USER_AGENT]}
        if api_key:
            self._fixed[b"Authorization"] = [b"Bearer " + api_key.encode("utf-8")]

    def call(self, record: Record) -> Call:
        """A new exchange on behalf of the request of `record`."""
        return Call(self._deadlines, self._timeouts, record)

    async def send(
        self,
        call: Call,
        method: str,
        path: str,
        headers: dict[bytes, list[bytes]],
        body: bytes | None,
    ) -> IResponse:
        """Send a request; the response, its body still to come.

        Errors: `BackendUnavailable`, `BackendError`, `GatewayTimeout`.
        """

        def attempt() -> Deferred[Any]:
            return self._client.request(
                method,
                self._urls[path],
                headers=Fields({**self._fixed, **headers}),
                data=None if body is None else _Body(body),
                cookies=self._cookies,
                allow_redirects=False,
                unbuffered=True,
            )

        for tries_left in range(self._retries, -1, -1):
            try:
                return await call.head(attempt)
            except BackendUnavailable as error:
                if error.prompt_sent or not tries_left:
                    raise
        raise AssertionError("the last try returns or raises")

    async def connectable(self) -> bool:
        """Whether a connection can be made; it is closed at once."""
        probe = Factory.forProtocol(Close)
        probe.noisy = False
        try:
            await self._endpoint.connect(probe)
        except Exception:
            return False
        return True


@implementer(IPushProducer)
class Call:
    """One exchange with the backend under its deadlines.

    The push producer of the client's connection: while the client holds the stream up, the
    backend is paused and its idle deadline stands still. To `collect` it is the response.
    """

    def __init__(self, deadlines: Deadlines, timeouts: Timeouts, record: Record) -> None:
        self._deadlines = deadlines
        self._now = deadlines.now
        self._timeouts = timeouts
        self._record = record
        self._ends = record.opened + timeouts.total
        self.deadline = NEVER
        self._pending: Deferred[IResponse] | None = None
        self._response: IResponse | None = None
        self._body: Protocol | None = None
        self._done: Deferred[None] | None = None
        self._heard = float("-inf")
        self._paused = False
        self._timed_out = False

    @property
    def framed(self) -> bool:
        """Whether the body says where it ends. One that does not ends where the connection does,
        be it whole or not, and `collect` takes that for the right end."""
        response = self._response
        assert response is not None
        return response.length is not UNKNOWN_LENGTH or response.headers.hasHeader(
            b"Transfer-Encoding"
        )

    async def head(self, attempt: Callable[[], Deferred[IResponse]]) -> IResponse:
        """The response to one attempt, once its head is here."""
        if self._record.backend_began is None:
            self._record.backend_began = self._now()
            self._expect(self._timeouts.response)
        self._deadlines.watch(self)
        try:
            self._pending = attempt()
            self._response = await self._pending
        except Exception as error:
            self.close()
            if self._timed_out:
                raise GatewayTimeout from error
            if _named(error) is error:
                raise  # one that is its own cause would keep the prompt until it is collected
            raise _named(error) from error
        finally:
            self._pending = None
        return self._response

    async def read(self, collector: Callable[[bytes], None]) -> None:
        """Hand each piece of the body to `collector` as it comes; an exception of its own ends
        the exchange and is raised here."""
        self._expect(self._timeouts.idle)
        self._done = Deferred(lambda _: self._abort())
        collect(cast(IResponse, self), collector).addBoth(self._ended)
        try:
            await self._done
        finally:
            if self._record.backend_ended is None:
                self._record.backend_ended = self._now()

    async def read_all(self, limit: int) -> bytes:
        """The whole body, `limit` bytes at the most; `BackendError` above."""
        assert self._response is not None
        body = bytearray()

        def keep(piece: bytes) -> None:
            body.extend(piece)
            if len(body) > limit:
                raise BackendError("The backend's answer is too large.")
            self.touch()

        # An unknown length is not an int.
        if isinstance(self._response.length, int) and self._response.length > limit:
            self.discard()
            raise BackendError("The backend's answer is too large.")
        await self.read(keep)
        return bytes(body)

    def touch(self) -> None:
        """A piece has come: the idle deadline starts anew. It learns of that when it passes, so
        that a piece costs no more than this."""
        self._heard = self._now()

    def finish(self) -> None:
        """All that matters has come: `read` ends now, the body in its own time."""
        if self._done is not None and not self._done.called:
            if self._paused:
                self.resumeProducing()
            self._ends = self._now() + END_OF_BODY
            self.deadline = self._ends
            self._done.callback(None)

    def discard(self) -> None:
        """Close an answer whose body is not wanted."""
        self.close()
        if self._response is not None:
            discard(self._response)

    def close(self) -> None:
        self._deadlines.forget(self)

    # To `collect`: the response.

    @property
    def length(self) -> object:
        assert self._response is not None
        return self._response.length

    def deliverBody(self, protocol: Protocol) -> None:
        assert self._response is not None
        self._body = protocol
        self._response.deliverBody(protocol)
        if self._paused:
            self.pauseProducing()

    # To the client's connection: the producer.

    def pauseProducing(self) -> None:
        self._paused = True
        self.deadline = self._ends
        if self._body is not None and self._body.transport is not None:
            cast(IPushProducer, self._body.transport).pauseProducing()

    def resumeProducing(self) -> None:
        self._paused = False
        self._expect(self._timeouts.idle)
        if self._body is not None and self._body.transport is not None:
            cast(IPushProducer, self._body.transport).resumeProducing()

    def stopProducing(self) -> None:
        self._abort()

    # Inside.

    def _expect(self, seconds: float) -> None:
        self.deadline = min(self._now() + seconds, self._ends)

    def expired(self) -> None:
        due = min(self._heard + self._timeouts.idle, self._ends)
        if due > self._now() and not self._paused:
            self.deadline = due
            return
        self._timed_out = True
        if self._pending is not None:
            self._pending.cancel()
            return
        self._abort()
        if self._done is not None and not self._done.called:
            self._done.errback(GatewayTimeout("The backend stopped sending, or took too long."))

    def _abort(self) -> None:
        self.close()
        if self._body is not None and self._body.transport is not None:
            self._body.transport.loseConnection()

    def _ended(self, result: object) -> None:
        self.close()
        self._body = None
        assert self._done is not None
        if self._done.called:
            return
        if isinstance(result, Failure):
            self._done.errback(_named(result.value))
        else:
            self._done.callback(None)


def _named(error: BaseException | None) -> BaseException:
    """What a failure of Twisted's client is to the gateway's clients.

    Before its head every failure is that there was no answer, unless part of one had come.
    """
    if isinstance(error, (TCPTimedOutError, TimeoutError)):
        return GatewayTimeout("The backend took too long to connect to.")
    if isinstance(error, _NOT_SENT):
        return BackendUnavailable(prompt_sent=False)
    if isinstance(error, ResponseNeverReceived):
        return BackendUnavailable("The backend closed the connection without an answer.")
    if isinstance(error, ResponseFailed):
        return BackendError("The backend's answer is broken or was cut short.")
    assert error is not None
    return error
