"""One record into its spans."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from infergate.api.usage import Usage
from infergate.errors import BackendError, ClientGone, GatewayError, InvalidJSON, NotFound
from infergate.telemetry.record import Record
from infergate.telemetry.tracecontext import read_trace

try:
    from opentelemetry.proto.trace.v1.trace_pb2 import ScopeSpans

    from infergate.telemetry.spans import spans
except ImportError:  # the extra
    spans = None  # type: ignore[assignment]

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


def streamed() -> Record:
    record = Record(opened=100.0, client="192.0.2.1", request_id="id-1")
    record.method, record.path, record.status = "POST", "/v1/chat/completions", 200
    record.route, record.operation, record.model = "/v1/chat/completions", "chat", "tiny"
    record.caller, record.usage = "alice", Usage(7, 4, 11, "backend")
    record.ids = (bytes.fromhex(TRACE), b"\x11" * 8, b"\x22" * 8)
    record.backend_began, record.backend_head = 100.5, 100.75
    record.first_token, record.backend_ended, record.backend_status = 101.0, 103.0, 200
    record.close(104.0)
    return record


def known(span: Any) -> dict[str, object]:
    """Its attributes."""
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in span.attributes}


class Spans(SynchronousTestCase):
    def setUp(self) -> None:
        if spans is None:
            raise SkipTest("needs the extra otlp")

    def spans(self, record: Record) -> list[Any]:
        record.epoch = 1_000
        made = spans([record], ("backend", 9000))
        return list(ScopeSpans.FromString(made).spans)

    def failed(self, status: int, error: GatewayError) -> list[Any]:
        record = streamed()
        record.status = status
        record.fail(error)
        return self.spans(record)

    def test_server_span_is_by_the_http_conventions(self) -> None:
        """With what finds it in the log."""
        span = self.spans(streamed())[0]
        self.assertEqual((span.name, span.kind), ("POST /v1/chat/completions", 2))
        self.assertEqual((span.trace_id.hex(), span.span_id.hex()), (TRACE, "1" * 16))
        self.assertEqual(span.parent_span_id, b"")
        self.assertEqual(span.start_time_unix_nano, 100 * 10**9 + 1000)
        self.assertEqual(span.end_time_unix_nano, 104 * 10**9 + 1000)
        self.assertEqual(
            known(span),
            {
                "http.request.method": "POST",
                "http.route": "/v1/chat/completions",
                "url.path": "/v1/chat/completions",
                "url.scheme": "http",
                "client.address": "192.0.2.1",
                "http.response.status_code": 200,
                "infergate.request_id": "id-1",
                "infergate.caller": "alice",
                "infergate.outcome": "ok",
            },
        )
        self.assertEqual(span.status.code, 0)

    def test_client_span_is_by_the_conventions_for_generative_ai(self) -> None:
        """Within the server's, with the moments of the answer."""
        _, span = self.spans(streamed())
        self.assertEqual((span.name, span.kind), ("chat tiny", 3))
        self.assertEqual((span.span_id.hex(), span.parent_span_id.hex()), ("2" * 16, "1" * 16))
        self.assertEqual(span.trace_id.hex(), TRACE)
        self.assertEqual(span.start_time_unix_nano, 100_500_000_000 + 1000)
        self.assertEqual(span.end_time_unix_nano, 103 * 10**9 + 1000)
        self.assertEqual(
            known(span),
            {
                "gen_ai.operation.name": "chat",
                "gen_ai.provider.name": "openai",
                "gen_ai.request.model": "tiny",
                "gen_ai.usage.input_tokens": 7,
                "gen_ai.usage.output_tokens": 4,
                "http.response.status_code": 200,
                "server.address": "backend",
                "server.port": 9000,
            },
        )
        self.assertEqual(
            [(event.name, event.time_unix_nano - 1000) for event in span.events],
            [("first_byte", 100_750_000_000), ("first_token", 101 * 10**9), ("end", 103 * 10**9)],
        )

    def test_trace_of_the_client_is_the_parent(self) -> None:
        """And its state is in both spans."""
        record = streamed()
        fields = {b"traceparent": [f"00-{TRACE}-{PARENT}-01".encode()], b"tracestate": [b"a=b"]}
        record.trace = read_trace(fields)
        server, client = self.spans(record)
        self.assertEqual(server.parent_span_id.hex(), PARENT)
        self.assertEqual((server.trace_state, client.trace_state), ("a=b", "a=b"))

    def test_fault_of_ours_or_of_the_backend_is_an_error(self) -> None:
        """Also where a stream broke under 200; it has our code."""
        for status in (502, 200):
            for span in self.failed(status, BackendError()):
                self.assertEqual(
                    (span.status.code, known(span)["error.type"]), (2, "backend_error")
                )

    def test_fault_of_the_client_is_none(self) -> None:
        """A 4xx leaves the status unset, and so does a client that leaves."""
        for status, error in ((400, InvalidJSON()), (404, NotFound()), (499, ClientGone())):
            for span in self.failed(status, error):
                self.assertEqual(span.status.code, 0, error)
                self.assertNotIn("error.type", known(span))

    def test_request_that_never_reached_the_backend_has_one_span(self) -> None:
        """Named by its method alone where there is no such route; an odd method is no name."""
        record = streamed()
        record.backend_began, record.route = None, "other"
        (span,) = self.spans(record)
        self.assertEqual(span.name, "POST")
        self.assertNotIn("http.route", known(span))
        record.method = "BREW"
        (span,) = self.spans(record)
        self.assertEqual(span.name, "HTTP")
        self.assertEqual(known(span)["http.request.method"], "_OTHER")
        self.assertEqual(known(span)["http.request.method_original"], "BREW")

    def test_list_of_models_is_no_operation(self) -> None:
        """It has a span at the backend all the same."""
        record = streamed()
        record.operation = record.model = record.first_token = None
        record.method, record.route = "GET", "/v1/models"
        _, span = self.spans(record)
        self.assertEqual(span.name, "GET")
        self.assertNotIn("gen_ai.operation.name", known(span))
