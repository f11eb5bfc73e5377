"""One question to a server, and what came of it in one line."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from infergate.config.settings import Settings
from infergate.doctor.asking import LAST, QUOTED, Answer, NoTimeLeft, Patience, advice
from infergate.doctor.subject import Subject
from infergate.errors import BackendError, BackendUnavailable, GatewayTimeout
from tests.unit.doctor.examined import Examined, Reactor, refuses, says
from tests.unit.inmemory import BackendPort


class Times(SynchronousTestCase):
    def test_no_question_is_begun_too_late(self) -> None:
        """Each gets its whole time or none, so that a check is over within 45 seconds."""
        clock = Clock()
        patience = Patience(clock.seconds, 7.5)
        clock.advance(LAST - 0.1)
        self.assertEqual(patience.seconds(), 7.5)
        clock.advance(0.2)
        self.assertRaises(NoTimeLeft, patience.seconds)


class Questions(Examined):
    def test_answer_is_whole_whatever_its_status(self) -> None:
        """A refusal is an answer too; each question names itself in the backend's log."""
        self.examine({"/yes": says(b"[1]", "Server: x"), "/no": refuses(404, "gone")})
        yes = self.run_to_its_end(self.subject.backend.get("/yes"))
        self.assertEqual((yes.good, yes.body, yes.field(b"server")), (True, b"[1]", "x"))
        self.assertEqual(yes.field(b"location"), "")
        no = self.run_to_its_end(self.subject.backend.get("/no"))
        self.assertEqual((no.good, self.subject.backend.quote(no)), (False, "404 Whatever: gone"))
        asked = [one for each in self.port.connections for one in each.requests]
        self.assertTrue(all(one.headers["x-request-id"].startswith("check-") for one in asked))


class Words(SynchronousTestCase):
    def setUp(self) -> None:
        clock = Reactor()
        settings = Settings(backend_url="http://backend/v1", backend_api_key="sk-mine")
        self.asker = Subject(settings, clock, lambda *_: BackendPort(clock)).backend

    def test_what_a_server_said_is_one_short_line_without_the_key(self) -> None:
        """Whatever it sent, the terminal and a pasted report stay whole."""
        self.assertEqual(self.asker.shown(b"no\n\xff\x1b[1m sk-mine!"), "no \ufffd [1m ***!")
        self.assertEqual(self.asker.shown("x" * 999), "x" * QUOTED + "...")

    def test_page_is_quoted_by_its_title(self) -> None:
        """Of a proxy's page of HTML the title is shown, unless it repeats the status."""
        for title, quoted in (("Down for now", "502 Bad: Down for now"), ("502 Bad", "502 Bad")):
            page = f"<html><TITLE> {title}</title>".encode()
            self.assertEqual(self.asker.quote(Answer(502, "Bad", {}, page, 0.1)), quoted)

    def test_each_fault_has_its_words_and_an_advice(self) -> None:
        """Why there is no answer is told apart, and with it what to do."""
        for error, words, hint in (
            (NoTimeLeft(), "not tried", "load a model"),
            (GatewayTimeout("late"), "no whole answer within 10 s", "load a model"),
            (GatewayTimeout("late", cause="BACKEND_CONNECT_TIMEOUT"), "no connection", "slow"),
            (BackendUnavailable("away", cause="refused"), "refused", "proxy in front"),
            (BackendError("it is compressed"), "compressed", "turn compression off"),
        ):
            self.assertIn(words, self.asker.fault(error))
            self.assertIn(hint, advice(error))
