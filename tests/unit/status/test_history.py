"""The last hour and the last exchanges."""

from __future__ import annotations

from itertools import count
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from infergate.api.usage import Usage
from infergate.status.history import INTERVAL, LAST_EXCHANGES, MAX_CALLERS, History
from infergate.telemetry.batch import Batch
from infergate.telemetry.record import Record


class Remembering(SynchronousTestCase):
    """A history on a clock of the test's."""

    def setUp(self) -> None:
        self.now = 1_000_000.0
        self.batch = Batch()
        self.history = History(self.batch, lambda: self.now, {"/"})
        self.ids = count()

    def exchange(self, seconds: float = 0.5, **facts: Any) -> Record:
        """An exchange that took `seconds`. Nothing is read here, so that many are told together."""
        record = Record(0, "192.0.2.1", f"r{next(self.ids)}", **facts)
        record.status = record.status or 200
        record.close(seconds)
        record.epoch = int((self.now - seconds) * 1e9)
        self.batch.add([record])
        return record


class Exchanges(Remembering):
    def test_the_last_200_are_kept(self) -> None:
        """The page can open each of the last 200 exchanges, the latest last."""
        records = [self.exchange() for _ in range(LAST_EXCHANGES + 5)]
        self.assertEqual([record for _, record in self.history.new_since(0)], records[5:])

    def test_what_is_new_since_then(self) -> None:
        """A reader gets each exchange once, and the last 200 where it missed more."""
        self.exchange()
        count = self.history.ended_count
        self.assertEqual(self.history.new_since(count), [])
        later = [self.exchange() for _ in range(3)]
        self.assertEqual([record for _, record in self.history.new_since(count)], later)
        for _ in range(LAST_EXCHANGES + 50):
            self.exchange()
        self.assertEqual(len(self.history.new_since(count)), LAST_EXCHANGES)

    def test_probes_are_not_shown(self) -> None:
        """A probe each second pushes no request out of the list."""
        self.exchange(probe=True)
        self.exchange(route="/")
        self.assertEqual((self.history.ended_count, self.history.points()), (0, []))


class Plots(Remembering):
    def test_one_point_for_each_interval(self) -> None:
        """What ends within ten seconds is one point: outcomes, percentiles, tokens."""
        for milliseconds in range(1, 101):
            self.exchange(
                milliseconds / 100, first_token=milliseconds / 1000, usage=Usage(2, 3, 5, "backend")
            )
        self.exchange(outcome="timeout")
        point = self.history.latest()[-1]
        self.assertEqual(point["outcomes"], {"ok": 100, "timeout": 1})
        self.assertEqual((point["prompt_tokens"], point["completion_tokens"]), (200, 300))
        for share, seconds in zip((0.5, 0.9, 0.99), point["latency"], strict=True):
            self.assertTrue(share <= seconds <= 1.21 * share, (share, seconds))
        for share, seconds in zip((0.05, 0.09, 0.099), point["first_token"], strict=True):
            self.assertTrue(share <= seconds <= 1.21 * share, (share, seconds))

    def test_no_percentile_of_nothing(self) -> None:
        """Where nothing ended there is no time to tell."""
        self.assertEqual(self.history.latest()[-1]["latency"], [None, None, None])

    def test_the_last_hour_is_kept(self) -> None:
        """What is older than an hour goes, also where nothing has come since."""
        for _ in range(400):
            self.exchange()
            self.now += INTERVAL
        points = self.history.points()
        self.assertEqual(len(points), 360)
        self.assertEqual(points[-1]["time"], self.now - INTERVAL)
        self.now += 1800
        self.assertEqual(len(self.history.points()), 180)

    def test_an_exchange_of_ten_minutes_and_more(self) -> None:
        """A time beyond the last bound counts as that bound."""
        self.exchange(10_000)
        self.assertGreater(self.history.latest()[-1]["latency"][0], 600)

    def test_interval_under_way_is_divided_by_what_has_passed_of_it(self) -> None:
        """A rate does not fall each time that an interval begins; and who reads the feed each
        second gets the last second of the interval that closed too."""
        self.exchange()
        self.now += 4
        self.assertEqual(self.history.latest()[-1]["seconds"], 4)
        self.exchange()
        self.now += INTERVAL - 4
        closed, under_way = self.history.latest()
        self.assertEqual((closed["seconds"], closed["outcomes"]), (INTERVAL, {"ok": 2}))
        self.assertEqual((under_way["seconds"], under_way["outcomes"]), (1, {}))

    def test_each_exchange_is_in_the_interval_of_its_own_end(self) -> None:
        """Also among others that nobody has looked at yet, and where the clock was set back so far
        that the last of these ended in the interval of the first."""
        for elapsed in (0, 40, 0):
            self.now = 1_000_000 + elapsed
            self.exchange()
        self.now += 100
        counted = [(point["time"], point["outcomes"]["ok"]) for point in self.history.points()]
        self.assertEqual(counted, [(1_000_000, 1), (1_000_040, 1), (1_000_000, 1)])

    def test_percentiles_of_now_are_of_the_last_minute(self) -> None:
        """Not of one interval, which may have just begun; older ones are forgotten."""
        self.exchange(seconds=0.5)
        self.now += 5 * INTERVAL
        self.exchange(seconds=2.0)
        low, _, high = self.history.recent()["latency"]
        assert low is not None and high is not None
        self.assertTrue(0.5 <= low <= 0.6 and 2.0 <= high <= 2.4, (low, high))
        self.now += INTERVAL
        low = self.history.recent()["latency"][0]
        assert low is not None
        self.assertGreaterEqual(low, 2.0)
        self.now += 3600
        self.assertEqual(self.history.recent()["latency"], [None, None, None])


class Callers(Remembering):
    def test_usage_by_caller(self) -> None:
        """Requests and tokens add up by caller, most tokens first."""
        self.exchange(caller="bob", usage=Usage(1, 1, 2, "backend"))
        self.exchange(caller="alice", usage=Usage(2, 3, 5, "backend"))
        self.exchange(caller="bob")
        self.assertEqual(
            self.history.callers(),
            [
                {"caller": "alice", "requests": 1, "tokens": 5},
                {"caller": "bob", "requests": 2, "tokens": 2},
            ],
        )

    def test_callers_are_bounded(self) -> None:
        """However many names come, a hundred are kept and the others add up."""
        for number in range(MAX_CALLERS + 10):
            self.exchange(caller=f"caller {number}")
        callers = self.history.callers()
        self.assertEqual(len(callers), MAX_CALLERS + 1)
        self.assertIn({"caller": "other", "requests": 10, "tokens": 0}, callers)

    def test_limits_that_were_hit(self) -> None:
        """Each refusal counts for the limit that it speaks of."""
        self.exchange(error="rate_limit_exceeded", limit="rate")
        self.exchange(error="overloaded", limit="max_concurrent")
        self.exchange(error="overloaded")
        self.assertEqual(self.history.limited(), {"rate": 1, "max_concurrent": 1})
