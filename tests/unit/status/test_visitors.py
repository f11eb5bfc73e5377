"""Who may see the page without a key."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from infergate.status.visitors import accepts_html, at_the_machine


class AtTheMachine(SynchronousTestCase):
    def test_whoever_sits_there(self) -> None:
        """A browser on the machine itself, under one of its names, sees the page."""
        for peer in ("127.0.0.1", "127.8.9.10", "::1"):
            for host in (b"localhost", b"LOCALHOST:8080", b"127.0.0.1:1", b"[::1]:80"):
                self.assertTrue(at_the_machine(peer, {b"host": [host]}), (peer, host))

    def test_nobody_from_elsewhere(self) -> None:
        """Neither another machine, nor a Unix socket, whoever its proxy speaks for."""
        for peer in ("192.0.2.1", "2001:db8::1", "unix", ""):
            self.assertFalse(at_the_machine(peer, {b"host": [b"localhost"]}), peer)

    def test_no_name_that_was_turned_to_the_machine(self) -> None:
        """A page of another origin cannot reach it by a DNS name of its own."""
        for hosts in ([b"evil.example"], [b"localhost.evil.example"], [b"127.0.0.1.nip.io"], []):
            self.assertFalse(at_the_machine("127.0.0.1", {b"host": hosts}), hosts)

    def test_nobody_behind_a_proxy(self) -> None:
        """A proxy on the machine brings others along, and says so."""
        for name in (b"forwarded", b"via", b"x-real-ip", b"x-forwarded-for", b"x-forwarded-proto"):
            fields = {b"host": [b"localhost"], name: [b"x"]}
            self.assertFalse(at_the_machine("127.0.0.1", fields), name)


class AcceptsHTML(SynchronousTestCase):
    def test_browser(self) -> None:
        """A browser is told from a program by what it accepts."""
        self.assertTrue(accepts_html({b"accept": [b"text/html,application/xhtml+xml,*/*;q=0.8"]}))
        self.assertFalse(accepts_html({b"accept": [b"*/*"]}))
        self.assertFalse(accepts_html({}))
