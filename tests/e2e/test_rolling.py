"""Gateways are restarted one after the other under load, and no client notices.

Each is restarted three times, or twenty times with INFERGATE_LONG=1, which also says how much was
asked meanwhile.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from unittest import skipIf, skipUnless

from twisted.trial.unittest import SynchronousTestCase

from tests.e2e.harness import CHAT_PATH, ROOT, Process, get, mock, running, wait_for
from tests.e2e.rolling import MISSING, Load, body
from tests.e2e.servers import free_port

skip = MISSING

if not skip:
    import httpx

LONG = bool(os.environ.get("INFERGATE_LONG"))
RESTARTS = 20 if LONG else 3

DEPLOY = ROOT / "deploy"
NO_HAPROXY = None if shutil.which("haproxy") else "needs haproxy"
HAPROXY = ["haproxy", "-f", "{file}"]
NGINX = ["nginx", "-p", "{folder}", "-c", "{file}", "-g"]
NGINX += ["daemon off; pid {folder}/pid; error_log {folder}/error.log;"]

CLIENT = "127.0.0.2"
"""Where a client comes from whose address is to be told from a proxy's."""


class Rolling(SynchronousTestCase):
    """Two gateways in front of one mock backend, each with metrics of its own."""

    def setUp(self) -> None:
        self.stack = ExitStack()
        self.addCleanup(self.stack.close)
        self.backend = mock()
        self.stack.enter_context(running(self.backend))
        self.settings: dict[str, str] = {}
        self.sockets: Sequence[socket.socket] = ()
        self.gateways: list[Process] = []
        self.addCleanup(lambda: [gateway.kill() for gateway in self.gateways])

    def gateway(self, port: int) -> Process:
        """One that is ready: it answers where the log says that its metrics are."""
        settings = {
            "BACKEND_URL": self.backend.url,
            "METRICS_LISTEN": "tcp:0:interface=127.0.0.1",
            "DRAIN_TIMEOUT": "30",
            **self.settings,
        }
        if "LISTEN" in settings:
            settings["LISTEN"] = settings["LISTEN"].format(port=port)
        made = Process("infergate", settings, port=port, sockets=self.sockets)
        wait_for(lambda: "Metrics at " in made.log_text(), 20, "the address of the metrics")
        found = re.search(r"Metrics at (http://127\.0\.0\.1:[0-9]+/metrics)", made.log_text())
        assert found is not None
        self.assertEqual(get(found[1])[0], 200)
        return made

    def roll(self, url: str) -> None:
        """Restart each of the gateways in its turn, again and again, while clients ask `url`."""
        ended: list[int] = []
        crossed, began, steps = 0, time.monotonic(), []
        with Load(url) as load:
            wait_for(lambda: all(load.answered.values()), 20, "the first answers")
            for _ in range(RESTARTS):
                for place, leaving in enumerate(self.gateways):
                    crossed += load.streaming
                    steps.append(f"{time.time():.3f} SIGTERM")
                    ended.append(leaving.stop())
                    steps.append(f"{time.time():.3f} ended")
                    self.gateways[place] = self.gateway(leaving.port)
                    steps.append(f"{time.time():.3f} ready")
        if LONG:
            sys.stdout.write(
                f"\n{RESTARTS} restarts of both in {time.monotonic() - began:.0f} s: "
                f"{load.answered}, {crossed} streams running at a SIGTERM, "
                f"{len(load.failures)} lost\n"
            )
        self.assertEqual(load.failures, [], "\n".join(sorted([*load.failures, *steps])))
        self.assertEqual(ended, [0] * 2 * RESTARTS)
        self.assertGreater(crossed, 2 * RESTARTS)

    def start_behind(self, name: str, command: list[str]) -> str:
        """Start both gateways, and a proxy with its file out of `deploy/`; its URL."""
        self.gateways = [self.gateway(free_port()) for _ in range(2)]
        port = free_port()
        text = (DEPLOY / name).read_text()
        one, two = (str(gateway.port) for gateway in self.gateways)
        for old, new in (("8081", one), ("8082", two), ("8080", str(port))):
            text = text.replace(old, new)
        folder = Path(self.mktemp()).resolve()
        folder.mkdir()
        (folder / name).write_text(text)
        log = self.stack.enter_context((folder / "log").open("wb"))
        started = subprocess.Popen(
            [part.format(folder=folder, file=folder / name) for part in command],
            stdout=log,
            stderr=log,
        )
        self.stack.callback(started.wait, 20)
        self.stack.callback(started.kill)
        url = f"http://127.0.0.1:{port}"

        def serves() -> bool:
            try:
                return get(url + "/readyz/self", timeout=2)[0] == 200
            except OSError:
                return False

        wait_for(serves, 20, name)
        return url

    def check_passage(self, url: str) -> None:
        """The chunks of a stream come through one by one; the request's id and the client's address
        reach the gateway; and what fails in the backend's hands is not sent twice."""
        transport = httpx.HTTPTransport(local_address=CLIENT)
        times: list[float] = []
        with httpx.Client(transport=transport, timeout=30) as client:
            fields = {"X-Request-ID": "of-the-client"}
            script = {"chunks": 10, "chunk_delay": 0.1}
            asked = body("hello", stream=True, mock=script)
            with client.stream("POST", url + CHAT_PATH, json=asked, headers=fields) as answer:
                self.assertEqual(answer.headers["x-request-id"], "of-the-client")
                times += [time.monotonic() for line in answer.iter_lines() if line]
            self.assertGreater(times[-1] - times[0], 0.5)
            fields = {"X-Request-ID": "once"}
            asked = body("hello", mock={"fail": "reset", "fail_after": 0})
            self.assertEqual(
                client.post(url + CHAT_PATH, json=asked, headers=fields).status_code, 502
            )

        def lines(name: str) -> list[str]:
            found = [line for one in self.gateways for line in one.requests()]
            return [line["client"] for line in found if line["request_id"] == name]

        wait_for(lambda: lines("once"), 5, "the log line")
        self.assertEqual((lines("of-the-client"), lines("once")), ([CLIENT], [CLIENT]))

    @skipIf(NO_HAPROXY, "needs haproxy")
    def test_behind_haproxy(self) -> None:
        """No request is lost and no stream is cut behind HAProxy."""
        self.settings = {"TRUSTED_PROXIES": "127.0.0.1", "DRAIN_DELAY": "3"}
        url = self.start_behind("haproxy.cfg", HAPROXY)
        self.check_passage(url)
        self.roll(url)

    @skipIf(NO_HAPROXY, "needs haproxy")
    def test_behind_haproxy_with_the_proxy_protocol(self) -> None:
        """No request is lost and no stream is cut behind HAProxy's PROXY protocol."""
        self.settings = {"LISTEN": "haproxy:tcp:{port}", "DRAIN_DELAY": "3"}
        url = self.start_behind("haproxy-proxy-protocol.cfg", HAPROXY)
        self.check_passage(url)
        self.roll(url)

    @skipUnless(shutil.which("nginx"), "needs nginx, from Debian's package nginx-light")
    def test_behind_nginx(self) -> None:
        """No request is lost and no stream is cut behind nginx."""
        self.settings = {"TRUSTED_PROXIES": "127.0.0.1"}
        url = self.start_behind("nginx.conf", NGINX)
        self.check_passage(url)
        self.roll(url)

    def test_on_one_port(self) -> None:
        """No request is lost and no stream is cut by two processes on one port, whose clients have
        nothing in between that would ask again."""
        self.settings = {"REUSE_PORT": "true"}
        self.gateways = [self.gateway(0)]
        self.gateways.append(self.gateway(self.gateways[0].port))
        self.roll(self.gateways[0].url)

    def test_on_one_socket_of_systemds(self) -> None:
        """No request is lost and no stream is cut by two processes on one inherited socket."""
        listening = self.stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=1024))
        self.sockets = [listening]
        self.settings = {"LISTEN": "systemd:domain=INET:index=0"}
        self.gateways = [self.gateway(0) for _ in range(2)]
        self.roll(f"http://127.0.0.1:{listening.getsockname()[1]}")
