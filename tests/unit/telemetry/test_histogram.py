"""Values in buckets, and examples of them."""

from __future__ import annotations

from prometheus_client import CollectorRegistry
from twisted.trial.unittest import SynchronousTestCase

from infergate.telemetry.histogram import Exemplar, Histogram, escape


class HistogramTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.histogram = Histogram("x_seconds", "Of x.", ("b", "a"), (0.5, 1, 10))

    def text(self, *, exemplars: bool = False) -> str:
        return "".join(self.histogram.text(exemplars=exemplars))

    def test_value_falls_into_the_bucket_whose_end_it_does_not_pass(self) -> None:
        """A value at the end of a bucket is in it; buckets add up in the text."""
        self.histogram.observe([0.1, 0.5, 0.6, 1, 10], ("1", "2"))
        self.histogram.observe([11], ("1", "2"))
        self.assertEqual(
            self.text(),
            "# HELP x_seconds Of x.\n"
            "# TYPE x_seconds histogram\n"
            'x_seconds_bucket{a="2",b="1",le="0.5"} 2.0\n'
            'x_seconds_bucket{a="2",b="1",le="1.0"} 4.0\n'
            'x_seconds_bucket{a="2",b="1",le="10.0"} 5.0\n'
            'x_seconds_bucket{a="2",b="1",le="+Inf"} 6.0\n'
            'x_seconds_count{a="2",b="1"} 6.0\n'
            'x_seconds_sum{a="2",b="1"} 23.2\n',
        )

    def test_histogram_without_labels_is_there_from_the_start(self) -> None:
        """Its first value is then seen as an increase."""
        self.histogram = Histogram("y", "Of y.", (), (1,))
        self.assertIn('y_bucket{le="+Inf"} 0.0\ny_count 0.0\ny_sum 0.0\n', self.text())
        self.histogram.observe([2])
        self.assertIn('y_bucket{le="1.0"} 0.0\ny_bucket{le="+Inf"} 1.0\n', self.text())

    def test_each_bucket_has_its_last_example(self) -> None:
        """Only where examples are asked for; a value that cannot be one leaves the last."""

        def example(index: int) -> Exemplar | None:
            return Exemplar("request_id", "abc"[index], 1795402546.25)

        self.histogram.observe([0.1, 0.2, 5], ("1", "2"), example)
        self.histogram.observe([0.3], ("1", "2"), lambda index: None)
        lines = [line for line in self.text(exemplars=True).splitlines() if "# {" in line]
        self.assertEqual(
            lines,
            [
                'x_seconds_bucket{a="2",b="1",le="0.5"} 3.0 # {request_id="b"} 0.2 1795402546.250',
                'x_seconds_bucket{a="2",b="1",le="10.0"} 4.0 # {request_id="c"} 5 1795402546.250',
            ],
        )
        self.assertNotIn("# {", self.text())

    def test_labels_are_escaped(self) -> None:
        """A name in quotes, with a line end, stays one label."""
        self.assertEqual(escape('a"b\\c\nd'), 'a\\"b\\\\c\\nd')

    def test_registry_has_the_same(self) -> None:
        """For those who ask by the library's own means."""
        registry = CollectorRegistry()
        registry.register(self.histogram)
        self.histogram.observe([0.7], ("1", "2"))
        labels = {"b": "1", "a": "2"}
        self.assertEqual(registry.get_sample_value("x_seconds_sum", labels), 0.7)
        bucket = registry.get_sample_value("x_seconds_bucket", {**labels, "le": "1.0"})
        self.assertEqual(bucket, 1)
