"""The status page in a real Chromium: what an operator sees, and what no client can do to it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from statistics import median
from threading import Thread
from typing import Any
from unittest import skipUnless

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from tests.e2e.chromium import MISSING, Page, browser
from tests.e2e.harness import OFF, Process, chat, gateway, get, mock, post, raw, running, wait_for
from tests.e2e.servers import free_port

skip = OFF or MISSING

AXE = "axe-core@4.14.1"
NPM = ["npm", "install", "--no-audit", "--no-fund", "--no-package-lock", "--ignore-scripts"]

MARKUP = "<img/src=x/onerror=document.title='taken'><script>document.title='taken'</script>"
LONG_MODEL = "Qwen3-Next-80B-A3B-Instruct-GGUF/Q4_K_M/Qwen3-Next-80B-A3B-Instruct-Q4_K_M.gguf"

LONG_NAME = "a-team-with-a-name-of-sixty-and-more-characters-that-no-phone-is-wide-enough-for"

PICTURES = "[...document.querySelectorAll('#plots canvas')].map((canvas) => canvas.toDataURL())"
"""What each plot shows, pixel by pixel."""


class Loading(BaseHTTPRequestHandler):
    """A backend that loads its model, as llama.cpp says it."""

    def do_GET(self) -> None:
        body = b'{"error":{"code":503,"message":"Loading model","type":"unavailable_error"}}'
        self.send_response(503)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Not on the terminal."""


@contextmanager
def loading() -> Iterator[str]:
    """The URL of a backend that loads."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Loading)
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def looking(process: Process, password: str | None = None) -> Iterator[Page]:
    """The open page of a gateway. Nothing in it may complain, or ask another host."""
    with browser(password) as page:
        page.open(process.url + "/status")
        page.wait("document.querySelectorAll('#tiles dd').length > 0")
        yield page
        assert page.problems == [], page.problems
        assert page.hosts() == {f"127.0.0.1:{process.port}"}, page.urls


def tile(page: Page, name: str) -> str:
    """What the tile of this name says."""
    found = "[...document.querySelectorAll('#tiles > div')].find((t) => t.firstChild.textContent"
    return str(page.evaluate(f"{found} === {json.dumps(name)})?.lastChild.textContent"))


class Operator(SynchronousTestCase):
    def started(self, *options: str, **settings: str) -> Process:
        """A gateway before a mock that runs for the time of the test."""
        backend = mock(*options)
        self.backend = backend
        process = gateway({"BACKEND_URL": backend.url, **settings})
        stack = running(backend, process)
        stack.__enter__()
        self.addCleanup(stack.__exit__, None, None, None)
        return process

    def test_numbers_and_plots_move_under_load(self) -> None:
        """Within two seconds each request stands in the list by its id and whole model, and the
        tiles and each of the plots have changed."""
        process = self.started("--chunk-delay=0.02")
        with looking(process) as page:
            before = page.evaluate(PICTURES)
            self.assertEqual(len(before), 4)
            self.assertEqual(tile(page, "Requests a second"), "0.0")
            for number in range(20):
                chat(process.url, {"model": LONG_MODEL, "stream": number % 2 == 1})
            _, fields, _ = chat(process.url, {"model": LONG_MODEL})
            listed = "document.querySelector('#requests').textContent"
            seen = f"{listed}.includes({json.dumps(fields['x-request-id'])})"
            page.wait(seen, 2.0)
            self.assertIn(LONG_MODEL, page.text("#requests tr"))
            after = page.evaluate(PICTURES)
            self.assertEqual([a == b for a, b in zip(before, after, strict=True)], [False] * 4)
            self.assertGreater(float(tile(page, "Requests a second")), 0.5)
            for name in ("Latency p50, last minute", "First token p99, last minute"):
                self.assertRegex(tile(page, name), r"^[0-9.]+ m?s$")

    def test_what_requests_in_flight_wait_for(self) -> None:
        """A stream under way counts as one, and as waiting while its first token is not there."""
        process = self.started("--delay=6")
        with looking(process) as page:
            asking = Thread(target=chat, args=(process.url, {"stream": True}))
            asking.start()
            waits = "document.querySelector('#tiles').innerText.replaceAll('\\n', ' ')"
            page.wait(f"/Waiting: backend's head\\s+1/.test({waits})", 4.0)
            page.wait(f"/Streams in flight\\s+1/.test({waits})", 2.0)
            asking.join()

    def test_answer_appears_word_by_word(self) -> None:
        """The prompt box, by keyboard alone: the answer grows as it comes, with its time to first
        token and its tokens a second, and stands in the list."""
        process = self.started("--chunk-delay=0.3")
        with looking(process) as page:
            page.wait("!document.querySelector('#box-section').hidden")
            page.evaluate("document.querySelector('#box-prompt').focus()")
            page.write("one two three four five six")
            page.press("Tab", 9)
            self.assertEqual(page.evaluate("document.activeElement.id"), "box-send")
            page.press("Enter", 13, "\r")
            seen: list[str] = []
            end = time.monotonic() + 15
            while not (seen and seen[-1].endswith("six")) and time.monotonic() < end:
                text = page.text("#box-answer")
                if text and (not seen or text != seen[-1]):
                    seen.append(text)
                time.sleep(0.03)
            self.assertEqual(seen[-1], "Mock: one two three four five six")
            self.assertGreater(len(seen), 4)
            self.assertTrue(all(seen[-1].startswith(text) for text in seen))
            page.wait(
                "/first token .* tokens\\/s/.test(document.querySelector('#box-times').value)"
            )
            page.wait("document.querySelectorAll('#requests tr').length === 1", 3.0)

    def test_prompt_box_sends_every_operation_that_streams(self) -> None:
        """Each shows its answer as text."""
        process = self.started()
        with looking(process) as page:
            page.wait("!document.querySelector('#box-section').hidden")
            offered = page.evaluate(
                "[...document.querySelector('#box-operation').options].map((one) => one.value)"
            )
            operations = ["chat", "completions", "responses", "messages", "infill"]
            self.assertEqual(offered, operations)
            for operation in operations:
                page.evaluate(f"""document.querySelector('#box-operation').value = '{operation}';
                    document.querySelector('#box-prompt').value = 'Say {operation}';
                    document.querySelector('#box-send').click()""")
                answer = f"Mock: Say {operation}"
                page.wait(f"document.querySelector('#box-answer').textContent === '{answer}'", 5)
                page.wait("!document.querySelector('#box-send').disabled", 5)

    def test_failed_request_opens_its_record_and_what_to_do(self) -> None:
        """The whole record of the log line, an advice, and the keyboard closes it again."""
        process = self.started()
        _, fields, _ = chat(process.url, {"mock": {"fail": "reset", "fail_after": 0}})
        chat(process.url, {})
        with looking(process) as page:
            page.wait("document.querySelectorAll('#requests tr').length === 2")
            page.evaluate("""(() => { const f = document.querySelector('#filter-outcome');
                f.value = 'backend_unavailable';
                f.dispatchEvent(new Event('input', {bubbles: true}));
                document.querySelector('#requests button').focus(); })()""")
            self.assertEqual(page.evaluate("document.querySelectorAll('#requests tr').length"), 1)
            page.press("Enter", 13, "\r")
            page.wait("document.querySelector('#detail').open")
            self.assertIn(fields["x-request-id"], page.text("#detail-title"))
            self.assertIn("BACKEND_URL", page.text("#detail-advice"))
            line = process.request_line(fields["x-request-id"])
            shown = page.evaluate("""Object.fromEntries([...document.querySelectorAll(
                '#detail-fields tr')].map((row) => [...row.cells].map((c) => c.textContent)))""")
            self.assertEqual(set(line) - set(shown), {"event", "level"})
            for name in ("outcome", "error", "cause", "request_id", "path", "client"):
                self.assertEqual(shown[name], line[name])
            page.press("Escape", 27)
            page.wait("!document.querySelector('#detail').open")

    def test_backend_down_loading_and_back(self) -> None:
        """The state is the word that /readyz says, within seconds and without a reload."""
        process = self.started()
        with looking(process) as page:
            page.wait("document.querySelector('#state').textContent === 'ready'")
            self.backend.stop()
            page.wait("document.querySelector('#state').textContent === 'backend_unavailable'", 10)
        with loading() as url:
            other = gateway({"BACKEND_URL": url})
            with running(other), looking(other) as page:
                page.wait("document.querySelector('#state').textContent === 'backend_loading'", 10)

    def test_draining_shows_to_the_end(self) -> None:
        """A drain is seen by who has the page open, and by who opens it in the drain; it waits
        for neither."""
        process = self.started(DRAIN_DELAY="0", DRAIN_TIMEOUT="30")
        body = {"stream": True, "mock": {"chunk_delay": 0.5, "chunks": 16}}
        with browser() as page:
            page.open(process.url + "/status")
            page.wait("document.querySelector('#state').textContent === 'ready'")
            asking = Thread(target=chat, args=(process.url, body))
            asking.start()
            page.wait("document.querySelector('#tiles').innerText.includes('Streams in flight')")
            wait_for(lambda: tile(page, "Streams in flight") == "1", 5, "the stream")
            process.send_signal(signal.SIGTERM)
            page.wait("document.querySelector('#state').textContent === 'draining'", 3.0)
            asking.join()
            self.assertEqual(process.process.wait(10), 0)
            page.wait("document.querySelector('#state').textContent === 'not reachable'", 5.0)

    def test_page_beside_the_metrics(self) -> None:
        """On `METRICS_LISTEN` it is open without a key, and has no prompt box; the main port has
        none of it."""
        port = free_port()
        process = self.started(
            API_KEYS="alice:key", METRICS_LISTEN=f"tcp:{port}:interface=127.0.0.1"
        )
        chat(process.url, {"model": "tiny"}, {"Authorization": "Bearer key"})
        with browser() as page:
            page.open(f"http://127.0.0.1:{port}/status")
            page.wait("document.querySelector('#state').textContent === 'ready'")
            page.wait("document.querySelectorAll('#requests tr').length === 1")
            self.assertTrue(page.evaluate("document.querySelector('#box-section').hidden"))
            self.assertEqual(page.problems, [])
            self.assertEqual(page.hosts(), {f"127.0.0.1:{port}"})
        self.assertEqual(get(process.url + "/status", {"Authorization": "Bearer key"})[0], 404)

    def test_what_clients_send_is_never_markup(self) -> None:
        """Model, path, method and caller stay text, in the list and in the record."""
        process = self.started(API_KEYS="a<b>bold</b>:key")
        key = {"Authorization": "Bearer key"}
        chat(process.url, {"model": MARKUP}, key)
        chat(process.url, {"messages": [], "model": MARKUP}, key)
        get(process.url + "/v1/" + MARKUP.replace(" ", "/"), key)
        raw(process.port, f"GET /{MARKUP} HTTP/1.1\r\nHost: x\r\n\r\n".encode(), 1.0)
        with looking(process, "key") as page:
            page.wait("document.querySelectorAll('#requests tr').length >= 3")
            self.assertIn(MARKUP, page.text("#requests"))
            self.assertIn("a<b>bold</b>", page.text("#callers"))
            number = page.evaluate("document.querySelectorAll('#requests button').length")
            for index in range(number):
                page.evaluate(f"document.querySelectorAll('#requests button')[{index}].click()")
                page.evaluate("document.querySelector('#detail').close()")
            self.assertEqual(page.evaluate("document.querySelectorAll('img, main b').length"), 0)
            self.assertEqual(page.evaluate("document.scripts.length"), 2)
            self.assertEqual(page.evaluate("document.title"), "infergate")

    def test_with_keys_the_browser_asks_for_one(self) -> None:
        """Basic with a key as password opens the page and its feed; the prompt box asks for a key
        of its own and sends nothing without it. Without a password there is no page."""
        process = self.started(API_KEYS="alice:key")
        self.assertEqual(get(process.url + "/status", {"Host": "example.org"})[0], 401)
        with looking(process, "key") as page:
            page.wait("!document.querySelector('#box-key-label').hidden")
            page.evaluate("document.querySelector('#box-key').focus()")
            page.write("key")
            page.evaluate("document.querySelector('#box-prompt').focus()")
            page.write("hello")
            page.evaluate("document.querySelector('#box-send').click()")
            page.wait("document.querySelector('#box-answer').textContent === 'Mock: hello'")
            page.wait("document.querySelector('#callers').innerText.includes('alice')")
            stored = "JSON.stringify([document.cookie, {...localStorage}, {...sessionStorage}])"
            self.assertEqual(page.evaluate(stored), '["",{},{}]')

    @skipUnless(shutil.which("npm"), "needs npm, for axe-core")
    def test_axe_finds_no_violation(self) -> None:
        """In light, in dark and on a phone, with the record of a request open and without."""
        process = self.started(API_KEYS=f"{LONG_NAME}:key")
        for members in (
            {"model": LONG_MODEL},
            {"stream": True},
            {"messages": []},
            {"mock": {"fail": "reset"}},
        ):
            chat(process.url, dict(members), {"Authorization": "Bearer key"})
        with tempfile.TemporaryDirectory() as directory:
            try:
                install = [*NPM, AXE]
                subprocess.run(install, cwd=directory, check=True, capture_output=True, timeout=120)
            except subprocess.SubprocessError:
                raise SkipTest(
                    f"{AXE} cannot be had: no registry of npm's can be reached"
                ) from None
            axe = Path(directory, "node_modules/axe-core/axe.min.js").read_text()
        with looking(process, "key") as page:
            page.wait("document.querySelectorAll('#requests tr').length === 4")
            page.evaluate(axe + "; 0")
            for look in ({}, {"dark": True}, {"width": 390, "height": 844}):
                page.show_as(**look)
                self.assertEqual(violations(page), [], look)
            page.evaluate("document.querySelector('#requests button').click()")
            self.assertEqual(violations(page), [])
            # Nothing is cut off at the side of a phone.
            wide = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
            self.assertEqual(page.evaluate(wide), 0)

    def test_open_page_costs_under_three_percent_of_a_core(self) -> None:
        """The gateway's own CPU at 200 requests a second, with the page open less without it."""
        process = self.started()
        steady_load(process, 2)
        shares: dict[bool, list[float]] = {True: [], False: []}
        for _ in range(3):
            shares[False].append(steady_load(process, 5))
            with looking(process):
                shares[True].append(steady_load(process, 5))
        cost = median(shares[True]) - median(shares[False])
        self.assertLess(cost, 0.03, shares)

    @skipUnless(os.environ.get("INFERGATE_SCREENSHOTS"), "INFERGATE_SCREENSHOTS=DIR asks for them")
    def test_screenshots(self) -> None:
        """Light, dark and on a phone, after a minute of mixed load."""
        folder = Path(os.environ["INFERGATE_SCREENSHOTS"]).resolve()
        process = self.started(
            "--chunk-delay=0.02", "--delay=0.1", API_KEYS="alice:a,batch:b,chat-page:c"
        )
        with looking(process, "a") as page:
            end = time.monotonic() + 75
            threads = [Thread(target=mixed_load, args=(process.url, end, n)) for n in range(6)]
            for thread in threads:
                thread.start()
            time.sleep(68)
            page.evaluate("""document.querySelector('#box-key').value = 'a';
                document.querySelector('#box-prompt').value = 'What is a gateway good for?';
                document.querySelector('#box-send').click()""")
            time.sleep(2)
            for name, look in {
                "light": {"height": 1500},
                "dark": {"dark": True, "height": 1500},
                "phone": {"width": 390, "height": 1500},
            }.items():
                page.show_as(**look)  # type: ignore[arg-type]
                time.sleep(1)
                page.picture(folder / f"status-{name}.png", whole=False)
            for thread in threads:
                thread.join()


def steady_load(process: Process, seconds: float, rate: int = 200) -> float:
    """The share of a core that the gateway takes for this many small requests a second."""
    request = post({"model": "tiny"})
    began, before = time.monotonic(), process.cpu_seconds()
    with socket.create_connection(("127.0.0.1", process.port), timeout=10) as connection:
        for number in range(int(seconds * rate)):
            connection.sendall(request)
            answer = b""
            while not answer.endswith(b"}"):
                answer += connection.recv(65536)
            due = began + (number + 1) / rate
            time.sleep(max(0.0, due - time.monotonic()))
    return (process.cpu_seconds() - before) / (time.monotonic() - began)


def mixed_load(url: str, end: float, number: int) -> None:
    """Requests of all kinds, one after the other, until `end`."""
    turn = number
    while time.monotonic() < end:
        turn += 1
        body: dict[str, Any] = {
            "model": ("smollm2-135m", "qwen3-8b")[turn % 2],
            "stream": turn % 5 > 0,
        }
        text = "tell me a tale of a gateway " * (1 + turn % 3)
        body["messages"] = [{"role": "user", "content": text}] if turn % 17 else []
        if turn % 23 == 0:
            body["mock"] = {"fail": "reset", "fail_after": 0}
        chat(url, body, {"Authorization": f"Bearer {'abc'[number % 3]}"})
        time.sleep(0.1 * (1 + (turn // 20) % 4))


def violations(page: Page) -> list[Any]:
    """What axe-core finds wrong: rule, and the first element of it."""
    found = page.evaluate(
        "axe.run().then((r) => r.violations.map((v) => [v.id, v.nodes[0].html.slice(0, 200)]))"
    )
    return list(found)
