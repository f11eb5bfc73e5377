"""An app's routes, matched once."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from klein import Klein
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

    def __init__(self, app: Klein) -> None:
        """Note the endpoint (Klein's name for a handler) of each method and fixed path of `app`.
        Called by `compose`, before the first request."""
        super().__init__()  # type: ignore[no-untyped-call]
        self._app = app
        self._unrouted = app.resource()
        self._endpoints = {
            (method.encode("ascii"), rule.rule.encode("ascii")): rule.endpoint
            for rule in app.url_map.iter_rules()
            if not rule.arguments  # a path that is not fixed is Klein's own to match
            for method in rule.methods or ()
        }

    def render(self, request: Any) -> Any:
        """Have the route's method answer, and finish the request when it has returned. Called by
        `Request.process`; returns Twisted's `NOT_DONE_YET`, since an answer may take long.

        Klein's own resource does the same for what is no fixed path, and answers what has no route.
        What a handler raises is for itself to answer: `Gateway._serve` lets nothing through.
        """
        endpoint = self._endpoints.get((request.method, request.path))
        if endpoint is None:
            return self._unrouted.render(request.complete())
        answered: Any = self._app.execute_endpoint(endpoint, request)
        request.answered_by(answered)
        answered.addCallback(lambda _: request.finish())
        return NOT_DONE_YET
