"""Whether the backend is well."""

from __future__ import annotations

from twisted.internet.error import (
    ConnectError,
    DNSLookupError,
    TimeoutError,  # noqa: A004
)

from infergate.backend.health import Health
from tests.unit.backend.onebackend import OneBackend


class Connectable(OneBackend):
    def test_backend_that_takes_a_connection_is_well(self) -> None:
        """A backend is there if it takes a connection, which is closed at once."""
        self.assertTrue(self.successResultOf(Health(self.port, self.deadlines).ask()))
        self.clock.advance(0)
        self.assertTrue(self.connection.closed)
        self.assertEqual(self.connection.received, b"")

    def test_backend_that_takes_none_is_not(self) -> None:
        """It is not if it does not, however that fails."""
        for failure in (ConnectError(), DNSLookupError(), TimeoutError(), ValueError()):
            self.port.failures = [failure]
            asked = Health(self.port, self.deadlines).ask()
            self.assertFalse(self.successResultOf(asked))
