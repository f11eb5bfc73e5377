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
from infergate.telemetry.metrics import Metrics
from infergate.worker import IWorker

MODEL_ROUTE = f"{MODELS_PATH}/{{id}}"
"""How the route of one model is called in metrics."""

LIMITED = frozenset({MODELS_PATH, MODEL_ROUTE, *ROUTES})
PROBES = frozenset({"/healthz", "/readyz", "/readyz/self", "/health", "/v1/health"})
"""Routes for those who ask whether the process lives or can serve: no key, no limit."""

PAGES = frozenset({"/", "/status", "/status/events"})
"""The status page, its feed, and what leads there."""

OPEN_WHILE_DRAINING = PROBES | PAGES | {"/metrics"}

USAGE_PATH = "/v1/usage"

_log = Logger()


Handler = Callable[["Gateway", Request], Awaitable[None]]


def _answers(app: Klein, *routes: str, method: str = "GET") -> Callable[[Handler], Handler]:
    """Have a method of `Gateway` answer what comes to these routes of `app`, under `_serve`. The
    method stays what it is: another handler may call it, or another app answer with it too."""
    known = frozenset(routes)

    def register(handler: Handler) -> Handler:
        @wraps(handler)
        def serve(self: Gateway, request: Request, _: str = "") -> Awaitable[None]:
            return self._serve(request, handler, known)

        for route in routes:
            # An id may hold slashes; the handler takes it out of the path as it came.
            app.route(route.replace("{id}", "<path:_>"), methods=[method])(serve)
        return handler

    return register


@attrs.define(eq=False, repr=False, slots=False)  # Klein keeps what it binds in the instance
class Gateway:
    """What the routes do. `app` serves the main port, `metrics_app` that of `METRICS_LISTEN`,
    where there is one (`metrics_apart`). `max_body` is in bytes. The operations in `shut` are not
    there.

    `Routes` calls the method of a route once the head of a request is complete; its body may
    still be on the way. Each is called by `_serve`, which answers exactly once whatever happens:
    the handler by itself, or the error that the handler raised. A handler that asks for more than
    a probe's answer begins with `Admission.admit`, so that who may not come in is refused before
    the body is read.
    """

    app = Klein()
    metrics_app = Klein()

    _worker: IWorker
    _admission: Admission
    _rules: Rules
    _metrics: Metrics
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
        shut = {path for path, (operation, _) in ROUTES.items() if operation.name in self._shut}
        known = {rule.rule for rule in type(self).app.url_map.iter_rules()} - shut
        self._shut_paths = shut
        self._known = known - {"/metrics"} if self._metrics_apart else known

    @app.handle_errors(HTTPException)
    def unroutable(self, request: Any, failure: Failure) -> None:
        """No route, or none for this method; also what Klein would answer with a redirect."""
        if self._metrics_apart and request.record.path == "/metrics":
            request.refuse(NotFound())
        else:
            self._refuse_unroutable(request, failure, self._known)

    @metrics_app.handle_errors(HTTPException)
    def unroutable_metrics(self, request: Any, failure: Failure) -> None:
        """The same where there is nothing but the metrics."""
        self._refuse_unroutable(request, failure, frozenset())

    def _refuse_unroutable(self, request: Any, failure: Failure, known: Collection[str]) -> None:
        """Answer what has no route; a 404 names the one out of `known` that was likely meant."""
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
        """Run the handler of one of several routes; whatever it raises becomes the answer.

        The route is the path as it came, which the router may have read more kindly, and the name
        by which metrics, limits and the log know it: a bounded number of names, for a client
        chooses its paths. A fault of the gateway's own is logged with its traceback, and answered
        with 500. Neither outlives this call: their tracebacks would keep the prompt in memory.
        """
        try:
            path = request.record.path
            if path is not None and path in routes:
                route = path
            elif MODEL_ROUTE in routes:
                route = MODEL_ROUTE
            else:
                raise NotFound  # "//healthz", which the router takes for "/healthz"
            if route in self._shut_paths:
                raise NotFound
            request.record.route = route
            request.record.operation = ROUTES[route][0].name if route in ROUTES else None
            request.record.probe = route in PROBES or route == "/metrics"
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
                _log.failure("A handler failed", request_id=request.record.request_id)
                request.refuse(InternalError())
            release(error)

    async def _refuse_draining(self, request: Request, route: str) -> None:
        """Refuse what is new in a drain, with the rate limit's header fields where they belong."""
        if route in LIMITED:
            with suppress(GatewayError):  # only to tell where its caller stands
                await self._admission.admit(request, limited=True)
        raise ShuttingDown

    @_answers(app, *ROUTES, method="POST")
    async def operate(self, request: Request) -> None:
        """The checks of an operation, in the contract's order; then the worker answers. A large
        body is judged in slices, between which others are served, and is let go of when what goes
        on of it is known."""
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
        check_media_type(
            head.fields.get(b"content-type", []), head.fields.get(b"content-encoding", [])
        )
        body = await request.read_body()
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
            self._metrics.stream_began(record)
        answering = self._worker.answer(operation, ask, request)
        del ask  # a stream is long, and a prompt may be large
        await answering

    @_answers(app, "/v1/responses")
    async def upgrade(self, request: Request) -> None:
        """Refuse what is no POST: by a 426 where a WebSocket was asked for. Codex asks for one
        first, and goes on over HTTP at once where it is told to."""
        assert request.head is not None
        asked = request.head.fields.get(b"upgrade", [])
        if any(b"websocket" in value.lower() for value in asked):
            raise UpgradeNotSupported
        raise MethodNotAllowed(headers=[(b"Allow", b"POST")])

    @_answers(app, MODELS_PATH)
    async def models(self, request: Request) -> None:
        """The list of models, and for a caller with `models=` no others than those."""
        account = await self._admission.admit(request, limited=True)
        listed, content_type = await self._worker.models(request)
        if account.policy.models is not None:
            visible = visible_models(listed, account.policy.may_use_model)
            listed = await in_slices(visible, request.site.deadlines.clock)
        await request.answer(listed, content_type=content_type)

    @_answers(app, MODEL_ROUTE)
    async def model(self, request: Request) -> None:
        """One entry out of the list; llama.cpp has no route for that."""
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
        """What the caller has used, and what is left of its limits. Never limited itself."""
        account = await self._admission.admit(request)
        verdict = await self._admission.look(account)
        used = {window: await self._used(account.name, window) for window in ("day", "month")}
        under_way = self._admission.under_way(account)
        await request.answer(standing(account, verdict, under_way, used))

    async def _used(self, caller: str | None, window: str) -> Usage | None:
        """The usage in the current window, where a ledger knows it."""
        if self._ledger is None:
            return None
        with suppress(StoreAway):
            return await self._ledger.usage(caller, bounds(window, time())[0])
        return None

    @_answers(app, "/healthz")
    async def healthz(self, request: Request) -> None:
        await request.answer(b'{"status":"ok"}')

    @_answers(app, "/readyz/self")
    async def readyz_self(self, request: Request) -> None:
        """Whether this process can serve, whatever the backend says: all replicas share the one
        backend, and would all leave a load balancer at once."""
        await self._answer_probe(request, "draining" if request.site.leaving else "ready")

    # The two others are what people ask llama.cpp and vLLM.
    @_answers(app, "/readyz", "/health", "/v1/health")
    async def readyz(self, request: Request) -> None:
        """Whether a request that came now could be answered, by the backend too."""
        if request.site.leaving:
            await self.readyz_self(request)
        else:
            await self._answer_probe(request, await self._worker.ready())

    async def _answer_probe(self, request: Request, state: str) -> None:
        """Answer with a word, which is the log line's `cause` too where it is not ``ready``."""
        if state != "ready":
            request.record.cause = state
        body = b'{"status":"%b"}' % state.encode("ascii")
        await request.answer(body, status=200 if state == "ready" else 503)

    @_answers(app, "/")
    async def root(self, request: Request) -> None:
        """Lead a browser at the machine, or with the right key, to the status page; else there is
        nothing at this path."""
        try:
            await self._let_see(request)
        except GatewayError:
            request.record.route = "other"
            raise NotFound from None
        await self.lead_to_page(request)

    # Where there is a listener apart, whoever reaches it may see all this.
    @_answers(metrics_app, "/")
    async def lead_to_page(self, request: Request) -> None:
        """Lead a person to the status page."""
        assert request.head is not None
        if not accepts_html(request.head.fields):
            request.record.route = "other"
            raise NotFound
        await request.answer(b"", status=303, headers=[(b"Location", b"/status")])

    @_answers(app, "/status")
    async def status(self, request: Request) -> None:
        await self._let_see(request)
        await self._status.page(request)

    @_answers(metrics_app, "/status")
    async def status_apart(self, request: Request) -> None:
        await self._status.page(request)

    @_answers(app, "/status/events")
    async def status_events(self, request: Request) -> None:
        await self._let_see(request)
        await self._status.watch(request)

    @_answers(metrics_app, "/status/events")
    async def status_events_apart(self, request: Request) -> None:
        await self._status.watch(request)

    async def _let_see(self, request: Request) -> None:
        """Raise unless who asks may see the status page on the main port. Its answers are for no
        page of another origin."""
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
        if self._metrics_apart:
            request.record.route = "other"
            raise NotFound
        await self._admission.admit(request, to="metrics")
        await self.metrics_apart(request)

    @_answers(metrics_app, "/metrics")
    async def metrics_apart(self, request: Request) -> None:
        assert request.head is not None
        accept = b",".join(request.head.fields.get(b"accept", []))
        openmetrics = asks_for_openmetrics(accept)
        text = await self._exposition.text(openmetrics=openmetrics)
        await request.answer(text, content_type=OPENMETRICS if openmetrics else TEXT)


def _hint(path: str, known: Collection[str]) -> str | None:
    """What a 404 says where something better than its usual sentence is known."""
    if path.startswith("/v1/responses/") and "/v1/responses" in known:
        return "Stored responses are not carried: nobody can tell whose they are."
    meant = likely_path(path, known)
    return None if meant is None else f"There is nothing at this path: use {meant}."
