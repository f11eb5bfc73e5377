"""What limits cost: CPU seconds of a request with every limit on, beside those with none."""

from __future__ import annotations

from contextlib import ExitStack

from twisted.trial.unittest import SynchronousTestCase

from tests.e2e.costs import EVERY_LIMIT, KEY, compared
from tests.e2e.harness import OFF, Process, gateway, mock, running
from tests.e2e.servers import NO_REDIS, redis


class Cost(SynchronousTestCase):
    skip = OFF

    def test_every_limit_on_costs_a_tenth_or_so(self) -> None:
        """In one run, the rounds of the two side by side."""
        with ExitStack() as stack:
            backend = mock()
            stack.enter_context(running(backend))

            def start(options: str, **settings: str) -> Process:
                process = gateway(
                    {
                        "API_KEYS_FILE": "keys",
                        "BACKEND_URL": backend.url,
                        "LOG_FORMAT": "json",
                        **settings,
                    },
                    files={"keys": f"alice:{KEY} {options}\n"},
                )
                stack.enter_context(running(process))
                return process

            limits = {"MAX_CONCURRENT_REQUESTS": "500", "RATE_LIMIT": "999999/second"}
            kinds = [lambda: start(""), lambda: start(EVERY_LIMIT, **limits)]
            if NO_REDIS is None:
                server = stack.enter_context(redis())
                kinds.append(lambda: start(EVERY_LIMIT, SHARED_STATE=server.url()))
            ratio, *shared = compared(kinds)
        print(f"CPU with every limit on: {ratio:.3f} of that with none")  # noqa: T201
        for cost in shared:
            print(f"CPU with SHARED_STATE too: {cost:.3f}")  # noqa: T201
        # A tenth is the goal; seconds on a machine that has other work as well differ by some per
        # cent. `benchmarks.instructions` holds what noise does not touch.
        self.assertLess(ratio, 1.15)
