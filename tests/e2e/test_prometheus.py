"""The metrics as the real Prometheus takes them."""

from __future__ import annotations

import shutil
import subprocess
import time
from unittest import skipUnless

from twisted.trial.unittest import SynchronousTestCase

from tests.e2e.harness import OFF, chat, gateway, get, mock, running
from tests.e2e.prometheus import Prometheus


class PrometheusTests(SynchronousTestCase):
    skip = OFF

    def setUp(self) -> None:
        self.backend = mock()
        self.gateway = gateway({"BACKEND_URL": self.backend.url})
        stack = running(self.backend, self.gateway)
        stack.__enter__()
        self.addCleanup(stack.__exit__, None, None, None)
        for members in ({}, {"stream": True}, {"messages": []}, {"mock": {"fail": "reset"}}):
            chat(self.gateway.url, {"model": "tiny", **members})

    @skipUnless(shutil.which("promtool"), "needs promtool")
    def test_promtool_finds_nothing_wrong(self) -> None:
        """With the names, the types or the help of any metric."""
        text = get(self.gateway.url + "/metrics")[2]
        checked = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True)
        self.assertEqual((checked.returncode, checked.stdout, checked.stderr), (0, b"", b""))

    @skipUnless(shutil.which("prometheus"), "needs prometheus")
    def test_prometheus_has_what_the_gateway_shows(self) -> None:
        """Every metric is stored, no scrape fails, and an exemplar leads to a request."""
        prometheus = Prometheus.scraping(self.gateway.port)
        self.addCleanup(prometheus.stop)
        prometheus.wait_for_a_scrape()
        (sample,) = prometheus.ask("query", query="sum(infergate_requests_total)")["result"]
        self.assertGreaterEqual(float(sample["value"][1]), 4)
        names = set(prometheus.ask("label/__name__/values"))
        shown = {name.partition("{")[0] for name in self.gateway.metrics()}
        self.assertEqual(shown - names, set())
        examples = prometheus.ask(
            "query_exemplars",
            query="gen_ai_server_request_duration_seconds_bucket",
            start=str(time.time() - 60),
            end=str(time.time() + 60),
        )
        ids = {one["labels"]["request_id"] for found in examples for one in found["exemplars"]}
        lines = {line["request_id"] for line in self.gateway.requests()}
        self.assertTrue(ids)
        self.assertEqual(ids - lines, set())
