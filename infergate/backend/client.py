"""The backend over treq: what every request to it carries, and how often it is sent."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from http.cookiejar import Cookie
from typing import Any

from hyperlink import EncodedURL
from treq.client import HTTPClient
from treq.cookies import IndexableCookieJar
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IConsumer
from twisted.web.iweb import IBodyProducer
from zope.interface import implementer

from infergate import __version__
from infergate.backend.agent import OriginAgent
from infergate.backend.call import Call, Timeouts
from infergate.backend.connection import Response
from infergate.errors import BackendUnavailable
from infergate.reactor.deadlines import Deadlines
from infergate.reactor.headers import Fields
from infergate.telemetry.record import Record

USER_AGENT = b"infergate/" + __version__.encode("ascii")


class Backend:
    """Sends requests to the API whose base is `url`, which has no ``/`` at its end, through the
    agent of its origin. `retries` counts further tries after a connection that failed before one
    byte of the request was out; `api_key` goes along as a bearer token; `well` asks whether the
    backend is well, for calls with no limit to how long the answer may take to begin.

    A path under ``/v1/`` is below the base, any other below the base without its own ``/v1``: of
    ``http://host/v1`` and of ``http://host/api/v4`` ``/v1/models`` is ``/v1/models`` and
    ``/api/v4/models``, ``/health`` is ``/health`` and ``/api/v4/health``.

    A worker calls `call` once for each request of a client, then `send` with it.
    """

    def __init__(
        self,
        agent: OriginAgent,
        url: str,
        deadlines: Deadlines,
        *,
        timeouts: Timeouts,
        api_key: str | None = None,
        retries: int = 1,
        well: Callable[[], Deferred[bool]] | None = None,
    ) -> None:
        self._cookies = NoCookies()
        # treq would make a body producer out of the request's data, which is one already.
        self._client = HTTPClient(agent, self._cookies, lambda body: body)
        self._base = url
        self._root = url.removesuffix("/v1")
        self._deadlines = deadlines
        self._timeouts = timeouts
        self._retries = retries
        self._well = well
        self._fixed = {b"User-Agent": [USER_AGENT]}
        if api_key:
            self._fixed[b"Authorization"] = [b"Bearer " + api_key.encode("utf-8")]

    def call(self, record: Record) -> Call:
        """A new exchange on behalf of the request of `record`."""
        return Call(self._deadlines, self._timeouts, record, self._well)

    async def send(
        self,
        call: Call,
        method: str,
        path: str,
        headers: dict[bytes, list[bytes]],
        body: bytes | None,
    ) -> Response:
        """Send a request for `path`; the response, its body still to come.

        The names of `headers` are capitalized (`X-Request-Id`), and no value holds a line feed.
        Errors: those of `Call.head`.
        """
        below_base = path.startswith("/v1/")
        url = FixedURL(self._base + path[3:] if below_base else self._root + path)
        fields = {**self._fixed, **headers}
        producer = None if body is None else Body(body)
        # The answer may take long, and the prompt may be large.
        del body

        def attempt() -> Deferred[Any]:
            """One try: treq's Deferred, which fires with its own wrapping of a `Response`."""
            return self._client.request(
                method,
                url,
                headers=Fields(fields),
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


class NoCookies(IndexableCookieJar):
    """One client is one cookie jar for all callers, so it takes none, and gives none."""

    def __iter__(self) -> Iterator[Cookie]:
        """No cookie goes out with any request."""
        return iter(())

    def add_cookie_header(self, request: object) -> None:
        """Nothing to add."""

    def extract_cookies(self, response: object, request: object) -> None:
        """What the backend sets for one caller would go out with the next one's request."""


class FixedURL(EncodedURL):
    """An ASCII URL whose text is taken as it is. treq takes a URL apart and makes it anew for each
    request, and asks this one for nothing but its text; what else a URL has is therefore not
    made."""

    def __init__(self, text: str) -> None:
        self._text = text

    def to_uri(self) -> FixedURL:
        """What treq asks for; a URL in ASCII is a URI already."""
        return self

    def to_text(self, with_password: bool = False) -> str:
        """The text as it was given."""
        return self._text


@implementer(IBodyProducer)
class Body:
    """A request's body that is whole: written at once, and then let go. treq's own producer would
    take a cooperative task for it."""

    def __init__(self, body: bytes) -> None:
        self.length = len(body)
        self._body = body

    def startProducing(self, consumer: IConsumer) -> Deferred[None]:
        """Write the body, all of it at once, and let it go."""
        consumer.write(self._body)
        self._body = b""
        return succeed(None)

    def pauseProducing(self) -> None:
        """Nothing is left to hold back."""

    resumeProducing = stopProducing = pauseProducing
