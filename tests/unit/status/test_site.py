"""The page and its feed, as the gateway serves them."""

from __future__ import annotations

import base64
import json
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from infergate.backend.call import Timeouts
from tests.unit.inmemory import Answer, Client, Running, chat, request

HERE = "127.0.0.1"


def get(path: str, *fields: str) -> bytes:
    """A request of somebody at the machine."""
    return request("GET", path, *fields).replace(b"Host: gateway", b"Host: localhost:8080")


class Access(SynchronousTestCase):
    def ask(self, running: Running, path: str, *fields: str, peer: str = HERE) -> Answer:
        return running.ask(get(path, *fields), peer)

    def test_page_is_open_at_the_machine(self) -> None:
        """Whoever sits at the machine opens the page without a key, also where keys are on."""
        for keys in (None, "alice:secret"):
            answer = self.ask(Running(keys=keys), "/status")
            self.assertEqual(answer.status, 200)
            self.assertEqual(answer.headers["content-type"], "text/html; charset=utf-8")
            self.assertIn("default-src 'none'", answer.headers["content-security-policy"])
            self.assertEqual(answer.headers["cache-control"], "no-store")

    def test_page_is_not_there_for_others(self) -> None:
        """Without keys, nobody else learns that there is a page."""
        for path in ("/status", "/status/events"):
            answer = self.ask(Running(), path, peer="192.0.2.1")
            self.assertEqual((answer.status, answer.code), (404, "not_found"))

    def test_key_opens_the_page(self) -> None:
        """With keys on, a key opens it from anywhere, as a browser's password too."""
        running = Running(keys="alice:secret")
        password = base64.b64encode(b"anybody:secret").decode()
        for field in ("Authorization: Bearer secret", f"Authorization: Basic {password}"):
            self.assertEqual(self.ask(running, "/status", field, peer="192.0.2.1").status, 200)
        answer = self.ask(running, "/status", peer="192.0.2.1")
        self.assertEqual(answer.status, 401)
        self.assertTrue(answer.headers["www-authenticate"].startswith("Basic "))

    def test_password_counts_here_alone(self) -> None:
        """A browser's password opens nothing else."""
        password = base64.b64encode(b"anybody:secret").decode()
        running = Running(keys="alice:secret")
        answer = self.ask(running, "/v1/models", f"Authorization: Basic {password}")
        self.assertEqual(answer.status, 401)

    def test_root_leads_a_person_to_the_page(self) -> None:
        """A browser that opens the gateway's address comes to the page, a program does not."""
        answer = self.ask(Running(), "/", "Accept: text/html")
        self.assertEqual((answer.status, answer.headers["location"]), (303, "/status"))
        self.assertEqual(self.ask(Running(), "/").status, 404)
        self.assertEqual(
            self.ask(Running(), "/", "Accept: text/html", peer="192.0.2.1").status, 404
        )

    def test_listener_apart_has_the_page_for_everybody(self) -> None:
        """With METRICS_LISTEN the page is there, without a key, and not on the main port."""
        running = Running(metrics_apart=True, keys="alice:secret")
        client = running.connect("192.0.2.1", edge=running.wired.metrics_edge)
        self.assertEqual(client.ask(get("/status")).status, 200)
        self.assertEqual(self.ask(running, "/status").status, 404)


class Feed(SynchronousTestCase):
    def setUp(self) -> None:
        self.running = Running(timeouts=Timeouts(total=60))
        self.client = self.running.connect(HERE)
        self.client.send(get("/status/events"))

    def lines(self, client: Client | None = None) -> list[dict[str, Any]]:
        """The lines of the feed that have come."""
        _, _, body = (client or self.client).received.partition(b"\r\n\r\n")
        return [json.loads(line[6:]) for line in body.split(b"\r\n") if line.startswith(b"data: ")]

    def test_a_line_each_second(self) -> None:
        """Who looks sees each exchange that ended within the last second."""
        self.running.ask(chat())
        self.running.clock.advance(1)
        first, second = self.lines()
        self.assertEqual((first["requests"], first["state"]["state"]), ([], "ready"))
        self.assertEqual([line["outcome"] for line in second["requests"]], ["ok"])

    def test_feed_is_no_exchange(self) -> None:
        """It is not in the log, the metrics or the list, not even when it ends."""
        self.running.clock.advance(1)
        self.assertEqual(self.lines()[-1]["state"]["in_flight"], 0)
        self.client.close()
        self.running.clock.advance(1)
        self.assertEqual(self.running.records, [])

    def test_no_deadline_holds_for_it(self) -> None:
        """It stays open for as long as somebody looks."""
        seconds = 200
        limits = self.running.limits
        self.assertLess(max(limits.keepalive_timeout, limits.write_stall_timeout), seconds)
        self.assertLess(self.running.settings.request_timeout, seconds)
        for _ in range(seconds):
            self.running.clock.advance(1)
        self.assertFalse(self.client.wire.lost)
        self.assertEqual(len(self.lines()), 1 + seconds)

    def test_no_drain_waits_for_it(self) -> None:
        """A drain ends although somebody looks on, and says so while it lasts."""
        self.successResultOf(self.running.wired.front.drain())
        self.running.clock.advance(1)
        self.assertEqual(self.lines()[-1]["state"]["state"], "draining")

    def test_timer_ends_with_the_last_who_looks(self) -> None:
        """Nothing is sent, and nothing made, while nobody looks."""
        self.client.close()
        self.running.clock.advance(1)
        count = len(self.lines())
        self.running.clock.advance(5)
        self.assertEqual(len(self.lines()), count)
