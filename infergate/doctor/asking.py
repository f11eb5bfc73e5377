"""One question to a server, and its answer, within the time that there is.

An `Asker` sends through the gateway's own client, so that a question fails where a request of the
gateway's would. Of that client `Backend.send` returns when the head of a response is here, and the
body is then read through the `Call`, the one exchange that it belongs to. `FAULTS` is what asking
raises; `Asker.fault` and `advice` put it into words.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable

import attrs

from infergate.acceptance import REJECTION_BYTES, SUCCESS
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
    """The time for all questions is used up. `Patience.seconds` raises it before anything is
    sent."""


class Patience:
    """How long anything is waited for: `each` seconds, if it is begun in time.

    A `Subject` makes one, and the time for all begins then. `now` gives the seconds of the
    reactor's clock. The askers of all servers share it.
    """

    def __init__(self, now: Callable[[], float], each: float) -> None:
        self._now = now
        self._last = now() + LAST
        self.each = each

    def seconds(self) -> float:
        """Return the seconds that the next question may take, `each`. Raises `NoTimeLeft` once
        `LAST` seconds have passed since this was made."""
        if self._now() >= self._last:
            raise NoTimeLeft
        return self.each


@attrs.frozen
class Answer:
    """A whole answer of a server; `seconds` is how long it took, from before the request was sent.

    `Asker.whole` makes it. `fields` are the header fields by their names in small letters, `reason`
    the phrase of the status line, which may be empty.
    """

    status: int
    reason: str
    fields: dict[bytes, list[bytes]]
    body: bytes = attrs.field(repr=False)
    seconds: float

    @property
    def good(self) -> bool:
        """Return whether the status is one of `SUCCESS`."""
        return self.status in SUCCESS

    def field(self, name: bytes) -> str:
        """Return the first value of the header field `name`, given in small letters; "" where there
        is none."""
        return self.fields.get(name, [b""])[0].decode("latin-1")


class Asker:
    """Asks the API of `backend`. Where a server repeats the `secret`, it is not quoted.

    `get` gives a whole answer. `post` sends an operation's request and gives the head of the
    response, whose body the caller reads by the `Call`, or has `whole` read. Each question gets the
    seconds of `patience`, from its connection to the last byte. `Subject.asker` makes an asker for
    each server; `quote`, `shown` and `fault` then say in one line what came of a question.
    """

    def __init__(
        self, backend: Backend, deadlines: Deadlines, patience: Patience, secret: str | None = None
    ) -> None:
        """Ask nothing yet. `deadlines` are those of the gateway's client, on whose clock `now`
        tells the time in seconds; `secret` is the key that `backend` sends, None where it sends
        none."""
        self._backend = backend
        self._deadlines = deadlines
        self._patience = patience
        self._secret = secret
        self.now = deadlines.now

    async def get(self, path: str, limit: int = REJECTION_BYTES) -> Answer:
        """Send a GET for `path` and return the whole answer, whatever its status.

        `limit` is the size in bytes of the largest body that is read. Raises `NoTimeLeft` where it
        is too late to ask, and `BackendFailure`: `BackendUnavailable` for no connection or one that
        is closed without an answer, `GatewayTimeout` for no answer in time, `BackendError` for a
        broken, compressed or too large one. All are in `FAULTS`.
        """
        began = self.now()
        call, response = await self._send("GET", path, b"Accept: application/json\r\n", None)
        return await self.whole(call, response, began, limit)

    async def post(self, path: str, body: bytes, accept: bytes) -> tuple[Call, Response]:
        """Send an operation's request and return the head of the response, with the call to read
        its body by.

        `body` is JSON; `accept` is the media type that is asked for. Called by a `Trial`. Raises
        what `get` does.
        """
        fields = b"Accept: %b\r\nContent-Type: application/json\r\n" % accept
        return await self._send("POST", path, fields, body)

    async def whole(self, call: Call, response: Response, began: float, limit: int) -> Answer:
        """Read the body of a response and return the whole answer. `began` is when the request was
        sent, by `now`; `limit` is in bytes.

        Of a refusal the status counts, also where its body is broken or too large: then it is taken
        to be empty. Raises `BackendFailure` where the body of a success is broken, late or too
        large.
        """
        body = b""
        try:
            body = await call.read_all(limit)
        except BackendFailure:
            if response.code in SUCCESS:
                raise
        reason = response.phrase.decode("latin-1")
        return Answer(response.code, reason, response.head.fields, body, self.now() - began)

    async def _send(
        self, method: str, path: str, fields: bytes, body: bytes | None
    ) -> tuple[Call, Response]:
        """Send a request and return its call and the head of the response. Raises what `get` does.

        The time for the answer to begin, for a pause in it and for all of it is the same. The
        request id begins with ``check-``, by which the backend's log tells these requests from a
        client's.
        """
        seconds = self._patience.seconds()
        call = Call(
            self._deadlines,
            Timeouts(seconds, seconds, seconds),
            Record(self.now(), client="", request_id=""),
        )
        fields += f"X-Request-Id: check-{uuid.uuid4()}\r\n".encode()
        return call, await self._backend.send(call, method, path, fields, body)

    # What was said, in one line.

    def quote(self, answer: Answer) -> str:
        """Return the status of an answer and its message in one line, as in ``404 Not Found: model
        not found``. The message is that of a JSON error in any of the forms that `read_refusal`
        knows, or the title of a page of HTML; the status stands alone where there is none."""
        status = f"{answer.status} {answer.reason}".strip()
        words = read_refusal(answer.body).message or _title(answer.body)
        return f"{status}: {self.shown(words)}" if words and words != status else status

    def shown(self, words: str | bytes) -> str:
        """Return the beginning of what a server said, as one printable line of at most `QUOTED`
        characters and ``...``, without a secret of ours that it repeats. Bytes that are no UTF-8
        are replaced."""
        text = words if isinstance(words, str) else words[: 4 * QUOTED].decode("utf-8", "replace")
        if self._secret:
            text = text.replace(self._secret, "***")
        text = "".join(c if c.isprintable() else " " for c in " ".join(text.split()))
        return f"{text[:QUOTED]}..." if len(text) > QUOTED else text

    def fault(self, error: Exception) -> str:
        """Return why there was no whole answer, in one line; `error` is what `get`, `post` or
        `Call` has raised. Raises nothing."""
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
    """Return what a page of HTML is called, out of its first 4096 bytes; None for anything else.
    For `Asker.quote`: proxies answer with such pages."""
    match = _TITLE.search(body[:4096].decode("utf-8", "replace"))
    return match[1].strip() if match else None


def advice(error: Exception) -> str:
    """Return what to do where there was no whole answer, as the hint of a check whose message is
    that of `Asker.fault`. `error` is one of `FAULTS`."""
    if isinstance(error, NoTimeLeft | GatewayTimeout):
        return "the backend's own log says what it does; it may be slow, or still load a model"
    if "compressed" in str(error):
        return "turn compression off, in the backend or in the proxy in front of it"
    return "the backend's own log may say why, or that of a proxy in front of it"


FAULTS = (BackendFailure, NoTimeLeft)
"""What asking may raise, for an ``except``: the backend is at fault, or the time is used up."""
