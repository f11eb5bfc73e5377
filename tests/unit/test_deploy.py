"""The files in `deploy/` speak of settings that there are."""

from __future__ import annotations

import re
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from infergate.config import settings

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


class Settings(SynchronousTestCase):
    def test_every_name_is_a_setting(self) -> None:
        """One with a slip of the pen would be passed over without a word."""
        known = settings.names() | OTHERS
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
                    settings.load({}, {name: value.strip('"')}, {})
                except settings.SettingsError as why:
                    self.fail(f"{path}: {match[0]}: {why}")
        self.assertGreater(found, 15)


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
