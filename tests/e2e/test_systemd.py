"""What systemd does to a service, done to a real process: sockets handed over, and word of how the
service is."""

from __future__ import annotations

import os
import re
import signal
import socket
import tempfile
import time

from twisted.trial.unittest import SynchronousTestCase

from tests.e2e.harness import OFF, Process, get, wait_for

skip = OFF


class Activation(SynchronousTestCase):
    """Listening sockets that were there before the process."""

    def sockets(self, *addresses: str) -> list[socket.socket]:
        families = [socket.AF_INET6 if ":" in one else socket.AF_INET for one in addresses]
        made = [
            socket.create_server((address, 0), family=family, dualstack_ipv6=address == "::")
            for address, family in zip(addresses, families, strict=True)
        ]
        for one in made:
            self.addCleanup(one.close)
        return made

    def start(
        self, sockets: list[socket.socket], names: str | None = None, **settings: str
    ) -> Process:
        if names is not None:
            settings["LISTEN_FDNAMES"] = names
        process = Process("infergate", settings, sockets=sockets)
        self.addCleanup(process.kill)
        return process

    def ready(self, listening: socket.socket) -> int:
        return get(f"http://127.0.0.1:{listening.getsockname()[1]}/readyz/self")[0]

    def test_by_place(self) -> None:
        """A socket is taken by its place among those handed over, with names and without."""
        for names in (None, "gate:other"):
            sockets = self.sockets("127.0.0.1", "127.0.0.1")
            self.start(sockets, names, LISTEN="systemd:domain=INET:index=1")
            self.assertEqual(self.ready(sockets[1]), 200)

    def test_by_name(self) -> None:
        """The gateway and its metrics each take the socket of their name."""
        metrics, gate = self.sockets("127.0.0.1", "127.0.0.1")
        self.start(
            [metrics, gate],
            "metrics:gate",
            LISTEN="systemd:domain=INET:name=gate",
            METRICS_LISTEN="systemd:domain=INET:name=metrics",
        )
        self.assertEqual(self.ready(gate), 200)
        url = f"http://127.0.0.1:{metrics.getsockname()[1]}/metrics"
        self.assertIn(b"infergate_requests_in_flight", get(url)[2])

    def test_of_all_addresses(self) -> None:
        """`ListenStream=8080` makes one socket for IPv4 and IPv6, and both are answered."""
        (both,) = self.sockets("::")
        self.start([both], LISTEN="systemd:domain=INET6:index=0")
        self.assertEqual(self.ready(both), 200)
        self.assertEqual(get(f"http://[::1]:{both.getsockname()[1]}/readyz/self")[0], 200)

    def test_sockets_of_another_process(self) -> None:
        """What LISTEN_PID says is for another process is not taken."""
        with self.assertRaisesRegex(AssertionError, "has handed over no such one"):
            settings = {"LISTEN_PID": "1", "LISTEN_FDS": "1"}
            Process("infergate", {**settings, "LISTEN": "systemd:domain=INET:index=0"})


class Notified(SynchronousTestCase):
    """A socket in the place of systemd's."""

    def start(self, address: str, bound: str, **settings: str) -> Process:
        self.systemd = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.addCleanup(self.systemd.close)
        self.systemd.bind(bound)
        self.systemd.settimeout(20)
        # Nobody listens there: a service is ready whatever its backend says.
        settings = {"BACKEND_URL": "http://127.0.0.1:9", "NOTIFY_SOCKET": address, **settings}
        process = Process(
            "infergate", {"API_KEYS_FILE": "keys", **settings}, files={"keys": "one:a-key"}
        )
        self.addCleanup(process.kill)
        return process

    def path(self) -> str:
        """Where a socket can be; the path of trial's folder may be too long for one."""
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        return os.path.join(folder.name, "notify")

    def heard(self) -> str:
        return self.systemd.recv(1000).decode()

    def test_ready_reload_stop(self) -> None:
        """systemd hears when the gateway listens, that it reloads and has done so, and that it
        stops, at a socket that is a file and at one that is none."""
        name = f"infergate-e2e-{os.getpid()}"
        path = self.path()
        for address, bound in ((path, path), (f"@{name}", f"\0{name}")):
            process = self.start(address, bound)
            self.assertEqual(self.heard(), "READY=1")
            self.assertEqual(get(process.url + "/readyz/self")[0], 200)
            before = time.monotonic_ns() // 1000
            process.send_signal(signal.SIGHUP)
            found = re.fullmatch(r"RELOADING=1\nMONOTONIC_USEC=([0-9]+)", self.heard())
            assert found is not None
            self.assertTrue(before < int(found[1]) < time.monotonic_ns() // 1000)
            self.assertEqual(self.heard(), "READY=1")
            self.assertIn("Reloaded", process.log_text())
            process.send_signal(signal.SIGTERM)
            self.assertEqual(self.heard(), "STOPPING=1")
            self.assertEqual(process.process.wait(20), 0)

    def test_watchdog(self) -> None:
        """The watchdog hears from a process twice in the time that it gives, and not from one that
        hangs."""
        path = self.path()
        process = self.start(path, path, WATCHDOG_USEC="400000")
        self.assertEqual(self.heard(), "READY=1")
        began = time.monotonic()
        self.assertEqual([self.heard() for _ in range(10)], ["WATCHDOG=1"] * 10)
        self.assertTrue(1.5 < time.monotonic() - began < 3.0)
        process.send_signal(signal.SIGSTOP)
        wait_for(self._silent, 5, "silence")
        process.send_signal(signal.SIGCONT)
        self.assertEqual(self.heard(), "WATCHDOG=1")

    def _silent(self) -> bool:
        self.systemd.settimeout(1)
        try:
            self.systemd.recv(1000)
        except TimeoutError:
            return True
        finally:
            self.systemd.settimeout(20)
        return False
