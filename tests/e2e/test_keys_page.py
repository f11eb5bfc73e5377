"""docs/keys-and-usage.md, run from the top as it stands there.

``python -m tests.e2e.test_keys_page`` writes into the page what its commands print now.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.e2e.harness import OFF, ROOT, mock, running, wait_for

skip = OFF

PAGE = ROOT / "docs" / "keys-and-usage.md"

BLOCK = re.compile(
    r"<!-- (?P<kind>run|serve) -->\n```sh\n(?P<command>.*?)\n```\n(?:```\n(?P<printed>.*?)```\n)?",
    re.DOTALL,
)
END = "-- the end of this block --"

# What differs from one run to the next.
UNSTEADY = [
    (r"sk-[A-Za-z0-9_-]{43}", "KEY"),
    (r"sha256:[0-9a-f]{64}", "DIGEST"),
    (r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "UUID"),
    (r'reset-(\w+): \S+|"reset":"[^"]+"', "RESET"),
    (r'"max":60,"used":\d,"remaining":\d+', "RATE"),
    (r"Come back in \d+ s", "WAIT"),
    (r"(?m) +\d+\.\d{3}$", "SECONDS"),
]


def steady(text: str) -> str:
    """A text without what differs from one run to the next."""
    for pattern, name in UNSTEADY:
        text = re.sub(pattern, name, text)
    return text


class Shell:
    """One shell in a folder of its own, in which the blocks follow one another."""

    def __init__(self, directory: Path, backend: int) -> None:
        self.directory = directory
        self.backend = backend
        self.port = 0
        (directory / ".venv").symlink_to(Path(sys.prefix))
        self.process = subprocess.Popen(
            ["bash"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=directory,
            env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "HOME": str(directory)},
            text=True,
        )

    def run(self, command: str) -> str:
        """What a block prints."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        command = command.replace("localhost:8080", f"localhost:{self.port}")
        self.process.stdin.write(f"{command}\necho '{END}'\n")
        self.process.stdin.flush()
        printed = ""
        for line in self.process.stdout:
            if line == f"{END}\n":
                return printed.replace("\r\n", "\n")
            printed += line
        raise AssertionError(f"the shell has ended: {printed}")

    def serve(self, command: str) -> None:
        """Start the gateway, on a port of its own."""
        command = command.replace("127.0.0.1:9000", f"127.0.0.1:{self.backend}")
        self.run(f"{command} --port 0 > gateway.log 2>&1 & GATEWAY=$!")
        wait_for(self._find_port, 20, "the gateway to listen")

    def _find_port(self) -> bool:
        log = self.directory / "gateway.log"
        match = re.search(r"starting on (\d+)", log.read_text() if log.exists() else "")
        self.port = int(match[1]) if match else 0
        return bool(match)

    def end(self) -> None:
        self.run('test -z "$GATEWAY" || { kill $GATEWAY; wait $GATEWAY; }')
        self.process.communicate("exit\n", timeout=20)


@contextmanager
def shell() -> Iterator[Shell]:
    backend = mock()
    with tempfile.TemporaryDirectory() as directory, running(backend):
        one = Shell(Path(directory), backend.port)
        try:
            yield one
        finally:
            one.end()


def replayed(text: str) -> str:
    """The page with what its commands print now, where that differs in more than ids and times."""
    with shell() as one:

        def again(block: re.Match[str]) -> str:
            if block["kind"] == "serve":
                one.serve(block["command"])
                return block[0]
            printed = one.run(block["command"])
            if block["printed"] is None:
                assert not printed, printed
                return block[0]
            if steady(printed) == steady(block["printed"]):
                return block[0]
            return block[0].removesuffix(block["printed"] + "```\n") + printed + "```\n"

        return BLOCK.sub(again, text)


class KeysPage(SynchronousTestCase):
    def test_every_command_prints_what_stands_below_it(self) -> None:
        """A team that follows the page sees what the page shows."""
        text = PAGE.read_text("utf-8")
        self.assertGreater(len(BLOCK.findall(text)), 8)
        self.assertEqual(replayed(text), text)


if __name__ == "__main__":
    PAGE.write_text(replayed(PAGE.read_text("utf-8")), "utf-8")
