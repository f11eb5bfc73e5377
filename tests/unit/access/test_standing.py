"""What a caller is told of its usage and its limits."""

from __future__ import annotations

import json

from twisted.trial.unittest import SynchronousTestCase

from infergate.access.account import of_address, of_caller
from infergate.access.limits import Verdict
from infergate.access.policy import Policy, TokenLimit
from infergate.access.ratelimit import Decision, Rate
from infergate.access.spending import Spent
from infergate.access.standing import standing
from infergate.ledger.queries import Usage


class Standing(SynchronousTestCase):
    def test_all_limits(self) -> None:
        """Each by its option, with what is left, and until when."""
        policy = Policy(
            rate=Rate(60, 60), rate_set_by="rate", tokens=(TokenLimit(1000, "day"),), concurrent=4
        )
        verdict = Verdict(
            Decision(True, 60, 58, 2.0, 0), (Spent(TokenLimit(1000, "day"), 1054, 25323.0),)
        )
        usage = {"day": Usage(3, 1, 30, 24, 0.5), "month": None}
        body = standing(of_caller("alice", policy, "ann"), verdict, 1, usage)
        self.assertEqual(
            json.loads(body),
            {
                "object": "usage",
                "caller": "alice/ann",
                "usage": {
                    "day": {
                        "requests": 3,
                        "prompt_tokens": 30,
                        "completion_tokens": 24,
                        "total_tokens": 54,
                    },
                    "month": None,
                },
                "limits": [
                    {
                        "limit": "rate=60/minute",
                        "max": 60,
                        "used": 2,
                        "remaining": 58,
                        "reset": "2s",
                    },
                    {
                        "limit": "tokens=1000/day",
                        "max": 1000,
                        "used": 1054,
                        "remaining": 0,
                        "reset": "7h2m3s",
                    },
                    {"limit": "concurrent=4", "max": 4, "used": 1, "remaining": 3, "reset": None},
                ],
            },
        )

    def test_nobody_in_particular(self) -> None:
        """Where no key is needed there is no caller, and where nothing is limited no limit."""
        body = standing(of_address("192.0.2.1", Policy()), Verdict(), 0, {"day": None})
        document = json.loads(body)
        self.assertIsNone(document["caller"])
        self.assertEqual(document["limits"], [])
