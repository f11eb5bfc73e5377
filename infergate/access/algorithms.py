"""The algorithms of JSON Web Tokens, in a module that loads no cryptography.

A token names the algorithm of its signature in its header (``"alg": "RS256"``). It is let in only
by an algorithm that its key is for, and that `JWT_ALGORITHMS` lists; ``none``, a token without a
signature, is in no list. The settings check their list against these names; `jwks` gives each key
its own.
"""

from __future__ import annotations

HMAC = ("HS256", "HS384", "HS512")
"""For a shared secret (RFC 7518, 3.2)."""

RSA = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")
"""For an RSA key (RFC 7518, 3.3 and 3.5)."""

CURVES = {"secp256r1": "ES256", "secp384r1": "ES384", "secp521r1": "ES512", "secp256k1": "ES256K"}
"""The algorithm of each curve of an elliptic curve key, by cryptography's names of the curves
(RFC 7518, 3.4; RFC 8812, 3.2)."""

EDDSA = "EdDSA"
"""For an Ed25519 or Ed448 key (RFC 8037, 3.1)."""

PUBLIC = (*RSA, *CURVES.values(), EDDSA)
"""For any public key."""
