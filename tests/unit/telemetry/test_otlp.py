"""What messages of OTLP have in common."""

from __future__ import annotations

from twisted.trial.unittest import SkipTest, SynchronousTestCase

try:
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
    from opentelemetry.proto.trace.v1.trace_pb2 import Span

    from infergate.telemetry import otlp
except ImportError:  # the extra
    otlp = None  # type: ignore[assignment]


class Messages(SynchronousTestCase):
    def setUp(self) -> None:
        if otlp is None:
            raise SkipTest("needs the extra otlp")

    def test_message_is_what_the_library_would_write(self) -> None:
        """However long its parts are: lengths of one, two and three bytes."""
        for count in (0, 1, 200):
            for size in (1, 127, 128, 20_000):
                spans = [Span(name="x" * size) for _ in range(count)]
                elements = [span.SerializeToString() for span in spans]
                message = otlp.message({"service.name": "mine"}, elements)
                parsed = ExportTraceServiceRequest.FromString(message)
                (resource,) = parsed.resource_spans
                (scope,) = resource.scope_spans
                self.assertEqual((len(scope.spans), scope.scope.name), (count, "infergate"))
                self.assertTrue(all(span.name == "x" * size for span in scope.spans))
                (attribute,) = resource.resource.attributes
                self.assertEqual(attribute.value.string_value, "mine")

    def test_attributes_keep_their_kind(self) -> None:
        """A truth is no number, and a number no text."""
        known = {"text": "a", "whole": 1, "part": 0.5, "truth": True}
        kinds = [one.value.WhichOneof("value") for one in otlp.attributes(known)]
        self.assertEqual(kinds, ["string_value", "int_value", "double_value", "bool_value"])
