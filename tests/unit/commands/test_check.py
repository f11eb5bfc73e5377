"""`infergate check`: its options, its settings, and how it ends."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from infergate.commands import check
from infergate.doctor.report import fail, ok
from infergate.doctor.subject import Subject


class Command(SynchronousTestCase):
    """The command with a doctor that finds what the test says."""

    def setUp(self) -> None:
        self.subjects: list[Subject] = []
        self.found = [ok("chat", "answers")]
        self.patch(check, "examine", self.examine)
        self.patch(check, "react", self.react)
        folder = self.mktemp()
        Path(folder).mkdir()
        self.addCleanup(os.chdir, os.getcwd())
        os.chdir(folder)

    async def examine(self, subject: Subject) -> Any:
        self.subjects.append(subject)
        for one in self.found:
            yield one

    def react(self, run: Any) -> None:
        """As Twisted's, on a clock."""
        running = Deferred.fromCoroutine(run(Clock()))
        running.addErrback(lambda failure: failure.trap(SystemExit))
        self.successResultOf(running)
        raise SystemExit(0)

    def run_with(self, *arguments: str, **environ: str) -> tuple[int, str]:
        """The exit status, and what is printed."""
        out = io.StringIO()
        status = check.main(arguments, environ, out)
        return status, out.getvalue()

    def refused(self, *arguments: str, **environ: str) -> str:
        error = self.assertRaises(SystemExit, self.run_with, *arguments, **environ)
        return str(error)


class Reading(Command):
    def test_option_over_environment_over_dotenv(self) -> None:
        """As the gateway reads them, in the folder that it is told."""
        os.mkdir("there")
        Path("there", ".env").write_text("DEFAULT_MODEL=there\nPORT=1\nHOST=127.0.0.2\n")
        self.run_with("-d", "there", "--port=3", PORT="2", HOST="127.0.0.3")
        settings = self.subjects[0].settings
        self.assertEqual((settings.port, settings.host), (3, "127.0.0.3"))
        self.assertEqual(settings.default_model, "there")

    def test_what_is_wrong_is_one_line(self) -> None:
        """Settings, options, words, the folder, and what belongs to OpenTelemetry."""
        for arguments, environ, words in (
            (("--port=x",), {}, "PORT='x': must be"),
            (("--nonsense",), {}, "--nonsense"),
            (("chat",), {}, "'chat' is no option"),
            (("-d", "/nonexistent"), {}, "--directory='/nonexistent': must be"),
            ((), {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://a",
                  "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, "OTEL_EXPORTER_OTLP_PROTOCOL"),
        ):  # fmt: skip
            line = self.refused(*arguments, **environ)
            self.assertRegex(line, r"\Ainfergate check: .+\Z")
            self.assertIn(words, line)

    def test_json_holds_what_is_wrong_too(self) -> None:
        """Scripts get the object whatever happens."""
        for wrong in ("--port=x", "--nonsense"):
            status, out = self.run_with("--json", wrong)
            said = json.loads(out)
            (one,) = said["checks"]
            self.assertEqual((status, said["ok"], one["status"]), (1, False, "fail"))
            self.assertIn(wrong[2:6], one["message"].lower())

    def test_what_the_start_would_warn_of(self) -> None:
        """Is a line, and no fault."""
        Path(".env").write_text("BACKNED_URL=x\n")
        status, out = self.run_with("--host=0.0.0.0", LANG="C.UTF-8")
        self.assertEqual(status, 0)
        self.assertIn("BACKNED_URL in .env is no setting", out)
        self.assertIn("Nobody needs a key", out)

    def test_setting_that_shows_to_be_wrong_late(self) -> None:
        """As a name that no certificate can be for: the gateway would not start."""

        async def examine(subject: Subject) -> Any:
            yield ok("descriptors", "enough")
            subject.servers.origin("BACKEND_URL", "https://a_b..c")

        self.patch(check, "examine", examine)
        status, out = self.run_with("--json", "--backend-url=https://a_b..c")
        last = json.loads(out)["checks"][-1]
        self.assertEqual((status, last["name"], last["status"]), (1, "settings", "fail"))


class Ending(Command):
    def test_status_is_that_of_what_is_wrong(self) -> None:
        """0 without a fault, else 1; a line for each check, or the object alone."""
        self.assertEqual(self.run_with()[0], 0)
        self.found.append(fail("clock", "ahead", "set it"))
        status, out = self.run_with()
        names = [line.split()[1] for line in out.splitlines()]
        self.assertEqual((status, names), (1, ["settings:", "chat:", "clock:"]))
        status, out = self.run_with("--json", "--backend-url=http://127.0.0.1:9")
        self.assertEqual((status, out.count("\n")), (1, 1))
        self.assertEqual(json.loads(out)["backend"]["url"], "http://127.0.0.1:9/v1")

    def test_doctor_that_is_interrupted_found_nothing_well(self) -> None:
        """A signal ends the reactor before the last check."""

        def interrupted(run: Any) -> None:
            raise SystemExit(0)

        self.patch(check, "react", interrupted)
        self.assertEqual(self.run_with()[0], 1)

    def test_reader_that_has_enough_ends_it_without_a_word(self) -> None:
        """As with ``| head -n 1``: no traceback."""
        reading, writing = os.pipe()
        os.close(reading)
        with os.fdopen(writing, "w") as out:
            self.assertEqual(check.main([], {}, out), 1)

    def test_help_names_the_one_option_of_its_own(self) -> None:
        """And leads to those of the gateway."""
        text = str(check.Options())  # type: ignore[no-untyped-call]
        self.assertIn("Usage: infergate check", text)
        self.assertIn("--json", text)
        self.assertIn("infergate --help", text)
