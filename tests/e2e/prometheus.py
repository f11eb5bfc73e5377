"""The real Prometheus, out of Debian's package, over one gateway."""

from __future__ import annotations

import json
import subprocess
import tempfile
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from tests.e2e.harness import get, wait_for
from tests.e2e.servers import free_port

CONFIG = """
global: {{scrape_interval: 1s, evaluation_interval: 1s}}
rule_files: {rules}
scrape_configs:
  - job_name: infergate
    authorization: {{credentials: "{key}"}}
    static_configs: [{{targets: ["127.0.0.1:{port}"]}}]
"""


class Prometheus:
    """One server that scrapes each second; `stop` ends it. A test asks its HTTP API."""

    def __init__(self, config: str) -> None:
        self._folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        folder = Path(self._folder.name)
        (folder / "config.yml").write_text(config)
        address = f"127.0.0.1:{free_port()}"
        self.url = f"http://{address}/api/v1"
        self._process = subprocess.Popen(
            [
                "prometheus",
                f"--config.file={folder / 'config.yml'}",
                f"--storage.tsdb.path={folder / 'data'}",
                f"--web.listen-address={address}",
                "--enable-feature=exemplar-storage",
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    @classmethod
    def scraping(cls, port: int, *rules: Path, key: str = "none") -> Prometheus:
        """One that scrapes the gateway on this port, with `key`, and evaluates these rule files."""
        paths = json.dumps([str(path) for path in rules])
        return cls(CONFIG.format(port=port, key=key, rules=paths))

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()
        self._folder.cleanup()

    def ask(self, path: str, **arguments: str) -> Any:
        """The data of an answer; empty where there is none, and while it starts."""
        try:
            status, _, body = get(f"{self.url}/{path}?{urlencode(arguments)}")
        except OSError:
            return []
        return json.loads(body).get("data", []) if status == 200 else []

    def result(self, query: str) -> list[Any]:
        """The samples of a query as of now. Raises `AssertionError` where it is no query."""
        status, _, body = get(f"{self.url}/query?{urlencode({'query': query})}")
        assert status == 200, (query, body)
        return list(json.loads(body)["data"]["result"])

    def wait_for_a_scrape(self) -> None:
        def up() -> bool:
            data = self.ask("query", query='up{job="infergate"}')
            return bool(data and data["result"] and data["result"][0]["value"][1] == "1")

        wait_for(up, 30, "a scrape")
