"""What this machine gives a process."""

from __future__ import annotations

import resource

from tests.unit.doctor.examined import OK, WARN, Examined


class Descriptors(Examined):
    def limited(self, hard: int) -> None:
        self.patch(resource, "getrlimit", lambda _: (16, hard))
        self.check = self.the("descriptors", backend_url=None, max_connections=1000)

    def test_hard_limit_must_do_for_all_connections(self) -> None:
        """Each client takes two, and there are others; the soft limit is raised at the start."""
        self.limited(2063)
        self.assert_said(self.check, WARN, "2063", "MAX_CONNECTIONS=1000", "LimitNOFILE=2064")
        for enough in (2064, resource.RLIM_INFINITY):
            self.limited(enough)
            self.assert_said(self.check, OK)
