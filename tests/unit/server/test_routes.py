"""An app's routes, matched once."""

from __future__ import annotations

from typing import Any

from klein import Klein
from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.resource import IResource
from werkzeug.exceptions import HTTPException
from zope.interface.verify import verifyObject

from infergate.api.operations import ROUTES
from infergate.gateway import Gateway
from infergate.server.routes import Routes
from tests.unit.inmemory import Running, request


class RoutesTests(SynchronousTestCase):
    def setUp(self) -> None:
        app = Klein()
        self.waiting: list[Deferred[None]] = []
        self.cancelled = 0

        @app.route("/now", methods=["GET"])
        async def now(request: Any) -> None:
            await request.answer(b"now")
            request.finish()

        @app.route("/later", methods=["POST", "PUT"])
        async def later(request: Any) -> None:
            self.waiting.append(Deferred())
            try:
                await self.waiting[-1]
            except CancelledError:
                self.cancelled += 1
                return
            await request.answer(b"later")
            request.finish()

        @app.handle_errors(HTTPException)
        def unroutable(request: Any, failure: Failure) -> None:
            request.begin(failure.value.code, b"text/plain", (), b"")

        self.routes = Routes(app)
        self.running = Running()
        self.running.edge.resource = self.routes
        self.client = self.running.connect()

    def test_routes_are_a_leaf_resource(self) -> None:
        """The routes are a resource, and one that looks at the whole path."""
        verifyObject(IResource, self.routes)
        self.assertTrue(self.routes.isLeaf)

    def test_route_answers_for_each_of_its_methods(self) -> None:
        """A route answers for each of its methods, at once or later."""
        self.assertEqual(self.client.ask(request("GET", "/now")).body, b"now")
        for number, method in enumerate(("POST", "PUT")):
            self.client.send(request(method, "/later"))
            self.waiting[number].callback(None)
            self.assertEqual(self.client.answers()[-1].body, b"later")
        self.assertEqual(len(self.client.answers()), 3)

    def test_handler_is_cancelled_when_its_client_leaves(self) -> None:
        """When its client leaves, a handler is cancelled, and its end is no second answer."""
        self.client.send(request("POST", "/later"))
        self.client.close()
        self.assertEqual(self.cancelled, 1)
        self.assertEqual(self.running.outcomes, ["client_disconnected"])

    def test_what_is_no_route_is_left_to_klein(self) -> None:
        """What is no route is left to Klein, which knows why it is none."""
        self.assertEqual(self.client.ask(request("GET", "/nope")).status, 404)
        self.assertEqual(self.client.ask(request("DELETE", "/later")).status, 405)

    def test_every_route_is_looked_up(self) -> None:
        """Every route of the gateway with a fixed path is looked up."""
        paths = {path.decode() for _, path in Routes(Gateway.app)._handlers}
        others = {
            "/v1/models",
            "/v1/usage",
            "/healthz",
            "/readyz",
            "/readyz/self",
            "/health",
            "/v1/health",
            "/metrics",
            "/",
            "/status",
            "/status/events",
        }
        self.assertEqual(paths, others | set(ROUTES))
        self.assertEqual(
            {path for _, path in Routes(Gateway.metrics_app)._handlers},
            {b"/", b"/metrics", b"/status", b"/status/events"},
        )
