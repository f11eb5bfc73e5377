"""The keys of a JWT issuer."""

from __future__ import annotations

from email.utils import formatdate

from infergate.doctor.report import Check
from tests.unit.access.test_jwks import EC, document, jwk
from tests.unit.doctor.examined import FAIL, NOW, OK, WARN, Action, Examined, hangs, refuses, says


class Issuer(Examined):
    def issuer(self, answer: Action) -> list[Check]:
        checks = self.examine(
            {"/keys": answer},
            jwt_jwks_url="http://issuer/keys",
            backend_url=None,
            backend_api_key="sk-mine",
        )
        return [check for check in checks if check.name in ("JWT_JWKS_URL", "clock")]

    def test_set_with_keys_is_well(self) -> None:
        """The backend's key is not the issuer's business."""
        (check,) = self.issuer(says(document(jwk(EC), {"kty": "?"})))
        self.assert_said(check, OK, "1 usable key")
        (connection,) = self.port.connections
        self.assertNotIn("authorization", connection.request.headers)

    def test_what_is_no_set_or_not_there(self) -> None:
        """What came is quoted."""
        for answer, words in (
            (says(b"<html>Log in"), "<html>Log in"),
            (says(b'{"keys":["\xff"]}'), "no key that tokens can be verified with"),
            (says(b'{"keys":' + b"[" * 5000), "no key that tokens can be verified with"),
            (says(document()), '{"keys": []}'),
            (refuses(404, "no such realm"), "404 Whatever: no such realm"),
            (hangs, "within 10 s"),
        ):
            (check,) = self.issuer(answer)
            self.assert_said(check, FAIL, words)

    def test_its_clock_is_that_of_the_tokens(self) -> None:
        """A token of an issuer that is ahead is refused as too early."""
        date = formatdate(NOW + 90, usegmt=True)
        keys, clock = self.issuer(says(document(jwk(EC)), f"Date: {date}"))
        self.assert_said(keys, OK)
        self.assert_said(clock, WARN, "issuer of tokens is 90 s ahead")
