"""Where to listen, and the sentence about each way in which that fails."""

from __future__ import annotations

import errno
import os
import socket
import tempfile
from pathlib import Path
from typing import Any

from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort
from twisted.internet.protocol import Factory
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase

from infergate.config.settings import Settings
from infergate.config.sources import SettingsError
from infergate.process.listening import FORMS, listen, listen_main, read_endpoint, with_mode
from tests.certificates import certificate


class Reactor(MemoryReactorClock):
    """A reactor on which listening fails as it is told."""

    failure: Exception | None = None

    def listenTCP(self, port: int, factory: Any, backlog: int = 50, interface: str = "") -> Any:
        if self.failure is not None:
            if isinstance(self.failure, OSError):
                raise CannotListenError(interface, port, self.failure)
            raise self.failure
        return super().listenTCP(port, factory, backlog, interface)


class Main(SynchronousTestCase):
    def refused(self, failure: Exception, **settings: Any) -> str:
        reactor = Reactor()
        reactor.failure = failure
        with self.assertRaises(SettingsError) as caught:
            listen_main(reactor, Settings(**settings), Factory())
        return str(caught.exception)

    def test_bad_host_is_named_as_host(self) -> None:
        """A HOST that is no address of this machine, as the one that conda exports, is named as
        HOST and not as PORT."""
        conda = "x86_64-conda-linux-gnu"
        for failure in (
            socket.gaierror(socket.EAI_NONAME, "Name or service not known"),
            OSError(errno.EADDRNOTAVAIL, "Cannot assign requested address"),
            UnicodeError("label empty or too long"),
        ):
            line = self.refused(failure, host=conda)
            self.assertTrue(line.startswith(f"HOST='{conda}': must be an address of this machine"))

    def test_taken_port_is_named_as_port(self) -> None:
        """A port that is taken, or that only root may take, is named as PORT."""
        for number in (errno.EADDRINUSE, errno.EACCES):
            line = self.refused(OSError(number, os.strerror(number)), port=80)
            self.assertEqual(line, f"PORT='80': cannot be listened on: {os.strerror(number)}")

    def test_listen_takes_their_place(self) -> None:
        """LISTEN takes the place of PORT and HOST, and is named itself."""
        line = self.refused(OSError(errno.EADDRINUSE, "in use"), listen="tcp:80", port=9)
        self.assertEqual(line, "LISTEN='tcp:80': cannot be listened on: in use")
        port = listen_main(Reactor(), Settings(port=9), Factory())
        self.assertTrue(IListeningPort.providedBy(port))


class Endpoints(SynchronousTestCase):
    def refused(self, description: str) -> str:
        with self.assertRaises(SettingsError) as caught:
            listen(Reactor(), "LISTEN", description, Factory())
        line = str(caught.exception)
        self.assertTrue(line.startswith(f"LISTEN={description!r}: "), line)
        return line

    def test_wrong_arguments_are_told_the_right_ones(self) -> None:
        """An endpoint with the wrong arguments is told how it is written, not how Python fails."""
        directory = Path(self.mktemp())
        directory.mkdir()
        (directory / "name.pem").touch()
        for kind, wrong in (
            ("tcp", ("tcp", "tcp:x", "tcp:1:2:3:4:5")),
            ("unix", ("unix",)),
            ("tls", ("tls", "tls:", "tls:port=80", f"tls:{directory}:tcp:80")),
            ("systemd", ("systemd", "systemd:", "systemd:domain=INET", "systemd:INET:x:y:z")),
            ("haproxy", ("haproxy:", "haproxy:nonsense:1")),
        ):
            for description in wrong:
                self.assertTrue(self.refused(description).endswith(f"must be {FORMS[kind]}"))

    def test_no_endpoint_is_told_what_there_is(self) -> None:
        """What is no endpoint, or none that listens, is told how one begins."""
        for description in ("nonsense", "nonsense:1", ":"):
            self.assertIn("must begin with tcp:, tcp6:, unix:", self.refused(description))

    def test_systemd_without_descriptors(self) -> None:
        """Without a descriptor of systemd's a sentence says so."""
        for description in ("systemd:domain=INET:index=0", "systemd:domain=INET:name=gate"):
            self.assertIn(
                "must name a descriptor that systemd hands over", self.refused(description)
            )

    def test_missing_certificates(self) -> None:
        """A certificate that is missing, or is none, is refused at start and not at each
        handshake."""
        directory = Path(self.mktemp())
        directory.mkdir()
        self.assertIn(f"No certificate: {directory}/*.pem", self.refused(f"tls:{directory}:port=0"))
        self.assertIn("No such file", self.refused(f"ssl:0:privateKey={directory}/key"))
        (directory / "key").write_text("no key")
        self.assertIn("certificate and its key", self.refused(f"ssl:0:privateKey={directory}/key"))

    def test_root_certificate_among_those_of_a_directory(self) -> None:
        """Twisted would look for its issuer's issuer for ever: it is named, and to be taken out. A
        certificate that is its own issuer may stand there with its key."""
        directory = Path(self.mktemp())
        directory.mkdir()
        (directory / "a.pem").write_bytes(b"".join(certificate(1)))
        for arguments in (f"{directory}:0", f"port=0:path={directory}"):
            listening = listen(Reactor(), "LISTEN", f"tls:{arguments}", Factory())
            self.assertTrue(IListeningPort.providedBy(listening))
        (directory / "root.pem").write_bytes(certificate(2)[0])
        line = self.refused(f"tls:{directory}:port=0")
        self.assertIn("the root certificate CN=localhost must not be among them", line)


class Locks(SynchronousTestCase):
    def setUp(self) -> None:
        # The path of a socket has 107 bytes at the most, and trial's own folders are long.
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)

    def lock(self, path: Path) -> Path:
        """The lock of a process that is there: our own, as in a container after a restart."""
        lock = path.with_name(f"{path.name}.lock")
        lock.symlink_to(str(os.getpid()))
        return lock

    def test_lock_of_a_killed_process_is_dropped(self) -> None:
        """Nobody listens at its socket, whichever process has its id by now."""
        for name, description in (
            ("a", "unix:{}"),
            ("b", "haproxy:unix:{}:mode=600"),
            ("c", "unix:backlog=9:address={}"),
            ("d:e", "unix:{}"),
        ):
            path = self.folder / name
            lock = self.lock(path)
            with socket.socket(socket.AF_UNIX) as killed:
                killed.bind(str(path))
            written = str(path).replace(":", "\\:")
            listen(Reactor(), "LISTEN", description.format(written), Factory())
            self.assertFalse(lock.is_symlink() or path.exists(), description)

    def test_socket_without_a_lock_stays(self) -> None:
        """It is another program's."""
        path = self.folder / "a"
        with socket.socket(socket.AF_UNIX) as other:
            other.bind(str(path))
        listen(Reactor(), "LISTEN", f"unix:{path}", Factory())
        self.assertTrue(path.exists())

    def test_lock_of_a_process_that_listens_stays(self) -> None:
        """So does that of one that is about to: there is no socket yet."""
        with socket.socket(socket.AF_UNIX) as other:
            other.bind(str(self.folder / "a"))
            other.listen()
            for name in ("a", "b"):
                lock = self.lock(self.folder / name)
                listen(Reactor(), "LISTEN", f"unix:{self.folder / name}", Factory())
                self.assertTrue(lock.is_symlink())


class Reading(SynchronousTestCase):
    def test_arguments_have_names_whether_they_are_written_or_not(self) -> None:
        """In the order that Twisted has for the kind, and without the backslashes."""
        for description, kind, arguments in (
            ("tcp:80", "tcp", {}),
            ("systemd:domain=INET:index=0", "systemd", {"domain": "INET", "index": "0"}),
            ("unix:/a\\:b\\=c:600", "unix", {"address": "/a:b=c", "mode": "600"}),
            ("unix:backlog=9:/a", "unix", {"backlog": "9", "address": "/a"}),
            ("haproxy:tls:/a\\\\b:port=1", "tls", {"path": "/a\\b", "port": "1"}),
            ("ssl:1:key:certKey=a=b", "ssl", {"port": "1", "privateKey": "key", "certKey": "a=b"}),
            ("", "", {}),
        ):
            self.assertEqual(read_endpoint(description), (kind, arguments))


class Modes(SynchronousTestCase):
    def test_unix_sockets_are_for_owner_and_group(self) -> None:
        """A Unix socket has mode 660 unless it says another; other endpoints have none."""
        for description, mode in (
            ("unix:/run/gate", ":mode=660"),
            ("unix:/run/gate:backlog=9", ":mode=660"),
            ("unix:address=/run/gate", ":mode=660"),
            ("haproxy:unix:/run/gate", ":mode=660"),
            ("unix:/run/gate:mode=600", ""),
            ("unix:/run/gate:600", ""),
            ("unix:/run/a\\:b", ":mode=660"),
            ("tcp:80", ""),
            ("haproxy:tcp:80", ""),
            ("haproxy", ""),
        ):
            self.assertEqual(with_mode(description), description + mode)

    def test_mode_reaches_the_socket(self) -> None:
        """The reactor is told the mode."""
        reactor = Reactor()
        listen(reactor, "LISTEN", "unix:/run/gate", Factory())
        listen(reactor, "LISTEN", "unix:/run/other:mode=600", Factory())
        self.assertEqual([server[3] for server in reactor.unixServers], [0o660, 0o600])
