"""The metrics as the real Prometheus takes them."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import time
from pathlib import Path
from typing import Any
from unittest import skipUnless
from urllib.parse import urlencode

from twisted.trial.unittest import SynchronousTestCase

from tests.e2e.harness import OFF, chat, gateway, get, mock, running, wait_for

CONFIG = """
global: {{scrape_interval: 1s}}
scrape_configs:
  - job_name: infergate
    static_configs: [{{targets: ["127.0.0.1:{port}"]}}]
"""


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

    def start(self) -> str:
        """A Prometheus that scrapes the gateway each second; its URL."""
        directory = Path(self.mktemp()).resolve()
        directory.mkdir()
        (directory / "config.yml").write_text(CONFIG.format(port=self.gateway.port))
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            address = f"127.0.0.1:{probe.getsockname()[1]}"
        process = subprocess.Popen(
            [
                "prometheus",
                f"--config.file={directory / 'config.yml'}",
                f"--storage.tsdb.path={directory / 'data'}",
                f"--web.listen-address={address}",
                "--enable-feature=exemplar-storage",
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        return f"http://{address}/api/v1"

    def query(self, url: str, path: str, **arguments: str) -> Any:
        try:
            status, _, body = get(f"{url}/{path}?{urlencode(arguments)}")
        except OSError:
            return []
        return json.loads(body).get("data", []) if status == 200 else []

    @skipUnless(shutil.which("prometheus"), "needs prometheus")
    def test_prometheus_has_what_the_gateway_shows(self) -> None:
        """Every metric is stored, no scrape fails, and an exemplar leads to a request."""
        url = self.start()

        def found() -> Any:
            data = self.query(url, "query", query='up{job="infergate"}')
            return data and data["result"] and data["result"][0]["value"][1] == "1"

        wait_for(found, 30, "a scrape")
        (sample,) = self.query(url, "query", query="sum(infergate_requests_total)")["result"]
        self.assertGreaterEqual(float(sample["value"][1]), 4)
        names = set(self.query(url, "label/__name__/values"))
        shown = {name.partition("{")[0] for name in self.gateway.metrics()}
        self.assertEqual(shown - names, set())
        examples = self.query(
            url,
            "query_exemplars",
            query="gen_ai_server_request_duration_seconds_bucket",
            start=str(time.time() - 60),
            end=str(time.time() + 60),
        )
        ids = {one["labels"]["request_id"] for found in examples for one in found["exemplars"]}
        lines = {line["request_id"] for line in self.gateway.requests()}
        self.assertTrue(ids)
        self.assertEqual(ids - lines, set())
