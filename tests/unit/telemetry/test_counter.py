"""Counts by labels."""

from __future__ import annotations

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest
from twisted.trial.unittest import SynchronousTestCase

from infergate.telemetry.counter import Counter


class CounterTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.counter = Counter("fruit", "Fruit eaten.", ("kind", "colour"))

    def text(self) -> list[str]:
        registry = CollectorRegistry()
        registry.register(self.counter)
        return generate_latest(registry).decode().splitlines()

    def test_adds_up_for_each_set_of_labels(self) -> None:
        """What was added under the same labels is one count, in the order of their names."""
        self.counter.add("apple", "red")
        self.counter.add("apple", "green", count=3)
        self.counter.add("apple", "red")
        self.assertEqual(
            self.text(),
            [
                "# HELP fruit_total Fruit eaten.",
                "# TYPE fruit_total counter",
                'fruit_total{colour="red",kind="apple"} 2.0',
                'fruit_total{colour="green",kind="apple"} 3.0',
            ],
        )

    def test_shown_count_is_there_before_anything_was_added(self) -> None:
        """It is 0 then, and keeps what was added before it was shown."""
        self.counter.show("pear", "green")
        self.assertIn('fruit_total{colour="green",kind="pear"} 0.0', self.text())
        self.counter.add("pear", "green")
        self.counter.show("pear", "green")
        self.assertIn('fruit_total{colour="green",kind="pear"} 1.0', self.text())
