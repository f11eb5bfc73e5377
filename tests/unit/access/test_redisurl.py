"""Which Redis a `SHARED_STATE` names."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from infergate.access.redisurl import SharedState, parse_shared_state


class URLs(SynchronousTestCase):
    def test_forms(self) -> None:
        """Every part but the host may be left out, and user and password are percent-encoded."""
        for text, expected in (
            ("redis://cache", SharedState("cache")),
            ("redis://cache:7000/3", SharedState("cache", 7000, database=3)),
            ("redis://cache/", SharedState("cache")),
            ("rediss://cache", SharedState("cache", tls=True)),
            ("redis://:pa%40ss@cache", SharedState("cache", password="pa@ss")),
            ("redis://me:@cache", SharedState("cache", username="me")),
            ("redis://me:pass@[::1]:1", SharedState("::1", 1, username="me", password="pass")),
            ("unix:/run/redis.sock", SharedState(path="/run/redis.sock")),
            ("unix:///run/redis.sock", SharedState(path="/run/redis.sock")),
        ):
            self.assertEqual(parse_shared_state(text), expected, text)

    def test_wrong_ones(self) -> None:
        """What is allowed is said, and what was written is not."""
        for text in (
            "cache:6379",
            "http://cache",
            "redis://",
            "redis://cache:0",
            "redis://cache:99999",
            "redis://cache/db",
            "redis://a:canary@b@cache",
            "unix:relative.sock",
            "redis+sentinel://cache",
        ):
            error = self.assertRaises(ValueError, parse_shared_state, text)
            self.assertIn("redis://[user:password@]host[:port][/db]", str(error))
            self.assertNotIn("canary", str(error))

    def test_no_secret_is_shown(self) -> None:
        """Neither in the log nor in a repr."""
        shared = parse_shared_state("redis://me:canary@cache")
        self.assertEqual(str(shared), "cache:6379")
        self.assertNotIn("canary", repr(shared))
