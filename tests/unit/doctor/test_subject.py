"""What is examined, and what is known of it so far."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from infergate.config.settings import Settings
from infergate.doctor.asking import EACH, Answer
from infergate.doctor.subject import Subject
from tests.unit.doctor.examined import Reactor
from tests.unit.inmemory import BackendPort


class Subjects(SynchronousTestCase):
    def subject(self, **settings: Any) -> Subject:
        self.clock = Reactor()
        self.port = BackendPort(self.clock)
        return Subject(Settings(**settings), self.clock, lambda *_: self.port)

    def test_default_model_is_tried_before_a_listed_one(self) -> None:
        """Without both a request names no model, as llama.cpp lets it."""
        for default, listed, tried in (
            ("mine", ["a", "b"], "mine"),
            (None, ["a", "b"], "a"),
            (None, [], None),
            (None, None, None),
        ):
            subject = self.subject(default_model=default)
            subject.models = listed
            self.assertEqual(subject.model, tried)

    def test_shorter_timeouts_of_the_gateway_count(self) -> None:
        """What the gateway would give up is given up here, and nothing takes over ten seconds."""
        for timeout, connect, each, connecting in (
            (2.0, 5.0, 2.0, 2.0),
            (600.0, 5.0, EACH, 5.0),
            (600.0, 60.0, EACH, EACH),
        ):
            subject = self.subject(backend_timeout=timeout, backend_connect_timeout=connect)
            self.assertEqual(subject.patience.each, each)
            self.assertEqual(subject.connect_seconds, connecting)

    def test_making_one_connects_to_nothing(self) -> None:
        """The backend's agent and asker are made when they are first read, and once."""
        subject = self.subject(backend_url="http://backend:9000/v1")
        self.assertIs(subject.backend, subject.backend)
        self.assertIs(subject.origin, subject.origin)
        self.assertEqual((self.port.attempts, self.clock.getDelayedCalls()), (0, []))

    def test_key_goes_to_the_backend_alone(self) -> None:
        """Another server is asked without it, and so nothing of its words is hidden."""
        subject = self.subject(backend_url="http://backend/v1", backend_api_key="sk-mine")
        other = subject.asker(subject.origin[0], "", keyless=True)
        said = Answer(401, "", {}, b'{"error":{"message":"sk-mine is wrong"}}', 0.1)
        self.assertEqual(subject.backend.quote(said), "401: *** is wrong")
        self.assertEqual(other.quote(said), "401: sk-mine is wrong")
