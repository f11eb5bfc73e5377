"""Which trace a request belongs to."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from infergate.telemetry.tracecontext import backend_fields, read_trace

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
GOOD = f"00-{TRACE}-{PARENT}-01".encode()
VALUES = st.lists(st.binary(max_size=80), max_size=2)


class Reading(SynchronousTestCase):
    def test_good_context(self) -> None:
        """Its ids and its flag are read, and the fields are kept as they came."""
        trace = read_trace({b"traceparent": [GOOD], b"tracestate": [b"a=1, b=2"]})
        assert trace is not None
        self.assertEqual((trace.trace_id, trace.parent_id, trace.sampled), (TRACE, PARENT, True))
        self.assertEqual((trace.traceparent, trace.tracestate), (GOOD, b"a=1, b=2"))

    def test_flags(self) -> None:
        """Only the one flag that is known says that a trace is recorded."""
        for flags, sampled in (("00", False), ("01", True), ("02", False), ("ff", True)):
            trace = read_trace({b"traceparent": [f"00-{TRACE}-{PARENT}-{flags}".encode()]})
            assert trace is not None
            self.assertEqual(trace.sampled, sampled, flags)

    def test_later_version_may_go_on(self) -> None:
        """What is known of it is read."""
        for text in (f"01-{TRACE}-{PARENT}-01", f"cc-{TRACE}-{PARENT}-01-more"):
            self.assertIsNotNone(read_trace({b"traceparent": [text.encode()]}))

    def test_broken_context_is_none(self) -> None:
        """Malformed, doubled, of version ff, with an id of zeros, in capitals."""
        for values in (
            [],
            [b""],
            [GOOD, GOOD],
            [GOOD.replace(b"00-", b"ff-", 1)],
            [GOOD + b"-more"],
            [GOOD + b"x"],
            [b" " + GOOD],
            [GOOD.upper()],
            [GOOD[:-1]],
            [f"00-{'0' * 32}-{PARENT}-01".encode()],
            [f"00-{TRACE}-{'0' * 16}-01".encode()],
            [f"00-{TRACE}-{PARENT}-0x".encode()],
            [f"0-{TRACE}-{PARENT}-01".encode()],
            [f"01-{TRACE}-{PARENT}-01more".encode()],
        ):
            fields = {b"traceparent": values, b"tracestate": [b"a=1"]}
            self.assertIsNone(read_trace(fields), values)
        self.assertIsNone(read_trace({}))

    def test_broken_state_is_left_out(self) -> None:
        """The trace itself stands; its state may come in several fields."""
        for values, state in (
            ([b"a=1", b"b@c=2"], b"a=1,b@c=2"),
            ([b"a=1,,b=2"], b"a=1,,b=2"),
            ([b""], None),
            ([b"A=1"], None),
            ([b"a"], None),
            ([b"a=1\x00"], None),
            ([b"a=\xff"], None),
            ([b",".join(b"k%d=1" % number for number in range(33))], None),
        ):
            trace = read_trace({b"traceparent": [GOOD], b"tracestate": values})
            assert trace is not None
            self.assertEqual(trace.tracestate, state, values)

    @given(
        st.lists(st.binary(max_size=80), max_size=2), st.lists(st.binary(max_size=80), max_size=2)
    )
    def test_any_fields(self, parents: list[bytes], states: list[bytes]) -> None:
        """Whatever a client sends, nothing is raised."""
        read_trace({b"traceparent": parents, b"tracestate": states})
        read_trace({b"traceparent": [GOOD], b"tracestate": states})


class Passing(SynchronousTestCase):
    def test_context_goes_on_as_it_came(self) -> None:
        """With our own span in it, where there is one."""
        trace = read_trace({b"traceparent": [GOOD], b"tracestate": [b"a=1"]})
        ours = b"Traceparent: ours\r\n"
        state = b"Tracestate: a=1\r\n"
        self.assertEqual(backend_fields(trace), b"Traceparent: %b\r\n%b" % (GOOD, state))
        self.assertEqual(backend_fields(trace, ours), ours + state)
        self.assertEqual(backend_fields(None, ours), ours)
        self.assertEqual(backend_fields(None), b"")
