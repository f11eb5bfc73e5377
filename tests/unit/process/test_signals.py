"""What the signals do."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from infergate.process.signals import handle_signals, ignore_signals
from infergate.telemetry.lines import LogWriter
from infergate.telemetry.targets import LogFile
from tests.unit.inmemory import Output


class Reactor(Clock):
    """Keeps how it was told to end."""

    def __init__(self) -> None:
        super().__init__()
        self.signals: list[tuple[str, int]] = []
        self.crashed = 0

    def callFromThread(self, function: Any, *args: Any) -> None:
        function(*args)

    def stop(self) -> None:
        self.signals.append(("stop", 0))

    def sigInt(self, number: int) -> None:
        self.signals.append(("int", number))

    def crash(self) -> None:
        self.crashed += 1


class Signals(SynchronousTestCase):
    def setUp(self) -> None:
        self.reactor, self.output = Reactor(), Output()
        self.handlers: dict[int, Any] = {}
        self.patch(signal, "signal", self.handlers.__setitem__)

    def ends(self) -> None:
        self.ended_before_crash = not self.reactor.crashed

    def signals(self, target: Any = None) -> None:
        writer = LogWriter(self.output, self.reactor)
        hangup = lambda: self.reactor.signals.append(("hangup", 0))  # noqa: E731
        handle_signals(self.reactor, target or self.output, writer, self.ends, hangup)

    def test_early_ones_end_nothing(self) -> None:
        """A process that has no handlers yet is not ended by what it will handle."""
        ignore_signals()
        ignored = {signal.SIGHUP: signal.SIG_IGN, signal.SIGUSR1: signal.SIG_IGN}
        self.assertEqual(self.handlers, ignored)

    def test_first_drains(self) -> None:
        """The first signal drains. SIGTERM is how a service is ended: the process ends as it
        does when all went well, and not as if by the signal."""
        for number, called in (
            (signal.SIGTERM, ("stop", 0)),
            (signal.SIGINT, ("int", signal.SIGINT)),
        ):
            self.reactor.signals.clear()
            self.signals()
            self.handlers[number](number, None)
            self.assertEqual(self.reactor.signals, [called])
            self.assertEqual(self.reactor.crashed, 0)

    def test_second_ends_the_process(self) -> None:
        """The second one, of whichever kind, ends every exchange and then the process."""
        self.signals()
        self.handlers[signal.SIGTERM](signal.SIGTERM, None)
        self.handlers[signal.SIGINT](signal.SIGINT, None)
        self.assertTrue(self.ended_before_crash)
        self.assertEqual(self.reactor.crashed, 1)
        self.assertEqual(len(self.reactor.signals), 1)

    def test_one_that_interrupts_the_first_is_a_second(self) -> None:
        """One that interrupts the handling of the first is a second one, and no other first."""
        self.signals()
        self.reactor.stop = lambda: (  # type: ignore[method-assign]
            self.reactor.signals.append(("stop", 0)),
            self.handlers[signal.SIGTERM](signal.SIGTERM, None),
        )
        self.handlers[signal.SIGTERM](signal.SIGTERM, None)
        self.assertEqual((len(self.reactor.signals), self.reactor.crashed), (1, 1))

    def test_hangup_ends_nothing(self) -> None:
        """SIGHUP has files read again, and that is all."""
        self.signals()
        self.handlers[signal.SIGHUP](signal.SIGHUP, None)
        self.assertEqual(self.reactor.signals, [("hangup", 0)])

    def test_sigusr1_opens_a_log_file_anew(self) -> None:
        """After SIGUSR1 lines go to what then stands under the log file's path."""
        path = self.mktemp()
        target = LogFile(path)
        self.addCleanup(lambda: os.close(target.fileno()))
        target.send(b"old\n")
        os.rename(path, path + ".1")
        self.signals(target)
        self.handlers[signal.SIGUSR1](signal.SIGUSR1, None)
        target.send(b"new\n")
        self.assertEqual(Path(path).read_text(), "new\n")
        self.assertEqual(Path(path + ".1").read_text(), "old\n")

    def test_sigusr1_without_a_log_file_does_nothing(self) -> None:
        """It does not end the process, as it would one that does not handle it."""
        self.signals()
        self.handlers[signal.SIGUSR1](signal.SIGUSR1, None)
        self.assertEqual(self.output.written, b"")
