"""What messages of OTLP have in common."""

from __future__ import annotations

from twisted.trial.unittest import SkipTest, SynchronousTestCase

try:
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
    from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
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
                elements = [otlp.element(span.SerializeToString()) for span in spans]
                message = otlp.message({"service.name": "mine"}, elements)
                parsed = ExportTraceServiceRequest.FromString(message)
                (resource,) = parsed.resource_spans
                (scope,) = resource.scope_spans
                self.assertEqual((len(scope.spans), scope.scope.name), (count, "infergate"))
                self.assertTrue(all(span.name == "x" * size for span in scope.spans))
                (attribute,) = resource.resource.attributes
                self.assertEqual(attribute.value.string_value, "mine")

    def test_attributes_are_what_the_library_would_write(self) -> None:
        """A truth is no number, a number no text, and a broken text loses nothing else."""
        for value, known in (
            ("", AnyValue(string_value="")),
            ("a" * 300, AnyValue(string_value="a" * 300)),
            ("gut\u00e4", AnyValue(string_value="gut\u00e4")),
            ("half \ud800", AnyValue(string_value="half ?")),
            (0, AnyValue(int_value=0)),
            (127, AnyValue(int_value=127)),
            (128, AnyValue(int_value=128)),
            (2**40, AnyValue(int_value=2**40)),
            (0.5, AnyValue(double_value=0.5)),
            (True, AnyValue(bool_value=True)),
            (False, AnyValue(bool_value=False)),
        ):
            expected = KeyValue(key="a.name", value=known)
            self.assertEqual(KeyValue.FromString(otlp.attribute("a.name", value)), expected)
