"""A whole examination."""

from __future__ import annotations

from infergate.api.operations import NAMES
from tests.unit.doctor.examined import CHAT, FAIL, OK, WARN, Examined, hangs, refuses


class Well(Examined):
    def test_backend_that_is_well_gets_a_line_for_each_thing(self) -> None:
        """Where nothing is wrong each line says so, in the order in which it was looked at."""
        checks = self.examine()
        self.assertEqual(
            [check.name for check in checks],
            [
                "descriptors",
                "connection",
                "health",
                "backend",
                "models",
                "chat",
                "chat stream",
                "idle connections",
            ],
        )
        for check in checks:
            self.assert_said(check, OK)

    def test_echo_needs_no_backend(self) -> None:
        """Without BACKEND_URL nothing is reached for."""
        check = self.the("backend", backend_url=None)
        self.assert_said(check, OK, "BACKEND_URL is not set", "echo")
        self.assertEqual(self.port.attempts, 0)


class Bounds(Examined):
    def test_backend_that_never_answers_is_given_up_in_time(self) -> None:
        """No question is waited for over ten seconds, and after the list nothing else is asked."""
        checks = {one.name: one for one in self.examine({"/health": hangs, "/v1/models": hangs})}
        for name in ("health", "models"):
            self.assert_said(checks[name], FAIL, "no whole answer within 10 s")
        self.assertIn("not tried: chat", checks["operations"].message)
        self.assertLess(self.clock.seconds(), 21)

    def test_all_of_it_has_an_end_whatever_hangs(self) -> None:
        """Where every operation hangs, the last ones are not tried any more."""
        paths = [CHAT, "/v1/completions", "/v1/embeddings", "/v1/responses", "/v1/messages"]
        answers = dict.fromkeys(paths, hangs) | {f"{path} stream": hangs for path in paths}
        checks = self.examine(answers, routes=frozenset(NAMES))
        self.assertLess(self.clock.seconds(), 43)
        (left,) = [check for check in checks if check.name == "operations"]
        self.assert_said(left, WARN, "rerank", "--routes=", "rerank,tokenize,infill alone")

    def test_backend_timeout_bounds_each_question(self) -> None:
        """BACKEND_TIMEOUT is how long anything is waited for, where it is shorter."""
        check = self.the("chat", {CHAT: hangs}, backend_timeout=1.5)
        self.assert_said(check, FAIL, "within 1.5 s")
        self.assertLess(self.clock.seconds(), 6)


class Stops(Examined):
    def test_nothing_is_asked_of_what_cannot_be_reached(self) -> None:
        """One line says why, and one what was not tried."""
        self.prepare = lambda port: port.refuse()  # type: ignore[method-assign]
        names = [check.name for check in self.examine()]
        self.assertEqual(names, ["descriptors", "connection", "operations"])
        self.assertEqual(self.port.attempts, 1)

    def test_refused_key_is_said_once(self) -> None:
        """Every other operation would get the same answer."""
        answers = {CHAT: refuses(401, "Invalid API Key")}
        checks = self.examine(answers, routes=frozenset(NAMES))
        self.assertEqual(sum("Invalid API Key" in check.message for check in checks), 1)
