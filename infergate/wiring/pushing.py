"""What is pushed by OTLP, and what gives ids to traces, out of the ``OTEL_*`` variables.

A signal (metrics or traces) that is pushed is a `Collector`, which posts to one URL through a pool
of its own, and a pusher, which decides when and makes the message out of parts:

    metrics    `metric_parts` of all metrics, each time      `MetricsPusher`
    traces     `spans` of each exchange that has ended       `SpanPusher`

Without traces there is no tracer, and no request is given ids: the client's trace goes on to the
backend as it came. What pushes is imported here, and only for what is pushed: it takes memory, and
some of it needs the extra ``otlp``.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from time import time_ns
from typing import TYPE_CHECKING

from infergate.backend.endpoint import api_base, host_and_port
from infergate.config.otel import Signal, Telemetry
from infergate.config.settings import Settings
from infergate.config.sources import SettingsError
from infergate.process.service import Part
from infergate.telemetry.batch import Batch
from infergate.telemetry.metrics import Metrics
from infergate.telemetry.tracing import Tracer
from infergate.wiring.servers import Servers

if TYPE_CHECKING:
    from infergate.telemetry.collector import Collector
    from infergate.telemetry.push import MetricsPusher, SpanPusher


def telemetry(
    settings: Settings, servers: Servers, asked: Telemetry, metrics: Metrics, batch: Batch
) -> tuple[Tracer | None, tuple[Part, ...]]:
    """Return what gives ids to traces, None where none are pushed, and what pushes, to be started
    and stopped: nothing where nothing is pushed.

    Called once by `compose`. Raises `SettingsError`, which names the variable with the endpoint,
    where the extra ``otlp`` is not installed or the URL cannot be connected to.
    """
    if asked.metrics is None and asked.traces is None:
        return None, ()
    from infergate.telemetry.push import Pushers

    pushers: list[MetricsPusher | SpanPusher] = []
    tracer = None
    if asked.metrics is not None:
        pushers.append(_metrics_pusher(servers, asked, asked.metrics, metrics))
    if asked.traces is not None:
        pushers.append(_span_pusher(settings, servers, asked, asked.traces, batch))
        tracer = Tracer(asked.sampler)
    return tracer, (Pushers(pushers),)


def _metrics_pusher(
    servers: Servers, asked: Telemetry, signal: Signal, metrics: Metrics
) -> MetricsPusher:
    """Make what pushes all metrics, counted from now on. Raises as `telemetry` does.

    Called by `telemetry`.
    """
    from infergate.telemetry.push import MetricsPusher

    with _extra(signal):
        from infergate.telemetry.otlp import message
        from infergate.telemetry.otlpmetrics import metric_parts
    started = time_ns()
    return MetricsPusher(
        _collector(servers, signal),
        servers.clock,
        lambda: metric_parts(metrics, started, time_ns()),
        partial(message, asked.resource),
        asked.metrics_interval,
    )


def _span_pusher(
    settings: Settings, servers: Servers, asked: Telemetry, signal: Signal, batch: Batch
) -> SpanPusher:
    """Make what pushes the spans of the exchanges that the tracer has recorded.

    A span of the call of the backend names the server's host and port. Raises as `telemetry` does.
    Called by `telemetry`.
    """
    from infergate.telemetry.push import SpanPusher

    with _extra(signal):
        from infergate.telemetry.otlp import message
        from infergate.telemetry.spans import spans
    backend = settings.backend_url
    return SpanPusher(
        batch,
        _collector(servers, signal),
        servers.clock,
        partial(spans, backend=None if backend is None else host_and_port(api_base(backend))),
        partial(message, asked.resource),
        delay=asked.span_delay,
        queue=asked.span_queue,
        most=asked.span_batch,
    )


def _collector(servers: Servers, signal: Signal) -> Collector:
    """Make the endpoint of a signal, reached by an agent of its own.

    Raises `SettingsError` for a URL that cannot be connected to. Called by the two above, with the
    server of a pusher each.
    """
    from infergate.telemetry.collector import Collector

    agent, _ = servers.origin(signal.setting, signal.url, signal.trust)
    return Collector(
        agent,
        servers.clock,
        signal.url,
        signal.headers,
        timeout=signal.timeout,
        gzip=signal.gzip,
    )


@contextmanager
def _extra(signal: Signal) -> Iterator[None]:
    """Turn an `ImportError` inside into a `SettingsError`: what is imported needs the extra
    ``otlp``.

    Used around the imports of `_metrics_pusher` and `_span_pusher`.
    """
    try:
        yield
    except ImportError:
        needed = "needs the extra: pip install '.[otlp]'"
        raise SettingsError(signal.setting, signal.url, needed) from None
