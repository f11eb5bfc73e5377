"""Every way a request can fail, and how each failure reads.

    GatewayError
    ├── ClientError                 the request is at fault
    │   ├── BadRequest              400  broken HTTP framing
    │   ├── InvalidJSON             400  the body is not JSON
    │   ├── InvalidRequest          400  the body breaks the schema
    │   ├── NotFound                404
    │   ├── MethodNotAllowed        405
    │   ├── RequestTimeout          408
    │   ├── UpgradeNotSupported     426
    │   ├── BodyTooLarge            413
    │   ├── URITooLong              414
    │   ├── UnsupportedMediaType    415
    │   ├── ExpectationFailed       417
    │   ├── HeadersTooLarge         431
    │   ├── NotImplementedMethod    501
    │   ├── NoBackend               501  an operation that the echo cannot do
    │   └── VersionNotSupported     505
    ├── Unauthorized                401
    │   └── KeyExpired              401  right until its last day
    ├── RateLimited                 429
    │   ├── TokenLimited            429  a budget of tokens is used up
    │   └── ConcurrencyLimited      429  too many at once
    ├── Forbidden                   403  not for this caller
    │   ├── ModelNotAllowed
    │   ├── RouteNotAllowed
    │   └── AddressNotAllowed
    ├── BackendRejected             the backend's own 4xx, passed on
    ├── BackendFailure              the backend is at fault
    │   ├── BackendError            502  an answer that is no answer
    │   │   └── BrokenReply         502  what came in a success is no reply
    │   ├── BackendUnavailable      502  no answer at all
    │   ├── GatewayTimeout          504
    │   └── CutByShutdown           502  begun there, and not waited for
    ├── ShuttingDown                503
    ├── Overloaded                  503
    │   └── TooManyUnderWay         503
    ├── LimitsUnavailable           503  the limits cannot be asked
    ├── ClientGone                  499  there is nobody left to tell
    └── InternalError               500  a fault of the gateway's own

A class knows its status, its code and its outcome in the log; an instance knows its message and
its headers. Nothing else in the program formats an error: whoever finds a fault raises one of
these, the gateway catches it, and `Request.refuse` makes the answer of it and tells the record.

`code` is for programs, it stands in the answer and in the log line (`model_not_allowed`); `outcome`
is the coarser word that the log and the metrics count by (`forbidden`); `limit` names the kind of
limit that refused a request (`tokens`), and is None where none did.
"""

from __future__ import annotations

import re
import traceback
from collections.abc import Mapping, Sequence
from typing import ClassVar

import msgspec

HeaderList = Sequence[tuple[bytes, bytes]]

_OPENAI_TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}
_ANTHROPIC_TYPES = {
    **_OPENAI_TYPES,
    404: "not_found_error",
    413: "request_too_large",
    503: "overloaded_error",
    504: "timeout_error",
}

_MESSAGES = re.compile(r"/v1/messages(?:/|\Z)")
_RESPONSES = re.compile(r"/v1/responses(?:/|\Z)")


def error_format(setting: str, path: str | None, fields: Mapping[bytes, Sequence[bytes]]) -> str:
    """Return the form of an error: ``code``, ``openai`` or ``anthropic``. `Request.refuse` asks for
    each answer that is an error.

    `setting` is ``ERROR_FORMAT``, `path` the request's, None where it has no good one, and `fields`
    its header fields, their names in small letters. What is at and below ``/v1/messages`` has
    Anthropic's form whatever the setting. In ``auto`` those that print or look into an error object
    get one: OpenAI's SDKs and those made by the same generator, which send ``x-stainless-lang``,
    Vercel's AI SDK, and whoever asks for ``/v1/responses``, since Codex says nothing of itself.
    """
    if path is not None and is_anthropic(path):
        return "anthropic"
    if setting != "auto":
        return setting
    looks_into_it = (
        (path is not None and _RESPONSES.match(path))
        or b"x-stainless-lang" in fields
        or any(b"ai-sdk/" in agent for agent in fields.get(b"user-agent", ()))
    )
    return "openai" if looks_into_it else "code"


def is_anthropic(path: str) -> bool:
    """Return whether a path is at or below ``/v1/messages``, where clients speak Anthropic's
    dialect. Called by `error_format`, and by `facts`, for the request, which then gives its id in
    Anthropic's header field too."""
    return _MESSAGES.match(path) is not None


LONG_WAIT = 60
"""Seconds of waiting above which a client is better told not to try again by itself."""


class GatewayError(Exception):
    """A request that ends without the answer it asked for.

    ``message`` is one sentence for the client and holds no secret; ``param`` names
    the member at fault, as in ``messages[1].role``; ``headers`` go with the answer.
    ``cause`` is what an operator needs and a client need not know, such as ``connection
    refused``: it is in the log line, and holds nothing that a client or a backend said.
    ``detail`` is the backend's own error object, None where it sent none that may be shown.
    """

    status: int
    code: str
    outcome: str
    limit: ClassVar[str | None] = None
    message: str = ""
    cause: str | None = None
    detail: object = None

    def __init__(
        self, message: str | None = None, *, param: str | None = None, headers: HeaderList = ()
    ) -> None:
        """Make an error with a message of its own, or with that of its class where `message` is
        None."""
        if message is not None:
            self.message = message
        super().__init__(self.message)
        self.param = param
        self.headers: list[tuple[bytes, bytes]] = list(headers)

    @property
    def kind(self) -> str:
        """The ``type`` that OpenAI gives an error of this status; it stands in the error objects of
        a stream and of ``ERROR_FORMAT=openai``."""
        if self.status >= 500:
            return "server_error"
        return _OPENAI_TYPES.get(self.status, "invalid_request_error")

    def body(self, request_id: str, error_format: str) -> bytes:
        """Return the JSON body of the answer; `error_format` is ``code``, ``openai`` or
        ``anthropic``.

        `Request.refuse` calls it, the one place that turns an error into an answer. In the three
        forms:

            {"error":"not_found","message":"There is nothing here.","request_id":"3f2a"}
            {"error":{"message":"...","type":"...","code":"not_found","param":null},"request_id":"3f2a"}
            {"type":"error","error":{"type":"...","message":"...","code":"not_found"},
             "request_id":"3f2a"}

        The first has ``param`` with a 400, and with a `detail` of the backend's ``backend_error``;
        the second has that in place of its own error object.
        """
        if error_format == "anthropic":
            document = {**self.anthropic(), "request_id": request_id}
        elif error_format == "openai":
            own = {**self._openai(), "param": self.param}
            shown = own if self.detail is None else self.detail
            document = {"error": shown, "request_id": request_id}
        else:
            document = {"error": self.code, "message": self.message, "request_id": request_id}
            if self.status == 400:
                document["param"] = self.param
            if self.detail is not None:
                document["backend_error"] = self.detail
        return msgspec.json.encode(document)

    def anthropic(self) -> dict[str, object]:
        """Return the object that Anthropic's clients read: the last event of a stream, and, with
        the request's id, the body of an answer."""
        default = "api_error" if self.status >= 500 else "invalid_request_error"
        kind = _ANTHROPIC_TYPES.get(self.status, default)
        error = {"type": kind, "message": self.message, "code": self.code}
        return {"type": "error", "error": error}

    def event(self) -> bytes:
        """Return the last server-sent event of a stream that fails, for the dialects that have none
        of their own; the object form is the only one that every client understands, so
        `ERROR_FORMAT` does not change it."""
        return b"data: %b\n\n" % msgspec.json.encode({"error": self._openai()})

    def _openai(self) -> dict[str, object]:
        """Return the error object in OpenAI's form, without ``param``. For `body` and `event`."""
        return {"message": self.message, "type": self.kind, "code": self.code}


class ClientError(GatewayError):
    """The request is at fault; the classes below say in which way."""

    outcome = "client_error"


class BadRequest(ClientError):
    """What came is no HTTP, or is malformed. Raised by the parser of the client's side; the message
    is the log's `cause` too."""

    status, code = 400, "bad_request"

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message)
        self.cause = message


class InvalidJSON(ClientError):
    """The body is not JSON, or breaks a limit to it. Raised where a request's body is read."""

    status, code = 400, "invalid_json"


class InvalidRequest(ClientError):
    """The schema is broken; `code` names the member, as in ``invalid_messages``. Raised by the
    check of an operation, for the first member at fault."""

    status, code = 400, "invalid_request"

    def __init__(self, message: str, *, code: str = "invalid_request", param: str | None = None):
        super().__init__(message, param=param)
        self.code = code


class NotFound(ClientError):
    """There is no such path, or none that is open, or no such entry in a list. Raised by the
    gateway."""

    status, code = 404, "not_found"
    message = "There is nothing at this path."


class MethodNotAllowed(ClientError):
    """The path has no such method. Made by the gateway, which names those that it has."""

    status, code = 405, "method_not_allowed"
    message = "This path does not take this method."


class UpgradeNotSupported(ClientError):
    """The client asks for a WebSocket where there is none. Raised by the gateway."""

    status, code = 426, "upgrade_not_supported"
    message = "There is no WebSocket here: send a POST."

    def __init__(self) -> None:
        super().__init__(headers=[(b"Upgrade", b"HTTP/1.1")])


class RequestTimeout(ClientError):
    """The client took too long to send its request. Made by the client's connection."""

    status, code = 408, "request_timeout"
    message = "The request took too long to arrive."

    def __init__(self, setting: str | None = None) -> None:
        """`setting` is the one whose time has passed."""
        message = f"The request took longer to arrive than {setting} allows."
        super().__init__(message if setting is not None else None)
        self.cause = setting


class BodyTooLarge(ClientError):
    """The body is longer than `MAX_BODY_BYTES`, by what its head declares or by what has come."""

    status, code = 413, "body_too_large"
    message = "The request body is larger than MAX_BODY_BYTES allows."


class URITooLong(ClientError):
    """The request target is longer than `MAX_URL_BYTES`. Raised by the parser of the client's
    side."""

    status, code = 414, "uri_too_long"
    message = "The request target is longer than MAX_URL_BYTES allows."


class UnsupportedMediaType(ClientError):
    """The body is declared to be something else than JSON, or to be compressed. Raised by
    `api.mediatype`."""

    status, code = 415, "unsupported_media_type"
    message = "The body must be application/json in UTF-8, without a content coding."


class NoBackend(ClientError):
    """Only a backend could do this, and there is none. Raised by the `EchoWorker`."""

    status, code = 501, "no_backend"
    message = "There is no backend, and the echo cannot do this: set BACKEND_URL."


class ExpectationFailed(ClientError):
    """The head has an ``Expect`` that is not understood (RFC 9110, 10.1.1). Raised by the
    parser."""

    status, code = 417, "expectation_failed"
    message = "The only expectation understood is 100-continue."


class HeadersTooLarge(ClientError):
    """The head has too many bytes or too many fields. Raised by the parser."""

    status, code = 431, "headers_too_large"
    message = "The request head is larger than MAX_HEADER_BYTES or MAX_HEADERS allows."


class NotImplementedMethod(ClientError):
    """No path here has this method, or no body this transfer coding (RFC 9112, 6.1). Raised by the
    parser."""

    status, code = 501, "not_implemented"
    message = "The method or the transfer coding is not implemented."


class VersionNotSupported(ClientError):
    """The request is of another version of HTTP. Raised by the parser."""

    status, code = 505, "http_version_not_supported"
    message = "Only HTTP/1.1 and HTTP/1.0 are spoken here."


class Unauthorized(GatewayError):
    """There are no credentials, or wrong ones. Raised by `access.auth` and `access.jwts`; it says
    nothing of what is wrong with a key."""

    status, code, outcome = 401, "unauthorized", "unauthorized"
    message = "A valid key or token is needed."

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message, headers=[(b"WWW-Authenticate", b"Bearer")])


class KeyExpired(Unauthorized):
    """A key that was right until its last day: no wrong one, and its `caller` is logged."""

    def __init__(self, caller: str) -> None:
        """Make the error for the key of `caller`, which admission writes into the record."""
        super().__init__("The key has expired.")
        self.caller = caller


class _RetryLater(GatewayError):
    """The client is to come back later. Answered with ``Retry-After``, in whole seconds from 1 (RFC
    9110, 10.2.3)."""

    def __init__(self, retry_after: int = 1, message: str | None = None) -> None:
        super().__init__(message, headers=[(b"Retry-After", b"%d" % max(1, retry_after))])


class RateLimited(_RetryLater):
    """Where it is long until the caller may come back, the SDKs are told not to wait for it."""

    status, code, outcome = 429, "rate_limit_exceeded", "rate_limited"
    limit = "rate"
    message = "More requests than RATE_LIMIT allows; the Retry-After header says when to come back."

    def __init__(self, retry_after: int = 1, message: str | None = None) -> None:
        """Make an error that says to come back in `retry_after` seconds; above `LONG_WAIT` with
        ``x-should-retry: false``."""
        super().__init__(retry_after, message)
        if retry_after > LONG_WAIT:
            self.headers.append((b"x-should-retry", b"false"))


class TokenLimited(RateLimited):
    """A budget of tokens is used up. Raised by admission."""

    code, limit = "token_limit_exceeded", "tokens"


class ConcurrencyLimited(RateLimited):
    """As many requests of the caller are under way as may be. Raised by admission."""

    code, limit = "concurrency_limit_exceeded", "concurrent"


class Forbidden(GatewayError):
    """The caller is known, and may not do this."""

    status, outcome = 403, "forbidden"


class ModelNotAllowed(Forbidden):
    """The option ``models=`` of the caller's key has no pattern for the model. Raised by
    admission."""

    code = "model_not_allowed"


class RouteNotAllowed(Forbidden):
    """The option ``routes=`` of the caller's key leaves the operation out. Raised by admission."""

    code = "route_not_allowed"


class AddressNotAllowed(Forbidden):
    """The option ``from=`` of the caller's key leaves its address out. Raised by admission."""

    code = "address_not_allowed"
    message = "The option from= of this key does not allow this address."


class ShuttingDown(_RetryLater):
    """The request came in a drain, or was not begun at the backend when the drain ended. The client
    may ask again, elsewhere or after the restart: it pays nothing twice."""

    status, code, outcome = 503, "shutting_down", "shutdown"
    message = "The gateway is shutting down."


class Overloaded(_RetryLater):
    """There are more connections than may be. Raised by the gateway for one above the limit, and
    made by a connection that gives up its place."""

    status, code, outcome = 503, "overloaded", "overloaded"
    message = "The gateway has as many connections as MAX_CONNECTIONS allows."


class TooManyUnderWay(Overloaded):
    """As many requests are at the backend as `MAX_CONCURRENT_REQUESTS` allows. Raised by
    admission."""

    limit = "max_concurrent"


class LimitsUnavailable(_RetryLater):
    """The limits are counted in `SHARED_STATE`, which is away, and nobody is to be let in then.
    Raised by `access.shared`."""

    status, code, outcome = 503, "limits_unavailable", "overloaded"
    message = "The limits cannot be asked now."


class BackendRejected(GatewayError):
    """The backend refused the request as the client's fault: its status, its message, its
    ``Retry-After``, and its error object as ``backend_error``. Made by `api.refusals`, raised by
    `acceptance` and the relay."""

    code = "backend_rejected"

    def __init__(self, status: int, message: str, detail: object, headers: HeaderList) -> None:
        """Make an error with the backend's own `status`, in which a 429 counts as ``rate_limited``
        and any other as ``client_error``."""
        super().__init__(message, headers=headers)
        self.status, self.detail = status, detail
        self.outcome = "rate_limited" if status == 429 else "client_error"


class BackendFailure(GatewayError):
    """The backend is at fault. Never raised itself.

    `prompt_sent` says whether the backend may have begun to work on the prompt: then
    ``x-should-retry: false`` keeps the OpenAI SDKs from paying for it again.
    """

    def __init__(
        self,
        message: str | None = None,
        *,
        prompt_sent: bool = True,
        headers: HeaderList = (),
        cause: str | None = None,
        detail: object = None,
    ) -> None:
        """Make an error with `cause` for the log and `detail` for the client."""
        paid = [(b"x-should-retry", b"false")] if prompt_sent else []
        super().__init__(message, headers=[*paid, *headers])
        self.prompt_sent, self.cause, self.detail = prompt_sent, cause, detail

    def invite_retry(self) -> None:
        """Let the client try again: there was no prompt in the request, and asking again costs
        nothing. The worker calls it for the list of models."""
        self.headers = [field for field in self.headers if field[0] != b"x-should-retry"]


class BackendError(BackendFailure):
    """What the backend answered is no answer: it is broken, or has a status that says so. Made by
    `api.refusals` and `backend.causes`."""

    status, code, outcome = 502, "backend_error", "backend_error"
    message = "The backend gave no valid answer."


class BrokenReply(BackendError):
    """What came in a success of the backend's is no reply. `message` says why in the gateway's own
    words, and is the operator's `cause` too."""

    def __init__(self, message: str) -> None:
        super().__init__(message, cause=message)


class BackendUnavailable(BackendFailure):
    """There was no answer: no connection, or one that was closed without a byte of a response. Made
    by `backend.causes`, and raised by `Call.head`, which tries again where nothing was sent."""

    status, code, outcome = 502, "backend_unavailable", "backend_unavailable"
    message = "The backend cannot be reached."


class GatewayTimeout(BackendFailure):
    """A time limit has passed while the backend was waited for; `cause` is its setting. Made by
    `backend.causes`, and by the client's connection for `REQUEST_TIMEOUT`, whoever was slow then.
    """

    status, code, outcome = 504, "gateway_timeout", "timeout"
    message = "The backend took too long to answer."


class CutByShutdown(BackendFailure):
    """The end of a drain has come while the backend worked on the prompt. `ShuttingDown` is for
    what was not begun: whoever is told that asks again, and pays again."""

    status, code, outcome = 502, "shutting_down", "shutdown"
    message = "The gateway is shutting down, and could not wait for the backend's answer."


class ClientGone(GatewayError):
    """Never answered: the client left, or takes nothing of what is ready for it. Made when its
    connection is lost, for the record and for whoever still reads the request's body."""

    status, code, outcome = 499, "client_disconnected", "client_disconnected"
    message = "The client left before it was answered."


class InternalError(GatewayError):
    """A handler has failed in a way that nobody foresaw. Made by the gateway and by the request,
    which log the traceback first."""

    status, code, outcome = 500, "internal_error", "internal_error"
    message = "The gateway failed; the request id finds the reason in its log."


def release(error: BaseException) -> None:
    """Let go of what the frames behind `error`, and behind what led to it, still hold.

    Whoever has dealt with an error calls this, after it was logged: the gateway when the exchange
    has ended, and `Call.head` before another try. A failed coroutine's traceback, Twisted's
    `Failure` and the exception hold one another, so that a prompt or a reply in a local variable of
    one of those frames, or of one that called them, would stay in memory until the next full
    garbage collection, which hardly ever comes. Frames that still run keep what they have; the
    traceback is taken off the error, so that these end with their call. Raises nothing.
    """
    link: BaseException | None = error
    while link is not None:
        traceback.clear_frames(link.__traceback__)
        link.__traceback__ = None
        link = link.__cause__ or link.__context__
