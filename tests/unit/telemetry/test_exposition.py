"""The text of ``/metrics``: its two forms, its slices, and how often it is written anew."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from infergate.api.usage import Usage
from infergate.reactor.slices import SLICE
from infergate.telemetry import exposition
from infergate.telemetry.batch import Batch
from infergate.telemetry.exposition import BURST, SHARE, Exposition, asks_for_openmetrics
from infergate.telemetry.metrics import Metrics
from infergate.telemetry.record import Record


def stream(request_id: str = "id-1", model: str = "tiny") -> Record:
    record = Record(opened=100.0, client="192.0.2.1", request_id=request_id)
    record.method, record.route, record.status = "POST", "/v1/chat/completions", 200
    record.operation, record.model, record.model_accepted = "chat", model, True
    record.backend_began, record.backend_ended = 100.5, 103.5
    record.first_token, record.usage, record.stream = 101.0, Usage(7, 4, 11, "backend"), True
    record.close(104.0)
    record.epoch = 1_795_402_546 * 10**9
    return record


class Forms(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.batch = Batch()
        self.metrics = Metrics(self.batch)
        self.exposition = Exposition(self.metrics, self.clock)

    def text(self, *, openmetrics: bool = False) -> str:
        return self.successResultOf(self.exposition.text(openmetrics=openmetrics)).decode()

    def samples(self, families: Any) -> dict[tuple[str, ...], float]:
        return {
            (sample.name, *map(str, sorted(sample.labels.items()))): sample.value
            for family in families
            for sample in family.samples
            if not sample.name.startswith("process_")
        }

    def test_gauge_that_cannot_be_read_costs_that_scrape_alone(self) -> None:
        """Whoever waits for it is told, and the next scrape is written anew."""

        def broken() -> float:
            raise KeyError("gauge")

        self.metrics.watch("broken", "Breaks.", broken)
        answer = self.exposition.text()
        while self.clock.getDelayedCalls():
            self.clock.advance(0)
        self.failureResultOf(answer, KeyError)
        self.patch(self.metrics, "_others", CollectorRegistry())
        self.assertIn("infergate_overhead_seconds", self.text())

    def test_text_is_what_the_library_would_write(self) -> None:
        """Every sample is there, with the same labels and the same value."""
        for model in ("tiny", 'odd "name" \\ \n', "ünï"):
            self.batch.add([stream(model=model)])
        expected = self.samples(parse_text(generate_latest(self.metrics.registry).decode()))
        self.assertEqual(self.samples(parse_text(self.text())), expected)
        self.assertGreater(len(expected), 300)

    def test_text_has_no_exemplars(self) -> None:
        """Which its readers would not understand."""
        self.batch.add([stream()])
        self.assertNotIn("id-1", self.text())
        self.assertNotIn("EOF", self.text())

    def test_openmetrics_has_examples_of_every_latency(self) -> None:
        """Each histogram of a latency leads to a request of that latency."""
        self.batch.add([stream()])
        families = list(parse_openmetrics(self.text(openmetrics=True)))
        examples = {
            family.name: [sample.exemplar for sample in family.samples if sample.exemplar]
            for family in families
            if family.type == "histogram"
        }
        for name in (
            "http_server_request_duration_seconds",
            "gen_ai_server_request_duration_seconds",
            "gen_ai_server_time_to_first_token_seconds",
            "gen_ai_server_time_per_output_token_seconds",
            "infergate_overhead_seconds",
        ):
            (example,) = examples[name]
            self.assertEqual(example.labels, {"request_id": "id-1"}, name)
            self.assertEqual(float(example.timestamp), 1_795_402_650.0)
        self.assertEqual(examples["gen_ai_client_token_usage"], [])
        values = {name: found[0].value for name, found in examples.items() if found}
        self.assertEqual(values["http_server_request_duration_seconds"], 4.0)
        self.assertEqual(values["gen_ai_server_time_to_first_token_seconds"], 1.0)

    def test_example_is_a_trace_where_there_is_one(self) -> None:
        """With tracing on, the trace leads further than the request's id."""
        record = stream()
        record.trace_id, record.span_id = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
        self.batch.add([record])
        self.assertIn(
            '# {trace_id="0af7651916cd43dd8448eb211c80319c"} 4.0 ', self.text(openmetrics=True)
        )

    def test_id_that_is_too_long_is_no_example(self) -> None:
        """An exemplar has 128 characters at most."""
        for length, fits in ((118, True), (119, False)):
            self.batch.add([stream("x" * length)])
            self.clock.advance(100)
            self.assertEqual("x" * length in self.text(openmetrics=True), fits)

    def test_same_samples_in_both_forms(self) -> None:
        """But for what OpenMetrics adds."""
        self.batch.add([stream()])
        text = self.samples(parse_text(self.text()))
        self.assertEqual(self.samples(parse_openmetrics(self.text(openmetrics=True))), text)

    def test_form_is_the_one_that_is_preferred(self) -> None:
        """As Prometheus asks, and as a browser or curl does."""
        prometheus = (
            b"application/openmetrics-text;version=1.0.0;q=0.5,"
            b"application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=0.0.4;q=0.3"
        )
        for accept, preferred in (
            (prometheus, True),
            (b"application/openmetrics-text", True),
            (b"Application/OpenMetrics-Text; version=1.0.0", True),
            (b"text/plain, application/openmetrics-text;q=0.5", False),
            (b"application/openmetrics-text;q=0", False),
            (b"application/openmetrics-text;q=x", False),
            (b"text/plain;version=0.0.4", False),
            (b"*/*", False),
            (b"", False),
        ):
            self.assertEqual(asks_for_openmetrics(accept), preferred, accept)

    def test_scrape_has_others_asked(self) -> None:
        """What is to be looked at for the metrics is looked at with each scrape."""
        looks: list[int] = []
        exposition = Exposition(self.metrics, self.clock, lambda: looks.append(1))
        exposition.text()
        exposition.text(openmetrics=True)
        self.assertEqual(len(looks), 2)


LONG = 0.25
"""Seconds that the text takes to write here, in pieces of which each takes a slice."""


class Slow(SynchronousTestCase):
    """Metrics whose text takes long to write."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.written = 0
        self.patch(exposition, "pieces", self.pieces)
        self.exposition = Exposition(Metrics(Batch()), self.clock)

    def pieces(self, metrics: Metrics, *, openmetrics: bool) -> Iterator[str]:
        self.written += 1
        for _ in range(round(LONG / SLICE)):
            self.clock.rightNow += SLICE
            yield f"{self.written} "

    def finish(self, *answers: Deferred[bytes]) -> list[set[str]]:
        """Let the event loop run; what each answer is made of."""
        while self.clock.getDelayedCalls():
            self.clock.advance(0)
        return [set(re.findall(r"\d+", self.successResultOf(one).decode())) for one in answers]


class Slices(Slow):
    def test_others_have_their_turn_between_two_slices(self) -> None:
        """The writing gives way after each slice."""
        answer = self.exposition.text()
        slices = 0
        while not answer.called:
            began = self.clock.seconds()
            (call,) = self.clock.getDelayedCalls()
            self.clock.calls.remove(call)
            call.func(*call.args)
            self.assertLessEqual(self.clock.seconds() - began, 2 * SLICE)
            slices += 1
        self.assertGreater(slices, LONG / SLICE / 2 - 1)

    def test_who_asks_meanwhile_gets_the_same(self) -> None:
        """One text is written for all who ask while it is."""
        answers = [self.exposition.text() for _ in range(10)]
        self.assertEqual(self.finish(*answers), [{"1"}] * 10)

    def test_who_leaves_meanwhile_takes_nothing_from_others(self) -> None:
        """A scraper that is gone ends its own wait and not the writing."""
        leaving, staying = self.exposition.text(), self.exposition.text()
        leaving.addErrback(lambda _: None)
        leaving.cancel()
        self.assertEqual(self.finish(staying), [{"1"}])


class Rationing(Slow):
    def test_usual_scrape_gets_what_is_true_now(self) -> None:
        """Who scrapes each few seconds always gets the text of that time."""
        for number in range(1, 20):
            self.assertEqual(self.finish(self.exposition.text()), [{str(number)}])
            self.clock.advance(5)

    def test_many_scrapes_take_no_more_than_their_share_of_the_time(self) -> None:
        """However often somebody asks, writing takes a tenth of the time, and each gets a text."""
        seconds = 100
        until = self.clock.seconds() + seconds
        while self.clock.seconds() < until:
            self.assertNotEqual(self.finish(self.exposition.text()), [set()])
            self.clock.advance(0.1)
        self.assertLessEqual(self.written * LONG, BURST + SHARE * seconds + LONG)
        self.assertGreater(self.written * LONG, SHARE * seconds * 0.8)

    def test_first_scrape_is_never_empty(self) -> None:
        """The first text is written, however many ask at once."""
        answers = [self.exposition.text() for _ in range(100)]
        self.assertNotIn(set(), self.finish(*answers))
