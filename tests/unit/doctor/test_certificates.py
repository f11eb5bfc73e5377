"""Certificates that are about to end."""

from __future__ import annotations

import time
from pathlib import Path

from infergate.doctor.certificates import judged
from tests.certificates import certificate
from tests.unit.doctor.examined import FAIL, NOW, OK, WARN, Examined

DAY = 86400.0


class Listeners(Examined):
    def setUp(self) -> None:
        self.folder = Path(self.mktemp())
        self.folder.mkdir()
        # Both are good for a day.
        self.one, self.other = (b"".join(certificate(serial)) for serial in (1, 2))

    def found(self, **settings: str) -> dict[str, str]:
        checks = self.examine(backend_url=None, **settings)
        return {check.name: check.status for check in checks if "certificate" in check.name}

    def test_both_listeners_are_looked_at(self) -> None:
        """A file of LISTEN, and a folder of METRICS_LISTEN; one without TLS has none."""
        path = self.folder / "a.pem"
        path.write_bytes(self.one)
        found = self.found(
            listen=f"ssl:0:privateKey={path}", metrics_listen=f"tls:{self.folder}:port=0"
        )
        names = ["LISTEN certificate", "METRICS_LISTEN certificate"]
        self.assertEqual(list(found), names)
        self.assertEqual(self.found(listen="tcp:0"), {})

    def test_what_cannot_be_listened_with_is_wrong(self) -> None:
        """No file, or a key that does not fit."""
        missing = self.found(listen="ssl:0:privateKey=/nonexistent.pem")
        self.assertEqual(missing, {"LISTEN certificate": FAIL})
        mixed = self.folder / "mixed"
        mixed.write_bytes(self.one.partition(b"-----BEGIN PRIVATE")[0] + self.other[-300:])
        wrong = self.found(listen=f"ssl:0:privateKey={mixed}")
        self.assertEqual(wrong, {"LISTEN certificate": FAIL})


class Ends(Examined):
    def test_days_that_are_left(self) -> None:
        """One that has ended is wrong, and one that ends within two weeks will be."""
        from cryptography.x509 import load_pem_x509_certificate

        # Good for a day from now.
        own = load_pem_x509_certificate(certificate(1)[0])
        for ago, status in ((-2, FAIL), (0, WARN), (12.5, WARN), (13.5, OK)):
            check = judged("own", "it", [own], time.time() - ago * DAY, "renew it")
            self.assert_said(check, status, f"{own.not_valid_after_utc:%Y-%m-%d}")
        self.assert_said(judged("own", "a.pem", [], NOW, "renew it"), FAIL, "no certificate")
