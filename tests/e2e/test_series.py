"""Whatever clients send, the metrics have no more series than the bound.

2,000 random requests, or 10,000 with INFERGATE_LONG=1.
"""

from __future__ import annotations

import os
import random
import re

from twisted.trial.unittest import SynchronousTestCase

from infergate.api.operations import ROUTES
from infergate.telemetry.metrics import ENDINGS, MAX_MODELS, METHODS
from tests.e2e.harness import CHAT_PATH, OFF, gateway, get, mock, post, raw, running

skip = OFF

REQUESTS = 10_000 if os.environ.get("INFERGATE_LONG") else 2_000

KEYS = ("alice", "bob")

SAMPLE = re.compile(r"^([a-z_]+)(?:\{(.*)\})? ")
LABEL = re.compile(r'([a-z_]+)="((?:[^"\\]|\\.)*)"')

# Paths that are routes of their own, beside the operations.
PLAIN_ROUTES = {
    "/healthz", "/readyz", "/readyz/self", "/health", "/v1/health", "/metrics", "/status",
    "/status/events", "/", "/v1/models", "/v1/models/{id}", "/v1/usage", "other",
}  # fmt: skip


class Series(SynchronousTestCase):
    def test_no_series_beyond_the_bound(self) -> None:
        """Random models, paths, methods and keys: each label keeps to its set of values, and in
        the second half of the requests there comes hardly any series more."""
        dice = random.Random(14)
        backend = mock()
        process = gateway(
            {
                "BACKEND_URL": backend.url,
                "API_KEYS": ",".join(f"{name}:key-of-{name}" for name in KEYS),
            }
        )
        with running(backend, process):
            counts = []
            for number in range(REQUESTS):
                if number in (REQUESTS // 2, REQUESTS - 1):
                    counts.append(len(self.scrape(process.url)))
                raw(process.port, request(dice), 5.0)
            found = self.scrape(process.url)
            self.assertEqual(process.complaints(), [])
        models = self.values(found, "gen_ai_request_model")
        self.assertIn("other", models)
        self.assertLessEqual(len(models - {"other", ""}), MAX_MODELS)
        self.assertLessEqual(self.values(found, "http_route"), PLAIN_ROUTES | set(ROUTES))
        self.assertLessEqual(self.values(found, "route"), PLAIN_ROUTES | set(ROUTES))
        self.assertLessEqual(self.values(found, "http_request_method"), METHODS | {"other"})
        self.assertLessEqual(self.values(found, "caller"), {*KEYS, "other"})
        outcomes = {outcome for _, outcome in ENDINGS}
        self.assertLessEqual(self.values(found, "outcome"), outcomes)
        for status in self.values(found, "status"):
            self.assertRegex(status, r"^[1-5][0-9]{2}$")
        names = {"gen_ai_operation_name", "gen_ai_token_type", "error_type", "limit", "window"}
        for name in names:
            self.assertLess(len(self.values(found, name)), 40, name)
        half, whole = counts
        self.assertLess(whole, half * 1.2, counts)

    def scrape(self, url: str) -> list[dict[str, str]]:
        """The labels of every sample."""
        status, _, body = get(url + "/metrics", {"Authorization": "Bearer key-of-alice"})
        self.assertEqual(status, 200)
        lines = (SAMPLE.match(line) for line in body.decode().splitlines() if line[0] != "#")
        return [dict(LABEL.findall(found[2] or "")) for found in lines if found]

    def values(self, samples: list[dict[str, str]], name: str) -> set[str]:
        return {labels[name] for labels in samples if name in labels}


def word(dice: random.Random) -> str:
    return "".join(dice.choices("abcdefghijklmnopqrstuvwxyz0123456789-_", k=12))


def request(dice: random.Random) -> bytes:
    """One request: most of them for an operation, by a caller, for a model that nobody has."""
    key = dice.choice(["alice", "bob", "alice", word(dice)])
    fields = (f"Authorization: Bearer key-of-{key}", "Connection: close")
    model = dice.choice([word(dice), f'"\\{{}}={word(dice)}', "tiny"])
    known = [CHAT_PATH, "/v1/embeddings", "/v1/completions", "/v1/responses", "/v1/models"]
    path = dice.choice([*known, f"/{word(dice)}", f"/v1/models/{word(dice)}", f"/v1/{word(dice)}"])
    body = {
        "model": model,
        "messages": [{"role": "user", "content": "hi"}],
        "prompt": "hi",
        "input": "hi",
        "stream": dice.random() < 0.2,
    }
    if dice.random() < 0.7:
        return post(body, *fields, path=path)
    method = dice.choice(["GET", "PUT", "DELETE", "HEAD", "PATCH", word(dice).upper().strip("-_")])
    return "\r\n".join([f"{method} {path} HTTP/1.1", "Host: x", *fields, "", ""]).encode()
