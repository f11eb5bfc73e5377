"""What is common to all operations: reading a body, and what is kept of a request."""

from __future__ import annotations

from msgspec import Raw
from twisted.trial.unittest import SynchronousTestCase

from infergate.api.operation import Ask, Reply, Route, Rules, check_in_steps, request_members, same
from infergate.api.operations import CHAT
from infergate.api.steps import at_once
from infergate.errors import InvalidJSON, InvalidRequest

RULES = Rules(default_model="default", max_tokens_limit=1000)
HI = b'[{"role":"user","content":"hi"}]'
ASK = Ask(Route("/here", "/there"), "m", True, {"messages": Raw(HI), "x": Raw(b"1.0")})


class Asks(SynchronousTestCase):
    def test_body_is_the_members_as_they_came(self) -> None:
        """The backend reads each value in the bytes that the client wrote."""
        self.assertEqual(ASK.body(), b'{"messages":%b,"x":1.0}' % HI)

    def test_what_is_kept_without_the_members_is_all_else(self) -> None:
        """The prompt need not stay in memory, and the request is still known."""
        kept = ASK.without_members()
        self.assertEqual((kept.members, kept.body()), ({}, b"{}"))
        self.assertEqual((kept.route, kept.model, kept.stream), (ASK.route, "m", True))
        self.assertIn("x", ASK.members)

    def test_repr_shows_no_prompt_and_no_answer(self) -> None:
        """A request or a reply that ends up in a log does not take its text there."""
        self.assertNotIn("hi", repr(ASK))
        self.assertNotIn("hi", repr(Reply(b'"hi"', model="m")))

    def test_same_route_is_asked_for_under_one_path(self) -> None:
        """A route that is the same at the backend goes there by the path it came by."""
        route = same("/v1/x", costs=False, sample=b"{}")
        self.assertEqual((route.path, route.target), ("/v1/x", "/v1/x"))
        self.assertEqual((route.costs, route.sample), (False, b"{}"))


class Bodies(SynchronousTestCase):
    def test_large_body_is_judged_as_a_small_one(self) -> None:
        """In steps or at once, the same request goes on, and the same fault is named."""
        route = CHAT.routes[0]
        good = b'{"model":"m","messages":%b,"stop":["a"]}' % HI
        ask = at_once(check_in_steps(CHAT, good, route, RULES))
        self.assertEqual(ask.body(), CHAT.check(request_members(good), route, RULES).body())
        for bad, kind, param in (
            (b"{", InvalidJSON, None),
            (b"[]", InvalidRequest, None),
            (b'{"messages":5,"n":0}', InvalidRequest, "messages"),
            (b'{"messages":[{"role":5}],"n":0}', InvalidRequest, "messages[0].role"),
            (b'{"messages":%b,"stop":[1],"n":0}' % HI, InvalidRequest, "stop[0]"),
        ):
            small = self.assertRaises(
                kind, lambda bad=bad: CHAT.check(request_members(bad), route, RULES)
            )
            large = self.assertRaises(kind, at_once, check_in_steps(CHAT, bad, route, RULES))
            self.assertEqual((large.message, large.code), (small.message, small.code))
            self.assertEqual((large.param, small.param), (param, param))
