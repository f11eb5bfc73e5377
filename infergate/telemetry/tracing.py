"""Traces of our own: which requests are traced, and by what ids.

Every request gets a span's id, whether it is recorded or not: the backend's own spans, and the log,
then fit to what the client knows. An id is 32 hexadecimal digits for a trace and 16 for a span; a
trace is *recorded* where its spans are pushed to a collector.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from struct import Struct
from typing import Any

import attrs

from infergate.telemetry.record import Record

# The ids of a trace, of our span in it, and of that of the call of the backend.
_IDS = Struct("16s8s8s")

Sampler = Callable[[str, bool | None], bool]
"""Whether a trace is recorded, by its id, and by whether its caller records it: None where it
begins here."""


@attrs.define(eq=False, repr=False)
class Tracer:
    """Gives ids to exchanges: `began` is called with each record at its beginning. `sampler`
    decides which are recorded."""

    _sampler: Sampler
    # Ids need not be secret, only different in each process (W3C Trace Context, 5.2).
    _random: random.Random = attrs.field(factory=random.Random, init=False)
    _ids: list[Any] = attrs.field(factory=list, init=False)

    def began(self, record: Record) -> None:
        """Give an exchange its ids: of the trace, the client's or a new one; of our span; and of
        the span of the call of the backend, which the backend hears of.

        Whether the trace is recorded is decided here, once. All of it is written into the record. A
        HEAD request has no span: the backend hears of the trace, and the log names none of ours.
        """
        trace = record.trace
        if not self._ids:
            self._make_ids()
        ids = self._ids.pop()
        if trace is None:
            trace_id = ids[0].hex()
            sampled = self._sampler(trace_id, None)
        else:
            trace_id = trace.trace_id
            sampled = self._sampler(trace_id, trace.sampled)
            ids = (bytes.fromhex(trace_id), *ids[1:])
        record.ids, record.trace_id, record.span_id = ids, trace_id, ids[1].hex()
        record.sampled = sampled
        flags = "01" if sampled else "00"
        line = f"Traceparent: 00-{trace_id}-{ids[2].hex()}-{flags}\r\n"
        record.traceparent = line.encode("ascii")
        if record.method == "HEAD":
            record.leave_untraced()

    def _make_ids(self) -> None:
        """Make the ids of many exchanges at once, which takes a fifth of the time. That one of them
        is 0, which is none, does not happen. Called by `began` where none are left."""
        self._ids += _IDS.iter_unpack(self._random.randbytes(_IDS.size * 256))


def always(trace_id: str, parent: bool | None) -> bool:
    """Record every trace: the sampler ``always_on``."""
    return True


def never(trace_id: str, parent: bool | None) -> bool:
    """Record no trace: the sampler ``always_off``."""
    return False


def ratio(part: float) -> Sampler:
    """Return a sampler that records so large a part of all traces, from 0 to 1: the same ones at
    every service that asks by their ids. Called by `config.otel` for ``traceidratio``.

    The sampler looks at the last 16 of an id's 32 hexadecimal digits.
    """
    bound = round(part * (1 << 64))

    def sample(trace_id: str, parent: bool | None) -> bool:
        """Say whether the trace is within the part."""
        return int(trace_id[16:], 16) < bound

    return sample


def parent_based(root: Sampler) -> Sampler:
    """Return a sampler that does what the caller says of its trace; `root` decides on those that
    begin here. Called by `config.otel` for ``parentbased_always_on`` and its like."""

    def sample(trace_id: str, parent: bool | None) -> bool:
        """Do as the caller does, where there is one."""
        return root(trace_id, None) if parent is None else parent

    return sample
