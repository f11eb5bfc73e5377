"""`infergate check` as a user runs it, against backends that are wrong in one way each."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest import skipIf

import attrs
from twisted.trial.unittest import SynchronousTestCase

from tests.e2e import wrong_backend as wrong
from tests.e2e.harness import OFF, ROOT, mock, running
from tests.e2e.llama import MODEL, missing
from tests.e2e.servers import NO_POSTGRESQL, NO_REDIS, free_port, postgres, redis
from tests.e2e.test_llama import llama
from tests.e2e.wrong_backend import CHAT, DONE, WORDS, certificate, serving

skip = OFF

AT_ONCE = 6
"""Doctors that run side by side: most of the time each waits for something."""

PROGRAM = "from infergate.commands.console import main; main()"


@attrs.frozen
class Said:
    """What one doctor said: its exit status, its lines or the object, and how long it took."""

    status: int
    out: str
    error: str
    seconds: float

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    def named(self, name: str) -> dict[str, str]:
        """The one check of this name."""
        (check,) = [check for check in self.json["checks"] if check["name"] == name]
        return check

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()


def check(
    *options: str,
    files: int | None = None,
    folder: str | Path = "/",
    **environ: str,
) -> Said:
    """Run `infergate check`, with `files` as the hard limit of descriptors."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (files or 0, files or 0))

    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, "check", *options],
        capture_output=True,
        check=False,
        cwd=folder,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "LANG": "C.UTF-8", **environ},
        preexec_fn=limit if files else None,
        timeout=60,
    )
    out, error = done.stdout.decode(), done.stderr.decode()
    return Said(done.returncode, out, error, time.monotonic() - began)


@attrs.frozen
class Case:
    """A backend that is wrong in one way, what the doctor is told beside its URL, and what it is to
    find: the check's name, its status, and words of its message or hint."""

    about: str
    url: str
    name: str
    status: str
    words: tuple[str, ...]
    environ: dict[str, str] = attrs.field(factory=dict)
    files: int | None = None

    def run(self) -> Said:
        routes = self.environ.get("ROUTES", "chat")
        environ = {**self.environ, "ROUTES": routes, "BACKEND_URL": self.url}
        return check("--json", files=self.files, **environ)


class Cases:
    """Makes the cases, and the servers that they need."""

    def __init__(self, stack: ExitStack, folder: Path) -> None:
        self._stack = stack
        self._folder = folder
        self.all: list[Case] = []

    def add(
        self,
        about: str,
        name: str,
        status: str,
        *words: str,
        answers: dict[str, wrong.Answer] | None = None,
        url: str | None = None,
        path: str = "",
        environ: dict[str, str] | None = None,
        files: int | None = None,
        **server: Any,
    ) -> None:
        if url is None:
            url = self._stack.enter_context(serving(answers, **server)).url + path
        self.all.append(Case(about, url, name, status, words, environ or {}, files))

    def add_all(self) -> None:
        """One way each."""
        add, stream = self.add, f"{CHAT} stream"
        dead = f"http://127.0.0.1:{free_port()}"
        add("nothing listens", "connection", "fail", "connection refused", "start the", url=dead)
        unknown = "http://backend.invalid:8080"
        add("unknown name", "connection", "fail", "unknown host name", "BACKEND_URL", url=unknown)
        silent, soon = self._stack.enter_context(wrong.silent()), {"BACKEND_TIMEOUT": "1"}
        add("hangs", "models", "fail", "no whole answer within 1 s", url=silent, environ=soon)
        hung = {CHAT: wrong.hangs}
        add("hangs in a chat", "chat", "fail", "within 1 s", answers=hung, environ=soon)
        loads = {"*": wrong.refuses(503, "Loading model")}
        loads |= dict.fromkeys(wrong.WELL, loads["*"])
        add("loads", "health", "fail", "still loading", "503", "Loading model", answers=loads)
        keyed = {path: wrong.refuses(401, "Invalid API Key") for path in (CHAT, "/v1/models")}
        add("wants a key", "models", "fail", "401", "Invalid API Key", "set BACKEND_API_KEY",
            answers=keyed)  # fmt: skip
        echoed = {CHAT: wrong.refuses(403, "sk-of-mine is not known")}
        add("wants another key", "chat", "fail", "refuses the key", "*** is not known", "correct",
            answers=echoed, environ={"BACKEND_API_KEY": "sk-of-mine"})  # fmt: skip
        unknown_model = dict.fromkeys(
            (CHAT, stream), wrong.refuses(404, "The model `old` does not exist.")
        )
        add("has not that model", "chat", "fail", "'old'", "does not exist", "one of tiny",
            answers=unknown_model, environ={"DEFAULT_MODEL": "old"})  # fmt: skip
        add("is below another path", "models", "fail", "path of BACKEND_URL", "/v1, which has one",
            path="/api")  # fmt: skip
        nothing = dict.fromkeys(wrong.WELL, wrong.not_found)
        add("is no API", "chat", "fail", "404", "BACKEND_URL", answers=nothing)
        page = wrong.says(b"<!doctype html><title>Chat</title>", kind="text/html")
        pages = {"*": page, "/v1/models": page}
        add("is a web page", "models", "fail", "not valid JSON", "BACKEND_URL", answers=pages)
        elsewhere = {"/v1/models": wrong.says(b"", 302, Location="https://elsewhere/")}
        add("redirects", "models", "fail", "redirects to https://elsewhere/", answers=elsewhere)
        add("fails", "chat", "fail", "500", "out of memory", "log",
            answers={CHAT: wrong.refuses(500, "out of memory")})  # fmt: skip
        add("answers something else", "chat", "fail", "no choices", '{"text": "1"}',
            answers={CHAT: wrong.says({"text": "1"})})  # fmt: skip
        add("compresses", "chat", "fail", "compressed", answers={CHAT: wrong.compressed})
        self._streams(stream)
        self._tls()
        add("closes idle connections", "idle connections", "warn", "closes them after 0.",
            "keep-alive", idle=0.5)  # fmt: skip
        tokens = {"JWT_SECRET": "s" * 40}
        add("has another time", "clock", "warn", "s ahead", "NTP", ahead=3600, environ=tokens)
        add("few descriptors", "descriptors", "warn", "1024", "2064", "LimitNOFILE", files=1024)

    def _streams(self, path: str) -> None:
        """What can be wrong with a stream."""

        def add(about: str, answer: wrong.Answer, *words: str) -> None:
            self.add(about, "chat stream", "fail", *words, answers={path: answer})

        add("buffers a stream", wrong.buffered(0), "buffers its stream", "buffering")
        add("buffers all but the first", wrong.buffered(1), "buffers its stream", "buffering")
        add("does not stream", wrong.chat, "plain JSON", "chat.completion")
        add("cuts a stream", wrong.streams(*WORDS, end=False), "cut short", '" 5"')
        add("ends a stream too early", wrong.streams(*WORDS), "without its end", '" 5"')
        error = b'data: {"error": {"message": "slot is gone", "code": 500}}\n\n'
        add("breaks a stream off", wrong.streams(*WORDS, error, DONE), "error", "slot is gone")
        add("streams no events", wrong.streams(b"1, 2, 3"), "no event stream", "1, 2, 3")

    def _tls(self) -> None:
        """What can be wrong with TLS."""
        good, soon = certificate(self._folder), certificate(self._folder, 9)
        ended = certificate(self._folder, -2)
        other = certificate(self._folder, address="127.0.0.9")

        def add(about: str, own: Path, name: str, status: str, *words: str) -> None:
            trust = {"BACKEND_CA_FILE": str(own)}
            self.add(about, name, status, *words, certificate=own, environ=trust)

        self.add("unknown authority", "connection", "fail", "verify failed", "BACKEND_CA_FILE",
                 certificate=good)  # fmt: skip
        add("another's certificate", other, "connection", "fail", "another host name", "name")
        add("certificate has ended", ended, "connection", "fail", "has expired", "renew")
        add("certificate ends soon", soon, "backend certificate", "warn", "in 9 days", "renew")
        plain = self._stack.enter_context(serving()).url.replace("http", "https")
        self.add("has no TLS", "connection", "fail", "speaks plain HTTP", "http://", url=plain)
        secure = self._stack.enter_context(serving(certificate=good)).url
        self.add("has TLS", "health", "fail", "port that has TLS", "write https://",
                 url=secure.replace("https", "http"))  # fmt: skip


class WrongBackends(SynchronousTestCase):
    def test_each_way_to_be_wrong_is_named(self) -> None:
        """The check that is about it has its status, says what is wrong and what to do; the others
        are well; the exit status is 1 where something is wrong, and else 0."""
        with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
            cases = Cases(stack, Path(folder))
            cases.add_all()
            with ThreadPoolExecutor(AT_ONCE) as pool:
                for case, said in zip(cases.all, pool.map(Case.run, cases.all), strict=True):
                    self.assert_named(case, said)
            self.assertGreater(len(cases.all), 25)

    def assert_named(self, case: Case, said: Said) -> None:
        about = f"{case.about}: {said.out}{said.error}"
        found = said.named(case.name)
        self.assertEqual(found["status"], case.status, about)
        for word in case.words:
            self.assertIn(word, f"{found['message']} {found['hint']}", about)
        self.assertNotEqual(found["hint"], "", about)
        wrong_ones = [one["name"] for one in said.json["checks"] if one["status"] == "fail"]
        self.assertEqual(said.json["ok"], not wrong_ones, about)
        self.assertEqual(said.status, 1 if wrong_ones else 0, about)
        self.assertLess(said.seconds, 45, about)
        self.assertEqual(said.error, "", about)
        self.assertNotIn("sk-of-mine", said.out)


class WellBackends(SynchronousTestCase):
    def test_mock_serves_every_operation(self) -> None:
        """Each operation is tried plain, and as a stream where it has one."""
        with running(backend := mock()):
            said = check("--backend-url", backend.url)
        self.assertEqual((said.status, said.error), (0, ""))
        for line in said.lines:
            self.assertEqual(line[:2], "✓ ", line)
        names = [line[2:].partition(":")[0] for line in said.lines]
        for name in ("chat", "completions", "responses", "messages", "infill"):
            self.assertIn(name, names)
            self.assertIn(f"{name} stream", names)
        for name in ("embeddings", "rerank", "tokenize"):
            self.assertIn(name, names)
            self.assertNotIn(f"{name} stream", names)

    def test_echo_has_no_backend(self) -> None:
        """Without BACKEND_URL that is said, and nothing is wrong."""
        said = check("--json")
        self.assertEqual(said.status, 0)
        self.assertEqual(said.json["backend"], {"kind": None, "url": None, "models": []})
        self.assertIn("echo", said.named("backend")["message"])

    @skipIf(missing(), missing() or "")
    def test_llama_is_known_and_what_it_does_not_offer(self) -> None:
        """Operations that llama.cpp refuses with 501 are no fault; it says what it lacks."""
        with llama() as url:
            said = check("--json", "--backend-url", url)
        self.assertEqual((said.status, said.error), (0, ""), said.out)
        backend = {"kind": "llama.cpp", "url": f"{url}/v1", "models": [MODEL]}
        self.assertEqual(said.json["backend"], backend)
        statuses = {one["name"]: one["status"] for one in said.json["checks"]}
        for name in ("chat", "completions", "responses", "messages", "infill /completion"):
            self.assertEqual((statuses[name], statuses[f"{name} stream"]), ("ok", "ok"), said.out)
        self.assertEqual(statuses["tokenize"], "ok")
        for name in ("embeddings", "rerank", "infill"):
            self.assertEqual(statuses[name], "warn", said.out)
        self.assertIn("--embeddings", said.named("embeddings")["message"])

    def test_kinds_are_told_apart(self) -> None:
        """By who owns the models, or by a route that only one of them has."""
        version = wrong.says({"version": "0.12.6"})
        signs: list[tuple[str | None, dict[str, wrong.Answer]]] = [
            ("vLLM", {"/v1/models": wrong.listing("tiny", owner="vllm")}),
            ("SGLang", {"/v1/models": wrong.listing("tiny", owner="sglang")}),
            ("Ollama", {"/v1/models": wrong.listing("tiny", owner="library")}),
            ("Ollama", {"/api/version": version}),
            ("SGLang", {"/get_server_info": version}),
            ("vLLM", {"/version": version}),
            (None, {}),
        ]
        with ExitStack() as stack, ThreadPoolExecutor(AT_ONCE) as pool:
            urls = [stack.enter_context(serving(answers)).url for _, answers in signs]
            asked = [pool.submit(check, "--json", "--routes=chat", BACKEND_URL=url) for url in urls]
            for (kind, _), url, asking in zip(signs, urls, asked, strict=True):
                said = asking.result()
                backend = {"kind": kind, "url": f"{url}/v1", "models": ["tiny"]}
                self.assertEqual((said.status, said.json["backend"]), (0, backend))


class Stores(SynchronousTestCase):
    @skipIf(NO_REDIS, NO_REDIS or "")
    def test_redis_that_forgets_or_is_away(self) -> None:
        """A policy that evicts is warned of; a wrong password and a server that is away are wrong,
        and no password is shown."""
        with redis("--requirepass", "right") as server:
            good, bad = server.url("right"), server.url("sesame")
            for url, status, *words in (
                (good, "ok", "can be written to"),
                (bad, "fail", "WRONGPASS", "correct SHARED_STATE"),
            ):
                self.assert_named("SHARED_STATE", status, words, SHARED_STATE=url)
            server.command("-a", "right", "config", "set", "maxmemory-policy", "allkeys-lru")
            self.assert_named(
                "SHARED_STATE", "warn", ["allkeys-lru", "noeviction"], SHARED_STATE=good
            )
            server.stop()
            words = ["away", "refused", "each process counts"]
            self.assert_named("SHARED_STATE", "fail", words, SHARED_STATE=good)
            server.start()

    @skipIf(NO_POSTGRESQL, NO_POSTGRESQL or "")
    def test_postgresql_that_is_away_or_grants_too_little(self) -> None:
        """What keeps the ledger from being written is said, with the GRANT; nothing is made."""
        with postgres() as server:
            self.assert_named("USAGE_DB", "ok", ["can be written to"], USAGE_DB=server.url())
            made = server.sql("SELECT count(*) FROM pg_class WHERE relname ~ '^infergate'")
            self.assertEqual(made, "0")
            server.sql("CREATE ROLE reader LOGIN")
            self.assert_named(
                "USAGE_DB", "fail", ["GRANT USAGE, CREATE"], USAGE_DB=server.url("reader")
            )
            server.stop()
            words = ["is away", "refused"]
            self.assert_named("USAGE_DB", "fail", words, USAGE_DB=server.url())
            server.start()

    def test_sqlite_ledger_is_looked_at_and_not_made(self) -> None:
        """One that is not there yet is no fault where it can be made; what is no ledger is one."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "usage.db")
            self.assert_named("USAGE_DB", "ok", [str(path)], USAGE_DB=str(path))
            self.assertEqual(list(Path(folder).iterdir()), [])
            path.write_bytes(b"no database" * 100)
            self.assert_named("USAGE_DB", "fail", ["not a database"], USAGE_DB=str(path))
            nowhere = str(Path(folder, "none", "usage.db"))
            self.assert_named("USAGE_DB", "fail", [f"{folder}/none"], USAGE_DB=nowhere)

    def assert_named(self, name: str, status: str, words: list[str], **environ: str) -> None:
        said = check("--json", **environ)
        found = said.named(name)
        self.assertEqual(found["status"], status, said.out)
        for word in words:
            self.assertIn(word, f"{found['message']} {found['hint']}")
        self.assertEqual(said.status, int(status == "fail"))
        self.assertNotIn("sesame", said.out + said.error)


class Output(SynchronousTestCase):
    def test_marks_are_words_where_the_terminal_has_no_utf8(self) -> None:
        """A line for each thing looked at begins with its mark."""
        url = f"http://127.0.0.1:{free_port()}"
        for locale, marks in (("C.UTF-8", "✓✗!"), ("C", ("ok", "FAIL", "warn"))):
            said = check("--backend-url", url, LC_ALL=locale)
            well, wrong_one, warned = marks
            self.assertTrue(said.lines[0].startswith(f"{well} settings: "), said.out)
            self.assertTrue(said.lines[-2].startswith(f"{wrong_one} connection: "), said.out)
            self.assertTrue(said.lines[-1].startswith(f"{warned} operations: "), said.out)
            self.assertEqual(said.out.isascii(), locale == "C")
            self.assertEqual((said.status, said.error), (1, ""))

    def test_wrong_settings_are_one_line_or_the_object_alone(self) -> None:
        """With status 1; the object is on standard output, the line on standard error."""
        said = check("--port=x")
        self.assertEqual((said.status, said.out), (1, ""))
        self.assertRegex(said.error, r"\Ainfergate check: PORT='x': must be .*\n\Z")
        for wrong_one in ("--port=x", "--nonsense", "--usage-db=mysql://x"):
            said = check("--json", wrong_one)
            self.assertEqual((said.status, said.error, said.out.count("\n")), (1, "", 1))
            self.assertEqual(set(said.json), {"ok", "backend", "checks"})
            (found,) = said.json["checks"]
            self.assertEqual(set(found), {"name", "status", "message", "hint"})
            self.assertEqual((said.json["ok"], found["status"]), (False, "fail"))

    def test_settings_are_read_as_the_gateway_reads_them(self) -> None:
        """Option over environment over .env, which is that of the folder that it is told; a name
        that is misspelt there is warned of."""
        with tempfile.TemporaryDirectory() as folder:
            lines = "BACKEND_URL=http://127.0.0.1:1\nBACKNED_URL=x\n"
            Path(folder, ".env").write_text(lines)
            self.assertIn("127.0.0.1:1 ", check(folder=folder).out)
            self.assertIn(
                "127.0.0.1:2 ", check(folder=folder, BACKEND_URL="http://127.0.0.1:2").out
            )
            said = check("-d", folder, "--backend-url=http://127.0.0.1:3", BACKEND_URL="http://h:2")
            self.assertIn("127.0.0.1:3 ", said.out)
            self.assertIn("! settings: BACKNED_URL in .env is no setting", said.out)

    def test_own_certificates_are_looked_at(self) -> None:
        """Those of LISTEN and METRICS_LISTEN; one that has ended is wrong."""
        with tempfile.TemporaryDirectory() as folder:
            soon, ended = certificate(Path(folder), 3), certificate(Path(folder), -1)
            listen = {
                name: f"ssl:0:privateKey={path}:certKey={path}"
                for name, path in (("LISTEN", soon), ("METRICS_LISTEN", ended))
            }
            said = check("--json", **listen)
        self.assertEqual(said.named("LISTEN certificate")["status"], "warn")
        self.assertEqual(said.named("METRICS_LISTEN certificate")["status"], "fail")
