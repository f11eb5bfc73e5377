"""Idle connections, and clocks."""

from __future__ import annotations

import json
from email.utils import formatdate
from typing import Any

from infergate.doctor.report import Check
from tests.unit.doctor.examined import NOW, OK, WARN, Examined, says
from tests.unit.doctor.test_backend import listing
from tests.unit.inmemory import BackendConnection


class Idle(Examined):
    def idle(self, seconds: float | None, *fields: str) -> Check:
        """What is found where the backend closes an idle connection after some seconds."""
        body = json.dumps({"data": [{"id": "tiny"}]}).encode()

        def answer(connection: BackendConnection) -> None:
            connection.answer(body, *fields)
            if seconds is not None:
                self.clock.callLater(seconds, connection.close)

        return self.the("idle connections", {"/v1/models": answer})

    def test_backend_that_closes_them_before_the_gateway_does(self) -> None:
        """A request that is sent on one in that instant is lost."""
        self.assert_said(self.idle(1), WARN, "closes them after 1.", "2 s", "keep-alive")

    def test_backend_that_keeps_them_long_enough(self) -> None:
        """As long as the gateway, or longer."""
        for seconds in (None, 5.0):
            self.assert_said(self.idle(seconds), OK, "keeps them")
            self.assertEqual([one.closed for one in self.port.connections[2:]], [True])

    def test_backend_that_closes_each_with_its_answer(self) -> None:
        """It says so, and nothing is sent on one."""
        self.assert_said(self.idle(0, "Connection: close"), OK, "with its answer")


class Clocks(Examined):
    def clock_of(self, ahead: float, **settings: Any) -> list[Check]:
        answer = says(b'{"data":[]}', f"Date: {formatdate(NOW + ahead, usegmt=True)}")
        checks = self.examine({"/v1/models": answer}, **settings)
        return [check for check in checks if check.name == "clock"]

    def test_clock_that_is_apart_is_warned_of_where_tokens_are_checked(self) -> None:
        """By more than half a minute, in either direction."""
        secret: Any = object()
        for ahead, words in ((31, "31 s ahead"), (-3600, "3600 s behind")):
            (check,) = self.clock_of(ahead, jwt_secret=secret)
            self.assert_said(check, WARN, words, "NTP")
        (check,) = self.clock_of(-29, jwt_secret=secret)
        self.assert_said(check, OK, "agrees")

    def test_elsewhere_the_time_does_not_matter(self) -> None:
        """Keys have no seconds; nor is anything said of a backend that does not say its time, or
        says one of no calendar."""
        self.assertEqual(self.clock_of(3600), [])
        never = says(b'{"data":[]}', f"Date: Mon, 01 Jan {10**20} 00:00:00 GMT")
        for answer in (listing("tiny"), never):
            checks = self.examine({"/v1/models": answer}, jwt_secret=object())
            self.assertNotIn("clock", [check.name for check in checks])
