"""The servers that a gateway reaches."""

from __future__ import annotations

from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from infergate.config.sources import SettingsError
from infergate.wiring.servers import Servers
from tests.unit.inmemory import BackendPort


class Reaching(SynchronousTestCase):
    def test_each_server_has_a_pool_of_its_own(self) -> None:
        """Connections to one server are never given out for another, and all can be closed."""
        clock = Clock()
        servers = Servers(clock, lambda url, trust: BackendPort(clock))
        agents = [servers.origin("BACKEND_URL", f"http://{host}")[0] for host in ("a", "b")]
        self.assertEqual(servers.pools, [agent.pool for agent in agents])
        self.assertIsNot(agents[0].pool, agents[1].pool)

    def test_what_tls_trusts_is_handed_on(self) -> None:
        """A server with authorities of its own is reached with these."""
        asked: list[tuple[str, object]] = []
        clock = Clock()

        def reach(url: str, trust: object) -> IStreamClientEndpoint:
            asked.append((url, trust))
            return BackendPort(clock)

        Servers(clock, reach).origin("BACKEND_URL", "https://a", "authorities")
        self.assertEqual(asked, [("https://a", "authorities")])

    def test_url_that_cannot_be_reached_names_its_setting(self) -> None:
        """A URL that shows to be wrong only now stops the start by its setting."""

        def reach(url: str, trust: object) -> IStreamClientEndpoint:
            raise ValueError("must be another")

        with self.assertRaises(SettingsError) as caught:
            Servers(Clock(), reach).origin("JWT_JWKS_URL", "https://a")
        self.assertEqual(str(caught.exception), "JWT_JWKS_URL='https://a': must be another")
