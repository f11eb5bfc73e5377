"""Log lines on their way out, to a reader that may stop."""

from __future__ import annotations

import os
from typing import Any

from twisted.internet.error import ConnectionLost
from twisted.internet.interfaces import IWriteDescriptor
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from infergate.telemetry import lines, logs
from infergate.telemetry.lines import LogWriter
from infergate.telemetry.textlines import TextLines


class Reader:
    """Takes `room` bytes more, and fails with `error` where there is one."""

    def __init__(self) -> None:
        self.room = 10**9
        self.taken = b""
        self.error: OSError | None = None

    def send(self, data: bytes) -> int:
        if self.error is not None:
            raise self.error
        if not self.room:
            raise BlockingIOError
        data = data[: self.room]
        self.room -= len(data)
        self.taken += data
        return len(data)

    def fileno(self) -> int:
        return -1


class Reactor:
    """Knows who waits to write."""

    def __init__(self) -> None:
        self.writers: list[Any] = []

    def callFromThread(self, function: Any, *args: Any) -> None:
        function(*args)

    def addWriter(self, writer: Any) -> None:
        self.writers.append(writer)

    def removeWriter(self, writer: Any) -> None:
        if writer in self.writers:
            self.writers.remove(writer)


class WriterTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.reader = Reader()
        self.reactor = Reactor()
        self.writer = LogWriter(self.reader, self.reactor, room=1000)
        # As in the process: what the writer has to say is a line like any other.
        observer = logs.observer(self.writer.write, TextLines(colours=False), "info")
        self.patch(lines, "_log", Logger(observer=observer))

    def write(self, count: int, size: int = 100) -> None:
        for number in range(count):
            self.writer.write(f"{number:>{size - 1}}\n")

    def read(self, room: int = 10**9) -> list[str]:
        """Let the reader take so many bytes; all lines that it has by then."""
        self.reader.room = room
        if self.reactor.writers:
            self.writer.doWrite()
        return [line.strip() for line in self.reader.taken.decode().splitlines()]

    def said(self) -> list[str]:
        """What was said about lines that were lost."""
        return [line for line in self.read() if "dropped" in line]

    def test_interface(self) -> None:
        """A reactor can watch it."""
        verifyObject(IWriteDescriptor, self.writer)
        self.assertEqual((self.writer.fileno(), self.writer.logPrefix()), (-1, "log"))

    def test_line_is_written_at_once_where_it_is_read(self) -> None:
        """While somebody reads, nothing waits, and the reactor has nothing to do with it."""
        self.writer.write("one\n")
        self.assertEqual((self.reader.taken, self.reactor.writers), (b"one\n", []))

    def test_lines_wait_in_order_for_a_reader_that_stops(self) -> None:
        """What is not read waits, and goes out in order, without a gap, when it is."""
        self.reader.room = 150
        self.write(8)
        self.assertEqual(len(self.reader.taken), 150)
        self.assertEqual(self.reactor.writers, [self.writer])
        self.assertEqual(len(self.read(room=300)), 5)
        self.assertEqual(self.read(), [str(number) for number in range(8)])
        self.assertEqual(self.reactor.writers, [])
        self.assertEqual((self.writer.dropped, self.said()), (0, []))

    def test_line_of_another_thread_waits_for_the_reader_before_the_reactor_looks(self) -> None:
        """A line that another thread logs is written, and so are those behind it, also where the
        reader takes bytes again before that thread goes on."""

        def look_at_once(function: Any, *args: Any) -> None:
            """The reactor's thread is the quicker one."""
            function(*args)
            self.reader.room = 10**9
            self.writer.doWrite()

        self.reader.room = 0
        self.patch(self.reactor, "callFromThread", look_at_once)
        self.write(2)
        self.assertEqual(len(self.reader.taken), 200)

    def test_lines_beyond_the_queue_are_dropped_and_counted(self) -> None:
        """The queue has a bound; what is beyond is lost, and one line says how much, where the gap
        is."""
        self.reader.room = 0
        self.write(50)
        self.assertEqual(self.writer.dropped, 40)
        *kept, said = self.read()
        self.assertEqual(kept, [str(number) for number in range(10)])
        self.assertIn("warn", said)
        self.assertIn("40 log lines were dropped", said)
        self.write(1)
        self.assertEqual(len(self.said()), 1)

    def test_slow_reader_gets_one_line_for_each_gap(self) -> None:
        """A queue that was full takes lines again when half of it was read: a reader that is
        always behind is not told of each line that it lost."""
        self.reader.room = 0
        self.write(11)
        for _ in range(4):
            self.read(room=100)
            self.write(1)
        self.assertEqual(self.writer.dropped, 5)
        self.read(room=100)
        self.writer.write("after\n")
        *_, said, last = self.read()
        self.assertIn("5 log lines were dropped", said)
        self.assertEqual(last, "after")

    def test_lines_that_cannot_be_written_are_counted(self) -> None:
        """Where nobody will ever read, or the disk is full, lines are lost one by one, and said to
        be when there is a way again."""
        self.reader.error = BrokenPipeError()
        self.write(3)
        self.assertEqual((self.writer.dropped, self.reactor.writers), (3, []))
        self.reader.error = None
        self.write(1)
        self.assertEqual(len(self.said()), 1)
        self.assertIn("3 log lines were dropped", self.said()[0])

    def test_reader_that_goes_away_takes_the_queue_with_it(self) -> None:
        """What waited for a reader that is gone for good is counted as lost."""
        self.reader.room = 0
        self.write(5)
        self.reader.error = BrokenPipeError()
        self.writer.connectionLost(Failure(BrokenPipeError()))
        self.assertEqual(self.writer.dropped, 5)
        self.assertEqual(self.reactor.writers, [])

    def test_end_of_the_reactor_takes_no_queue_with_it(self) -> None:
        """A reactor that stops lets go of everything; what waits for its reader still does."""
        self.reader.room = 0
        self.write(5)
        self.writer.connectionLost(Failure(ConnectionLost()))
        self.assertEqual(self.writer.dropped, 0)
        self.assertEqual(len(self.read()), 5)

    def test_any_text_can_be_written(self) -> None:
        """Text that is no Unicode loses no line."""
        self.writer.write("half \ud800\n")
        self.assertEqual(self.reader.taken, b"half \\ud800\n")


class Pipe:
    """A pipe, at one end of which is a target."""

    def __init__(self, test: SynchronousTestCase) -> None:
        self.near, far = os.pipe()
        os.set_blocking(self.near, False)
        os.set_blocking(far, False)
        self._far = far
        test.addCleanup(os.close, self.near)
        test.addCleanup(os.close, far)

    def send(self, data: bytes) -> int:
        return os.write(self._far, data)

    def fileno(self) -> int:
        return self._far


class EndTests(SynchronousTestCase):
    """The end of the process, when no reactor runs any more."""

    def setUp(self) -> None:
        self.pipe = Pipe(self)
        self.writer = LogWriter(self.pipe, Reactor())
        while not self.writer._queue:
            self.writer.write("x" * 4095 + "\n")

    def test_end_waits_for_no_reader_that_has_stopped(self) -> None:
        """A reader that takes nothing holds the end up for a short time only, once."""
        self.patch(lines, "STOPPED_READER", 0.01)
        self.writer.finish(0.02)
        self.writer.write("last\n")
        self.assertEqual(len(self.writer._queue), 2)

    def test_end_waits_for_what_is_read(self) -> None:
        """What the reader takes goes out before the process ends, and so does what is written
        after that."""
        self.patch(self.writer, "_send", self.read_and_send(self.writer._send))
        os.read(self.pipe.near, 65536)
        self.writer.finish(5)
        self.writer.write("last\n")
        self.assertFalse(self.writer._queue)
        self.assertTrue(os.read(self.pipe.near, 1 << 20).endswith(b"x\nlast\n"))

    def read_and_send(self, send: Any) -> Any:
        """Send, as while somebody reads at the other end."""

        def read_on(data: bytes) -> bytes:
            rest: bytes = send(data)
            if rest:
                os.read(self.pipe.near, 65536)
            return rest

        return read_on
