"""Who used how much, and what limits refused: one record into the metrics of its caller.

A *caller* is whom an API key or a JSON Web Token belongs to, by name; its *budget* is the number of
tokens that it may use in a *window*, such as the current day.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice

from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from infergate.telemetry.counter import Counter
from infergate.telemetry.record import Record

MAX_CALLERS = 100
"""Names that become a label."""

OTHER = "other"

OUTCOMES = (
    "ok", "client_error", "forbidden", "rate_limited", "backend_error", "backend_unavailable",
    "timeout", "client_disconnected", "overloaded", "shutdown", "internal_error",
)  # fmt: skip
"""What may become of an operation whose caller is known."""

LIMITS = ("rate", "tokens", "concurrent", "max_concurrent")

TOKEN_TYPES = ("input", "output")

Standing = tuple[str, str, int, int]
"""A caller and a window, and the limit and the tokens used in it."""


class CallerMetrics:
    """Counts by the names that it is given by `learn`, at the start and after each reload, as far
    as places are left; all other callers are one. The counters are there from then on, with 0.

    `Metrics` makes one and calls `ended`; `compose` calls `watch` once. All of it is in the
    reactor's thread; `learn` and `ended` raise nothing.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        """Make the counters and register them, with 0 for each limit."""
        self._names: dict[str, None] = {}
        self._requests = Counter(
            "infergate_caller_requests",
            "Operations that have ended, by caller.",
            ("caller", "outcome"),
        )
        self._tokens = Counter(
            "infergate_caller_tokens", "Tokens used, by caller.", ("caller", "gen_ai_token_type")
        )
        self._limited = Counter("infergate_limited", "Requests that a limit refused.", ("limit",))
        self._registry = registry
        for counter in (self._requests, self._tokens, self._limited):
            registry.register(counter)
        for limit in LIMITS:
            self._limited.show(limit)

    def learn(self, names: Iterable[str]) -> None:
        """Show these callers with 0, those first that come first, until `MAX_CALLERS` names are
        shown.

        Called by `Admission` with the names of its keys, at the start and after each reload. Names
        that were shown once stay, with their counts.
        """
        new = (name for name in names if name not in self._names)
        for name in islice(new, MAX_CALLERS - len(self._names)):
            self._names[name] = None
            self._show(name)
        self._show(OTHER)

    def watch(self, standings: Callable[[frozenset[str]], Iterable[Standing]]) -> None:
        """Show how those callers stand that have token limits. `standings` is asked at each scrape,
        with the names that may be shown."""
        self._registry.register(_Budgets(lambda: standings(frozenset(self._names))))

    def ended(self, one: Record, count: int, prompt_tokens: int, completion_tokens: int) -> None:
        """Account for exchanges that have been closed and whose labels are the same, which are
        those of `one`: for the limit that refused them, where one did, and for their caller, where
        they were operations of a caller that is known by name.

        Called by `Metrics`, with the tokens of all of them. A caller without a place for its name
        counts as ``other``.
        """
        if one.limit is not None:
            self._limited.add(one.limit, count=count)
        if one.caller_label is None or one.operation is None:
            return
        name = one.caller_label if one.caller_label in self._names else OTHER
        self._requests.add(name, one.outcome, count=count)
        self._tokens.add(name, "input", count=prompt_tokens)
        self._tokens.add(name, "output", count=completion_tokens)

    def _show(self, name: str) -> None:
        """Have all counts of a caller there, from 0, so that the first increase of each is seen.
        Called by `learn` for each name."""
        for outcome in OUTCOMES:
            self._requests.show(name, outcome)
        for token_type in TOKEN_TYPES:
            self._tokens.show(name, token_type)


class _Budgets(Collector):
    """The budgets of callers as two gauges, which are asked for at each scrape."""

    def __init__(self, standings: Callable[[], Iterable[Standing]]) -> None:
        self._standings = standings

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Yield the gauge of the limits, then that of the tokens used, by caller and window. Called
        by the registry; raises what `standings` raises."""
        labels = ("caller", "window")
        limit = GaugeMetricFamily(
            "infergate_caller_tokens_limit", "Tokens of a caller's budget.", labels=labels
        )
        used = GaugeMetricFamily(
            "infergate_caller_tokens_used", "Tokens used of a caller's budget.", labels=labels
        )
        for caller, window, count, tokens in self._standings():
            limit.add_metric((caller, window), count)
            used.add_metric((caller, window), tokens)
        yield limit
        yield used
