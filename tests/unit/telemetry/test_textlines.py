"""An event as a line for people."""

from __future__ import annotations

import os
import pty
import re

from twisted.logger import LogEvent, LogLevel
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from infergate.api.usage import NO_USAGE, Usage
from infergate.errors import BackendUnavailable, ClientGone, GatewayTimeout, InvalidJSON
from infergate.telemetry import textlines
from infergate.telemetry.record import Record
from infergate.telemetry.textlines import COLUMNS, TextLines, shows_colours


def streamed() -> Record:
    record = Record(opened=100.0, client="192.0.2.1", request_id="3f2a91c0-6b7e-4c2f")
    record.method, record.path, record.status = "POST", "/v1/chat/completions", 200
    record.operation, record.caller, record.model = "chat", "alice", "qwen2.5-7b"
    record.first_token, record.usage = 100.31, Usage(12, 345, 357, "backend")
    record.close(102.41)
    return record


def event_of(record: Record, level: object = LogLevel.info) -> LogEvent:
    return {"log_time": 1795402546.25, "log_level": level, "record": record}


class Lines(SynchronousTestCase):
    def line(self, record: Record, *, colours: bool = False, level: object = LogLevel.info) -> str:
        """The line without the time of day, which depends on where the machine is."""
        line = TextLines(colours=colours)(event_of(record, level))
        self.assertRegex(line, r"\A[0-9]{2}:[0-9]{2}:[0-9]{2} .*\n\Z")
        return line[9:-1]

    def test_line_reads_from_status_to_request_id(self) -> None:
        """What people look for comes first, and times and tokens read as people say them."""
        self.assertEqual(
            self.line(streamed()),
            "200 POST chat qwen2.5-7b 2.41s (first 310ms) 12+345 tokens alice 3f2a91c0",
        )

    def test_what_is_unknown_or_zero_is_not_printed(self) -> None:
        """There is no null, and no zero but a duration."""
        record = Record(opened=100.0, client="192.0.2.1", request_id="3f2a91c0")
        record.method, record.path, record.status = "GET", "/healthz", 200
        record.close(100.0004)
        self.assertEqual(self.line(record), "200 GET /healthz 0ms 3f2a91c0")
        record.method = record.path = None
        self.assertEqual(self.line(record), "200 - - 0ms 3f2a91c0")

    def test_failure_ends_with_its_error_and_cause(self) -> None:
        """The code, and what it does not say by itself."""
        record = streamed()
        record.first_token, record.usage = None, NO_USAGE
        error = BackendUnavailable()
        error.cause = "connection refused"
        record.fail(error)
        self.assertTrue(
            self.line(record).endswith("3f2a91c0 backend_unavailable: connection refused")
        )
        probe = streamed()
        probe.cause = "draining"
        self.assertTrue(self.line(probe).endswith(" 3f2a91c0 draining"))
        gone = streamed()
        gone.fail(ClientGone())
        self.assertTrue(self.line(gone).endswith(" 3f2a91c0 client_disconnected"))

    def test_durations_read_as_people_say_them(self) -> None:
        """Milliseconds, seconds, then minutes, with three digits or so."""
        for seconds, text in (
            (0.0004, "0ms"),
            (0.0316, "32ms"),
            (0.9994, "999ms"),
            (0.9996, "1.00s"),
            (9.876, "9.88s"),
            (59.994, "59.99s"),
            (59.996, "1m00s"),
            (187.4, "3m07s"),
            (36000, "600m00s"),
        ):
            record = streamed()
            record.duration, record.first_token_seconds = seconds, None
            self.assertIn(f" qwen2.5-7b {text} 12+345 ", self.line(record))

    def test_line_is_never_longer_than_a_terminal_is_wide(self) -> None:
        """However long what a client sent, and however wide its characters are."""
        record = streamed()
        record.fail(GatewayTimeout())
        for text in ("x" * 300, "\u6a21" * 300, "\U0001f600" * 300, "\x1b" * 300, "e\u0301" * 300):
            record.model = record.caller = record.cause = record.path = text
            line = self.line(record)
            width = sum(2 if textlines.east_asian_width(c) in "WF" else 1 for c in line)
            self.assertLessEqual(width, COLUMNS - 9, ascii(text[:2]))
            self.assertTrue(line.endswith("\u2026"))
            self.assertIn(" 3f2a91c0 gateway_", line)
            record.operation = None
            self.assertLessEqual(len(self.line(record)), COLUMNS - 9)
            record.operation = "chat"

    def test_client_cannot_forge_a_line_or_a_column(self) -> None:
        """A model's name begins no line and no column of its own, and moves no cursor."""
        record = streamed()
        record.model = "x 200 GET\n14:03:07 200\x1b[31m"
        line = self.line(record)
        self.assertTrue(line.isprintable())
        self.assertIn(" x\u00b7200\u00b7GET\\u000a14:03:07", line)

    def test_status_is_coloured_by_what_it_means(self) -> None:
        """Green is good, yellow is the client's, red is to be mended, whatever the status says."""
        record = streamed()
        for status, level, colour in (
            (200, LogLevel.info, "32"),
            (400, LogLevel.info, "33"),
            (429, LogLevel.warn, "33"),
            (503, LogLevel.warn, "33"),
            (502, LogLevel.error, "31"),
            (200, LogLevel.error, "31"),
        ):
            record.status = status
            line = self.line(record, colours=True, level=level)
            self.assertTrue(line.startswith(f"\x1b[{colour}m{status}\x1b[0m POST"), line)
            self.assertNotIn("\x1b", self.line(record, level=level))

    def test_invalid_request_is_one_short_line(self) -> None:
        """A refused request has no model, no tokens, and no caller where nobody needs a key."""
        record = streamed()
        record.caller = record.model = record.first_token_seconds = None
        record.usage, record.status = NO_USAGE, 400
        record.fail(InvalidJSON())
        self.assertEqual(self.line(record), "400 POST chat 2.41s 3f2a91c0 invalid_json")


class Messages(SynchronousTestCase):
    def line(self, *, colours: bool = False, **event: object) -> str:
        return TextLines(colours=colours)({"log_time": 0.0, **event})

    def test_message_reads_as_it_was_written(self) -> None:
        """With the time of day and its level."""
        line = self.line(log_level=LogLevel.error, log_format="Oh no")
        self.assertRegex(line, r"\A[0-9:]{8} error Oh no\n\Z")
        line = self.line(log_level=LogLevel.error, log_format="Oh no", colours=True)
        self.assertIn(" \x1b[31merror\x1b[0m Oh no\n", line)
        self.assertNotIn("\x1b", self.line(log_format="Hello", colours=True))

    def test_message_cannot_begin_a_line_of_its_own(self) -> None:
        """What an event quotes is escaped, and its further lines are seen to belong to it."""
        line = self.line(log_format="{text}", text="x\x1b[2J\n14:03:07 200 POST")
        self.assertIn("x\\u001b[2J\n    14:03:07 200 POST\n", line)

    def test_traceback_stands_below_its_message(self) -> None:
        """Each line of it is moved to the right."""
        try:
            raise ZeroDivisionError("canary")
        except ZeroDivisionError:
            line = self.line(log_format="It broke", log_failure=Failure())
        first, *rest = line.splitlines()
        self.assertTrue(first.endswith(" info It broke"))
        self.assertTrue(all(re.match(" {4}", text) for text in rest))
        self.assertIn("ZeroDivisionError: canary", rest[-1])


class Colours(SynchronousTestCase):
    def test_only_a_capable_terminal_shows_colours(self) -> None:
        """A pipe does not, nor a dumb terminal, nor one whose user has asked for none."""
        master, slave = pty.openpty()
        read, write = os.pipe()
        for fd in (master, slave, read, write):
            self.addCleanup(os.close, fd)
        environ: dict[str, str] = {"TERM": "xterm"}
        self.patch(textlines.os, "environ", environ)
        self.assertEqual((shows_colours(slave), shows_colours(write)), (True, False))
        environ["NO_COLOR"] = "1"
        self.assertFalse(shows_colours(slave))
        for environ["TERM"] in ("dumb", ""):
            environ.pop("NO_COLOR", None)
            self.assertEqual(shows_colours(slave), environ["TERM"] == "")
        del environ["TERM"]
        self.assertFalse(shows_colours(slave))
