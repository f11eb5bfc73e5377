"""The names of the algorithms of tokens."""

from __future__ import annotations

from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import get_default_algorithms
from twisted.trial.unittest import SynchronousTestCase

from infergate.access.algorithms import CURVES, HMAC, PUBLIC


class Names(SynchronousTestCase):
    def test_names_are_those_that_pyjwt_verifies(self) -> None:
        """Whatever may be set works, stands in the list once, and is never `none`."""
        names = (*HMAC, *PUBLIC)
        self.assertEqual(set(names) - set(get_default_algorithms()), set())
        self.assertEqual(len(set(names)), len(names))
        self.assertNotIn("none", [name.lower() for name in names])

    def test_a_secret_and_a_public_key_share_no_algorithm(self) -> None:
        """A public key, which anybody may have, is never taken for a shared secret."""
        self.assertEqual(set(HMAC) & set(PUBLIC), set())

    def test_curves_have_cryptographys_names(self) -> None:
        """A key on one of the four curves is known by the name that it says itself."""
        curves = (ec.SECP256R1, ec.SECP384R1, ec.SECP521R1, ec.SECP256K1)
        self.assertEqual(list(CURVES), [curve.name for curve in curves])
