"""Limits that hold across processes, with a real Redis and a real HAProxy."""

from __future__ import annotations

import random
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.trial.unittest import SynchronousTestCase

from infergate.access.account import of_caller
from infergate.access.limits import LocalLimits, Verdict
from infergate.access.policy import Policy, TokenLimit
from infergate.access.ratelimit import Rate
from infergate.access.scripts import BOUNDS
from infergate.access.shared import SharedLimits
from infergate.access.windows import WINDOWS, bounds
from tests.e2e.harness import OFF, Process, chat, gateway, get, running, wait_for
from tests.e2e.servers import NO_REDIS, Redis, free_port, redis

ALICE = "sk-alice-0123456789"
BOB = "sk-bob-01234567890"


NO_HAPROXY = None if shutil.which("haproxy") else "needs HAProxy: apt install haproxy"

HAPROXY = """
defaults
    mode http
    timeout connect 2s
    timeout client 60s
    timeout server 60s
    option redispatch 1
    option http-buffer-request
    retries 3
    retry-on conn-failure 503
frontend front
    bind 127.0.0.1:{port}
    default_backend gateways
backend gateways
    balance roundrobin
    option httpchk GET /readyz/self
    default-server check inter 200ms fall 1 rise 1
{servers}
"""


def left(verdict: Verdict) -> int:
    """The tokens that the header fields show."""
    return min(spent.remaining for spent in verdict.tokens)


@contextmanager
def haproxy(ports: list[int]) -> Iterator[str]:
    """HAProxy before gateways on these ports; its URL."""
    port = free_port()
    servers = "\n".join(f"    server g{number} 127.0.0.1:{number}" for number in ports)
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder, "haproxy.cfg")
        config.write_text(HAPROXY.format(port=port, servers=servers))
        process = subprocess.Popen(["haproxy", "-db", "-f", str(config)], stderr=subprocess.DEVNULL)
        try:
            url = f"http://127.0.0.1:{port}"
            wait_for(lambda: _answers(url), 10, "HAProxy")
            yield url
        finally:
            process.kill()
            process.wait()


def _answers(url: str) -> bool:
    try:
        return get(url + "/healthz")[0] == 200
    except OSError:
        return False


def ask(url: str, key: str = ALICE) -> tuple[int, dict[str, str], bytes]:
    return chat(url, {"model": "m"}, {"Authorization": f"Bearer {key}"})


class Load:
    """Requests one after another in some threads, until `stop`."""

    def __init__(self, url: str, threads: int = 4) -> None:
        self._over = threading.Event()
        self.statuses: Counter[int] = Counter()
        self.longest = 0.0
        self._url = url
        self._threads = [threading.Thread(target=self._run) for _ in range(threads)]
        for thread in self._threads:
            thread.start()

    def _run(self) -> None:
        while not self._over.wait(0.01):
            began = time.monotonic()
            status = ask(self._url)[0]
            self.longest = max(self.longest, time.monotonic() - began)
            self.statuses[status] += 1

    def stop(self) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()


class Shared(SynchronousTestCase):
    skip = OFF or NO_REDIS

    def setUp(self) -> None:
        self.stack = ExitStack()
        self.addCleanup(self.stack.close)
        self.redis: Redis = self.stack.enter_context(redis())

    def gateway(self, rules: str, port: int = 0, **settings: str) -> Process:
        keys = f"alice:{ALICE} {rules}\nbob:{BOB}\n"
        process = Process(
            "infergate",
            {
                "API_KEYS_FILE": "keys",
                "SHARED_STATE": self.redis.url(),
                "LOG_FORMAT": "json",
                **settings,
            },
            port=port,
            files={"keys": keys},
        )
        self.stack.enter_context(running(process))
        wait_for(lambda: self.up(process), 5, "Redis to be up")
        return process

    def up(self, process: Process) -> bool:
        text = get(process.url + "/metrics", {"Authorization": f"Bearer {BOB}"})[2].decode()
        return "infergate_shared_state_up 1.0" in text

    def lines(self, process: Process) -> list[str]:
        return [
            line["message"]
            for line in process.log_lines()
            if line["event"] == "log" and "SHARED_STATE" in line["message"]
        ]


class Scripts(Shared):
    def test_windows_are_those_of_the_gateway(self) -> None:
        """Redis finds the same days, weeks and months, leap years included."""
        script = BOUNDS + "local b, e = bounds(ARGV[1], tonumber(ARGV[2])) return {b, e}"
        for second in (0, 951782399, 951782400, 1709164800, 1709251199, 1709251200, 1795737599,
                       1795737600, 1798761599, 1798761600, 4107542400):  # fmt: skip
            for window in WINDOWS:
                found = self.redis.command("eval", script, "0", window, str(second))
                began, ends = map(int, found.split())
                self.assertEqual((began, ends), bounds(window, second), (window, second))

    def test_counts_as_the_memory_of_a_process_does(self) -> None:
        """The same requests are refused, with the same left and the same time to wait."""
        policy = Policy(rate=Rate(7, 3600), tokens=(TokenLimit(40, "day"), TokenLimit(90, "month")))
        alice = of_caller("alice", policy)
        local = LocalLimits(time.monotonic, time.time)
        shared = SharedLimits(CommandLine(self.redis), LocalLimits(time.monotonic, time.time))
        chance = random.Random(13)
        for _ in range(40):
            costs = chance.random() < 0.8
            verdicts = []
            for limits in (local, shared):
                asked = limits.ask(alice, costs)
                verdicts.append(
                    asked if isinstance(asked, Verdict) else self.successResultOf(asked)
                )
            mine, theirs = verdicts
            self.assertEqual(mine.refused_by, theirs.refused_by)
            self.assertLessEqual(abs(mine.retry_after - theirs.retry_after), 2)
            self.assertEqual(left(mine), left(theirs))
            assert mine.rate is not None
            assert theirs.rate is not None
            self.assertEqual(mine.rate.remaining, theirs.rate.remaining)
            if mine.refused_by is None:
                tokens = chance.randrange(12)
                local.charge(alice, tokens)
                shared.charge(alice, tokens)
        self.assertIsNotNone(mine.refused_by)


class CommandLine:
    """A link to Redis by its command line."""

    up = True

    def __init__(self, server: Redis) -> None:
        self._server = server

    def run(self, script: str, keys: Sequence[str], text: str) -> Deferred[Any]:
        return succeed(self._server.command("eval", script, str(len(keys)), *keys, text))


class AcrossProcesses(Shared):
    skip = OFF or NO_REDIS or NO_HAPROXY

    def test_rate_holds_to_the_request(self) -> None:
        """Of 120 requests at once, over two processes, as many get through as one would let."""
        processes = [self.gateway("rate=40/hour") for _ in range(2)]
        url = self.stack.enter_context(haproxy([process.port for process in processes]))
        with ThreadPoolExecutor(12) as pool:
            statuses = Counter(status for status, _, _ in pool.map(lambda _: ask(url), range(120)))
        self.assertLessEqual(abs(statuses[200] - 40), 1)
        self.assertEqual(statuses[200] + statuses[429], 120)
        self.assertTrue(all(process.requests() for process in processes))

    def test_tokens_hold_to_what_was_under_way(self) -> None:
        """Each request uses three tokens; no more get through than were under way at the end."""
        processes = [self.gateway("tokens=90/day") for _ in range(2)]
        url = self.stack.enter_context(haproxy([process.port for process in processes]))
        with ThreadPoolExecutor(4) as pool:
            statuses = Counter(status for status, _, _ in pool.map(lambda _: ask(url), range(80)))
        self.assertTrue(30 <= statuses[200] <= 34, statuses)
        usage = get(processes[0].url + "/v1/usage", {"Authorization": f"Bearer {ALICE}"})[2]
        self.assertIn(b'"used":%d' % (3 * statuses[200]), usage)

    def test_killed_gateway_costs_what_it_held(self) -> None:
        """The other one takes over, and then the restarted one too; what was used stays used."""
        processes = [self.gateway("tokens=9000/day") for _ in range(2)]
        url = self.stack.enter_context(haproxy([process.port for process in processes]))
        load = Load(url)
        time.sleep(0.5)
        processes[0].process.kill()
        processes[0].process.wait()
        time.sleep(1)
        restarted = self.gateway("tokens=9000/day", port=processes[0].port)
        time.sleep(1)
        load.stop()
        self.assertTrue([line for line in restarted.requests() if line["status"] == 200])
        failed = sum(count for status, count in load.statuses.items() if status != 200)
        self.assertLessEqual(failed, 4)
        usage = get(processes[1].url + "/v1/usage", {"Authorization": f"Bearer {ALICE}"})[2]
        used = int(usage.partition(b'"used":')[2].partition(b",")[0])
        self.assertLessEqual(abs(used - 3 * load.statuses[200]), 3 * 4)


class Outages(Shared):
    def outage(
        self, begin: Callable[[], None], end: Callable[[], None], **settings: Any
    ) -> tuple[Process, Load]:
        """A load during which Redis is away for two seconds."""
        process = self.gateway("rate=100000/hour tokens=1000000/day", **settings)
        load = Load(process.url)
        time.sleep(0.5)
        begin()
        wait_for(lambda: not self.up(process), 3, "Redis to be away")
        time.sleep(2)
        end()
        ended = time.monotonic()
        wait_for(lambda: self.up(process), 3, "Redis to be back")
        back = time.monotonic() - ended
        time.sleep(0.3)
        load.stop()
        self.assertLess(back, 1.3)
        longest = max(line["latency_ms"] for line in process.requests())
        self.assertLess(longest, 150 + 50)  # what else a busy machine has to do
        lines = self.lines(process)
        self.assertEqual(len(lines), 2, lines)
        return process, load

    def test_each_process_counts_for_itself(self) -> None:
        """Redis is killed and started again under load: nobody notices."""
        process, load = self.outage(self.redis.stop, self.redis.start)
        self.assertEqual(set(load.statuses), {200})
        usage = get(process.url + "/v1/usage", {"Authorization": f"Bearer {ALICE}"})[2].decode()
        used = int(usage.rpartition('"used":')[2].partition(",")[0])
        self.assertEqual(used, 3 * load.statuses[200])

    def test_hanging_redis_is_waited_for_a_tenth_of_a_second(self) -> None:
        """It says nothing, and its connection stays: what could not be charged is charged when it
        goes on."""

        def stop() -> None:
            self.redis.process.send_signal(signal.SIGSTOP)

        def go_on() -> None:
            self.redis.process.send_signal(signal.SIGCONT)

        _, load = self.outage(stop, go_on)
        self.assertEqual(set(load.statuses), {200})

    def test_callers_with_limits_are_refused_where_that_is_set(self) -> None:
        """Others are served."""
        process, load = self.outage(
            self.redis.stop, self.redis.start, SHARED_STATE_FAILURE="refuse"
        )
        self.assertEqual(set(load.statuses), {200, 503})
        self.redis.stop()
        wait_for(lambda: not self.up(process), 3, "Redis to be away")
        status, headers, body = ask(process.url)
        self.assertEqual((status, headers["retry-after"]), (503, "1"))
        self.assertIn(b'"limits_unavailable"', body)
        self.assertEqual(ask(process.url, BOB)[0], 200)

    def test_redis_that_is_away_does_not_stop_the_start(self) -> None:
        """It is there as soon as Redis is."""
        self.redis.stop()
        keys = f"alice:{ALICE} rate=2/hour\nbob:{BOB}\n"
        process = gateway(
            {"API_KEYS_FILE": "keys", "SHARED_STATE": self.redis.url(), "LOG_FORMAT": "json"},
            files={"keys": keys},
        )
        self.stack.enter_context(running(process))
        self.assertEqual([ask(process.url)[0] for _ in range(3)], [200, 200, 429])
        wait_for(lambda: self.lines(process), 3, "the line")
        self.redis.start()
        wait_for(lambda: self.up(process), 1.5, "Redis to be up")

    def test_certificate_is_verified(self) -> None:
        """Over TLS Redis is there for who trusts its certificate, and away for all others."""
        folder = Path(self.stack.enter_context(tempfile.TemporaryDirectory()))
        key, certificate = folder / "key.pem", folder / "cert.pem"
        subprocess.run(
            [
                *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
                *("-keyout", str(key), "-out", str(certificate), "-subj", "/CN=localhost"),
                *("-addext", "subjectAltName=DNS:localhost"),
            ],
            check=True,
            capture_output=True,
        )
        port = free_port()
        secured = self.stack.enter_context(
            redis(
                *("--tls-port", str(port), "--tls-auth-clients", "no"),
                *("--tls-cert-file", str(certificate), "--tls-key-file", str(key)),
                *("--tls-ca-cert-file", str(certificate)),
            )
        )
        wait_for(lambda: secured.process.poll() is None, 1, "Redis with TLS")
        state = f"rediss://localhost:{port}"
        trusting = self.gateway(
            "rate=5/hour", SHARED_STATE=state, SHARED_STATE_CA_FILE=str(certificate)
        )
        self.assertEqual(ask(trusting.url)[0], 200)
        keys = f"alice:{ALICE} rate=5/hour\nbob:{BOB}\n"
        other = gateway(
            {"API_KEYS_FILE": "keys", "SHARED_STATE": state, "LOG_FORMAT": "json"},
            files={"keys": keys},
        )
        self.stack.enter_context(running(other))
        wait_for(lambda: self.lines(other), 3, "the line")
        self.assertIn("certificate verify failed", self.lines(other)[0])

    def test_wrong_password_is_mended_in_redis(self) -> None:
        """The gateway need not be restarted, and shows no password."""
        self.redis.command("config", "set", "requirepass", "right")
        keys = f"alice:{ALICE} rate=2/hour\nbob:{BOB}\n"
        process = gateway(
            {
                "API_KEYS_FILE": "keys",
                "SHARED_STATE": self.redis.url("other"),
                "LOG_FORMAT": "json",
            },
            files={"keys": keys},
        )
        self.stack.enter_context(running(process))
        wait_for(lambda: self.lines(process), 3, "the line")
        self.assertIn("WRONGPASS", self.lines(process)[0])
        self.redis.command("-a", "right", "config", "set", "requirepass", "other")
        wait_for(lambda: self.up(process), 2, "Redis to be up")
        self.assertNotIn("other@", process.log_text())
