"""Files that are read again while the gateway runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.logger import Logger
from twisted.trial.unittest import SynchronousTestCase

from infergate.compose import Wired, compose
from infergate.config.loading import load
from infergate.process import reload
from infergate.process.certificates import Certificates
from infergate.process.reload import KeyFiles, Reloader
from infergate.process.watching import Change, Refused
from tests.certificates import certificate
from tests.unit.inmemory import BackendPort, Client, Wire, request


def pem(key: Any) -> bytes:
    encoded: bytes = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return encoded


class Fixture(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(1000)
        self.events: list[Any] = []
        self.patch(reload, "_log", Logger(observer=self.events.append))
        self.file = Path(self.mktemp())

    def lines(self) -> list[str]:
        """What the log says, and nothing before the last call."""
        said = [event["log_format"].format(**event) for event in self.events]
        self.events.clear()
        return said

    def looks(self, times: int = 2) -> list[str]:
        for _ in range(times):
            self.clock.advance(1)
        return self.lines()


class Keys(Fixture):
    def begin(self, *lines: str, **more: str) -> None:
        self.file.write_text("\n".join(lines))
        settings = load({}, {"API_KEYS_FILE": str(self.file), **more}, {})
        self.wired: Wired = compose(settings, self.clock, lambda *_: BackendPort(self.clock))
        source = KeyFiles(settings, self.wired.admission, self.wired.roster)
        self.reloader = Reloader([source], self.clock, maybeDeferred)
        self.reloader.start()

    def write(self, *lines: str) -> None:
        self.file.write_text("\n".join(lines))

    def status(self, key: str) -> int:
        client = Client(self.clock, self.wired.front, Wire(self.clock, "192.0.2.1"))
        return client.ask(request("GET", "/v1/models", f"Authorization: Bearer {key}")).status

    def hangup(self) -> list[str]:
        self.successResultOf(self.reloader.reload())
        return self.lines()

    def test_changed_file_is_taken_within_three_seconds(self) -> None:
        """A key that was added opens, one that is gone is refused with the next request, and the
        log says which, by names alone."""
        self.begin("alice:key-a", "bob:key-b", "carol:key-c rate=5/minute")
        self.write("alice:key-a", "carol:key-c rate=6/minute", "dave:key-d", "* tokens=9/day")
        self.assertEqual([self.status(f"key-{one}") for one in "abcd"], [200, 200, 200, 401])
        self.assertEqual(self.looks(), ["Reloaded: added dave, *; removed bob; changed carol"])
        self.assertEqual([self.status(f"key-{one}") for one in "abcd"], [200, 401, 200, 200])
        self.assertEqual(self.looks(10), [])

    def test_sighup_is_heard_at_once_and_always_answered(self) -> None:
        """SIGHUP reads at once and says what changed, or that nothing did; the same change is not
        told of again."""
        self.begin("alice:key-a")
        self.assertEqual(self.hangup(), ["Reloaded: nothing changed"])
        self.write("alice:key-a", "bob:key-b")
        self.assertEqual(self.hangup(), ["Reloaded: added bob"])
        self.assertEqual(self.status("key-b"), 200)
        self.assertEqual(self.looks(10), [])

    def test_file_that_only_looks_changed_says_nothing(self) -> None:
        """A file that was written anew with the same keys is no news."""
        self.begin("alice:key-a")
        self.write("# a comment", "alice:key-a")
        self.assertEqual(self.looks(), [])

    def test_wrong_file_changes_nothing_and_is_told_of_once(self) -> None:
        """A file with a wrong line, without a key, or that is gone leaves the old keys in use; the
        log names it once for each time that it changes."""
        self.begin("alice:key-a")
        for lines, why in (
            (("bob:key-b", "carol:key-c rate=lots"), f"{self.file} line 2: rate=lots: must be"),
            (("# nothing",), f"{self.file}: there is no key in it"),
        ):
            self.write(*lines)
            (line,) = self.looks(10)
            self.assertIn("Not reloaded", line)
            self.assertIn(f"API_KEYS_FILE: {why}", line)
            self.assertEqual((self.status("key-a"), self.status("key-b")), (200, 401))
        self.file.unlink()
        (line,) = self.looks(10)
        self.assertIn(f"API_KEYS_FILE: {self.file}: must be a file that can be read", line)
        (line,) = self.hangup()
        self.assertIn("Not reloaded", line)
        self.write("alice:key-a", "bob:key-b")
        self.assertEqual(self.looks(), ["Reloaded: added bob"])

    def test_file_that_has_lost_its_last_key_is_refused(self) -> None:
        """Rules alone would lock everybody out who has a key."""
        self.begin("alice:key-a", JWT_SECRET="s" * 32)
        self.write("alice:- rate=1/day")
        (line,) = self.looks()
        self.assertIn("has lost its last key", line)
        self.assertEqual(self.status("key-a"), 200)

    def test_no_key_is_ever_in_the_log(self) -> None:
        """Names alone are logged, of right lines and of wrong ones."""
        self.begin("alice:key-a")
        for line in ("alice:canary", "bob:canary rate=1/day", "canary canary", "x:canary\x00"):
            self.write("alice:key-a2", line)
            self.assertNotIn("canary", str(self.hangup()))

    def test_used_limits_stay_unless_they_were_changed(self) -> None:
        """A caller cannot get a new allowance out of a reload."""
        self.begin("alice:key-a rate=1/hour")
        self.assertEqual([self.status("key-a") for _ in range(2)], [200, 429])
        self.write("alice:key-a rate=1/hour", "bob:key-b")
        self.looks()
        self.assertEqual(self.status("key-a"), 429)

    def test_long_lists_of_names_are_cut(self) -> None:
        """A file of 100,000 keys makes no line of 100,000 names."""
        self.begin("alice:key-a")
        self.write("alice:key-a", *(f"n{number}:key-{number}" for number in range(50)))
        (line,) = self.looks()
        self.assertIn("n19 and 30 more", line)
        self.assertNotIn("n20", line)


class TokenKey(Fixture):
    def test_public_key_is_swapped_and_one_that_does_not_fit_refused(self) -> None:
        """A new key is used from the next token on; one that JWT_ALGORITHMS is not for leaves the
        old one in use."""
        first, second = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
        self.file.write_bytes(pem(first))
        settings = load({}, {"JWT_PUBLIC_KEY_FILE": str(self.file), "JWT_ALGORITHMS": "ES256"}, {})
        wired = compose(settings, self.clock, lambda *_: BackendPort(self.clock))
        source = KeyFiles(settings, wired.admission, wired.roster)
        reloader = Reloader([source], self.clock, maybeDeferred)
        reloader.start()

        def in_use() -> Any:
            verifier: Any = wired.admission.roster.authenticator
            return verifier.keys.find("ES256", None)

        self.file.write_bytes(pem(second))
        self.assertEqual(self.looks(), ["Reloaded: changed JWT_PUBLIC_KEY_FILE"])
        self.assertEqual(in_use(), second.public_key())
        self.file.write_bytes(pem(ed25519.Ed25519PrivateKey.generate()))
        (line,) = self.looks()
        self.assertIn("JWT_ALGORITHMS", line)
        self.file.write_bytes(b"canary")
        (line,) = self.looks()
        self.assertIn(f"JWT_PUBLIC_KEY_FILE: {self.file}: must hold a public key", line)
        self.assertNotIn("canary", line)
        self.assertEqual(in_use(), second.public_key())


class Certified(Fixture):
    def test_certificate_is_named_by_its_path(self) -> None:
        """A new certificate is news, the same one is none, and a wrong one is refused."""
        cert, key = certificate(1)
        self.file.write_bytes(cert + key)
        description = f"ssl:8443:privateKey={self.file}"
        source = Certificates(description, Factory.forProtocol(Protocol))
        self.assertEqual(source.read().said, "")
        self.file.write_bytes(b"".join(certificate(2)))
        change = source.read()
        self.assertEqual(change.said, f"certificate {self.file}")
        change.swap()
        self.assertEqual(source.read().said, "")
        self.file.write_bytes(certificate(3)[0] + key)
        error = self.assertRaises(Refused, source.read)
        self.assertIn(f"certificate {self.file}: ", str(error))
        self.file.unlink()
        self.assertRaises(Refused, source.read)


class Reading(Fixture):
    """Sources that are read in a thread, one after the other."""

    def setUp(self) -> None:
        super().setUp()
        self.file.write_text("1")
        self.swapped: list[str] = []
        self.reads: list[tuple[Callable[[], Any], Deferred[Any]]] = []
        self.reloader = Reloader([self, self], self.clock, self.run_later)

    def paths(self) -> Iterable[str]:
        return [str(self.file)]

    def read(self) -> Change:
        text = self.file.read_text()
        if text == "broken":
            raise AssertionError("a fault of the reader's own")
        return Change(text, lambda: self.swapped.append(text))

    def run_later(self, read: Callable[[], Any]) -> Deferred[Any]:
        self.reads.append((read, Deferred()))
        return self.reads[-1][1]

    def finish(self) -> None:
        read, finished = self.reads.pop(0)
        maybeDeferred(read).chainDeferred(finished)

    def test_readings_follow_one_another(self) -> None:
        """What is asked for while something is read waits, so that the last one read is in use."""
        first, second = self.reloader.reload(), self.reloader.reload()
        self.assertEqual(len(self.reads), 1)
        self.finish()
        self.finish()
        self.successResultOf(first)
        self.file.write_text("2")
        self.finish()
        self.finish()
        self.successResultOf(second)
        self.assertEqual(self.swapped, ["1", "1", "2", "2"])
        self.assertEqual(self.lines(), ["Reloaded: 1; 1", "Reloaded: 2; 2"])

    def test_fault_of_a_reader_is_logged_and_holds_nothing_up(self) -> None:
        """Whatever goes wrong in reading, the next reload works."""
        self.file.write_text("broken")
        failed = self.reloader.reload()
        self.finish()
        self.successResultOf(failed)
        self.assertIn("Reloading failed", str(self.events[0]["log_format"]))
        self.file.write_text("2")
        again = self.reloader.reload()
        self.finish()
        self.finish()
        self.successResultOf(again)
        self.assertEqual(self.swapped, ["2", "2"])

    def test_sources_without_files_are_left_out(self) -> None:
        """Where there is nothing to read again, the reloader says so."""
        plain = Certificates("tcp:1", Factory.forProtocol(Protocol))
        empty = Reloader([plain], self.clock, maybeDeferred)
        self.successResultOf(empty.reload())
        self.assertIn("nothing to reload", str(self.events[0]["log_format"]))
        empty.start()
        self.assertEqual(self.clock.getDelayedCalls(), [])
        empty.stop()
