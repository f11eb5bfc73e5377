"""What systemd is told."""

from __future__ import annotations

import os
import socket
import tempfile
from pathlib import Path

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from infergate.process.notify import Notifier


class Notifying(SynchronousTestCase):
    """A socket in the place of systemd's."""

    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.path = str(Path(folder.name, "notify"))
        self.clock = Clock()
        self.listen(self.path)

    def listen(self, address: str) -> None:
        self.systemd = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.addCleanup(self.systemd.close)
        self.systemd.bind(address)
        self.systemd.setblocking(False)

    def notifier(self, **environ: str) -> Notifier:
        return Notifier({"NOTIFY_SOCKET": self.path, **environ}, self.clock)

    def heard(self) -> list[str]:
        """What systemd was told since it was asked last."""
        told = []
        while True:
            try:
                told.append(self.systemd.recv(1000).decode())
            except BlockingIOError:
                return told

    def test_ready_reloading_and_stopping(self) -> None:
        """systemd hears when the gateway is ready, reloads and stops."""
        notifier = self.notifier()
        notifier.ready()
        done: Deferred[None] = Deferred()
        notifier.reload(done)
        ready, reloading = self.heard()
        self.assertEqual(ready, "READY=1")
        self.assertRegex(reloading, r"\ARELOADING=1\nMONOTONIC_USEC=[0-9]+\Z")
        done.callback(None)
        notifier.stopping()
        self.assertEqual(self.heard(), ["READY=1", "STOPPING=1"])

    def test_watchdog_hears_in_half_of_its_time(self) -> None:
        """A process that hangs is noticed: one that lives says so in time."""
        notifier = self.notifier(WATCHDOG_USEC="4000000")
        self.clock.advance(10)
        self.assertEqual(self.heard(), [])
        notifier.ready()
        notifier.ready()
        self.assertEqual(self.heard(), ["READY=1", "WATCHDOG=1", "READY=1"])
        self.clock.advance(2)
        self.clock.advance(1.9)
        self.assertEqual(self.heard(), ["WATCHDOG=1"])

    def test_watchdog_of_another_process_is_not_ours(self) -> None:
        """What systemd wants to hear from another process is not said by this one."""
        self.notifier(WATCHDOG_USEC="4000000", WATCHDOG_PID=str(os.getpid())).ready()
        self.assertEqual(self.heard(), ["READY=1", "WATCHDOG=1"])
        for environ in ({"WATCHDOG_PID": "1", "WATCHDOG_USEC": "1"}, {"WATCHDOG_USEC": "soon"}):
            self.notifier(**environ).ready()
            self.assertEqual(self.heard(), ["READY=1"])

    def test_abstract_address(self) -> None:
        """A name that begins with @ is one of no file."""
        name = f"infergate-test-{os.getpid()}"
        self.listen(f"\0{name}")
        Notifier({"NOTIFY_SOCKET": f"@{name}"}, self.clock).ready()
        self.assertEqual(self.heard(), ["READY=1"])

    def test_nobody_listens(self) -> None:
        """Without systemd, or with one that is gone, nothing happens."""
        Notifier({}, self.clock).ready()
        Notifier({"WATCHDOG_USEC": "1"}, self.clock).ready()
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.systemd.close()
        notifier = self.notifier()
        notifier.ready()
        notifier.stopping()
