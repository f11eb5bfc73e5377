"""One record into every metric.

The instruments carry the names, units and buckets of OpenTelemetry's semantic conventions for
HTTP servers and for generative AI. `exposition` writes them out, `otlp` pushes them; recording a
value with the OpenTelemetry SDK costs some twenty times as much.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable, Iterator, Sequence, Set
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
from infergate.telemetry.batch import Batch
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

    `began` is called with the record of each exchange at its beginning. Those that are closed come
    out of `batch`, or are `forgotten`, such as the status page's feed. Parts that have metrics of
    their own add them with `watch`. `under_way` has the exchanges that have begun and not ended,
    `registry` all metrics, `histograms` and `others` have them in two parts: all of these are as of
    now.
    """

    def __init__(self, batch: Batch) -> None:
        """Make all metrics of the gateway; each stands in `histograms` or in `others`."""
        self._settle = batch.settle
        self._under_way: set[Record] = set()
        self.began = self._under_way.add
        self.forgotten = self._under_way.discard
        batch.tell(self._ended)
        self._registry = CollectorRegistry()
        self._others = CollectorRegistry()
        self._registry.register(self._others)
        self._histograms: list[Histogram] = []
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
        self.watch(
            "infergate_requests_in_flight", "Exchanges under way.", lambda: len(self.under_way)
        )
        self.watch(
            "infergate_streams_in_flight",
            "Streams under way.",
            lambda: sum(record.stream for record in self.under_way),
        )
        self._others.register(_Counted(self._requests, self._expected))
        self.callers = CallerMetrics(self._others)
        self._models: dict[str, str] = {}
        Info("infergate_build", "What runs.", registry=self._others).info(
            {
                "version": __version__,
                "python": platform.python_version(),
                "twisted": twisted.__version__,
            }
        )
        ProcessCollector(registry=self._others)

    def _histogram(
        self, name: str, about: str, labels: Iterable[str], bounds: Iterable[float]
    ) -> Histogram:
        """Make a histogram, register it for scrapes and pushes, and return it. Called by
        `__init__`."""
        one = Histogram(name, about, tuple(labels), tuple(bounds))
        self._registry.register(one)
        self._histograms.append(one)
        return one

    @property
    def under_way(self) -> Set[Record]:
        """Return the records of the exchanges that have not ended: not to be changed or kept."""
        self._settle()
        return self._under_way

    @property
    def registry(self) -> CollectorRegistry:
        """Return what knows all metrics, with all that has ended by now."""
        self._settle()
        return self._registry

    @property
    def histograms(self) -> list[Histogram]:
        """Return all histograms, with all that has ended by now: for scrapes and pushes."""
        self._settle()
        return self._histograms

    @property
    def others(self) -> CollectorRegistry:
        """Return what knows all metrics but histograms, with all that has ended by now: for scrapes
        and pushes."""
        self._settle()
        return self._others

    def count_dropped_lines(self, dropped: Callable[[], int]) -> None:
        """Show what `dropped` returns as the number of log lines that nobody could read. Called
        once, by `tap`; `dropped` is called whenever the metrics are written or pushed."""
        name, about = "infergate_log_lines_dropped", "Log lines dropped: nothing took them."
        self._others.register(_Watched(CounterMetricFamily, name, about, dropped))

    def watch(self, name: str, about: str, read: Callable[[], float | None]) -> None:
        """Show a gauge of a part that is not always there, called `name` and described by `about`.

        `read` is called at each scrape and each push. It returns the value, or None where that is
        not known: then the gauge is not shown. Called while the gateway is wired.
        """
        self._others.register(_Watched(GaugeMetricFamily, name, about, read))

    def expect(self, routes: Iterable[str]) -> None:
        """Count what may come of the operations at these routes, such as ``/v1/chat/completions``,
        from now on, and from 0. Called by `compose` for the operations that are served."""
        self._expected += routes

    def _ended(self, records: Sequence[Record]) -> None:
        """Account for exchanges that have been closed, those whose labels are the same together.
        Called by the batch."""
        self._under_way.difference_update(records)
        alike: dict[tuple[object, ...], list[Record]] = {}
        for record in records:
            labels = (
                record.route, record.method, record.status, record.outcome, record.error,
                record.operation, record.model, record.model_accepted,
                record.backend_began is None, record.usage.source, record.limit,
                record.caller_label,
            )  # fmt: skip
            group = alike.get(labels)
            if group is None:
                alike[labels] = [record]
            else:
                group.append(record)
        for group in alike.values():
            self._account_for(group)

    def _account_for(self, records: list[Record]) -> None:
        """Account for exchanges whose labels are all the same. Called by `_ended`.

        Nothing here looks at what a client sent but through a bounded set: an unknown method is
        ``other``, the route is one of ours, the model one that the backend accepted.
        """
        one = records[0]
        error, status = one.error or "", str(one.status)
        method = one.method if one.method in METHODS else None
        durations = [record.duration for record in records]
        http_labels = (one.route, method or "other", status, error)
        self._http.observe(durations, http_labels, _exemplars(records))
        self._requests.add(one.route, status, one.outcome, count=len(records))
        usages = [record.usage for record in records]
        prompts = [usage.prompt_tokens for usage in usages]
        completions = [usage.completion_tokens for usage in usages]
        self.callers.ended(one, len(records), sum(prompts), sum(completions))
        # What was refused before it was known to be a good request is none of these.
        asked = one.backend_began is not None or one.model_accepted
        if one.operation is not None and (asked or one.model is not None):
            labels = (METRIC_NAMES[one.operation], self._model_label(one), error)
            self._operations_ended(records, durations, labels)
            # Tokens are recorded where somebody counted them.
            if one.usage.source != "none":
                self._tokens.observe(prompts, ("input", labels[1]))
                self._tokens.observe(completions, ("output", labels[1]))

    def _operations_ended(
        self, records: list[Record], durations: list[float], labels: tuple[str, str, str]
    ) -> None:
        """Record what the conventions for generative AI ask of operations, and what was our part of
        them.

        Called by `_account_for` for operations whose requests were found to be good, whatever came
        of them then.

        The time of a token is the time after the first one, divided by the others: a stream of one
        token has none.
        """
        exemplars = _exemplars(records)
        self._operation.observe(durations, labels, exemplars)
        ours = [record.duration - (record.backend_seconds or 0) for record in records]
        self._overhead.observe(ours, (), exemplars)
        streams = [one for one in records if one.stream and one.first_token is not None]
        if streams:
            firsts = [one.first_token_seconds or 0 for one in streams]
            self._first_token.observe(firsts, labels, _exemplars(streams))
        longer = [one for one in streams if one.usage.completion_tokens > 1]
        if longer:
            pauses = [
                (one.duration - (one.first_token_seconds or 0)) / (one.usage.completion_tokens - 1)
                for one in longer
            ]
            self._per_token.observe(pauses, labels, _exemplars(longer))

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


def _exemplars(records: Sequence[Record]) -> Callable[[int], Exemplar | None]:
    """Return what a histogram asks for the exemplar of a value, by its index: the record of the
    same index is the one of that value. Called by `Metrics`."""
    return lambda index: exemplar_of(records[index])


def exemplar_of(record: Record) -> Exemplar | None:
    """Return the exemplar for a value of a closed exchange, with the time of its end: the id of its
    trace, where it is in one of ours, else its own id.

    None where that id is longer than an exemplar may be; a client may choose it.
    """
    ended = record.epoch * 1e-9 + (record.closed or 0)
    if record.span_id is not None and record.trace_id is not None:
        exemplar = Exemplar("trace_id", record.trace_id, ended)
    else:
        exemplar = Exemplar("request_id", record.request_id, ended)
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
