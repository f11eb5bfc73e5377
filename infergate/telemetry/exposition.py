"""The text of ``/metrics``: written in slices, and no more often than it is worth.

With a hundred models and a hundred callers it takes 20 ms to write, or more. Within a slice of it
nobody else is served; between two, in an event loop iteration of its own, everybody is. Whoever
asks more often than that is worth gets the text that was written last, and all who ask while it is
written get the same.

The text has two *forms*, Prometheus's own and OpenMetrics. Each is made out of *pieces*, strings of
some 200 lines at most, which `reactor.slices` asks for one by one. A *family*, in the words of
`prometheus_client`, is a metric with all its *samples*: its values, each for one set of labels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice

import attrs
from prometheus_client import Metric
from prometheus_client.samples import Sample
from prometheus_client.utils import floatToGoString
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

from infergate.reactor.slices import gathered, in_slices
from infergate.telemetry.histogram import escape
from infergate.telemetry.metrics import Metrics

TEXT = b"text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS = b"application/openmetrics-text; version=1.0.0; charset=utf-8"

SAMPLES = 200
"""Samples that are written in one piece."""

SHARE = 0.1
"""The part of all time that may go into writing the text."""

BURST = 0.5
"""Seconds of writing that may come at once after a time without any."""


def asks_for_openmetrics(accept: bytes) -> bool:
    """Say whether an ``Accept`` header field prefers OpenMetrics to the text form, as Prometheus's
    does (RFC 9110, 12.5.1).

    An example is ``application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5``.
    Called by the gateway for each scrape; raises nothing, whatever the field says.
    """
    weights = {b"application/openmetrics-text": 0.0, b"text/plain": 0.0}
    for item in accept.lower().split(b","):
        kind, *parameters = (part.strip() for part in item.split(b";"))
        if kind in weights:
            weights[kind] = max(weights[kind], _weight(parameters))
    return weights[b"application/openmetrics-text"] > weights[b"text/plain"]


def _weight(parameters: list[bytes]) -> float:
    """Return the `q` of an item of an ``Accept`` field: 1 where it has none, 0 where it is no
    number. Called by `asks_for_openmetrics`."""
    for parameter in parameters:
        if parameter.startswith(b"q="):
            try:
                return float(parameter[2:])
            except ValueError:
                return 0.0
    return 1.0


class Exposition:
    """The text of `metrics` for whoever scrapes, in one of two forms, rationed by `clock`.

    The gateway calls `text` for each scrape, and answers when its Deferred fires, which fails
    only where a metric cannot be read. Each form has a budget of its own: a second scraper that
    wants the other one is not made to wait by the first.

    With each scrape `look` is called: whoever has to ask somebody for a metric asks then, and the
    text shows what is known by now.
    """

    def __init__(
        self, metrics: Metrics, clock: IReactorTime, look: Callable[[], object] = lambda: None
    ) -> None:
        """Make both forms; no text is written before somebody asks for one."""
        self._look = look
        self._forms = (_Form(metrics, clock, False), _Form(metrics, clock, True))

    def text(self, *, openmetrics: bool = False) -> Deferred[bytes]:
        """Return the text as it is now, or as it was when it was last written, in UTF-8.

        Fires at once where no new text is due. All who wait for one writing are handed the same
        bytes. Raises what `look` raises.
        """
        self._look()
        return self._forms[openmetrics].text()


@attrs.define(eq=False)
class _Form:
    """One of the two forms: the text that was written last, its budget of time in seconds, and who
    waits for a new text."""

    _metrics: Metrics
    _clock: IReactorTime
    _openmetrics: bool
    _text: bytes = attrs.field(default=b"", init=False)
    _asked: float = attrs.field(default=0.0, init=False)
    _budget: float = attrs.field(default=BURST, init=False)
    _waiting: list[Deferred[bytes]] = attrs.field(factory=list, init=False)

    def text(self) -> Deferred[bytes]:
        """Return a new text where the budget allows one, else the last; one that is being written
        is waited for. The budget grows by `SHARE` of the time that passes, up to `BURST`."""
        now = self._clock.seconds()
        self._budget = min(self._budget + SHARE * (now - self._asked), BURST)
        self._asked = now
        if self._budget <= 0 and not self._waiting:
            return succeed(self._text)
        # One for each who waits: a client that leaves cancels its own and not the writing.
        answer: Deferred[bytes] = Deferred()
        self._waiting.append(answer)
        if len(self._waiting) == 1:
            work = self._timed(pieces(self._metrics, openmetrics=self._openmetrics))
            in_slices(gathered(work), self._clock).addCallbacks(self._written, self._failed)
        return answer

    def _timed(self, work: Iterator[str]) -> Iterator[str]:
        """Yield the pieces of `work`, and take the time that each of them takes to write off the
        budget. Called by `text`."""
        while True:
            began = self._clock.seconds()
            piece = next(work, None)
            self._budget -= self._clock.seconds() - began
            if piece is None:
                return
            yield piece

    def _written(self, written: list[str]) -> None:
        """Keep the text whose pieces are all `written`, and hand it to all who wait. Called when
        the last slice is done."""
        self._text = "".join(written).encode("utf-8")
        waiting, self._waiting = self._waiting, []
        for answer in waiting:
            answer.callback(self._text)

    def _failed(self, why: Failure) -> None:
        """Tell all who wait that the text could not be written, as where a gauge cannot be read:
        the next scrape tries again. Called in place of `_written`."""
        waiting, self._waiting = self._waiting, []
        for answer in waiting:
            answer.errback(why)


def pieces(metrics: Metrics, *, openmetrics: bool) -> Iterator[str]:
    """Yield the text in pieces, each of them short to write: the histograms, then everything else.

    Called by `_Form` for each new text. What is recorded meanwhile may be in it or not.
    """
    for histogram in metrics.histograms:
        yield from histogram.text(exemplars=openmetrics)
    for family in metrics.others.collect():
        yield from _family(family, openmetrics)
    if openmetrics:
        yield "# EOF\n"


def _family(family: Metric, openmetrics: bool) -> Iterator[str]:
    """Yield the text of one counter, gauge or info, at most `SAMPLES` lines at a time.

    OpenMetrics names a counter without its ``_total``, and knows what an info is; to the older form
    each sample's name is its metric's, and an info a gauge. Called by `pieces` for all that is no
    histogram.
    """
    name, kind = family.name, family.type
    if not openmetrics:
        name += {"counter": "_total", "info": "_info"}.get(kind, "")
        kind = "gauge" if kind == "info" else kind
    yield f"# HELP {name} {family.documentation}\n# TYPE {name} {kind}\n"
    samples = iter(family.samples)
    while some := list(islice(samples, SAMPLES)):
        yield "".join(map(_sample, some))


def _sample(sample: Sample) -> str:
    """Return one line, with its line end: ``name{label="value"} 3.0``, labels in the order of their
    names. Called by `_family`."""
    labels = ",".join(f'{name}="{escape(text)}"' for name, text in sorted(sample.labels.items()))
    value = floatToGoString(sample.value)  # type: ignore[no-untyped-call]
    return f"{sample.name}{{{labels}}} {value}\n" if labels else f"{sample.name} {value}\n"
