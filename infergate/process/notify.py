"""What systemd is told of the service: sd_notify(3), where ``NOTIFY_SOCKET`` is set."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping
from contextlib import suppress

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall


class Notifier:
    """Tell systemd how the service is; without a ``NOTIFY_SOCKET`` in `environ` it tells nobody.

    `tap` has `ready` called once all ports listen, and `reload` at each SIGHUP; `GatewayService`
    calls `stopping` at the first signal to end. From `ready` on the watchdog hears from the event
    loop in half of its time, so that a process that hangs is restarted. None of these fails: a
    service must not end because nobody listens.
    """

    def __init__(self, environ: Mapping[str, str], clock: IReactorTime) -> None:
        self._address = environ.get("NOTIFY_SOCKET", "")
        self._watchdog = LoopingCall(self._send, "WATCHDOG=1")
        self._watchdog.clock = clock
        self._interval = _watchdog_seconds(environ) / 2 if self._address else 0.0

    def ready(self) -> None:
        """Say that the service is up, and begin to feed the watchdog, where systemd has set one.

        Called by `tap` once the signals are handled, and at the end of each reload.
        """
        self._send("READY=1")
        if self._interval and not self._watchdog.running:
            self._watchdog.start(self._interval)

    def stopping(self) -> None:
        self._send("STOPPING=1")

    def reload(self, done: Deferred[None]) -> None:
        """Say that the service reloads until `done` has fired, whether well or not.

        Called by `tap` at each SIGHUP, with the Deferred of `Reloader.reload`.
        """
        # sd_notify(3) wants the monotonic time, in microseconds.
        self._send(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")
        done.addBoth(lambda _: self.ready())

    def _send(self, state: str) -> None:
        """Send one state in one datagram, and do not wait.

        A systemd that is too busy to take it hears the next one. `state` is lines of
        ``NAME=value``. Raises nothing: an error of the socket is passed over. Called by all the
        others, and by the watchdog's loop.
        """
        if not self._address:
            return
        # An address that begins with @ is an abstract one, of no file.
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.setblocking(False)
            sender.sendto(state.encode("ascii"), address)


def _watchdog_seconds(environ: Mapping[str, str]) -> float:
    """Return the seconds within which systemd's watchdog wants to hear from this process.

    0.0 is not at all: `WATCHDOG_USEC` is not there, or `WATCHDOG_PID` names another process, as it
    does in a child that has inherited the variables. Called when a `Notifier` is made; raises
    nothing.
    """
    microseconds = environ.get("WATCHDOG_USEC", "")
    meant = environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
    return int(microseconds) / 1_000_000 if meant and microseconds.isdecimal() else 0.0
