"""Traces of a real process, pushed to a real collector."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.e2e.harness import OFF, absent, chat, gateway, get, mock, running, wait_for

skip = OFF or absent("opentelemetry")

if not skip:
    from tests.e2e.otlp_receiver import Receiver

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


def known(span: Any) -> dict[str, object]:
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in span.attributes}


class TraceTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.receiver = Receiver()
        self.addCleanup(self.receiver.stop)

    def test_spans_fit_to_the_log_and_to_one_another(self) -> None:
        """Each exchange has its spans, parents right, with the ids of its log line; probes have
        none, and the numbers of the metrics are those of `/metrics`."""
        backend = mock()
        served = gateway(
            {
                "BACKEND_URL": backend.url,
                "OTEL_EXPORTER_OTLP_ENDPOINT": self.receiver.url,
                "OTEL_EXPORTER_OTLP_HEADERS": "api-key=canary",
                "OTEL_EXPORTER_OTLP_COMPRESSION": "gzip",
                "OTEL_SERVICE_NAME": "mine",
                "OTEL_RESOURCE_ATTRIBUTES": "deployment.environment=test",
                "OTEL_BSP_SCHEDULE_DELAY": "200",
            }
        )
        with running(backend, served):
            parent = {"traceparent": f"00-{TRACE}-{PARENT}-01", "tracestate": "a=b"}
            chat(served.url, {"model": "tiny"}, {"X-Request-ID": "child", **parent})
            chat(served.url, {"model": "tiny", "stream": True}, {"X-Request-ID": "root"})
            chat(served.url, {"mock": {"fail": "reset"}}, {"X-Request-ID": "failed"})
            get(served.url + "/healthz", parent)
            unsampled = {"traceparent": f"00-{TRACE}-{PARENT}-00"}
            chat(served.url, {}, {"X-Request-ID": "unsampled", **unsampled})
            wait_for(lambda: len(self.receiver.spans()) >= 6, 10, "spans")
            metrics = served.metrics()
            lines = {line["request_id"]: line for line in served.requests()}
            served.stop()
            self.assertNotIn("canary", served.log_text())
        spans = self.receiver.spans()
        self.assertEqual(len(spans), 6)
        servers = {known(span)["infergate.request_id"]: span for span in spans if span.kind == 2}
        clients = {span.parent_span_id: span for span in spans if span.kind == 3}
        self.assertEqual(set(servers), {"child", "root", "failed"})
        for request_id, span in servers.items():
            line = lines[request_id]
            self.assertEqual(
                (span.trace_id.hex(), span.span_id.hex()), (line["trace_id"], line["span_id"])
            )
            client = clients[span.span_id]
            self.assertEqual(client.trace_id, span.trace_id)
            self.assertGreaterEqual(client.start_time_unix_nano, span.start_time_unix_nano)
            self.assertLessEqual(client.end_time_unix_nano, span.end_time_unix_nano)
            took = (span.end_time_unix_nano - span.start_time_unix_nano) / 1e6
            self.assertAlmostEqual(took, line["latency_ms"], places=2)
        self.assertEqual(servers["child"].trace_id.hex(), TRACE)
        self.assertEqual(servers["child"].parent_span_id.hex(), PARENT)
        self.assertEqual(servers["root"].parent_span_id, b"")
        self.assertEqual(clients[servers["child"].span_id].name, "chat tiny")
        self.assertEqual(
            [event.name for event in clients[servers["root"].span_id].events],
            ["first_byte", "first_token", "end"],
        )
        self.assertEqual(known(servers["failed"])["error.type"], lines["failed"]["error"])
        self.assertEqual(servers["failed"].status.code, 2)
        self.assertEqual(lines["unsampled"]["trace_id"], TRACE)

        self.assertEqual(
            {headers["api-key"] for _, headers, _ in self.receiver.received}, {"canary"}
        )
        last = self.receiver.messages("/v1/metrics")[-1]
        (resource,) = last.resource_metrics
        attributes = known(resource.resource)
        self.assertEqual(attributes["service.name"], "mine")
        self.assertEqual(attributes["deployment.environment"], "test")
        (scope,) = resource.scope_metrics
        pushed = {metric.name: metric for metric in scope.metrics}
        durations = pushed["http.server.request.duration"].histogram.data_points
        counted = sum(
            value
            for name, value in metrics.items()
            if name.startswith("http_server_request_duration_seconds_count")
        )
        # The scrape itself has ended since.
        self.assertEqual(sum(point.count for point in durations), counted + 1)

    def test_collector_that_refuses_costs_nothing_but_its_data(self) -> None:
        """Requests are answered as ever, and the log has one line about it."""
        refusing = Receiver(status=503)
        self.addCleanup(refusing.stop)
        served = gateway(
            {
                "OTEL_EXPORTER_OTLP_ENDPOINT": refusing.url,
                "OTEL_METRIC_EXPORT_INTERVAL": "100",
                "OTEL_BSP_SCHEDULE_DELAY": "50",
            }
        )
        with running(served):
            for _ in range(50):
                self.assertEqual(chat(served.url, {})[0], 200)
            wait_for(lambda: len(refusing.received) > 5, 10, "pushes")
            served.stop()
            said = [line for line in served.log_lines() if "OTLP" in line.get("message", "")]
        self.assertEqual(len(said), 2, "one for each signal")
