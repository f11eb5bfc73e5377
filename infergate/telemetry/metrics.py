"""One record into every metric.

The instruments carry the names, units and buckets of OpenTelemetry's semantic conventions for
HTTP servers and for generative AI. `exposition` writes them out, `otlp` pushes them; recording a
value with the OpenTelemetry SDK costs some twenty times as much.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Iterable, Iterator
from itertools import product
from typing import Any

import attrs
from prometheus_client import (
    CollectorRegistry,
    Info,
    Metric,
    ProcessCollector,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

import twisted
from infergate import __version__
from infergate.api.operations import OPERATIONS
from infergate.telemetry import buckets
from infergate.telemetry.callers import CallerMetrics
from infergate.telemetry.counter import Counter
from infergate.telemetry.escaping import escaped
from infergate.telemetry.histogram import EXEMPLAR_CHARACTERS, Exemplar, Histogram
from infergate.telemetry.record import Record

MAX_MODELS = 100
"""Names of models that become a label; clients choose them, so they must not be endless."""

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})

METRIC_NAMES = {operation.name: operation.metric_name for operation in OPERATIONS}
"""What the GenAI conventions call each operation."""

ENDINGS = (
    ("200", "ok"), ("400", "client_error"), ("401", "unauthorized"), ("403", "forbidden"),
    ("429", "rate_limited"), ("499", "client_disconnected"), ("500", "internal_error"),
    ("502", "backend_error"), ("502", "backend_unavailable"), ("503", "overloaded"),
    ("503", "shutdown"), ("504", "timeout"),
)  # fmt: skip
"""Statuses and outcomes that an operation may have: counted from 0, so that the first of its kind
is seen as an increase."""

_GEN_AI = ("gen_ai_operation_name", "gen_ai_request_model", "error_type")


class Metrics:
    """The metrics of one process. All calls come from the reactor's thread.

    `began` is called with the record of each exchange at its beginning, `stream_began` where it
    turns out to be for a stream, `ended` once the record is closed. Parts that have metrics of
    their own add them with `watch`, or to `others`. `registry` has everything, `histograms` and
    `others` have it in two parts.
    """

    def __init__(self) -> None:
        """Make all metrics of the gateway; each stands in `histograms` or in `others`."""
        self.registry = CollectorRegistry()
        self.others = CollectorRegistry()
        self.registry.register(self.others)
        self.histograms: list[Histogram] = []
        self._http = self._histogram(
            "http_server_request_duration_seconds", "Duration of HTTP server requests.",
            ("http_route", "http_request_method", "http_response_status_code", "error_type"),
            buckets.REQUEST_SECONDS,
        )  # fmt: skip
        self._operation = self._histogram(
            "gen_ai_server_request_duration_seconds",
            "Duration of operations, to the last token.", _GEN_AI, buckets.OPERATION_SECONDS,
        )  # fmt: skip
        self._first_token = self._histogram(
            "gen_ai_server_time_to_first_token_seconds",
            "Time to the first token of streams.", _GEN_AI, buckets.FIRST_TOKEN_SECONDS,
        )  # fmt: skip
        self._per_token = self._histogram(
            "gen_ai_server_time_per_output_token_seconds",
            "Time per token after the first, of streams.", _GEN_AI, buckets.TOKEN_SECONDS,
        )  # fmt: skip
        self._tokens = self._histogram(
            "gen_ai_client_token_usage", "Tokens used.",
            ("gen_ai_token_type", "gen_ai_request_model"), buckets.TOKENS,
        )  # fmt: skip
        self._overhead = self._histogram(
            "infergate_overhead_seconds",
            "The exchange less the time spent waiting for the backend.",
            (), buckets.OVERHEAD_SECONDS,
        )  # fmt: skip
        self.lag = self._histogram(
            "infergate_reactor_lag_seconds",
            "How late a timer of the event loop is.", (), buckets.LAG_SECONDS,
        )  # fmt: skip
        self._requests = Counter(
            "infergate_requests", "Exchanges that have ended.", ("route", "status", "outcome")
        )
        self._expected: list[str] = []
        self._in_flight = self._streams = 0
        self.watch("infergate_requests_in_flight", "Exchanges under way.", lambda: self._in_flight)
        self.watch("infergate_streams_in_flight", "Streams under way.", lambda: self._streams)
        self.others.register(_Counted(self._requests, self._expected))
        self.callers = CallerMetrics(self.others)
        self._models: dict[str, str] = {}
        Info("infergate_build", "What runs.", registry=self.others).info(
            {
                "version": __version__,
                "python": platform.python_version(),
                "twisted": twisted.__version__,
            }
        )
        ProcessCollector(registry=self.others)

    def _histogram(
        self, name: str, about: str, labels: Iterable[str], bounds: Iterable[float]
    ) -> Histogram:
        """Make a histogram, register it for scrapes and pushes, and return it. Called by
        `__init__`."""
        one = Histogram(name, about, tuple(labels), tuple(bounds))
        self.registry.register(one)
        self.histograms.append(one)
        return one

    def count_dropped_lines(self, dropped: Callable[[], int]) -> None:
        """Show what `dropped` returns as the number of log lines that nobody could read. Called
        once, by `tap`; `dropped` is called whenever the metrics are written or pushed."""
        name, about = "infergate_log_lines_dropped", "Log lines dropped: nothing took them."
        self.others.register(_Watched(CounterMetricFamily, name, about, dropped))

    def watch(self, name: str, about: str, read: Callable[[], float | None]) -> None:
        """Show a gauge of a part that is not always there, called `name` and described by `about`.

        `read` is called at each scrape and each push. It returns the value, or None where that is
        not known: then the gauge is not shown. Called while the gateway is wired.
        """
        self.others.register(_Watched(GaugeMetricFamily, name, about, read))

    def expect(self, routes: Iterable[str]) -> None:
        """Count what may come of the operations at these routes, such as ``/v1/chat/completions``,
        from now on, and from 0. Called by `compose` for the operations that are served."""
        self._expected += routes

    def began(self, record: Record) -> None:
        """Count an exchange as under way, until `ended` or `forgotten`."""
        self._in_flight += 1

    def stream_began(self, record: Record) -> None:
        """Count a stream as under way: the request of `record`, which has begun, asks for one, as
        `record.stream` says. Called by the gateway when the body has been checked."""
        self._streams += 1

    def forgotten(self, record: Record) -> None:
        """Take back that an exchange began: it is none that is accounted for, such as the status
        page's feed."""
        self._in_flight -= 1

    def ended(self, record: Record) -> None:
        """Account for an exchange that has been closed; called once for each.

        Nothing here looks at what a client sent but through a bounded set: an unknown method is
        ``other``, the route is one of ours, the model one that the backend accepted.
        """
        self._in_flight -= 1
        self._streams -= record.stream
        error = record.error or ""
        method = record.method if record.method in METHODS else "other"
        status = str(record.status)
        exemplar = exemplar_of(record)
        self._http.observe(record.duration, (record.route, method, status, error), exemplar)
        self._requests.add(record.route, status, record.outcome)
        self.callers.ended(record)
        # What was refused before it was known to be a good request is none of these.
        asked = record.backend_began is not None or record.model_accepted
        if record.operation is not None and (asked or record.model is not None):
            self._operation_ended(record, error, exemplar)

    def _operation_ended(self, record: Record, error: str, exemplar: Exemplar | None) -> None:
        """Record what the conventions for generative AI ask of an operation, and what was our part
        of it.

        Called by `ended` for an operation whose request was found to be good, whatever came of it
        then.

        Tokens are recorded where somebody counted them. The time of a token is the time after the
        first one, divided by the others: a stream of one token has none.
        """
        assert record.operation is not None
        assert record.closed is not None
        operation = METRIC_NAMES[record.operation]
        model = self._model_label(record)
        labels = (operation, model, error)
        self._operation.observe(record.duration, labels, exemplar)
        self._overhead.observe(record.duration - (record.backend_seconds or 0), (), exemplar)
        usage = record.usage
        if usage.source != "none":
            self._tokens.observe(usage.prompt_tokens, ("input", model))
            self._tokens.observe(usage.completion_tokens, ("output", model))
        if record.stream and record.first_token is not None:
            self._first_token.observe(record.first_token - record.opened, labels, exemplar)
            if usage.completion_tokens > 1:
                pause = (record.closed - record.first_token) / (usage.completion_tokens - 1)
                self._per_token.observe(pause, labels, exemplar)

    def _model_label(self, record: Record) -> str:
        """Return a model's name while there are places for names, ``other`` from then on, and
        nothing where no model is known.

        Only a request that the backend accepted can take a place: else anybody could use them up.
        Called for each operation that has ended.
        """
        if record.model is None:
            return ""
        label = self._models.get(record.model)
        if label is None and record.model_accepted and len(self._models) < MAX_MODELS:
            # Shown in the terminals of those who look at `/metrics`.
            label = self._models[record.model] = escaped(record.model)
        return label or "other"


def exemplar_of(record: Record) -> Exemplar | None:
    """Return the exemplar for the values of a closed exchange, with the time of now: the id of its
    trace, where it is in one of ours, else its own id.

    None where that id is longer than an exemplar may be; a client may choose it. Called by
    `Metrics.ended`, once for all values that it records.
    """
    if record.span_id is not None and record.trace_id is not None:
        exemplar = Exemplar("trace_id", record.trace_id, time.time())
    else:
        exemplar = Exemplar("request_id", record.request_id, time.time())
    return exemplar if len(exemplar.name + exemplar.id) <= EXEMPLAR_CHARACTERS else None


@attrs.frozen(eq=False, slots=False)
class _Counted(Collector):
    """The counter of requests, there with 0 for whatever may come of an operation at `routes`.

    The hundreds of counts are made by the first scrape, and not at the start, when nobody has
    asked for them yet.
    """

    _requests: Counter
    _routes: list[str]

    def collect(self) -> Iterator[Metric]:
        """Return the counts of requests, with those that are expected added first, from 0. Called
        by the registry for each text of ``/metrics`` that is written, and for each push."""
        for route, ending in product(self._routes, ENDINGS):
            self._requests.show(route, *ending)
        self._routes.clear()
        return self._requests.collect()


@attrs.frozen(eq=False, slots=False)
class _Watched(Collector):
    """One value that is asked for when it is shown; `family` is the class of `prometheus_client`
    that stands for its kind."""

    _family: Any
    _name: str
    _about: str
    _read: Callable[[], float | None]

    def collect(self) -> Iterator[Metric]:
        """Yield the value as a metric without labels, or nothing where it is not known. Called by
        the registry; raises what `read` raises."""
        value = self._read()
        if value is not None:
            yield self._family(self._name, self._about, value=value)
