"""How long one client, or one reply, keeps all others waiting: ``/healthz`` asked meanwhile.

Every case is repeated, and the shortest of its longest waits counts: what the gateway itself does
in one go is the same each time, and whatever else the machine had to do only adds to it. For the
same reason the longest time that the gateway was at work before it answered stands beside each
wait: on a machine with other work to do that alone is the gateway's. Then comes the CPU time that
`json.loads` takes for the same text, and how much the memory of the gateway grew, in sizes of the
body.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.bench import Bench, say
from benchmarks.probe import Probe
from benchmarks.processes import Server, free_port, scratch
from benchmarks.question import question
from benchmarks.replies import PLAIN
from benchmarks.shapes import BODIES, EVENTS, MODEL_LISTS, REPLIES
from benchmarks.targets import ROOT, TARGETS
from benchmarks.watched import PATIENCE, Watched, prepare

BODY = 10_000_000
LARGEST_BODY = 2**25 - 1024
"""Bytes: just under `MAX_BODY_BYTES`."""

LARGEST = ("one long string", "escaped names", "empty objects in a message", "content in parts")
"""Shapes of bodies of that size."""

REPLY = 64 * 2**20 - 1024
"""Bytes: just under `MAX_RESPONSE_BYTES`."""

STREAM = 16_000_000
ONE_BYTE_CHUNKS = 1 << 20
IDLE_CONNECTIONS = 5000
PIPELINING = 60
MODELS = 100
WATCHED_SECONDS = 3.0


@dataclass
class Wait:
    """One row. `json_ms` is that of `json.loads`, `memory` the growth in sizes of the text."""

    kind: str
    case: str
    size: int = 0
    status: int = 0
    longest_ms: float = 0
    work_ms: float = 0
    """The most that the gateway worked between a question of the probe and its answer."""
    json_ms: float | None = None
    memory: float | None = None
    cpu_share: float | None = None
    """Of one core, where nobody asks for anything."""


class Cases:
    """Runs each case against a gateway that has done nothing before, so that its memory is that of
    the case, and its heap is as small as it gets."""

    def __init__(self, bench: Bench, stack: ExitStack, repeats: int, wanted: str) -> None:
        self._bench = bench
        self._wanted = wanted
        self._repeats = repeats
        self._backend = free_port()
        directory = Path(stack.enter_context(scratch()))
        command = [bench.python, "-m", "benchmarks.hostile", str(self._backend)]
        hostile = stack.enter_context(Server(command, {"PYTHONPATH": str(ROOT)}, directory))
        hostile.wait(self._backend)

    @contextmanager
    def gateway(self) -> Iterator[Watched]:
        """A gateway from its start to its end, which begins with a good answer of the backend."""
        _, _, good = PLAIN.partition(b"\r\n\r\n")
        prepare(self._backend, good)
        with self._bench.running(TARGETS["infergate"], backend=self._backend) as gateway:
            assert gateway.server is not None
            yield Watched(gateway.port, self._backend, gateway.server)

    def watch(self, row: Wait, gateway: Watched, act: Callable[[], int]) -> Wait:
        """Fill in `row`: the status, the longest wait, and how much the memory grew at most."""
        longest, work = [], []
        before = gateway.server.reset_peak()
        for _ in range(self._repeats):
            with Probe(gateway.port, gateway.server.pid) as probe:
                row.status = act()
            longest.append(probe.seen["longest_ms"])
            work.append(probe.seen["longest_work_ms"])
            gateway.server.settle()
        row.longest_ms, row.work_ms = min(longest), min(work)
        if row.size:
            row.memory = (gateway.server.peak() - before) * 2**20 / row.size
        say(f"waits: {row.kind}, {row.case}: {row.longest_ms:.1f} ms, {row.work_ms:.1f} at work")
        return row

    def all(self) -> Iterator[Wait]:
        """Every row whose kind is wanted, in the order of the table."""
        with self.gateway() as gateway:
            yield self.watch(Wait("nothing", "/healthz alone"), gateway, _pass_time)
        for kind, cases in (
            ("body", self._bodies),
            ("reply", self._replies),
            ("stream", self._streams),
            ("other", self._others),
        ):
            if self._wanted in ("", kind):
                yield from cases()

    def _others(self) -> Iterator[Wait]:
        for case in (self._one_byte_chunks, self._pipelining, self._scrape, self._idle):
            with self.gateway() as gateway:
                yield case(gateway)

    def _bodies(self) -> Iterator[Wait]:
        for case, shape in BODIES.items():
            body = shape(BODY)
            row = Wait("body", case, len(body), json_ms=_loads(body, self._repeats))
            with self.gateway() as gateway:
                yield self.watch(row, gateway, partial(gateway.post, body))
        for case in LARGEST:
            body = BODIES[case](LARGEST_BODY)
            with self.gateway() as gateway:
                row = Wait("body", case, len(body))
                yield self.watch(row, gateway, partial(gateway.post, body))

    def _replies(self) -> Iterator[Wait]:
        asked = _body(stream=False)
        for size in (BODY, REPLY):
            for case, shape in REPLIES.items():
                reply = shape(size)
                row = Wait("reply", case, len(reply))
                with self.gateway() as gateway:
                    gateway.prepare(reply)
                    yield self.watch(row, gateway, partial(gateway.post, asked))
        for case, shape in MODEL_LISTS.items():
            reply = shape(REPLY)
            row = Wait("list of models", case, len(reply))
            with self.gateway() as gateway:
                gateway.prepare(reply)
                yield self.watch(row, gateway, partial(gateway.get, "/v1/models"))

    def _streams(self) -> Iterator[Wait]:
        asked = _body(stream=True)
        for case, unit in EVENTS.items():
            reply = unit * (STREAM // len(unit))
            with self.gateway() as gateway:
                gateway.prepare(reply, "text/event-stream")
                row = Wait("stream", case, len(reply))
                yield self.watch(row, gateway, partial(gateway.post, asked))

    def _one_byte_chunks(self, gateway: Watched) -> Wait:
        body = BODIES["one long string"](ONE_BYTE_CHUNKS)
        head = question(gateway.port).partition(b"\r\nContent-Length")[0]
        chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in body)
        sent = head + b"\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n"
        gateway.prepare(REPLIES["one long text"](1000))
        row = Wait("body", "1 MiB in chunks of one byte", len(sent))
        return self.watch(row, gateway, partial(gateway.send, sent))

    def _pipelining(self, gateway: Watched) -> Wait:
        def flood() -> int:
            command = [sys.executable, "-m", "benchmarks.flood", str(gateway.port), str(PIPELINING)]
            with subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT
            ) as clients:
                assert clients.stdin is not None
                assert clients.stdout is not None
                clients.stdout.readline()
                status = _pass_time()
                clients.stdin.close()
            return status

        return self.watch(Wait("clients", f"{PIPELINING} that pipeline"), gateway, flood)

    def _scrape(self, gateway: Watched) -> Wait:
        gateway.prepare(REPLIES["one long text"](1000))
        for number in range(MODELS):
            document = json.loads(_body(stream=False)) | {"model": f"model-{number}"}
            for stream in (False, True):
                gateway.post(json.dumps(document | {"stream": stream}).encode())

        def scrape() -> int:
            time.sleep(1)  # so that it is not the text of the last one
            return gateway.get("/metrics")

        return self.watch(Wait("scrape", f"with {MODELS} models"), gateway, scrape)

    def _idle(self, gateway: Watched) -> Wait:
        with ExitStack() as stack:
            for _ in range(IDLE_CONNECTIONS):
                connection = socket.create_connection(("127.0.0.1", gateway.port), PATIENCE)
                stack.enter_context(connection)
                connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: idle\r\n\r\n")
                connection.recv(4096)
            gateway.server.settle()
            before, began = gateway.server.cpu_seconds(), time.monotonic()
            _pass_time()
            share = (gateway.server.cpu_seconds() - before) / (time.monotonic() - began)
            row = Wait("clients", f"{IDLE_CONNECTIONS:,} that idle", cpu_share=share)
            return self.watch(row, gateway, _pass_time)


def measure(bench: Bench, repeats: int, wanted: str = "") -> list[dict[str, Any]]:
    """All rows, or those of one kind."""
    with ExitStack() as stack:
        return [asdict(row) for row in Cases(bench, stack, repeats, wanted).all()]


def _body(*, stream: bool) -> bytes:
    return question(0, stream=stream).partition(b"\r\n\r\n")[2]


def _pass_time() -> int:
    time.sleep(WATCHED_SECONDS)
    return 0


def _loads(text: bytes, repeats: int) -> float:
    """Milliseconds of CPU that `json.loads` takes, until it has failed where it does."""
    best = float("inf")
    for _ in range(repeats):
        began = time.thread_time()
        with suppress(ValueError, RecursionError):
            json.loads(text)
        best = min(best, time.thread_time() - began)
    return best * 1000
