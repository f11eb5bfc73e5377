"""What the container installs: pinned, hashed, complete, and described by its bill of materials."""

from __future__ import annotations

import json
import re
import runpy
import shutil
import subprocess
import sys
from importlib.util import find_spec
from itertools import chain
from pathlib import Path
from typing import Any
from unittest import skipIf
from unittest.mock import patch

from twisted.trial.unittest import SynchronousTestCase

from tests.e2e.harness import OFF, ROOT

skip = OFF

PINS = ROOT / "deploy" / "requirements.txt"
BILL = ROOT / "deploy" / "sbom.cdx.json"
DOCKERFILE = ROOT / "deploy" / "Dockerfile"

# Of the image's Python, on the processors that images are made for.
PLATFORMS = ("x86_64", "aarch64")
INSTALL_SECONDS = 300


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def bare(purl: str) -> str:
    """The name of a package alone."""
    return normal(purl.rpartition("/")[2].partition("@")[0])


def graph(bill: dict[str, Any]) -> dict[str, set[str]]:
    """Each package with its version, and what it depends on; without pip, which installs them."""
    names = {part["bom-ref"]: part["purl"] for part in bill["components"] if part["name"] != "pip"}
    return {
        names[one["ref"]]: {names[other] for other in one.get("dependsOn", ()) if other in names}
        for one in bill["dependencies"]
        if one["ref"] in names
    }


def ran(*command: object) -> str:
    """What a program prints, which must end well."""
    done = subprocess.run(
        list(map(str, command)), capture_output=True, text=True, timeout=INSTALL_SECONDS, cwd=ROOT
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


class Pins(SynchronousTestCase):
    def test_pins_are_all_that_the_gateway_needs(self) -> None:
        """In an empty environment, as the Dockerfile does it: nothing is missing, the gateway says
        its version, and the bill of materials names what is there, no more and no less."""
        place = Path(self.mktemp()).resolve()
        python, pip = place / "bin" / "python", place / "bin" / "pip"
        ran(sys.executable, "-m", "venv", place)
        install = [pip, "install", "--quiet"]
        options = ("--only-binary=:all:", "--require-hashes", "-r", "deploy/requirements.txt")
        # The very options of the image.
        self.assertIn(" ".join(options), DOCKERFILE.read_text())
        ran(*install, *options)
        if sys.version_info >= (3, 11):
            # An older Python needs other packages than the image's.
            self.assert_described(python)
        ran(*install, "--no-deps", "--no-build-isolation", self.sources())
        ran(pip, "check")
        self.assertIn("infergate", ran(place / "bin" / "infergate", "--version"))

    def assert_described(self, python: Path) -> None:
        """The bill of materials is of what is installed, but for pip itself."""
        described = graph(json.loads(BILL.read_text()))
        installed = json.loads(ran(python, "-m", "pip", "list", "--format=json"))
        here = {normal(f"{one['name']}@{one['version']}") for one in installed}
        names = {normal(one.rpartition("/")[2]) for one in described}
        self.assertEqual(names, {one for one in here if not one.startswith("pip@")})
        if find_spec("cyclonedx_py"):
            made = graph(
                json.loads(ran(sys.executable, "-m", "cyclonedx_py", "environment", python))
            )
            self.assertEqual(described, made)

    def sources(self) -> Path:
        """What the Dockerfile copies of the repository, so that the build leaves nothing there."""
        folder = Path(self.mktemp()).resolve()
        folder.mkdir()
        (files,) = re.findall(r"^COPY (setup.py .*) \./$", DOCKERFILE.read_text(), re.MULTILINE)
        for name in files.split():
            shutil.copy(ROOT / name, folder)
        for name in ("infergate", "twisted"):
            shutil.copytree(ROOT / name, folder / name)
        return folder

    def test_pins_have_a_file_for_each_platform(self) -> None:
        """The image can be built for both processors, without a compiler."""
        version = re.search(r"FROM python:(\d+\.\d+)", DOCKERFILE.read_text())
        assert version is not None
        for machine in PLATFORMS:
            platforms = [f"--platform=manylinux_2_{glibc}_{machine}" for glibc in (17, 28)]
            ran(
                *(sys.executable, "-m", "pip", "install", "--quiet", "--dry-run"),
                *("--ignore-installed", "--no-deps", "--target", self.mktemp()),
                *(f"--python-version={version[1]}", *platforms),
                *("--only-binary=:all:", "--require-hashes", "-r", PINS),
            )

    def test_nothing_is_pinned_that_nobody_needs(self) -> None:
        """What setup.py asks for, with the three extras of the image, leads to each package of the
        bill of materials; setuptools builds the gateway."""
        with patch("setuptools.setup") as setup:
            runpy.run_path(str(ROOT / "setup.py"))
        given = setup.call_args.kwargs
        extras = [given["extras_require"][name] for name in ("otlp", "postgresql", "redis")]
        asked = chain(given["install_requires"], *extras, ["setuptools"])
        edges = {
            bare(one): set(map(bare, on)) for one, on in graph(json.loads(BILL.read_text())).items()
        }
        reached: set[str] = set()
        next_ones = {normal(re.split(r"[^\w.-]", one)[0]) for one in asked}
        while next_ones := next_ones - reached:
            reached |= next_ones
            next_ones = set().union(*(edges[one] for one in next_ones))
        self.assertEqual(reached, set(edges))

    @skipIf(find_spec("cyclonedx") is None, "needs cyclonedx-bom, from PyPI")
    def test_bill_of_materials_is_one(self) -> None:
        """By CycloneDX's schema; each part has a licence, but for those that do not say theirs."""
        from cyclonedx.schema import SchemaVersion
        from cyclonedx.validation.json import JsonStrictValidator

        text = BILL.read_text()
        self.assertIsNone(JsonStrictValidator(SchemaVersion.V1_6).validate_str(text))
        parts = json.loads(text)["components"]
        silent = {part["name"] for part in parts if not part.get("licenses")}
        self.assertLessEqual(silent, {"protobuf"})
