"""A keys file of a hundred thousand lines beside one of a single line."""

from __future__ import annotations

import hashlib
from contextlib import ExitStack

from twisted.trial.unittest import SynchronousTestCase

from tests.e2e.harness import OFF, Process, gateway, running
from tests.e2e.wire import ask

MANY = 100_000

MORE_MEMORY = 100 * 2**20
"""Bytes."""

START = 2.0
"""CPU seconds until it listens."""


def keys(count: int) -> str:
    """A file of so many keys, each with rules of its own."""
    return "".join(
        f"caller-{number}:sha256:{hashlib.sha256(b'sk-%d' % number).hexdigest()} rate=60/minute\n"
        for number in range(count)
    )


class ManyKeys(SynchronousTestCase):
    skip = OFF

    def test_hundred_thousand_keys_start_quickly_and_take_little_memory(self) -> None:
        """The gateway listens within two seconds, and knows the first and the last of them."""
        with ExitStack() as stack:
            processes: list[Process] = []
            for count in (1, MANY):
                process = gateway({"API_KEYS_FILE": "keys"}, files={"keys": keys(count)})
                stack.enter_context(running(process))
                processes.append(process)
                self.assertLess(process.cpu_seconds(), START, count)
                for number in {0, count - 1}:
                    answer = ask(process.port, f"{count}-{number}", f"X-Api-Key: sk-{number}")
                    self.assertEqual(answer.status, 200)
                    line = process.request_line(f"{count}-{number}")
                    self.assertEqual(line["caller"], f"caller-{number}")
            one, many = processes
            self.assertLess(many.memory() - one.memory(), MORE_MEMORY)
