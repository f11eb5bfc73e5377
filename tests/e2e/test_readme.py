"""The examples of the README, run as they stand there: what it shows is what comes.

``python -m tests.e2e.test_readme`` writes into the README what comes now.
"""

from __future__ import annotations

import json
import re
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from twisted.trial.unittest import SynchronousTestCase

from tests.e2e.harness import OFF, ROOT, Process, chat, gateway, mock, running
from tests.e2e.pages import renewed, steady

skip = OFF

README = ROOT / "README.md"

# The comment names the gateway that is asked, and how often where the last answer is shown.
EXAMPLE = re.compile(
    r"<!-- example: (?P<server>\w+)(?: (?P<times>\d))? -->\n"
    r"```sh\n(?P<command>.*?)\n```\n(?P<fence>```\w*\n)(?P<printed>.*?)```\n",
    re.DOTALL,
)
LOG_LINE = re.compile(r"<!-- log line -->\n(?P<fence>```json\n)(?P<printed>.*?)```\n", re.DOTALL)

MOCK = ("--backend-timeout", "1")
KEYS = ("--api-keys", "alice:s3cret", "--rate-limit", "2/minute")
NOBODY = ("--backend-url", "http://127.0.0.1:9")


class Servers:
    """The gateways that the examples are asked of, each started when it is first needed."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self._started: dict[str, Process] = {}

    def port(self, name: str) -> int:
        if name not in self._started:
            self._started[name] = self._start(name)
        return self._started[name].port

    def log_line(self) -> str:
        """The line of the example that sends a request id."""
        self._started["echo"].request_line("my-request-1")
        lines = self._started["echo"].log_text().splitlines()
        (line,) = [line for line in lines if json.loads(line).get("request_id") == "my-request-1"]
        return line + "\n"

    def _start(self, name: str) -> Process:
        options: tuple[str, ...] = ()
        if name == "keys":
            options = KEYS
        elif name == "nobody":
            options = NOBODY
        elif name == "mock":
            self._stack.enter_context(running(backend := mock()))
            options = ("--backend-url", backend.url, *MOCK)
        self._stack.enter_context(running(started := gateway(None, *options)))
        if name == "counted":
            for body in ({}, {}, {"n": 0}):
                chat(started.url, body)
        return started


@contextmanager
def servers() -> Iterator[Servers]:
    with ExitStack() as stack:
        yield Servers(stack)


def answered(example: re.Match[str], asked: Servers) -> str:
    """What the command of an example prints, on a gateway of a port of its own."""
    command = example["command"]
    if example["server"] != "shell":
        command = command.replace("localhost:8080", f"localhost:{asked.port(example['server'])}")
    printed = ""
    with tempfile.TemporaryDirectory() as directory:
        for _ in range(int(example["times"] or 1)):
            done = subprocess.run(
                command,
                shell=True,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                timeout=30,
                cwd=directory,
            )
            printed = done.stdout.decode().replace("\r\n", "\n")
    return printed if printed.endswith("\n") else printed + "\n"


class ReadmeTests(SynchronousTestCase):
    def test_every_example_answers_as_it_is_shown(self) -> None:
        """Each command on the page prints what stands below it, but for ids and times."""
        text = README.read_text("utf-8")
        examples = list(EXAMPLE.finditer(text))
        self.assertGreater(len(examples), 8)
        with servers() as asked:
            for example in examples:
                came = answered(example, asked)
                self.assertEqual(steady(came), steady(example["printed"]), example["command"])
            (shown,) = LOG_LINE.finditer(text)
            self.assertEqual(steady(asked.log_line()), steady(shown["printed"]))

    def test_gateways_are_started_as_it_is_shown(self) -> None:
        """The options with which these gateways run stand on the page."""
        text = README.read_text("utf-8")
        for options in (KEYS, MOCK, NOBODY):
            self.assertIn(" ".join(options), text)


def rewrite() -> None:
    """Write into the README what its examples answer now."""
    text = README.read_text("utf-8")
    with servers() as asked:
        text = EXAMPLE.sub(lambda example: renewed(example, answered(example, asked)), text)
        text = LOG_LINE.sub(lambda shown: renewed(shown, asked.log_line()), text)
    README.write_text(text, "utf-8")


if __name__ == "__main__":
    rewrite()
