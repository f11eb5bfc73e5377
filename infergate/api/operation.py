"""What one operation is: a value that says all that tells it from the others.

The lifecycle of an exchange (gateway, worker, relay) is written once and takes everything from this
value. An operation is a module of this room, which makes one, and a row in `operations`.

    check        the gateway, with a body of JSON       which `Ask` goes on, or `InvalidRequest`
    Ask.body     the worker                             what the backend is sent
    shape        the worker, with a plain reply         which `Reply` the client gets
    reader       the relay, for a stream                learns usage, model and end from its events
    as_stream    the worker                             a plain reply for a client that streams
    echo         the worker, without a backend          a `Reply` of the gateway's own
    error_event  the relay                              how a stream that fails says so

The values that go through these: `Rules` are the settings that a check goes by, a `Route` is the
path that was asked for, an `Ask` a request that was checked, a `Stamp` the id and the time that go
on its reply, a `Reply` a whole answer. `Steps` (module `steps`) is a generator that gives way to
the event loop between two short steps; its return value is the result.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import msgspec
from msgspec import Raw, Struct
from msgspec.structs import replace

from infergate.api.events import Reader
from infergate.api.steps import Steps
from infergate.api.strictjson import NotJSON, object_in_steps, read_object
from infergate.api.usage import NO_USAGE, Usage
from infergate.errors import GatewayError, InvalidJSON, InvalidRequest

Later = list[Steps[None]]

UNKNOWN_MODEL = "default"
"""The model of a reply where nobody named one."""


class Rules(Struct, frozen=True):
    """What the settings leave open. A request without a model goes on with `default_model`; where
    that is None it goes on without one, and where it is empty it is refused. With `inject_usage` a
    stream is asked for its usage."""

    default_model: str | None
    max_tokens_limit: int
    inject_usage: bool = True


class Route(Struct, frozen=True):
    """One path of an operation here, and at the backend. The latter begins with ``/v1`` where it
    is below the API's base, and not where it is beside it."""

    path: str
    target: str
    costs: bool = True
    """Whether it makes or reads tokens that a caller's limit is about; counting them does not."""
    sample: bytes = b""
    """The body of a tiny request, without model and stream, with which `infergate check` tries the
    route. One that has none is not tried."""


def same(path: str, *, costs: bool = True, sample: bytes = b"") -> Route:
    """Return a route that has the same path here and at the backend. The modules of the operations
    call it for their tables; `costs` and `sample` are those of `Route`."""
    return Route(path, path, costs, sample)


class Ask(Struct, frozen=True, gc=False):
    """A checked request, made by the `check` of its operation.

    `members` are those that go on to the backend, as they came but for what the operation fills in.
    They may be large: `without_members` is what is kept of a request while the backend answers.

    `wants_usage` says whether the client gets a chunk that holds nothing but the usage of a stream,
    `several_prompts` whether the answer is to a list of prompts, each with choices of its own, and
    `takes_array` whether the plain reply may be an array.

    `model` is the one that goes on to the backend, None where the backend chooses. `stream` says
    whether the client asked for a stream of events in place of one reply.
    """

    route: Route
    model: str | None
    stream: bool
    members: dict[str, Raw]
    wants_usage: bool = True
    several_prompts: bool = False
    takes_array: bool = False

    def __repr__(self) -> str:
        # It may end up in a log, and no prompt may.
        return f"<Ask of {self.route.path} for {self.model}>"

    def body(self) -> bytes:
        """Return the JSON body for the backend: a new copy of the members, which may be as large as
        the request was. The worker calls it once, before it sends the request."""
        return msgspec.json.encode(self.members)

    def without_members(self) -> Ask:
        """Return the same request with no members, so that the prompt need not stay in memory. The
        worker goes on with it once the body is made, since the answer may take minutes."""
        return replace(self, members={})


class Stamp(Struct, frozen=True, gc=False):
    """What the gateway puts on a reply: the request's id, and the time in Unix seconds."""

    request_id: str
    created: int


class Reply(Struct, frozen=True, gc=False):
    """A whole answer, ready for the client, and what it says of itself. Its `model` may be left out
    where the request named one."""

    body: bytes
    usage: Usage = NO_USAGE
    model: str | None = None

    def __repr__(self) -> str:
        # As that of `Ask`.
        return f"<Reply of {self.model}>"


class Check(Protocol):
    """Judges the members of a request, in the order of the contract. It may change `members`, whose
    values are valid JSON, and puts into the `Ask` what of them goes on. Raises `InvalidRequest` for
    the first member at fault.

    Where the members are large `later` is given, and what takes long to judge is put there, to be
    run whatever is raised: what it raises comes before that."""

    def __call__(
        self, members: dict[str, Raw], route: Route, rules: Rules, later: Later | None = None
    ) -> Ask: ...


class Operation(Struct, frozen=True):
    """One operation.

    The gateway calls `check` with a request's body; then the echo calls `echo`, or the backend is
    asked and the worker calls `shape` with its plain reply, or a `Scanner` tells a reader made by
    `reader` what the events of its stream are. `as_stream` makes a stream of a plain reply.
    """

    name: str
    """In ``ROUTES``, logs, the ledger and the options of keys."""
    metric_name: str
    """``gen_ai_operation_name`` of the metrics."""
    routes: tuple[Route, ...]
    check: Check
    shape: Callable[[bytes, Ask, Stamp], Steps[Reply]]
    """The backend's plain reply held to the contract; raises `BackendError` where it is none."""
    reader: Callable[[Ask], Reader] | None = None
    """What reads a stream; None where the operation has none. `Ask` is without members."""
    as_stream: Callable[[Reply, Ask, Stamp], Steps[bytes]] | None = None
    """The events of a stream that says what a reply of `shape` or `echo` says."""
    echo: Callable[[Ask, Stamp], Reply] | None = None
    """The answer where there is no backend; None where only a backend can give one."""
    error_event: Callable[[GatewayError, Reader | None], bytes] = lambda error, _: error.event()
    """The last event of a stream that fails, whose reader may have an opinion about it."""
    stream_end: bytes = b""
    """What ends a good stream, added where the backend left it out."""
    forwarded: tuple[bytes, ...] = ()
    """Names of header fields that go on to the backend, in small letters."""
    passed_types: tuple[bytes, ...] = ()
    """Media types of replies that pass unread, in small letters."""
    returned: tuple[bytes, ...] = ()
    """Names of header fields that such a reply keeps, in small letters."""

    @property
    def path(self) -> str:
        """The first of its paths here; the others are routes beside it."""
        return self.routes[0].path


def request_members(body: bytes) -> dict[str, Raw]:
    """Return the members of a request's body, which are for the operation's `check` to judge.

    Called by the gateway for a body of at most `steps.LARGE` bytes, which is read at once. Raises
    `InvalidJSON` where the body is not JSON or breaks a limit of `strictjson`, and `InvalidRequest`
    where all of it is JSON but no object; both are answered with 400.
    """
    try:
        return _of_object(read_object(body))
    except NotJSON as error:
        raise _not_json(error) from None


def check_in_steps(operation: Operation, body: bytes, route: Route, rules: Rules) -> Steps[Ask]:
    """Read a large body as `request_members` does, judge it by the operation's `check`, and return
    its `Ask`; in steps, which the gateway runs over many event loop iterations.

    What a check puts into `later` is run at its end whether it has passed or failed, so that the
    first member at fault is named as for a small body. Raises `InvalidJSON` and `InvalidRequest`.
    """
    try:
        members = _of_object((yield from object_in_steps(body)))
    except NotJSON as error:
        raise _not_json(error) from None
    # The members hold what of it is theirs.
    del body
    yield
    later: Later = []
    try:
        return operation.check(members, route, rules, later)
    finally:
        for steps in later:
            yield from steps


def _of_object(members: dict[str, Raw] | None) -> dict[str, Raw]:
    """Return `members`; raises `InvalidRequest` where they are None, the sign of JSON that is no
    object. For the two functions above."""
    if members is None:
        raise InvalidRequest("The body is JSON, but not an object.")
    return members


def _not_json(error: NotJSON) -> InvalidJSON:
    """Return the error for a body that is not JSON; the caller raises it."""
    return InvalidJSON(f"The body is not valid JSON: {error}.")
