"""A page of the documentation, run from its top as it stands there.

Blocks of commands are marked with a comment above them: ``<!-- run -->``, which must print what
stands below, and ``<!-- serve -->``, which starts a gateway. All of a page run in one shell.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType

from tests.e2e.harness import ROOT, mock, running, wait_for

BLOCK = re.compile(
    r"<!-- (?P<kind>run|serve) -->\n```sh\n(?P<command>.*?)\n```\n(?:```\n(?P<printed>.*?)```\n)?",
    re.DOTALL,
)
END = "-- the end of this block --"
BACKEND = "127.0.0.1:9000"

# What differs from one run to the next.
UNSTEADY = [
    (r"sk-[A-Za-z0-9_-]{43}", "KEY"),
    (r"sha256:[0-9a-f]{64}", "DIGEST"),
    (r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "UUID"),
    (r'reset-(\w+): \S+|"reset":"[^"]+"', "RESET"),
    (r'"created":\d+', "CREATED"),
    (r"Date: [^\n]+", "DATE"),
    (r"dur=[\d.]+", "DURATION"),
    (r'"time":"[^"]+"', "TIME"),
    (r'_ms":[\d.]+', "MILLISECONDS"),
    (r'"max":60,"used":\d,"remaining":\d+', "RATE"),
    (r"Retry-After: \d+|Come back in \d+ s", "WAIT"),
    (r"(?m) +\d+\.\d{3}$", "SECONDS"),
    (r"good until [\d-]+", "UNTIL"),
]


def steady(text: str) -> str:
    """A text without what differs from one run to the next."""
    for pattern, name in UNSTEADY:
        text = re.sub(pattern, name, text)
    return text


def renewed(block: re.Match[str], printed: str) -> str:
    """A block with what its commands print now, or as it was where only ids and times differ."""
    if steady(printed) == steady(block["printed"]):
        return block[0]
    return block[0].removesuffix(block["printed"] + "```\n") + printed + "```\n"


class Shell:
    """One shell in a folder of its own, in which the blocks follow one another.

    Of the commands everything that matches a pattern of `instead` is replaced; ``{here}`` in a
    replacement is that folder.
    """

    def __init__(self, directory: Path, backend: int, instead: Mapping[str, str]) -> None:
        self.directory = directory
        self.port = 0
        self._backend = f"127.0.0.1:{backend}"
        self._instead = {
            **{pattern: text.format(here=directory) for pattern, text in instead.items()},
            BACKEND: self._backend,
        }
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
        """What a block prints, with the backend that the page has."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        command = command.replace("localhost:8080", f"localhost:{self.port}")
        for pattern, text in self._instead.items():
            command = re.sub(pattern, text, command)
        self.process.stdin.write(f"{command}\necho '{END}'\n")
        self.process.stdin.flush()
        printed = ""
        for line in self.process.stdout:
            if line == f"{END}\n":
                return printed.replace("\r\n", "\n").replace(self._backend, BACKEND)
            printed += line
        raise AssertionError(f"the shell has ended: {printed}")

    def serve(self, command: str) -> None:
        """Start the gateway, on a port of its own."""
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
def shell(instead: Mapping[str, str]) -> Iterator[Shell]:
    backend = mock()
    with tempfile.TemporaryDirectory() as directory, running(backend):
        one = Shell(Path(directory), backend.port, instead)
        try:
            yield one
        finally:
            one.end()


def replayed(text: str, instead: Mapping[str, str] = MappingProxyType({})) -> str:
    """The page with what its commands print now, where that differs in more than ids and times."""
    with shell(instead) as one:

        def again(block: re.Match[str]) -> str:
            if block["kind"] == "serve":
                one.serve(block["command"])
                return block[0]
            printed = one.run(block["command"])
            if block["printed"] is None:
                assert not printed, printed
                return block[0]
            return renewed(block, printed)

        return BLOCK.sub(again, text)
