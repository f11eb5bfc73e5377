"""A page in the real Chromium, without a window, over the DevTools protocol and nothing else.

The protocol's messages are JSON objects, each ended by a NUL byte, over two pipes: Chromium reads
descriptor 3 and writes descriptor 4 (``--remote-debugging-pipe``).
"""

from __future__ import annotations

import base64
import fcntl
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import Empty, Queue
from threading import Lock, Thread
from typing import Any
from urllib.parse import urlsplit

from tests.e2e.harness import wait_for

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")

MISSING = None if CHROMIUM else "needs Chromium, from Debian's package chromium"

SECONDS = 30.0

# Nothing of the browser's own goes out: neither updates nor reports.
OPTIONS = [
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--disable-dev-shm-usage", "--remote-debugging-pipe",
]  # fmt: skip

# Chromium's two descriptors: only a new process may have these numbers taken from it.
START = """
import os, sys
reading, writing, *command = sys.argv[1:]
os.dup2(int(reading), 3)
os.dup2(int(writing), 4)
os.execv(command[0], command)
"""


class Page:
    """One page. `open` it, `evaluate` expressions in it, press its keys; `problems` and `hosts` are
    what its console said of errors, and what it asked others for. `browser` makes it."""

    def __init__(self, reading: int, writing: int, password: str | None) -> None:
        self._reading = os.fdopen(reading, "rb")
        self._writing = os.fdopen(writing, "wb", buffering=0)
        self._lock = Lock()
        self._number = 0
        self._answers: dict[int, Queue[dict[str, Any]]] = {}
        self._session: str | None = None
        self._password = password
        self.problems: list[str] = []
        self.urls: list[str] = []
        Thread(target=self._listen, daemon=True).start()
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        attached = self.ask("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.ask(f"{domain}.enable")
        if password is not None:
            self.ask("Fetch.enable", handleAuthRequests=True)

    def hosts(self) -> set[str]:
        """All that the page asked for something, but for what stands in its own document."""
        parts = map(urlsplit, self.urls)
        return {part.netloc for part in parts if part.scheme not in ("data", "about")}

    def open(self, url: str) -> None:
        self.ask("Page.navigate", url=url)
        wait_for(lambda: self.evaluate("document.readyState") == "complete", SECONDS, url)

    def evaluate(self, expression: str) -> Any:
        """The value of an expression, awaited. The page's own policy does not bind DevTools."""
        said = self.ask(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        if "exceptionDetails" in said:
            raise AssertionError(f"{expression}: {said['exceptionDetails']}")
        return said["result"].get("value")

    def wait(self, expression: str, seconds: float = SECONDS) -> None:
        """Until the expression is true."""
        try:
            wait_for(lambda: self.evaluate(expression), seconds, expression)
        except AssertionError as why:
            text = self.evaluate("document.body.innerText")
            raise AssertionError(f"{why}; the page says: {text[:3000]}") from None

    def text(self, selector: str) -> str:
        return str(self.evaluate(f"document.querySelector({json.dumps(selector)}).textContent"))

    def press(self, key: str, code: int, text: str = "") -> None:
        """A key of the keyboard, down and up."""
        for kind in ("keyDown", "keyUp"):
            self.ask(
                "Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code,
                **({"text": text} if text and kind == "keyDown" else {}),
            )  # fmt: skip

    def write(self, text: str) -> None:
        """As typed, into what has the focus."""
        self.ask("Input.insertText", text=text)

    def show_as(self, *, dark: bool = False, width: int = 1280, height: int = 800) -> None:
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.ask("Emulation.setEmulatedMedia", features=[scheme])
        self.ask(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=height, deviceScaleFactor=1, mobile=width < 500,
        )  # fmt: skip

    def picture(self, path: Path, *, whole: bool = True) -> None:
        """A PNG file of the page, of all that can be scrolled to or of what is seen."""
        shot = self.ask("Page.captureScreenshot", captureBeyondViewport=whole, format="png")
        path.write_bytes(base64.b64decode(shot["data"]))

    def ask(self, method: str, **params: Any) -> dict[str, Any]:
        """The result of one command."""
        answer: Queue[dict[str, Any]] = Queue()
        self._send(method, params, answer)
        try:
            said = answer.get(timeout=SECONDS)
        except Empty:
            raise AssertionError(f"no answer to {method} in {SECONDS} s") from None
        if "error" in said:
            raise AssertionError(f"{method}: {said['error']}")
        return dict(said["result"])

    def _send(
        self, method: str, params: dict[str, Any], answer: Queue[dict[str, Any]] | None = None
    ) -> None:
        with self._lock:
            self._number += 1
            if answer is not None:
                self._answers[self._number] = answer
            command = {"id": self._number, "method": method, "params": params}
            if self._session is not None:
                command["sessionId"] = self._session
            self._writing.write(json.dumps(command).encode() + b"\0")

    def _listen(self) -> None:
        held = b""
        while data := os.read(self._reading.fileno(), 1 << 20):
            *messages, held = (held + data).split(b"\0")
            for message in map(json.loads, messages):
                if "id" in message:
                    if answer := self._answers.pop(message["id"], None):
                        answer.put(message)
                else:
                    self._hear(message["method"], message["params"])

    def _hear(self, event: str, params: dict[str, Any]) -> None:
        if event == "Network.requestWillBeSent":
            self.urls.append(params["request"]["url"])
        elif event == "Runtime.exceptionThrown":
            self.problems.append(json.dumps(params["exceptionDetails"]))
        elif event == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning"):
            self.problems.append(json.dumps(params["args"]))
        elif event == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
            self.problems.append(json.dumps(params["entry"]))
        elif event == "Fetch.requestPaused":
            self._send("Fetch.continueRequest", {"requestId": params["requestId"]})
        elif event == "Fetch.authRequired":
            # As a person who fills in the browser's dialog.
            answer = {
                "response": "ProvideCredentials", "username": "any", "password": self._password,
            }  # fmt: skip
            told = {"requestId": params["requestId"], "authChallengeResponse": answer}
            self._send("Fetch.continueWithAuth", told)


@contextmanager
def browser(password: str | None = None) -> Iterator[Page]:
    """A page of a browser of its own, which answers a question for a password with this one."""
    assert CHROMIUM is not None
    theirs, writing = os.pipe()
    reading, answers = os.pipe()
    # Out of the way of 3 and 4, which they become.
    high = [fcntl.fcntl(end, fcntl.F_DUPFD, 10) for end in (theirs, answers)]
    os.close(theirs)
    os.close(answers)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        command = [CHROMIUM, *OPTIONS, f"--user-data-dir={profile}"]
        process = subprocess.Popen(
            [sys.executable, "-c", START, *map(str, high), *command],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            pass_fds=high,
        )  # fmt: skip
        for end in high:
            os.close(end)
        try:
            yield Page(reading, writing, password)
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
