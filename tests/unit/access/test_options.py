"""The options of a line of API_KEYS_FILE, and whose they are."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from infergate.access.options import make_policies, read_options
from infergate.access.policy import TokenLimit
from infergate.access.ratelimit import Rate
from infergate.api.operations import NAMES


class Options(SynchronousTestCase):
    def refused(self, *words: str) -> str:
        return str(self.assertRaises(ValueError, read_options, words))

    def test_token_limits_stand_in_the_order_of_their_windows(self) -> None:
        """Several limits are one option, in whichever order they are written."""
        written = ["tokens=900/month", "rate=5/minute", "tokens=1/minute", "tokens=100/day"]
        limits = (TokenLimit(1, "minute"), TokenLimit(100, "day"), TokenLimit(900, "month"))
        self.assertEqual(read_options(written), {"tokens": limits, "rate": Rate(5, 60)})

    def test_all_operations_open_no_page(self) -> None:
        """`routes=all` is every operation; a page is opened by its name alone."""
        self.assertEqual(read_options(["routes=all"])["routes"], set(NAMES))
        self.assertEqual(read_options(["routes=ALL,Status"])["routes"], {*NAMES, "status"})

    def test_wrong_options_are_refused_with_what_is_allowed(self) -> None:
        """An error names the option and lists what is allowed."""
        for option, allowed in (
            ("rate=lots", "N/second, N/minute, N/hour, N/day or off"),
            ("rate=0/minute", "N/second"),
            ("rate=1/week", "N/day"),
            ("tokens=1/second", "N/minute, N/hour, N/day, N/week, N/month or off"),
            ("tokens=1000", "N/day"),
            ("tokens=0/day", "N/day"),
            ("concurrent=0", "a whole number from 1"),
            ("concurrent=x", "a whole number from 1"),
            ("models=", "patterns"),
            ("models=a,,b", "patterns"),
            ("routes=nope", "chat, completions, embeddings, responses, messages, rerank, "
                            "tokenize, infill, metrics, status"),
            ("routes=", "all, chat"),
            ("expires=31.1.2027", "2027-01-31"),
            ("expires=2027-02-30", "2027-01-31"),
            ("from=10.0.0.1/8", "10.0.0.0/8"),
            ("from=", "10.0.0.0/8"),
            ("from=10.0.0.0/8,unix", "10.0.0.0/8"),
            ("user=Authorization", "header field"),
            ("user=", "header field"),
        ):  # fmt: skip
            error = self.refused(option)
            self.assertTrue(error.startswith(f"{option}: must be "), error)
            self.assertIn(allowed, error)

    def test_unknown_and_repeated_options_are_refused(self) -> None:
        """A misspelt option does nothing silently, and a key that went astray is not shown."""
        for words in ("canary", "rates=1/day", "canary=", "=1", "Rate=1/day"):
            error = self.refused(words)
            self.assertIn("must be rate=, tokens=, concurrent=, models=, routes=, expires=, from=,"
                          " user=", error)  # fmt: skip
            self.assertNotIn("canary", error)
        for words in (
            "rate=1/day rate=1/day",
            "tokens=1/day tokens=2/day",
            "tokens=off tokens=1/day",
            "tokens=1/day tokens=off",
        ):
            self.refused(*words.split())


class Policed(SynchronousTestCase):
    def test_names_that_share_their_options_share_one_policy(self) -> None:
        """A policy is made once for all names of the same rules, and `*` is nobody's name."""
        team = {"concurrent": 2}
        policies = make_policies({"*": {"models": ("m",)}, "ann": team, "ben": team}, Rate(9, 60))
        self.assertIs(policies.of("ann"), policies.of("ben"))
        self.assertEqual((policies.of("ann").concurrent, policies.of("ann").models), (2, ("m",)))
        self.assertEqual(policies.of("*"), policies.default)
        self.assertIsNone(policies.default.concurrent)

    def test_refusal_names_what_has_set_the_rate(self) -> None:
        """A caller over its rate is told whether an option or RATE_LIMIT has set it."""
        policies = make_policies({"ann": {"rate": Rate(1, 60)}, "ben": {"rate": None}}, Rate(9, 60))
        for name, rate, by in (
            ("ann", Rate(1, 60), "rate"),
            ("ben", None, "rate"),
            ("carl", Rate(9, 60), "RATE_LIMIT"),
        ):
            policy = policies.of(name)
            self.assertEqual((policy.rate, policy.rate_set_by), (rate, by), name)
