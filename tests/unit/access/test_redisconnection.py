"""One connection to Redis: how it logs in, and how it runs scripts."""

from __future__ import annotations

from infergate.access.redislink import AGAIN
from infergate.access.redisurl import SharedState
from tests.unit.access.test_redislink import OK, Links


class Scripts(Links):
    def test_text_of_a_script_is_sent_once(self) -> None:
        """From then on its digest is sent, and the text once more where Redis has forgotten it."""
        self.connect()
        transport = self.endpoint.transports[-1]
        for name in (b"EVAL", b"EVALSHA", b"EVALSHA"):
            transport.clear()
            asked = self.ask()
            self.assertIn(b"\r\n%b\r\n" % name, transport.value())
            self.answer(b"+1 2\r\n")
            self.assertEqual(self.successResultOf(asked), "1 2")
        asked = self.ask()
        transport.clear()
        self.answer(b"-NOSCRIPT No matching script. Please use EVAL.\r\n")
        self.assertIn(b"\r\nEVAL\r\n", transport.value())
        self.answer(b"+3 4\r\n")
        self.assertEqual(self.successResultOf(asked), "3 4")
        self.assertTrue(self.link.up)


class LoggingIn(Links):
    state = SharedState("cache", username="me", password="canary", database=3)

    def test_logs_in_first(self) -> None:
        """User, password and database, before any question."""
        self.link.start()
        transport = self.endpoint.transports[-1]
        for words in (b"AUTH me canary", b"SELECT 3", b"SET infergate:alive 1 EX 60"):
            self.assertFalse(self.link.up)
            sent = b" ".join(transport.value().split(b"\r\n")[2::2])
            self.assertEqual(sent.strip(), words)
            transport.clear()
            self.answer(OK)
        self.assertTrue(self.link.up)

    def test_refused_password_is_tried_again(self) -> None:
        """Whoever mends the password in Redis does not have to restart the gateways. The log says
        why, and not the password."""
        self.link.start()
        self.answer(b"-WRONGPASS invalid username-password pair\r\n")
        self.assertFalse(self.link.up)
        self.assertIn("WRONGPASS", self.said()[0])
        self.clock.advance(AGAIN)
        for _ in range(3):
            self.answer(OK)
        self.assertTrue(self.link.up)
        self.assertNotIn("canary", repr([*self.lines, self.state]))
