"""What Redis runs for the limits, as a text: `tests/e2e/test_shared.py` has a Redis run it."""

from __future__ import annotations

import re

from twisted.trial.unittest import SynchronousTestCase

from infergate.access.scripts import ASK, BOUNDS, CHARGE
from infergate.access.windows import WINDOWS, bounds

CALL = re.compile(r"redis\.call\('(\w+)'(?:, ([\w\[\]]+))?(.*)")


class Scripts(SynchronousTestCase):
    def test_windows_are_those_of_one_process(self) -> None:
        """Redis and a process that is alone end the same window at the same second."""
        lengths = dict(re.findall(r"(\w+) = (\d+)[,}]", BOUNDS))
        self.assertEqual({*lengths, "month"}, set(WINDOWS))
        for window, length in lengths.items():
            began, ends = bounds(window, 1e9)
            self.assertEqual(ends - began, int(length), window)
        # A remainder is that of the Monday which weeks are counted from.
        (monday,) = re.findall(r"window == 'week' and (-?\d+)", BOUNDS)
        self.assertEqual((bounds("week", 1e9)[0] - int(monday)) % int(lengths["week"]), 0)

    def test_nothing_is_touched_but_what_is_named(self) -> None:
        """A Redis whose user may run these few commands on `infergate:` alone is enough."""
        for script in (ASK, CHARGE):
            calls = CALL.findall(script)
            self.assertEqual(len(calls), script.count("redis."))
            for command, key, _ in calls:
                self.assertIn(command, {"TIME", "GET", "SET", "EXISTS", "INCRBY", "EXPIRE"})
                self.assertIn(key, {"", "key", "KEYS[1]"})
            keys = set(re.findall(r"local key = (\w+\[\w+\])", script))
            self.assertEqual(keys, {"KEYS[index]"})

    def test_every_key_expires(self) -> None:
        """What is counted of a window is gone when the window is over, and fills no Redis."""
        sets = re.findall(r"redis\.call\('SET', .*(?:\n +'PX')?.*", ASK)
        self.assertEqual(len(sets), 2)
        for written in sets:
            self.assertRegex(written, "'[EP]X', ")
        # After either way of counting, and not within one of them.
        self.assertIn("\n  end\n  redis.call('EXPIRE', key, ends - second + 1)\n", CHARGE)
