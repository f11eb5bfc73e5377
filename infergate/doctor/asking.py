"""One question to a server, and its answer, within the time that there is."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable

import attrs

from infergate.acceptance import REJECTION_BYTES
from infergate.api.refusals import read_refusal
from infergate.backend.call import Call, Timeouts
from infergate.backend.client import Backend
from infergate.backend.connection import Response
from infergate.errors import BackendFailure, GatewayError, GatewayTimeout
from infergate.reactor.deadlines import Deadlines
from infergate.telemetry.record import Record

EACH = 10.0
"""Seconds that anything is waited for, at the most."""

LAST = 32.0
"""Seconds after which no question is begun: with `EACH` all of it stays below 45."""

QUOTED = 240
"""Characters of a backend's words in one line."""

_TITLE = re.compile(r"<title>([^<]{1,200})</title>", re.IGNORECASE)


class NoTimeLeft(Exception):
    """The time for all questions is used up."""


class Patience:
    """How long anything is waited for: `each` seconds, if it is begun in time."""

    def __init__(self, now: Callable[[], float], each: float) -> None:
        self._now = now
        self._last = now() + LAST
        self.each = each

    def seconds(self) -> float:
        """Seconds for the next question; raises `NoTimeLeft`."""
        if self._now() >= self._last:
            raise NoTimeLeft
        return self.each


@attrs.frozen
class Answer:
    """A whole answer of a server; `seconds` is how long it took."""

    status: int
    reason: str
    fields: dict[bytes, list[bytes]]
    body: bytes = attrs.field(repr=False)
    seconds: float

    @property
    def good(self) -> bool:
        return 200 <= self.status < 300

    def field(self, name: bytes) -> str:
        """The first value of a header field, "" where there is none."""
        return self.fields.get(name, [b""])[0].decode("latin-1")


class Asker:
    """Asks the API of `backend`. Where a server repeats the `secret`, it is not quoted.

    `get` gives a whole answer. `post` sends an operation's request and gives the head of the
    response, whose body the caller reads by the `Call`, or has `whole` read.
    """

    def __init__(
        self, backend: Backend, deadlines: Deadlines, patience: Patience, secret: str | None = None
    ) -> None:
        self._backend = backend
        self._deadlines = deadlines
        self._patience = patience
        self._secret = secret
        self.now = deadlines.now

    async def get(self, path: str, limit: int = REJECTION_BYTES) -> Answer:
        """The answer to a GET; raises what `Backend.send` and `Call.read_all` do."""
        began = self.now()
        call, response = await self._send("GET", path, {b"Accept": [b"application/json"]}, None)
        return await self.whole(call, response, began, limit)

    async def post(self, path: str, body: bytes, accept: bytes) -> tuple[Call, Response]:
        """The head of the response to an operation's request."""
        headers = {b"Accept": [accept], b"Content-Type": [b"application/json"]}
        return await self._send("POST", path, headers, body)

    async def whole(self, call: Call, response: Response, began: float, limit: int) -> Answer:
        """The whole answer. Of a refusal the status counts, also where its body is broken."""
        body = b""
        try:
            body = await call.read_all(limit)
        except BackendFailure:
            if 200 <= response.code < 300:
                raise
        reason = response.phrase.decode("latin-1")
        return Answer(response.code, reason, response.fields, body, self.now() - began)

    async def _send(
        self, method: str, path: str, headers: dict[bytes, list[bytes]], body: bytes | None
    ) -> tuple[Call, Response]:
        seconds = self._patience.seconds()
        call = Call(
            self._deadlines,
            Timeouts(seconds, seconds, seconds),
            Record(self.now(), client="", request_id=""),
        )
        headers[b"X-Request-Id"] = [f"check-{uuid.uuid4()}".encode()]
        return call, await self._backend.send(call, method, path, headers, body)

    # What was said, in one line.

    def quote(self, answer: Answer) -> str:
        """The status of an answer, and its message."""
        status = f"{answer.status} {answer.reason}".strip()
        words = read_refusal(answer.body).message or _title(answer.body)
        return f"{status}: {self.shown(words)}" if words and words != status else status

    def shown(self, words: str | bytes) -> str:
        """The beginning of what a server said, without a secret of ours that it repeats."""
        text = words if isinstance(words, str) else words[: 4 * QUOTED].decode("utf-8", "replace")
        if self._secret:
            text = text.replace(self._secret, "***")
        text = "".join(c if c.isprintable() else " " for c in " ".join(text.split()))
        return f"{text[:QUOTED]}..." if len(text) > QUOTED else text

    def fault(self, error: Exception) -> str:
        """Why there was no whole answer; `error` is what `get`, `post` or `Call` has raised."""
        if isinstance(error, NoTimeLeft):
            return "not tried: the time for everything has passed"
        if isinstance(error, GatewayTimeout):
            if error.cause == "BACKEND_CONNECT_TIMEOUT":
                return "no connection within the time for it"
            return f"no whole answer within {self._patience.each:g} s"
        if isinstance(error, BackendFailure) and error.cause:
            return error.cause
        return error.message if isinstance(error, GatewayError) else repr(error)


def _title(body: bytes) -> str | None:
    """What a page of HTML is called."""
    match = _TITLE.search(body[:4096].decode("utf-8", "replace"))
    return match[1].strip() if match else None


def advice(error: Exception) -> str:
    """What to do where there was no whole answer."""
    if isinstance(error, NoTimeLeft | GatewayTimeout):
        return "the backend's own log says what it does; it may be slow, or still load a model"
    if "compressed" in str(error):
        return "turn compression off, in the backend or in the proxy in front of it"
    return "the backend's own log may say why, or that of a proxy in front of it"


FAULTS = (BackendFailure, NoTimeLeft)
"""What asking may raise."""
