"""An app's routes, matched once."""

from __future__ import annotations

from collections.abc import Callable, Collection, Coroutine
from types import MethodType
from typing import Any

from klein import Klein
from twisted.internet.defer import Deferred
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET


def likely_path(path: str, known: Collection[str]) -> str | None:
    """Return the path out of `known` that a client most likely meant, or None where there is none:
    `path` but for a trailing ``/``, a ``/v1`` that is missing, as with an SDK whose base URL lacks
    it, or one that is doubled.

    Called by the gateway for the message of a 404.
    """
    path = path.rstrip("/")
    while path.startswith("/v1/v1/"):
        path = path.removeprefix("/v1")
    return next((meant for meant in (path, f"/v1{path}") if meant in known), None)


class Routes(Resource):
    """The resource of an app most of whose routes are fixed paths; each `Edge` is in front of one.

    Klein's own binds a map and matches it anew for each request, a third of what a request costs.
    Here that is a look-up; what it does not find, Klein's own resource answers.
    """

    isLeaf = True

    def __init__(self, app: Klein, instance: object = None) -> None:
        """Note the handler of each method and fixed path of `app`, all of them coroutine functions;
        `instance` is what they are methods of, if they are. Called by `compose`, before the first
        request."""
        super().__init__()  # type: ignore[no-untyped-call]
        self._unrouted = app.resource()
        self._handlers = {
            (method.encode("ascii"), rule.rule.encode("ascii")): _handler(
                app.endpoints[rule.endpoint], instance
            )
            for rule in app.url_map.iter_rules()
            if not rule.arguments  # a path that is not fixed is Klein's own to match
            for method in rule.methods or ()
        }

    def render(self, request: Any) -> Any:
        """Have the route's handler answer and finish the request. Called by `Request.process`;
        returns Twisted's `NOT_DONE_YET`, since an answer may take long.

        Klein's own resource does the same for what is no fixed path, and answers what has no route.
        What a handler raises is for itself to answer: `Gateway._serve` lets nothing through.
        """
        handler = self._handlers.get((request.method, request.path))
        if handler is None:
            return self._unrouted.render(request.complete())
        request.answered_by(Deferred.fromCoroutine(handler(request)))
        return NOT_DONE_YET


def _handler(endpoint: Any, instance: object) -> Callable[[Any], Coroutine[Any, Any, None]]:
    """Return the handler within one of Klein's endpoints, which bind it to `instance` and make a
    Deferred of its coroutine, by four calls for each request: here it is bound once. Called by
    `Routes`."""
    handler = endpoint.__wrapped__
    return MethodType(handler, instance) if instance is not None else handler
