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

skip = OFF

README = ROOT / "README.md"

# The comment names the gateway that is asked, and how often where the last answer is shown.
EXAMPLE = re.compile(
    r"<!-- example: (?P<server>\w+)(?: (?P<times>\d))? -->\n"
    r"```sh\n(?P<command>.*?)\n```\n(?P<fence>```\w*\n)(?P<answer>.*?)```\n",
    re.DOTALL,
)
LOG_LINE = re.compile(r"<!-- log line -->\n(?P<fence>```json\n)(?P<answer>.*?)```\n", re.DOTALL)

MOCK = ("--backend-timeout", "1")
KEYS = ("--api-keys", "alice:s3cret", "--rate-limit", "2/minute")
NOBODY = ("--backend-url", "http://127.0.0.1:9")

# What differs from one run to the next.
UNSTEADY = [
    (r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "UUID"),
    (r'"created":\d+', "CREATED"),
    (r"Date: [^\n]+", "DATE"),
    (r"Retry-After: \d+|Come back in \d+ s", "RETRY-AFTER"),
    (r"reset-requests: \S+", "RESET"),
    (r"dur=[\d.]+", "DURATION"),
    (r'"time":"[^"]+"', "TIME"),
    (r'_ms":[\d.]+', "MILLISECONDS"),
]


def steady(answer: str) -> str:
    """An answer without what differs from one run to the next."""
    for pattern, name in UNSTEADY:
        answer = re.sub(pattern, name, answer)
    return answer


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
                self.assertEqual(steady(came), steady(example["answer"]), example["command"])
            (shown,) = LOG_LINE.finditer(text)
            self.assertEqual(steady(asked.log_line()), steady(shown["answer"]))

    def test_gateways_are_started_as_it_is_shown(self) -> None:
        """The options with which these gateways run stand on the page."""
        text = README.read_text("utf-8")
        for options in (KEYS, MOCK, NOBODY):
            self.assertIn(" ".join(options), text)


def rewrite() -> None:
    """Write into the README what its examples answer now."""
    text = README.read_text("utf-8")
    with servers() as asked:

        def written(example: re.Match[str]) -> str:
            came = answered(example, asked)
            return with_answer(example, came)

        text = EXAMPLE.sub(written, text)
        text = LOG_LINE.sub(lambda shown: with_answer(shown, asked.log_line()), text)
    README.write_text(text, "utf-8")


def with_answer(example: re.Match[str], came: str) -> str:
    """An example with another answer, or as it was where only ids and times differ."""
    if steady(came) == steady(example["answer"]):
        return example[0]
    return example[0].removesuffix(example["answer"] + "```\n") + came + "```\n"


if __name__ == "__main__":
    rewrite()
