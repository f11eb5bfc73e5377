"""What was asked for, as one value."""

from __future__ import annotations

import attrs
from twisted.trial.unittest import SynchronousTestCase

from infergate.access.keysfile import keys_from_text
from infergate.config.settings import Settings, names


class Values(SynchronousTestCase):
    def test_settings_do_not_change(self) -> None:
        """What was read at the start holds to the end."""
        with self.assertRaises(attrs.exceptions.FrozenInstanceError):
            Settings().port = 1

    def test_any_credential_makes_a_key_needed(self) -> None:
        """API keys, or a key for tokens; their rings are known by the settings that hold them."""
        self.assertFalse(Settings().needs_key)
        ring = keys_from_text("alice:key-a")
        keyed = Settings(api_keys=ring)
        self.assertEqual((keyed.needs_key, keyed.rings), (True, {"API_KEYS": ring}))
        self.assertTrue(Settings(jwt_jwks_url="https://issuer/keys").needs_key)

    def test_secrets_alone_may_stand_in_a_file(self) -> None:
        """Under their names with _FILE behind them."""
        self.assertLessEqual({"PORT", "BACKEND_API_KEY", "BACKEND_API_KEY_FILE"}, names())
        self.assertNotIn("PORT_FILE", names())
