"""What the mock answers where it is told to fail, before anything is sent."""

from __future__ import annotations

import json

from twisted.trial.unittest import SynchronousTestCase

from infergate.api.operation import Rules, Stamp, request_members
from infergate.api.operations import ROUTES
from infergate.api.steps import at_once
from infergate.errors import BackendError
from infergate.mock.doors import DOORS
from infergate.mock.replies import reply_to
from infergate.mock.script import Script
from tests.unit.mock.test_doors import STREAMS, answer, body_of, scanned


class Failures(SynchronousTestCase):
    def test_missing_end(self) -> None:
        """The stream is not whole without it."""
        for path in STREAMS:
            scanner, _ = scanned(path, {"done": False})
            whole = path == "/v1/completions"  # the choice has its finish_reason
            self.assertEqual(scanner.complete(), whole, path)

    def test_error_event(self) -> None:
        """In the form of the dialect, after as many chunks as are asked for."""
        for path in STREAMS:
            scanner, stream = scanned(path, {"fail": "error_event", "fail_after": 2})
            self.assertIsNotNone(scanner.error)
            self.assertEqual(scanner.reader.tokens, 1)
            self.assertIn(b"told to fail", stream)

    def test_statuses(self) -> None:
        """With an error in the form of the dialect."""
        for path in DOORS:
            reply = answer(path, {"status": 429, "retry_after": 7})
            self.assertEqual(reply.status, 429)
            self.assertIn((b"Retry-After", b"7"), reply.headers)
            document = json.loads(b"".join(reply.pieces))
            self.assertEqual(document["error"]["message"], "The mock was told so.")
            self.assertEqual(document.get("type"), "error" if "messages" in path else None)

    def test_breaking_off(self) -> None:
        """In the middle of a stream and of a plain reply; before the head where it is told so."""
        for path in STREAMS:
            for fail in ("reset", "close", "stall"):
                reply = answer(path, {"fail": fail, "fail_after": 3}, stream=True)
                self.assertEqual((len(list(reply.pieces)), reply.ending), (3, fail))
                reply = answer(path, {"fail": fail, "fail_after": 0})
                self.assertEqual((list(reply.pieces), reply.ending), ([], fail))

    def test_replies_that_are_none(self) -> None:
        """The gateway takes none of them for an answer."""
        for path, (operation, route) in ROUTES.items():
            body = json.dumps(body_of(path)).encode()
            ask = operation.check(request_members(body), route, Rules(None, 1000))
            for fail in ("garbage", "empty", "error_event"):
                reply = answer(route.target, {"fail": fail}, **body_of(path))
                said = b"".join(reply.pieces)
                self.assertRaises(BackendError, at_once, operation.shape(said, ask, Stamp("r", 1)))
            reply = answer(route.target, {"fail": "cut_json"}, **body_of(path))
            assert reply.length is not None
            self.assertGreater(reply.length, len(b"".join(reply.pieces)))

    def test_bad_requests(self) -> None:
        """A body that is none, and a script that is none, are the client's fault."""
        for path in DOORS:
            for body in (b"no", b"[]", b'{"mock":{"fail":"unheard of"}}'):
                _, reply = reply_to(body, Script(), path)
                self.assertEqual(reply.status, 400)
            self.assertEqual(reply_to(b'{"mock":5}', Script(), path)[1].status, 200)
