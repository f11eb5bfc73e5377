"""The backend over treq: four deadlines, and a name for each failure."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from http.cookiejar import Cookie
from typing import Any

import attrs
from hyperlink import EncodedURL
from treq.client import HTTPClient
from treq.cookies import IndexableCookieJar
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IConsumer
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgent, IBodyProducer
from zope.interface import implementer

from infergate import __version__
from infergate.backend.agent import OriginAgent
from infergate.backend.call import Call, Timeouts
from infergate.backend.connection import Response
from infergate.errors import BackendError, BackendUnavailable
from infergate.reactor.deadlines import Deadlines
from infergate.reactor.headers import Fields
from infergate.telemetry.record import Record

USER_AGENT = b"infergate/" + __version__.encode("ascii")


@implementer(IAgent)
@attrs.frozen
class Plain:
    """Asks for no content coding, which treq does on its own, and refuses one: a small
    compressed reply can become a huge one in memory."""

    agent: OriginAgent

    def request(
        self,
        method: bytes,
        uri: bytes,
        headers: Headers | None = None,
        bodyProducer: IBodyProducer | None = None,
    ) -> Deferred[Any]:
        if headers is not None:
            headers.removeHeader(b"Accept-Encoding")
        return self.agent.request(method, uri, headers, bodyProducer).addCallback(self._refuse)

    @staticmethod
    def _refuse(response: Response) -> Response:
        codings = response.headers.getRawHeaders(b"Content-Encoding")
        if codings and any(coding.strip().lower() not in (b"", b"identity") for coding in codings):
            response.loseConnection()
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
        agent: OriginAgent,
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
        # Parsed once each: the paths come out of a short table, never from a client.
        self._url = cache(lambda path: FixedURL(url + path))
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
    ) -> Response:
        """Send a request; the response, its body still to come.

        Errors: `BackendUnavailable`, `BackendError`, `GatewayTimeout`.
        """
        producer = None if body is None else _Body(body)
        del body  # written once, when the connection is there; the answer may take long

        def attempt() -> Deferred[Any]:
            return self._client.request(
                method,
                self._url(path),
                headers=Fields({**self._fixed, **headers}),
                data=producer,
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
