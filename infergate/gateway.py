"""The Klein app: the routes, and the order in which a request is checked.

    routes                              who may ask                  what answers
    each path of `api.operations`       callers, limited             `operate`, and then the worker
    /v1/models, /v1/models/{id}         callers, limited             the worker
    /v1/usage                           callers, not limited         the limits and the ledger
    /healthz, /readyz, /readyz/self,    everybody                    this process, or the worker
      /health, /v1/health
    /metrics                            callers with the right to    `Exposition`
    /, /status, /status/events          at the machine, or callers   `StatusSite`
                                        with the right to

    An operation, in the order of the contract: what comes first is what a client is told first.

        is there such a route, and is it open?                       404, 405
        does the gateway drain, or has the connection no place?      503
        who is it, may it, has it requests and tokens left?          401, 403, 429
        is the body too large, by what it declares?                  413
        is it declared to be JSON?                                   415
        is it JSON, and what the operation takes?                    400, and 408, 413 on its way
        may the caller name this model?                              403
        is there a place at the backend?                             429, 503

What a handler raises is turned into the answer by `_serve`, and by nobody else.

A handler is a method that answers one route; an operation is what a client asks a model for (chat,
embeddings ...), and its routes are those of `api.operations`. An account is who a caller is found
to be, with its policy: what it may do, and how much. The record of a request is all that is known
of it afterwards, for the log and the metrics. A probe asks how the gateway is.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from contextlib import suppress
from functools import wraps
from time import time
from typing import Any
from urllib.parse import unquote

import attrs
from klein import Klein
from twisted.logger import Logger
from twisted.python.failure import Failure
from werkzeug.exceptions import HTTPException
from werkzeug.exceptions import MethodNotAllowed as WrongMethod

from infergate.access.admission import Admission
from infergate.access.standing import standing
from infergate.access.windows import bounds
from infergate.api.mediatype import check_media_type
from infergate.api.models import entry, visible_models
from infergate.api.operation import Rules, check_in_steps, request_members
from infergate.api.operations import MODELS_PATH, ROUTES
from infergate.api.steps import LARGE
from infergate.errors import (
    BodyTooLarge,
    GatewayError,
    InternalError,
    MethodNotAllowed,
    NotFound,
    Overloaded,
    ShuttingDown,
    Unauthorized,
    UpgradeNotSupported,
    release,
)
from infergate.ledger.queries import Usage
from infergate.ledger.schema import StoreAway
from infergate.ledger.writer import Ledger
from infergate.reactor.slices import in_slices
from infergate.relay import MODEL_NAME
from infergate.server.head import Fields
from infergate.server.request import Request
from infergate.server.routes import likely_path
from infergate.status.site import StatusSite
from infergate.status.visitors import accepts_html, at_the_machine
from infergate.telemetry.exposition import (
    OPENMETRICS,
    TEXT,
    Exposition,
    asks_for_openmetrics,
)
from infergate.worker import IWorker

MODEL_ROUTE = f"{MODELS_PATH}/{{id}}"
"""How the route of one model is called in metrics."""

OPERATION_OF = {path: operation.name for path, (operation, _) in ROUTES.items()}
"""The name of the operation of each route that has one."""

LIMITED = frozenset({MODELS_PATH, MODEL_ROUTE, *ROUTES})
PROBES = frozenset({"/healthz", "/readyz", "/readyz/self", "/health", "/v1/health"})
"""Routes for those who ask whether the process lives or can serve: no key, no limit."""

PAGES = frozenset({"/", "/status", "/status/events"})
"""The status page, its feed, and what leads there."""

UNTRACED = PROBES | {"/metrics"}
"""Routes for those who ask how the gateway is: no span is recorded of them."""

OPEN_WHILE_DRAINING = UNTRACED | PAGES

USAGE_PATH = "/v1/usage"

DECLARED = (b"content-type", b"content-encoding")
"""The header fields that say what a body is."""

_log = Logger()


Handler = Callable[["Gateway", Request], Awaitable[None]]


def _answers(app: Klein, *routes: str, method: str = "GET") -> Callable[[Handler], Handler]:
    """Return a decorator that has a method of `Gateway` answer what comes to `routes` of `app`.

    What comes goes through `Gateway._serve`, which calls the method, turns what it raises into an
    answer, and ends that. The method stays what it is: another handler may call it, or another app
    answer with it too. A route may hold one ``{id}``, which stands for one segment of the path or
    several.
    """
    known = frozenset(routes)

    def register(handler: Handler) -> Handler:
        """Register `handler` with the app for each of the routes, and return it unchanged."""

        @wraps(handler)
        def serve(self: Gateway, request: Request, _: str = "") -> Awaitable[None]:
            """Run the handler under `_serve`. Called by `Routes`, or by Klein, where it has matched
            an ``{id}``; that is the third argument."""
            return self._serve(request, handler, known)

        for route in routes:
            # An id may hold slashes; the handler takes it out of the path as it came.
            app.route(route.replace("{id}", "<path:_>"), methods=[method])(serve)
        return handler

    return register


@attrs.define(eq=False, repr=False, slots=False)  # Klein keeps what it binds in the instance
class Gateway:
    """The handlers of all routes, and the checks that come before them.

    `app` serves the main port, `metrics_app` that of `METRICS_LISTEN`, where there is one
    (`metrics_apart`). `max_body` is in bytes. The operations in `shut` are not there.

    `Routes` calls the method of a route once the head of a request is complete; its body may still
    be on the way. Each is called by `_serve`, which answers exactly once whatever happens: the
    handler by itself, or the error that the handler raised. A handler that asks for more than a
    probe's answer begins with `Admission.admit`, so that who may not come in is refused before the
    body is read.

    So a handler returns None when its answer is written, and raises a `GatewayError` where there is
    to be another one; what else it raises is a fault of the gateway's, and answered with 500.
    """

    app = Klein()
    metrics_app = Klein()

    _worker: IWorker
    _admission: Admission
    _rules: Rules
    _exposition: Exposition
    _status: StatusSite
    _max_body: int = attrs.field(kw_only=True)
    _metrics_apart: bool = attrs.field(default=False, kw_only=True)
    _ledger: Ledger | None = attrs.field(default=None, kw_only=True)
    _shut: Collection[str] = attrs.field(default=(), kw_only=True)
    # The paths that are not there, and those that are.
    _shut_paths: set[str] = attrs.field(init=False)
    _known: set[str] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        """Work out which paths are there: those of the app's routes, but for those of operations
        that are shut and for ``/metrics`` where that has a listener of its own. Called by attrs
        when a gateway is made."""
        shut = {path for path, (operation, _) in ROUTES.items() if operation.name in self._shut}
        known = {rule.rule for rule in type(self).app.url_map.iter_rules()} - shut
        self._shut_paths = shut
        self._known = known - {"/metrics"} if self._metrics_apart else known

    @app.handle_errors(HTTPException)
    def unroutable(self, request: Any, failure: Failure) -> None:
        """Answer a request for which the main port has no route, or none for its method.

        Called by Klein, with werkzeug's exception in `failure`; a redirect, which Klein would
        answer with, comes here too. Answers with 404, 405, 503, or a preflight's 204, and raises
        nothing.
        """
        if self._metrics_apart and request.record.path == "/metrics":
            request.refuse(NotFound())
        else:
            self._refuse_unroutable(request, failure, self._known)

    @metrics_app.handle_errors(HTTPException)
    def unroutable_metrics(self, request: Any, failure: Failure) -> None:
        """Answer a request for which the port of `METRICS_LISTEN` has no route; called by Klein. No
        other path is suggested there."""
        self._refuse_unroutable(request, failure, frozenset())

    def _refuse_unroutable(self, request: Any, failure: Failure, known: Collection[str]) -> None:
        """Answer a request that has no route; a 404 names the path out of `known` that was likely
        meant.

        A gateway that drains, or a connection that has no place, answers 503 before all else. A
        preflight (an ``OPTIONS`` with which a browser asks whether a page may call) of a listed
        origin gets a 204, a method that the path does not have a 405 with ``Allow``, all else a
        404. Called by `unroutable` and `unroutable_metrics`.
        """
        if request.site.refusing or request.above_limit:
            request.refuse(ShuttingDown() if request.site.refusing else Overloaded())
            return
        # "/v1//models", which the router takes for "/v1/models", would be a label of its own.
        error, methods = failure.value, None
        shut = request.record.path in self._shut_paths
        if isinstance(error, WrongMethod) and b"//" not in request.path and not shut:
            methods = sorted(error.valid_methods or ())
            path = request.path.decode("ascii")
            # The one route that is no fixed path: as a label, each id would be a series of its own.
            request.record.route = MODEL_ROUTE if path.startswith(f"{MODELS_PATH}/") else path
        preflight = None
        if request.method == b"OPTIONS":
            preflight = request.site.origins.preflight_fields(request.head.fields, request.path)
        if preflight is not None:
            request.begin(204, b"", preflight, b"")
        elif methods is not None:
            allowed = ", ".join(methods).encode("ascii")
            request.refuse(MethodNotAllowed(headers=[(b"Allow", allowed)]))
        else:
            request.refuse(NotFound(_hint(request.path.decode("latin-1"), known)))

    async def _serve(self, request: Request, handler: Handler, routes: Collection[str]) -> None:
        """Run the handler of one of several `routes`; whatever it raises becomes the answer, whose
        end is written when it has returned.

        Called for each request that has a route. Writes the route, the operation and whether it is
        a probe into the request's record. The route is the path as it came, which the router may
        have read more kindly, and the name by which metrics, limits and the log know it: a bounded
        number of names, for a client chooses its paths.

        A `GatewayError` is answered as it says; a fault of the gateway's own is logged with its
        traceback, and answered with 500. Neither outlives this call: their tracebacks would keep
        the prompt in memory. Raises nothing, also where it is cancelled because the client has
        left.
        """
        record = request.record
        try:
            path = record.path
            if path is not None and path in routes:
                route = path
            elif MODEL_ROUTE in routes:
                route = MODEL_ROUTE
            else:
                raise NotFound  # "//healthz", which the router takes for "/healthz"
            if route in self._shut_paths:
                raise NotFound
            record.route = route
            record.operation = OPERATION_OF.get(route)
            if route in UNTRACED:
                record.probe = True
                record.leave_untraced()
            if request.site.refusing and route not in OPEN_WHILE_DRAINING:
                await self._refuse_draining(request, route)
            if request.above_limit and route not in PROBES:
                raise Overloaded
            await handler(self, request)
        except GatewayError as error:
            request.refuse(error)
            release(error)
        except Exception as error:
            # The request cancels its handler when the client has left (`Request.answered_by`),
            # and the handler fails at whatever it was waiting for: no fault of its own.
            if request.channel is not None:
                _log.failure("A handler failed", request_id=record.request_id)
                request.refuse(InternalError())
            release(error)
        request.finish()

    async def _refuse_draining(self, request: Request, route: str) -> None:
        """Raise `ShuttingDown` for a request that came in a drain.

        On routes that are limited `Admission.admit` is asked first, so that the refusal carries the
        rate limit's header fields; what that itself would refuse does not matter any more. Called
        by `_serve`.
        """
        if route in LIMITED:
            with suppress(GatewayError):  # only to tell where its caller stands
                await self._admission.admit(request, limited=True)
        raise ShuttingDown

    @_answers(app, *ROUTES, method="POST")
    async def operate(self, request: Request) -> None:
        """Answer a request for an operation, such as ``POST /v1/chat/completions``: the checks, in
        the order of the contract, and then the worker.

        A body of more than `LARGE` bytes is judged in slices, between which other requests are
        served, and is let go of as soon as the members that go on are known. What an `Operation`
        and an `Ask` (a checked request) are is said in `api.operation`.

        Raises what the table in this module's docstring says, each as a `GatewayError`, and what
        the worker does. Once a stream has begun, an error can only be told within it:
        `Request.refuse` does that.
        """
        record, now = request.record, request.site.deadlines.now
        operation, route = ROUTES[record.route]
        began = now()
        account = await self._admission.admit(
            request, to=operation.name, limited=True, costs=route.costs
        )
        record.admission_seconds = now() - began
        head = request.head
        assert head is not None
        if head.length is not None and head.length > self._max_body:
            raise BodyTooLarge
        head.of_fields(DECLARED, _check_declared)
        whole = request.read_body()
        body = whole if isinstance(whole, bytes) else await whole
        del whole
        began = now()
        if len(body) > LARGE:
            checking = in_slices(
                check_in_steps(operation, body, route, self._rules), request.site.deadlines.clock
            )
            del body
            ask = await checking
        else:
            ask = operation.check(request_members(body), route, self._rules)
            del body
        if ask.model is not None:
            record.model = ask.model[:MODEL_NAME]
        self._admission.check_model(account, ask.model or self._rules.default_model or None)
        self._admission.enter(account, record)
        record.check_seconds = now() - began
        if ask.stream:
            record.stream = True
        answering = self._worker.answer(operation, ask, request)
        del ask  # a stream is long, and a prompt may be large
        await answering

    @_answers(app, "/v1/responses")
    async def upgrade(self, request: Request) -> None:
        """Raise the refusal of a ``GET`` of ``/v1/responses``: `UpgradeNotSupported` (426) where it
        asks for a WebSocket, else `MethodNotAllowed` (405). Codex asks for a WebSocket first, and
        goes on over HTTP at once where it is told to."""
        assert request.head is not None
        asked = request.head.fields.get(b"upgrade", [])
        if any(b"websocket" in value.lower() for value in asked):
            raise UpgradeNotSupported
        raise MethodNotAllowed(headers=[(b"Allow", b"POST")])

    @_answers(app, MODELS_PATH)
    async def models(self, request: Request) -> None:
        """Answer ``GET /v1/models`` with the worker's list; a caller with the option `models=` sees
        no others than those.

        Raises what `Admission.admit` and `IWorker.models` do.
        """
        account = await self._admission.admit(request, limited=True)
        listed, content_type = await self._worker.models(request)
        if account.policy.models is not None:
            visible = visible_models(listed, account.policy.may_use_model)
            listed = await in_slices(visible, request.site.deadlines.clock)
        await request.answer(listed, content_type=content_type)

    @_answers(app, MODEL_ROUTE)
    async def model(self, request: Request) -> None:
        """Answer ``GET /v1/models/{id}`` with one entry out of the worker's list; llama.cpp has no
        route for that.

        Raises `NotFound` where the list has no such model or the caller may not use it, and what
        `Admission.admit` and `IWorker.models` do.
        """
        account = await self._admission.admit(request, limited=True)
        model = unquote(request.path.decode("ascii").removeprefix(f"{MODELS_PATH}/"))
        listed, content_type = await self._worker.models(request)
        found = None
        if account.policy.may_use_model(model):
            found = await in_slices(entry(listed, model), request.site.deadlines.clock)
        if found is None:
            raise NotFound("There is no such model.")
        await request.answer(found, content_type=content_type)

    @_answers(app, USAGE_PATH)
    async def usage(self, request: Request) -> None:
        """Answer ``GET /v1/usage`` with what the caller has used, and what is left of its limits.

        It is never limited itself, so that who has nothing left can see why. Raises what
        `Admission.admit` and `Admission.look` do: `Unauthorized`, `AddressNotAllowed`,
        `LimitsUnavailable` and the like.
        """
        account = await self._admission.admit(request)
        verdict = await self._admission.look(account)
        used = {window: await self._used(account.name, window) for window in ("day", "month")}
        under_way = self._admission.under_way(account)
        await request.answer(standing(account, verdict, under_way, used))

    async def _used(self, caller: str | None, window: str) -> Usage | None:
        """Return the usage of a caller in the current ``day`` or ``month``, for `usage`; None where
        no ledger is kept or its database is away."""
        if self._ledger is None:
            return None
        with suppress(StoreAway):
            return await self._ledger.usage(caller, bounds(window, time())[0])
        return None

    @_answers(app, "/healthz")
    async def healthz(self, request: Request) -> None:
        """Answer ``GET /healthz``: who gets this answer knows that the process lives."""
        await request.answer(b'{"status":"ok"}')

    @_answers(app, "/readyz/self")
    async def readyz_self(self, request: Request) -> None:
        """Answer ``GET /readyz/self``: 200 while this process can serve, 503 once a drain will
        follow.

        What the backend says does not matter here: all replicas share the one backend, and would
        all leave a load balancer at once.
        """
        await self._answer_probe(request, "draining" if request.site.leaving else "ready")

    # The two others are what people ask llama.cpp and vLLM.
    @_answers(app, "/readyz", "/health", "/v1/health")
    async def readyz(self, request: Request) -> None:
        """Answer a readiness probe: 200 where a request that came now could be answered, by the
        backend too, else 503. Raises nothing: a backend that is away is an answer."""
        if request.site.leaving:
            await self.readyz_self(request)
        else:
            await self._answer_probe(request, await self._worker.ready())

    async def _answer_probe(self, request: Request, state: str) -> None:
        """Answer a probe with ``{"status": state}``: 200 for ``ready``, 503 for any other word,
        such as ``draining`` or ``backend_loading``, which the log line then has as its `cause`.
        Called by `readyz` and `readyz_self`."""
        if state != "ready":
            request.record.cause = state
        body = b'{"status":"%b"}' % state.encode("ascii")
        await request.answer(body, status=200 if state == "ready" else 503)

    @_answers(app, "/")
    async def root(self, request: Request) -> None:
        """Answer ``GET /`` on the main port: lead a browser at the machine, or with the right key,
        to the status page.

        Raises `NotFound` for everybody else, as if there were nothing at this path.
        """
        try:
            await self._let_see(request)
        except GatewayError:
            request.record.route = "other"
            raise NotFound from None
        await self.lead_to_page(request)

    # Where there is a listener apart, whoever reaches it may see all this.
    @_answers(metrics_app, "/")
    async def lead_to_page(self, request: Request) -> None:
        """Answer with a redirect (303) to the status page where a person's browser asks.

        The handler of ``/`` on the port of `METRICS_LISTEN`, and called by `root`. Raises
        `NotFound` for who does not accept HTML.
        """
        assert request.head is not None
        if not accepts_html(request.head.fields):
            request.record.route = "other"
            raise NotFound
        await request.answer(b"", status=303, headers=[(b"Location", b"/status")])

    @_answers(app, "/status")
    async def status(self, request: Request) -> None:
        """Answer ``GET /status`` on the main port with the page; raises what `_let_see` does."""
        await self._let_see(request)
        await self._status.page(request)

    @_answers(metrics_app, "/status")
    async def status_apart(self, request: Request) -> None:
        """Answer ``GET /status`` on the port of `METRICS_LISTEN`: whoever reaches that may see the
        page."""
        await self._status.page(request)

    @_answers(app, "/status/events")
    async def status_events(self, request: Request) -> None:
        """Answer ``GET /status/events`` on the main port with the page's feed, an event stream that
        goes on until either side ends it; raises what `_let_see` does."""
        await self._let_see(request)
        await self._status.watch(request)

    @_answers(metrics_app, "/status/events")
    async def status_events_apart(self, request: Request) -> None:
        """Answer ``GET /status/events`` on the port of `METRICS_LISTEN`, with the same feed."""
        await self._status.watch(request)

    async def _let_see(self, request: Request) -> None:
        """Raise unless who asks may see the status page on the main port.

        Called first by each handler of a page there. Who is at the machine may without a key; else
        a key is needed whose caller may see it, also as a browser's password. Raises `NotFound`
        where the pages have a port of their own, or nobody has a key; `Unauthorized`, with
        ``WWW-Authenticate`` to have a browser ask for the password; and what else `Admission.admit`
        does.

        The CORS header fields are taken back: the page's answers are for no page of another origin.
        """
        request.extra_fields.clear()
        if self._metrics_apart:
            request.record.route = "other"
            raise NotFound
        assert request.head is not None
        assert request.channel is not None
        fields = request.head.fields
        names = (b"authorization", b"x-api-key", b"api-key")
        has_key = any(name in fields for name in names)
        if not has_key and at_the_machine(request.channel.peer, fields):
            return
        if self._admission.roster.authenticator is None:
            raise NotFound
        try:
            await self._admission.admit(request, to="status", basic=True)
        except Unauthorized as error:
            error.headers = [(b"WWW-Authenticate", b'Basic realm="infergate", charset="UTF-8"')]
            raise

    @_answers(app, "/metrics")
    async def metrics(self, request: Request) -> None:
        """Answer a scrape of the main port.

        Raises `NotFound` where the metrics have a port of their own, and what `Admission.admit`
        does for a caller without the right to them.
        """
        if self._metrics_apart:
            request.record.route = "other"
            raise NotFound
        await self._admission.admit(request, to="metrics")
        await self.metrics_apart(request)

    @_answers(metrics_app, "/metrics")
    async def metrics_apart(self, request: Request) -> None:
        """Answer a scrape with the metrics, in Prometheus's text form or in OpenMetrics, by
        ``Accept``.

        The handler of ``/metrics`` on the port of `METRICS_LISTEN`, and called by `metrics`.
        """
        assert request.head is not None
        accept = b",".join(request.head.fields.get(b"accept", []))
        openmetrics = asks_for_openmetrics(accept)
        text = await self._exposition.text(openmetrics=openmetrics)
        await request.answer(text, content_type=OPENMETRICS if openmetrics else TEXT)


def _check_declared(fields: Fields) -> None:
    """Check what a head declares of its body by the fields in `DECLARED`; raises
    `UnsupportedMediaType` as `check_media_type` does. `operate` asks for it by ``head.of_fields``:
    what was found good is not looked at again."""
    check_media_type(*(fields.get(name, []) for name in DECLARED))


def _hint(path: str, known: Collection[str]) -> str | None:
    """Return the message of a 404, where something better than its usual sentence is known, else
    None. `_refuse_unroutable` calls it with the path, and with the paths that are there, to suggest
    the one that was likely meant."""
    if path.startswith("/v1/responses/") and "/v1/responses" in known:
        return "Stored responses are not carried: nobody can tell whose they are."
    meant = likely_path(path, known)
    return None if meant is None else f"There is nothing at this path: use {meant}."
