"""Pages of other origins in a real browser: those that are listed may call, others may not."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from queue import Queue
from threading import Thread
from typing import Any
from urllib.parse import quote

from twisted.trial.unittest import SynchronousTestCase

from tests.e2e.harness import OFF, gateway, mock, running

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")

skip = OFF or (None if CHROMIUM else "needs Chromium, from Debian's package chromium")

PAGE = Path(__file__).with_name("browser_page.html").read_bytes()
SECONDS = 60


class Site(ThreadingHTTPServer):
    """The server of one page, which reports to it what it could read."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.reports: Queue[dict[str, Any]] = Queue()
        self.origin = f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: Site

    def do_GET(self) -> None:
        self.answer(PAGE)

    def do_POST(self) -> None:
        length = int(self.headers["Content-Length"])
        self.server.reports.put(json.loads(self.rfile.read(length)))
        self.answer(b"")

    def answer(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Not on the terminal."""


@contextmanager
def site() -> Iterator[Site]:
    server = Site()
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def visit(page: Site, url: str) -> dict[str, Any]:
    """What the page could read of the gateway at `url`, in a browser without a window."""
    assert CHROMIUM is not None
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        browser = subprocess.Popen(
            [CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run",
             f"--user-data-dir={profile}",
             f"{page.origin}/#{quote(url, safe='')}"],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            return page.reports.get(timeout=SECONDS)
        finally:
            browser.terminate()
            browser.wait(SECONDS)


class Pages(SynchronousTestCase):
    def test_page_of_a_listed_origin_reads_all_and_of_another_nothing(self) -> None:
        """With CORS_ORIGINS a page reads plain answers, streams as they come, and an error with
        its request id; a page of an origin that is not listed reads nothing at all."""
        backend = mock("--chunk-delay=0.2")
        with site() as listed, site() as other, running(backend):
            settings = {
                "BACKEND_URL": backend.url,
                "API_KEYS": "key",
                "CORS_ORIGINS": f"https://elsewhere.example,{listed.origin}",
            }
            infergate = gateway(settings)
            with running(infergate):
                seen = visit(listed, infergate.url)
                kept_out = visit(other, infergate.url)
                lines = infergate.requests()
        self.assertIn("one two three", seen["plain"])
        self.assertIn("data: [DONE]", seen["streamed"]["text"])
        self.assertGreater(seen["streamed"]["pieces"], 2)
        self.assertGreater(seen["streamed"]["spread"], 300)
        refused = seen["refused"]
        self.assertEqual((refused["status"], refused["code"]), (401, "unauthorized"))
        self.assertEqual(refused["header"], refused["id"])
        for step in ("plain", "streamed", "refused"):
            self.assertIn("Failed to fetch", kept_out[step])
        # The browser asked for leave once for each page, and sent no prompt without it.
        asked = [line["status"] for line in lines if line["method"] == "OPTIONS"]
        self.assertEqual((asked.count(204) >= 1, asked.count(405) >= 1), (True, True))
        self.assertEqual(len([line for line in lines if line["method"] == "POST"]), 3)
