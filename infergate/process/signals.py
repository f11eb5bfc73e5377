"""What the signals do: drain, end at once, read files again, open the log file anew."""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Any

from infergate.telemetry.lines import STOPPED_READER, LogWriter
from infergate.telemetry.targets import Target, reopen


def ignore_signals() -> None:
    """Ignore the signals that would end a process without handlers, which must not end what has not
    begun. Called by `tap` first of all."""
    for number in (signal.SIGHUP, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)


def handle_signals(
    reactor: Any,
    target: Target,
    writer: LogWriter,
    end: Callable[[], None],
    hangup: Callable[[], object],
) -> None:
    """Install the handlers of the signals. `tap` has it called once, when the reactor runs and
    twistd has set its own.

    The first SIGTERM or SIGINT drains, a second one calls `end` and then ends the process; twistd's
    own handler would call `reactor.stop` twice, which raises. SIGUSR1 opens a log file anew, and
    does nothing where there is none. SIGHUP calls `hangup`. Each runs in an event loop iteration,
    where nothing else is half done.
    """
    stopping = False

    def crash() -> None:
        """End the process within this event loop iteration: close all records with `end`, write the
        log lines that wait, as far as they are taken, and stop the reactor without its shutdown
        events. Called by the reactor for a second signal."""
        end()
        writer.finish(STOPPED_READER)
        reactor.crash()

    def handle(number: int, frame: object) -> None:
        """Drain at the first SIGTERM or SIGINT, `crash` at any further one. Called by Python
        between any two of its instructions, so that all it does is to note which it is and to wake
        the reactor."""
        nonlocal stopping
        # Before anything else: a second signal may interrupt this very function.
        first, stopping = not stopping, True
        if not first:
            reactor.callFromThread(crash)
        elif number == signal.SIGINT:
            reactor.sigInt(number)
        else:
            # Not Twisted's own `sigTerm`, which has the process end as if by the signal.
            reactor.callFromThread(reactor.stop)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, handle)
    signal.signal(signal.SIGUSR1, lambda *_: reactor.callFromThread(reopen, target))
    signal.signal(signal.SIGHUP, lambda *_: reactor.callFromThread(hangup))
