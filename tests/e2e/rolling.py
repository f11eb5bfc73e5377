"""Clients that ask all the time, while what they ask is restarted under them.

They are as the SDKs are, which use the same library, but for one thing: nothing is tried again. A
request that is not answered whole is lost, and kept as a failure.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from tests.e2e.harness import CHAT_PATH, OFF, absent

MISSING = OFF or absent("httpx")
"""Why a module that uses these clients is skipped, if it is."""

if not MISSING:
    import httpx

CHUNKS = 40
"""Content chunks of each stream."""

CHUNK_DELAY = 0.05
"""Seconds from one chunk to the next: a stream takes two seconds, and crosses a restart."""

LARGE = 300_000
"""Bytes of some of the prompts: more than a proxy's usual buffer."""

PAUSE = 0.005
"""Seconds from one answer to the next request of the same client."""

CLIENTS = 3
"""Of each kind."""


class Load:
    """Clients in threads of their own, from `with` to its end: plain requests and streams, each on
    kept connections and on a new connection each time."""

    def __init__(self, url: str) -> None:
        self._url = url + CHAT_PATH
        self._stopped = threading.Event()
        self._lock = threading.Lock()
        self.answered = {"plain": 0, "streams": 0}
        self.streaming = 0
        self.failures: list[str] = []
        kinds = [
            (ask, fields)
            for ask in (self._plain, self._stream)
            for fields in ({}, {"Connection": "close"})
        ]
        self._threads = [
            threading.Thread(target=self._run, args=kind) for kind in kinds for _ in range(CLIENTS)
        ]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        for thread in self._threads:
            thread.join()

    def _run(self, ask: Callable[[httpx.Client], None], fields: dict[str, str]) -> None:
        with httpx.Client(headers=fields, timeout=30) as client:
            while not self._stopped.is_set():
                began = time.time()
                try:
                    ask(client)
                except (httpx.HTTPError, AssertionError) as why:
                    self.failures.append(
                        f"{began:.3f} lost after {time.time() - began:.3f} s: "
                        f"{ask.__name__} {fields} {why!r}"
                    )
                time.sleep(PAUSE)

    def _plain(self, client: httpx.Client) -> None:
        large = self.answered["plain"] % 10 == 0
        answer = client.post(self._url, json=body("word " * (LARGE // 5) if large else "hello"))
        assert answer.status_code == 200, (answer.status_code, answer.text[:300])
        assert answer.json()["choices"][0]["finish_reason"] == "stop", answer.text[:300]
        self._count("plain")

    def _stream(self, client: httpx.Client) -> None:
        script = {"chunks": CHUNKS, "chunk_delay": CHUNK_DELAY}
        with client.stream("POST", self._url, json=body("hello", stream=True, mock=script)) as got:
            self.streaming += 1
            try:
                text = got.read().decode()
            finally:
                self.streaming -= 1
        assert got.status_code == 200, (got.status_code, text[:300])
        assert text.endswith("data: [DONE]\n\n"), text[-300:]
        assert text.count('"content":') >= CHUNKS, text
        self._count("streams")

    def _count(self, kind: str) -> None:
        with self._lock:
            self.answered[kind] += 1


def body(text: str, **members: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": text}], **members}
