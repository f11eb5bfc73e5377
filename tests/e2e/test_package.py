"""What is built holds all of the gateway, and works where nothing else is."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from email.parser import HeaderParser
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from infergate import __version__
from tests.e2e.harness import OFF, ROOT, chat, wait_for

skip = OFF


def modules() -> set[str]:
    """Every file that the gateway runs from, by its path in the repository."""
    files = [*ROOT.glob("infergate/**/*.py"), *ROOT.glob("twisted/plugins/*.py")]
    return {str(path.relative_to(ROOT)) for path in files} | {"infergate/py.typed"}


class BuiltTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.directory = Path(self.mktemp()).absolute()
        self.directory.mkdir()

    def build(self) -> tuple[Path, Path]:
        """A wheel and a source distribution of what stands in the working tree."""
        source = self.directory / "source"
        ignored = shutil.ignore_patterns(
            ".*", "build", "dist", "*.egg-info", "_trial_temp*", "ci-*"
        )
        shutil.copytree(ROOT, source, ignore=ignored)
        out = self.directory / "dist"
        self.run_quietly(sys.executable, "-m", "build", "--outdir", str(out), str(source))
        (wheel,), (sdist,) = out.glob("*.whl"), out.glob("*.tar.gz")
        return wheel, sdist

    def run_quietly(self, *command: str) -> str:
        done = subprocess.run(command, capture_output=True, text=True, cwd=self.directory)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        return done.stdout

    def test_wheel_and_sdist_are_whole_and_run_alone(self) -> None:
        """Wheel and source distribution hold every room, both plugins and the licence; the wheel,
        installed with nothing else, brings `infergate` and `twistd infergate`, which answer."""
        wheel, sdist = self.build()
        with zipfile.ZipFile(wheel) as archive:
            held = set(archive.namelist())
            self.assertLessEqual(modules(), held)
            self.assertFalse([name for name in held if name.startswith("tests")])
            (metadata,) = (name for name in held if name.endswith(".dist-info/METADATA"))
            said = HeaderParser().parsestr(archive.read(metadata).decode())
        self.assertEqual((said["Name"], said["Version"]), ("infergate-gateway", __version__))
        self.assertEqual(said["License"] or said["License-Expression"], "MIT")
        self.assertTrue(said.get_all("Project-URL"))
        self.assertTrue([name for name in held if name.endswith("LICENSE")])
        with tarfile.open(sdist) as tar:
            packed = {name.partition("/")[2] for name in tar.getnames()}
        self.assertLessEqual(modules() | {"LICENSE", "README.md", "setup.py"}, packed)

        home = self.directory / "venv"
        venv.create(home, with_pip=True)
        self.run_quietly(str(home / "bin/pip"), "install", "-q", str(wheel))
        answer = self.run_quietly(str(home / "bin/infergate"), "--version")
        self.assertEqual(answer, f"infergate {__version__}\n")
        for command in (
            ("infergate",),
            ("twistd", "-n", "--pidfile=", "infergate"),
            ("twistd", "-n", "--pidfile=", "infergate-mock"),
        ):
            self.answers(str(home / "bin" / command[0]), *command[1:], "--port=0")

    def answers(self, *command: str) -> None:
        """Start what is to be a gateway, ask it something, and stop it."""
        log = self.directory / "log"
        with log.open("wb") as stream:
            process = subprocess.Popen(
                command, stdout=stream, stderr=subprocess.STDOUT, cwd=self.directory, env={}
            )
        try:
            wait_for(lambda: "starting on " in log.read_text(), 20, f"{command} to listen")
            port = re.findall(r"starting on (\d+)", log.read_text())[0]
            status, _, body = chat(f"http://127.0.0.1:{port}", {})
            self.assertEqual(status, 200, body)
            self.assertIn(b"hello", body)
        finally:
            process.terminate()
            process.wait(20)
