"""Which requests are traced, and by what ids."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from infergate.telemetry.record import Record
from infergate.telemetry.tracecontext import read_trace
from infergate.telemetry.tracing import (
    Sampler,
    Tracer,
    always,
    never,
    parent_based,
    ratio,
)

TRACE = "0af7651916cd43dd8448eb211c80319c"


class Tracing(SynchronousTestCase):
    def record(self, sampler: Sampler, flags: str | None = None, **known: object) -> Record:
        """The record of an exchange that has begun, of a client's trace with these flags."""
        record = Record(opened=1.0, client="192.0.2.1", request_id="id-1")
        record.method = "POST"
        for name, value in known.items():
            setattr(record, name, value)
        if flags is not None:
            parent = f"00-{TRACE}-b7ad6b7169203331-{flags}".encode()
            record.trace = read_trace({b"traceparent": [parent]})
            record.trace_id = TRACE
        Tracer(sampler).began(record)
        name, self.traceparent = (record.traceparent or b"").decode().split(": ")
        self.assertEqual(name, "Traceparent")
        return record

    def test_request_of_a_client_that_traces_is_in_its_trace(self) -> None:
        """With spans of our own, of which the backend's is the parent of what it does."""
        record = self.record(parent_based(always), "01")
        self.assertEqual(record.trace_id, TRACE)
        self.assertRegex(record.span_id or "", r"\A[0-9a-f]{16}\Z")
        trace, ours, backends = [one.hex() for one in record.ids or ()]
        self.assertEqual((trace, ours), (TRACE, record.span_id))
        self.assertEqual(self.traceparent, f"00-{TRACE}-{backends}-01\r\n")
        self.assertNotIn(ours, (backends, "b7ad6b7169203331"))
        self.assertTrue(record.sampled)

    def test_request_without_a_trace_begins_one(self) -> None:
        """Of its own, each another."""
        first, second = self.record(always), self.record(always)
        self.assertRegex(first.trace_id or "", r"\A[0-9a-f]{32}\Z")
        self.assertEqual(len({first.trace_id, second.trace_id}), 2)
        self.assertTrue(first.sampled and second.sampled)

    def test_trace_that_is_not_recorded_goes_on_all_the_same(self) -> None:
        """Its ids are in the log, and the backend is told that it is not recorded."""
        record = self.record(parent_based(always), "00")
        self.assertEqual((record.sampled, record.trace_id), (False, TRACE))
        self.assertIsNotNone(record.span_id)
        self.assertTrue(self.traceparent.endswith("-00\r\n"))

    def test_head_request_has_no_span(self) -> None:
        """Nor the id of one in its line."""
        for flags, trace_id in ((None, None), ("01", TRACE)):
            record = self.record(always, flags, method="HEAD")
            self.assertEqual((record.trace_id, record.span_id), (trace_id, None))
            self.assertFalse(record.sampled)
            self.assertNotEqual(self.traceparent, "")


class Samplers(SynchronousTestCase):
    def test_caller_decides_and_else_the_root(self) -> None:
        """What is recorded is recorded as a whole."""
        for root in (always, never):
            sampler = parent_based(root)
            self.assertEqual([sampler(TRACE, flag) for flag in (True, False)], [True, False])
            self.assertEqual(sampler(TRACE, None), root is always)

    def test_part_of_all_traces(self) -> None:
        """By the trace's id, so that every service records the same ones."""
        ids = [f"{number * 0x9E3779B97F4A7C15 % 2**64:032x}" for number in range(1, 2001)]
        for part in (0.0, 0.25, 1.0):
            recorded = [one for one in ids if ratio(part)(one, None)]
            self.assertLess(abs(len(recorded) / len(ids) - part), 0.02)
            self.assertEqual(recorded, [one for one in ids if ratio(part)(one, None)])
