"""What a backend's refusal means for the gateway."""

from __future__ import annotations

from infergate.doctor.asking import Answer
from infergate.doctor.refused import refused
from tests.unit.doctor.examined import CHAT, FAIL, WARN, Examined, refuses, says


class Refusals(Examined):
    def test_refused_key_is_named_by_its_setting(self) -> None:
        """What the backend said is quoted, without the key."""
        refusal = {"/v1/models": refuses(401, "sk-mine is wrong")}
        check = self.the("models", refusal)
        self.assert_said(check, FAIL, "401", "sk-mine is wrong", "set BACKEND_API_KEY")
        check = self.the("models", refusal, backend_api_key="sk-mine")
        self.assert_said(check, FAIL, "*** is wrong", "BACKEND_API_KEY is none")

    def test_redirect_is_followed_by_nobody(self) -> None:
        """Where it leads is said."""
        moved = says(b"", "Location: https://elsewhere/v1/models", status=308)
        check = self.the("models", {"/v1/models": moved})
        self.assert_said(check, FAIL, "https://elsewhere/v1/models", "BACKEND_URL")

    def test_one_that_loads_is_asked_nothing_more(self) -> None:
        """Every other question would get the same answer."""
        checks = self.examine({"/health": refuses(503, "Loading model")})
        self.assert_said(checks[2], FAIL, "still loading", "503 Whatever: Loading model", "wait")
        self.assert_said(checks[-1], WARN, "not tried: chat")
        self.assertEqual(len(checks), 4)

    def test_rate_limit_of_the_backend_passes(self) -> None:
        """It is asked a dozen times in a few seconds."""
        check = self.the("chat", {CHAT: refuses(429, "slow down")})
        self.assert_said(check, FAIL, "429", "slow down", "later")

    def test_what_would_be_refused_again_stops_the_rest(self) -> None:
        """A key that is refused and a model that loads are said once, and no more is asked."""
        self.examine()
        for status in (400, 401, 403, 404, 429, 500, 503, 529):
            self.subject.stopped = False
            check = refused(self.subject, "chat", Answer(status, "", {}, b"", 0.1), "do this")
            self.assert_said(check, FAIL, str(status))
            self.assertEqual(self.subject.stopped, status in (401, 403, 503, 529), status)
            self.assertEqual(check.hint == "do this", status in (400, 404), status)
