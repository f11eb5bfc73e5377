"""The files in `deploy/` speak of settings that there are."""

from __future__ import annotations

import re
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from infergate.config.loading import load
from infergate.config.settings import Settings, names
from infergate.config.sources import SettingsError

DEPLOY = Path(__file__).resolve().parent.parent.parent / "deploy"

# Not the gateway's: what compose.yaml itself asks for, Python, and a Kubernetes member.
OTHERS = {"MODELS", "MODEL", "LLAMA_IMAGE", "PYTHONDONTWRITEBYTECODE"}

# `NAME=value` in units, Dockerfile and comments, `NAME: value` in compose.yaml, and
# `{name: NAME, value: ...}` in the manifests.
NAMES = re.compile(r"\b([A-Z][A-Z0-9_]{3,})(?==|: )|\bname: ([A-Z][A-Z0-9_]+)\b")

# What stands in a unit's Environment= and in the other files as a value that can be parsed alone.
VALUES = re.compile(
    r"\b([A-Z][A-Z0-9_]{3,})=([^\s;]+)"
    r"|^ +([A-Z][A-Z0-9_]{3,}): (\S+)$"
    r"|\bname: ([A-Z][A-Z0-9_]+), value: ([^}]+)",
    re.MULTILINE,
)


def texts() -> dict[str, str]:
    paths = (path for path in DEPLOY.rglob("*") if path.is_file() and path.suffix != ".json")
    return {str(path): path.read_text() for path in paths if path.name != "requirements.txt"}


class Written(SynchronousTestCase):
    def test_every_name_is_a_setting(self) -> None:
        """One with a slip of the pen would be passed over without a word."""
        known = names() | OTHERS
        found = 0
        for path, text in texts().items():
            for match in NAMES.finditer(text):
                found += 1
                self.assertIn(match[1] or match[2], known, f"{path}: {match[0]}")
        self.assertGreater(found, 20)

    def test_every_value_is_one_that_the_setting_takes(self) -> None:
        """What somebody copies out of `deploy/` starts."""
        found = 0
        for path, text in texts().items():
            for match in VALUES.finditer(text):
                name, value = (part for part in match.groups() if part is not None)
                # A file is read when it is given, and is not here.
                if name in OTHERS or name.endswith("_FILE"):
                    continue
                found += 1
                try:
                    load({}, {name: value.strip('"')}, {})
                except SettingsError as why:
                    self.fail(f"{path}: {match[0]}: {why}")
        self.assertGreater(found, 15)


class Drains(SynchronousTestCase):
    """What runs may take REQUEST_TIMEOUT, and nothing in front of the gateway ends it before."""

    request_timeout = Settings().request_timeout

    def test_units_give_a_drain_its_time(self) -> None:
        """systemd hears of start and reload, keeps every line of the log, and does not kill what
        drains."""
        units = list((DEPLOY / "systemd").glob("*.service"))
        self.assertEqual(len(units), 2)
        for path in units:
            text = path.read_text()
            given = dict(re.findall(r"\b([A-Z_]+)=([^\s]+)", text))
            for line in (
                "Type=notify",
                "ExecReload=/bin/kill -HUP $MAINPID",
                "LogRateLimitIntervalSec=0",
            ):
                self.assertIn(f"\n{line}\n", text, path)
            self.assertEqual(float(given["DRAIN_TIMEOUT"]), self.request_timeout)
            (stop,) = re.findall(r"^TimeoutStopSec=([0-9]+)$", text, re.M)
            drain = float(given["DRAIN_DELAY"]) + float(given["DRAIN_TIMEOUT"])
            self.assertGreater(float(stop), drain + 6)

    def test_proxies_wait_longer_than_the_gateway(self) -> None:
        """HAProxy and nginx wait longer than REQUEST_TIMEOUT, and say what they need of it:
        whom it is to believe the client's address, and how long it is to serve on in a drain."""
        limits = {
            "haproxy.cfg": ("timeout client", "timeout server"),
            "haproxy-proxy-protocol.cfg": ("timeout client", "timeout server"),
            "nginx.conf": ("proxy_read_timeout", "proxy_send_timeout"),
        }
        for name, directives in limits.items():
            text = (DEPLOY / name).read_text()
            for directive in directives:
                (seconds,) = re.findall(rf"^ +{directive} +([0-9]+)s;?$", text, re.M)
                self.assertGreater(float(seconds), self.request_timeout, f"{name}: {directive}")
            self.assertEqual("TRUSTED_PROXIES=" in text, "X-Forwarded-For " in text, name)
            self.assertIn(f"DRAIN_TIMEOUT={self.request_timeout:.0f} ", text)
            if name.startswith("haproxy"):
                (delay,) = re.findall(r"DRAIN_DELAY=([0-9]+)", text)
                ((every, times),) = re.findall(
                    r"check inter ([0-9]+)s downinter 250ms fall ([0-9]+)", text
                )
                self.assertGreater(int(delay), int(every) * int(times))

    def test_proxies_repeat_what_was_not_begun_and_nothing_else(self) -> None:
        """A failed connect and a 503."""
        for path in DEPLOY.glob("haproxy*.cfg"):
            text = path.read_text()
            self.assertIn("\n    retry-on conn-failure 503\n", text)
            for option in ("redispatch 1", "http-buffer-request", "httpchk GET /readyz/self"):
                self.assertIn(f"\n    option {option}\n", text, path)
        nginx = re.sub(r"#.*", "", (DEPLOY / "nginx.conf").read_text())
        self.assertIn("proxy_next_upstream error;", nginx)
        self.assertIn("error_page 503 = @other;", nginx)
        self.assertNotIn("non_idempotent", nginx)
        self.assertNotIn("keepalive", nginx)


class Alerts(SynchronousTestCase):
    def test_each_alert_has_its_part_of_the_page(self) -> None:
        """Its name is a heading of docs/operations.md, its runbook leads there, and what it asks
        to be done stands below in steps; no heading is of an alert that is gone."""
        page = (DEPLOY.parent / "docs" / "operations.md").read_text()
        rules = "".join(path.read_text() for path in (DEPLOY / "prometheus").glob("*.yml"))
        alerts = re.findall(r"- alert: (\w+)", rules)
        runbooks = re.findall(r"runbook: docs/operations.md#(\w+)", rules)
        self.assertEqual(runbooks, [name.lower() for name in alerts])
        parts = dict(re.findall(r"^### (Infergate\w+)\n(.*?)(?=^###? |\Z)", page, re.S | re.M))
        self.assertEqual(set(parts), set(alerts))
        for name, text in parts.items():
            self.assertTrue("\n1. " in text or "The steps are those of" in text, name)
