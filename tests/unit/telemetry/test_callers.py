"""Who used how much, in the metrics."""

from __future__ import annotations

from prometheus_client import CollectorRegistry
from twisted.trial.unittest import SynchronousTestCase

from infergate.api.usage import Usage
from infergate.errors import ConcurrencyLimited, GatewayError, RateLimited, TokenLimited
from infergate.errors import TooManyUnderWay as TooMany
from infergate.telemetry.callers import LIMITS, MAX_CALLERS, OUTCOMES, CallerMetrics
from infergate.telemetry.record import Record


class Callers(SynchronousTestCase):
    def setUp(self) -> None:
        self.registry = CollectorRegistry()
        self.metrics = CallerMetrics(self.registry)

    def end(
        self, caller: str | None, error: GatewayError | None = None, operation: str | None = "chat"
    ) -> None:
        record = Record(opened=1.0, client="192.0.2.1", request_id="id")
        record.caller_label, record.operation = caller, operation
        record.usage = Usage(3, 5, 8, "backend")
        if error is not None:
            record.fail(error)
        usage = record.usage
        self.metrics.ended(record, 1, usage.prompt_tokens, usage.completion_tokens)

    def sample(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(f"infergate_{name}", labels)

    def test_known_callers_show_zero_from_the_start(self) -> None:
        """So that a first increment is seen; and so do those who are none of them."""
        self.metrics.learn(["alice"])
        for caller in ("alice", "other"):
            for outcome in OUTCOMES:
                name = "caller_requests_total"
                self.assertEqual(self.sample(name, caller=caller, outcome=outcome), 0)
            for kind in ("input", "output"):
                name = "caller_tokens_total"
                self.assertEqual(self.sample(name, caller=caller, gen_ai_token_type=kind), 0)
        for limit in LIMITS:
            self.assertEqual(self.sample("limited_total", limit=limit), 0)

    def test_operations_are_counted_by_caller(self) -> None:
        """Requests by outcome, tokens by kind; what is no operation is not."""
        self.metrics.learn(["alice"])
        self.end("alice")
        self.end("alice", operation=None)
        self.end("bob")
        self.end(None)
        self.assertEqual(self.sample("caller_requests_total", caller="alice", outcome="ok"), 1)
        self.assertEqual(self.sample("caller_requests_total", caller="other", outcome="ok"), 1)
        output = {"caller": "alice", "gen_ai_token_type": "output"}
        self.assertEqual(self.sample("caller_tokens_total", **output), 5)

    def test_names_are_bounded(self) -> None:
        """The first hundred are shown, and after a reload as far as places are left."""
        self.metrics.learn(f"caller-{number}" for number in range(MAX_CALLERS - 1))
        self.metrics.learn(["caller-0", "late", "later"])
        self.end("late")
        self.end("later")
        self.assertEqual(self.sample("caller_requests_total", caller="late", outcome="ok"), 1)
        self.assertIsNone(self.sample("caller_requests_total", caller="later", outcome="ok"))

    def test_limits_that_refused(self) -> None:
        """By the limit, whoever the caller was."""
        for error in (RateLimited(), TokenLimited(), ConcurrencyLimited(), TooMany()):
            self.end(None, error)
        self.assertEqual([self.sample("limited_total", limit=limit) for limit in LIMITS], [1] * 4)

    def test_budgets(self) -> None:
        """Asked for when they are shown, with the names that may be."""
        self.metrics.learn(["alice"])
        self.metrics.watch(lambda names: [(name, "day", 10, 7) for name in sorted(names)])
        labels = {"caller": "alice", "window": "day"}
        self.assertEqual(self.sample("caller_tokens_limit", **labels), 10)
        self.assertEqual(self.sample("caller_tokens_used", **labels), 7)
