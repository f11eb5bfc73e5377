"""The openai package for Node.js and the Vercel AI SDK against a real gateway.

Both are installed by npm for the time of the tests.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
import uuid
from contextlib import ExitStack
from pathlib import Path
from typing import Any, ClassVar

from tests.e2e.harness import OFF, Process, wait_for
from tests.e2e.sdk_cases import (
    ANSWER,
    BREAKS,
    BROKEN_AFTER,
    BROKEN_ANSWER,
    ERRORS,
    KEY,
    NEVER,
    OTHER_KEY,
    PATIENCE,
    QUESTION,
    TOKENS,
    Gateways,
    shown_code,
)

skip = OFF

PROGRAM = Path(__file__).parent / "node"
INSTALL = ["npm", "install", "--no-audit", "--no-fund", "--no-package-lock", "--ignore-scripts"]
INSTALL_SECONDS = 300
RUN_SECONDS = 60

CLIENTS = ("openai", "ai")

Job = dict[str, Any]
Result = dict[str, Any]


def lacking() -> str | None:
    """Why these tests cannot run here."""
    missing = [name for name in ("node", "npm") if shutil.which(name) is None]
    return f"there is no {' and no '.join(missing)} on this machine" if missing else None


class Node(Gateways):
    skip = OFF or lacking()

    directory: ClassVar[str]

    @classmethod
    def start(cls, stack: ExitStack) -> None:
        cls.directory = install(stack)
        super().start(stack)

    def do(self, jobs: list[Job]) -> list[tuple[Job, Result]]:
        """Each job with what came of it. What a job does not say is as most have it."""
        return do(jobs, self.directory)

    def line(self, job: Job) -> dict[str, Any]:
        """The log's one line about a job."""
        return job["gateway"].request_line(job["name"])

    def each_way(self, process: Process, **job: Any) -> list[Job]:
        """A job for each client, plain and streamed."""
        return [
            {"gateway": process, "client": client, "stream": stream, **job}
            for client in CLIENTS
            for stream in (False, True)
        ]

    # Success.

    def test_success(self) -> None:
        """Content, finish reason and usage come whole, plain and streamed."""
        for job, result in self.do(self.each_way(self.plain)):
            found = [result.get(name) for name in ("content", "finish", "tokens", "error")]
            self.assertEqual(found, [ANSWER, "stop", TOKENS, None], job)
            self.assertEqual(result.get("id"), None if job["stream"] else job["name"])
            line = self.line(job)
            self.assertEqual((line["outcome"], line["total_tokens"]), ("ok", TOKENS))

    def test_tool_calls(self) -> None:
        """A tool that is offered is called, with its arguments whole."""
        script = {"tool_call": "say"}
        for job, result in self.do(self.each_way(self.plain, tools=["say"], mock=script)):
            self.assertEqual(result["finish"].replace("-", "_"), "tool_calls", job)
            ((name, arguments),) = result["calls"]
            self.assertEqual((name, json.loads(arguments)), ("say", {"text": ANSWER}), job)

    # Errors.

    def test_errors(self) -> None:
        """Each failure is an error of its class and status, streamed or not, and each client
        prints the gateway's sentence."""
        for job, error in self.errors(self.plain):
            name, _, code = job["expected"]
            self.assertTrue(error["message"].endswith("."), error)
            if job["client"] == "openai":
                found = (error["name"], error.get("code"))
                self.assertEqual(found, (name, shown_code(job, code)), job)

    def test_errors_in_code_format(self) -> None:
        """With ERROR_FORMAT=code openai prints the code."""
        for job, error in self.errors(self.code_format):
            name, status, code = job["expected"]
            if job["client"] == "openai":
                found = (error["name"], error["message"])
                self.assertEqual(found, (name, f'{status} "{code}"'), job)

    def errors(self, process: Process) -> list[tuple[Job, Result]]:
        """Each job that is to fail, with its error, once status and log are seen to be right."""
        done = self.do(
            [
                job
                for members, *expected in ERRORS
                for job in self.each_way(process, expected=expected, **members)
            ]
        )
        for job, result in done:
            _, status, code = job["expected"]
            self.assertEqual(result.get("error", {}).get("status"), status, job)
            self.assertEqual(self.line(job)["error"], code, job)
        return [(job, result["error"]) for job, result in done]

    def test_unauthorized(self) -> None:
        """A wrong key is an error of status 401, and nothing is tried again."""
        for job, result in self.do(self.each_way(self.plain, key="sk-mallory", retries=2)):
            self.assertEqual(result["error"]["status"], 401, job)
            self.assertEqual(self.line(job)["outcome"], "unauthorized")

    def test_no_second_try(self) -> None:
        """Once the backend may be at work, x-should-retry keeps openai from a second try."""
        script = {"status": 500}
        job = {"gateway": self.plain, "client": "openai", "mock": script, "retries": 2}
        ((job, result),) = self.do([job])
        self.assertEqual(result["error"]["status"], 502)
        self.assertEqual(self.tries(1, job), [[(502, 0)]])

    def test_tries_again(self) -> None:
        """A backend that was never reached may be tried again; the log counts openai's tries."""
        job = {"gateway": self.unconnected, "client": "openai", "retries": 2}
        ((job, result),) = self.do([job])
        self.assertEqual(result["error"]["status"], 502)
        self.assertEqual(self.tries(3, job), [[(502, 0), (502, 1), (502, 2)]])

    def test_retry_after(self) -> None:
        """Of two requests where one is allowed, the other gets in when Retry-After has passed."""
        keys = zip(CLIENTS, (KEY, OTHER_KEY), strict=True)
        jobs = [
            {"gateway": self.limited, "client": client, "key": key, "retries": 1}
            for client, key in keys
            for _ in range(2)
        ]
        done = self.do(jobs)
        self.assertEqual([result.get("error") for _, result in done], [None] * 4)
        for client in CLIENTS:
            mine = [job for job, _ in done if job["client"] == client]
            tries = [[status for status, _ in each] for each in self.tries(3, *mine)]
            self.assertEqual(sorted(tries), [[200], [429, 200]])

    def tries(self, count: int, *jobs: Job) -> list[list[tuple[int, int]]]:
        """Status and retry count of each request of each job, once the log has `count` in all."""

        def found() -> list[list[tuple[int, int]]]:
            return [
                [
                    (line["status"], line["retry_count"])
                    for line in job["gateway"].requests()
                    if line["request_id"] == job["name"]
                ]
                for job in jobs
            ]

        wait_for(lambda: sum(map(len, found())) >= count, 5, "the log lines of all tries")
        return found()

    def test_mid_stream_failure(self) -> None:
        """A stream that breaks off is an error, after all that had come; it never just ends."""
        jobs = [
            {**job, "expected": (code, outcome)}
            for fail, code, outcome in BREAKS
            for job in self.each_way(self.plain, mock={"fail": fail, **BROKEN_AFTER})
            if job["stream"]
        ]
        for job, result in self.do(jobs):
            code, outcome = job["expected"]
            self.assertEqual(result["content"], BROKEN_ANSWER, job)
            self.assertEqual(result["error"].get("code"), code, job)
            self.assertTrue(result["error"]["message"].endswith("."), job)
            self.assertNotIn("finish", result)
            line = self.line(job)
            self.assertEqual((line["status"], line["outcome"]), (200, outcome), job)

    def test_client_timeout(self) -> None:
        """A client that gives up waiting is gone for the gateway, too."""
        jobs = self.each_way(self.patient, mock={"delay": NEVER}, timeout=PATIENCE * 1000)
        for job, result in self.do(jobs):
            self.assertIn("time", result["error"]["message"], job)
            line = self.line(job)
            self.assertEqual((line["status"], line["outcome"]), (499, "client_disconnected"), job)

    def test_client_timeout_in_mid_stream(self) -> None:
        """So is one that gives up between two chunks, which openai's own timeout never does."""
        script = {"chunk_delay": NEVER}
        job = {"gateway": self.patient, "client": "ai", "stream": True, "mock": script}
        ((job, result),) = self.do([{**job, "timeout": PATIENCE * 1000}])
        self.assertIn("time", result["error"]["message"])
        line = self.line(job)
        self.assertEqual((line["status"], line["outcome"]), (200, "client_disconnected"))


def install(stack: ExitStack) -> str:
    """The folder of the clients, which are installed there for as long as the stack has it."""
    directory = stack.enter_context(tempfile.TemporaryDirectory())
    for file in PROGRAM.iterdir():
        if file.is_file():
            shutil.copy(file, directory)
    run(INSTALL, directory, INSTALL_SECONDS)
    return directory


def do(jobs: list[Job], directory: str) -> list[tuple[Job, Result]]:
    """Each job with what came of it. What a job does not say is as most have it."""
    usual = {"key": KEY, "messages": QUESTION, "stream": False, "retries": 0}
    named = [
        {**usual, "name": str(uuid.uuid4()), **job, "url": job["gateway"].url + "/v1"}
        for job in jobs
    ]
    told = json.dumps([{**job, "gateway": None} for job in named])
    results = run(["node", "client.mjs"], directory, RUN_SECONDS, told)
    return list(zip(named, json.loads(results), strict=True))


def run(command: list[str], directory: str, seconds: float, told: str = "") -> str:
    """The output of a program that must succeed."""
    done = subprocess.run(
        command, cwd=directory, input=told, capture_output=True, text=True, timeout=seconds
    )
    if done.returncode:
        raise AssertionError(f"{command} ended with {done.returncode}: {done.stderr}")
    return done.stdout
