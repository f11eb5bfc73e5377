"""One record into one line."""

from __future__ import annotations

import io
import json

from twisted.logger import ILogObserver, LogEvent, Logger, LogLevel
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from infergate.api.usage import Usage
from infergate.errors import GatewayTimeout
from infergate.telemetry import logs
from infergate.telemetry.record import Record
from infergate.telemetry.repeats import BURST, INTERVAL, Repeats

CONTRACT = [
    "event",
    "time",
    "level",
    "request_id",
    "client",
    "caller",
    "method",
    "path",
    "status",
    "outcome",
    "error",
    "model",
    "stream",
    "latency_ms",
    "ttft_ms",
    "backend_ms",
    "prompt_tokens",
    "completion_tokens",
    "total_tokens",
    "usage_source",
    "bytes_in",
    "bytes_out",
]


def streamed() -> Record:
    record = Record(opened=100.0, client="192.0.2.1", request_id="id-1")
    record.method, record.path, record.status = "POST", "/v1/chat/completions", 200
    record.caller, record.model, record.stream, record.retry_count = "bob", "tiny", True, 2
    record.backend_began, record.backend_ended, record.first_token = 100.01, 102.0, 100.25
    record.usage = Usage(3, 5, 8, "backend")
    record.bytes_in, record.bytes_out = 52, 4096
    record.fail(GatewayTimeout())
    record.close(102.5)
    return record


def request_event(record: Record) -> LogEvent:
    return {"log_time": 1795402546.25, "log_level": LogLevel.info, "record": record}


class Fields(SynchronousTestCase):
    def test_contract(self) -> None:
        """A line has the fields of the contract, in its order, and the SDK's retry count."""
        line = json.loads(logs.json_line(request_event(streamed())))
        self.assertEqual(list(line), [*CONTRACT, "retry_count"])

    def test_values(self) -> None:
        """Times are in milliseconds from the first byte in; the rest is as it was recorded."""
        line = json.loads(logs.json_line(request_event(streamed())))
        self.assertEqual(
            line,
            {
                "event": "request",
                "time": "2026-11-23T02:55:46.250Z",
                "level": "info",
                "request_id": "id-1",
                "client": "192.0.2.1",
                "caller": "bob",
                "method": "POST",
                "path": "/v1/chat/completions",
                "status": 200,
                "outcome": "timeout",
                "error": "gateway_timeout",
                "model": "tiny",
                "stream": True,
                "latency_ms": 2500,
                "ttft_ms": 250,
                "backend_ms": 1990,
                "prompt_tokens": 3,
                "completion_tokens": 5,
                "total_tokens": 8,
                "usage_source": "backend",
                "bytes_in": 52,
                "bytes_out": 4096,
                "retry_count": 2,
            },
        )

    def test_unknown(self) -> None:
        """What is not known is null, and not zero."""
        record = Record(opened=100.0, client="unix", request_id="id-1")
        record.status = 400
        record.close(100.0)
        fields = logs.fields(record)
        for name in ("caller", "method", "path", "model", "error", "ttft_ms", "backend_ms"):
            self.assertIsNone(fields[name], name)
        self.assertEqual(fields["usage_source"], "none")

    def test_one_line(self) -> None:
        """A line is one line, whatever a client put into it, and valid JSON."""
        record = streamed()
        record.model = 'evil"\n{"event":"request"}\u2028\x00\x1b'
        text = logs.json_line(request_event(record))
        self.assertEqual(text.count("\n"), 1)
        self.assertTrue(text.endswith("\n"))
        self.assertEqual(json.loads(text)["model"], record.model)

    def test_json_holds_nothing_that_a_terminal_obeys(self) -> None:
        """Control characters, C1 ones too, and characters that change the order or the place of
        others are escaped; what was logged reads the same to a JSON parser."""
        record = streamed()
        for character in "\x00\x1b\x7f\x85\x9b\xad\u061c\u200f\u2028\u202e\u2066\ufeff\U000e0041":
            record.model = f"evil{character}[31m"
            text = logs.json_line(request_event(record))
            self.assertTrue(text.removesuffix("\n").isprintable(), ascii(character))
            self.assertEqual(json.loads(text)["model"], record.model)
        record.model = "gut\u00e4 \U0001f600"
        self.assertIn(record.model, logs.json_line(request_event(record)))

    def test_broken_text_loses_no_line(self) -> None:
        """Half a surrogate pair, which UTF-8 cannot hold, is escaped, and the line is there."""
        record = streamed()
        record.caller = "half \ud800"
        line = json.loads(logs.json_line(request_event(record)))
        self.assertEqual(line["caller"], "half \\ud800")


class Others(SynchronousTestCase):
    def test_message(self) -> None:
        """Any other event is a line of the same kind, with its request's id where it has one."""
        event = {
            "log_time": 0.0,
            "log_level": LogLevel.warn,
            "log_format": "{what} is slow",
            "what": "it",
            "request_id": "id-1",
        }
        self.assertEqual(
            json.loads(logs.json_line(event)),
            {
                "event": "log",
                "time": "1970-01-01T00:00:00.000Z",
                "level": "warn",
                "message": "it is slow",
                "request_id": "id-1",
            },
        )

    def test_traceback(self) -> None:
        """A fault of the gateway's own is logged with its traceback, in one line."""
        try:
            raise ZeroDivisionError("canary")
        except ZeroDivisionError:
            event = {"log_format": "It broke", "log_failure": Failure()}
        text = logs.json_line(event)
        line = json.loads(text)
        self.assertEqual(text.count("\n"), 1)
        self.assertEqual((line["message"], line["level"]), ("It broke", "info"))
        self.assertIn("ZeroDivisionError: canary", line["traceback"])
        self.assertIn("ZeroDivisionError: canary", logs.text_line(event))


class Text(SynchronousTestCase):
    def test_forged(self) -> None:
        """A name that a client made up cannot begin a line, nor a field, of its own."""
        record = streamed()
        record.model = "x\n2026-01-01 request caller=alice\x1b[31m"
        line = logs.text_line(request_event(record))
        self.assertEqual(line.count("\n"), 1)
        self.assertNotIn("\x1b", line)
        self.assertIn(r"model='x\n2026-01-01 request caller=alice\x1b[31m'", line)

    def test_request(self) -> None:
        """For a terminal the same facts stand in a row, those that are known."""
        record = streamed()
        record.caller = None
        line = logs.text_line(request_event(record))
        self.assertTrue(
            line.startswith("2026-11-23T02:55:46.250Z info     request request_id=id-1")
        )
        self.assertIn(" status=200 outcome=timeout error=gateway_timeout ", line)
        self.assertNotIn("caller", line)
        self.assertEqual(line.count("\n"), 1)

    def test_message_cannot_begin_a_line_of_its_own(self) -> None:
        """What an event quotes is escaped, and its further lines are seen to belong to it."""
        event = {"log_format": "{text}", "text": "x\x1b[2J\n2026-01-01 info request"}
        line = logs.text_line(event)
        self.assertIn("x\\u001b[2J\n    2026-01-01 info request\n", line)

    def test_message(self) -> None:
        """Other events read as they were written."""
        event = {"log_time": 0.0, "log_level": LogLevel.error, "log_format": "Oh no"}
        self.assertEqual(logs.text_line(event), "1970-01-01T00:00:00.000Z error    Oh no\n")


class Observer(SynchronousTestCase):
    def observed(self, log_format: str, level: str) -> list[str]:
        stream = io.StringIO()
        observer = logs.observer(stream.write, log_format, level)
        verifyObject(ILogObserver, observer)
        log = Logger(observer=observer)
        for name in ("debug", "info", "warn", "error", "critical"):
            log.emit(LogLevel.levelWithName(name), name)
        return stream.getvalue().splitlines()

    def test_levels(self) -> None:
        """Only what is as grave as LOG_LEVEL, or more, is written."""
        for level, count in (("debug", 5), ("info", 4), ("warn", 3), ("error", 2), ("critical", 1)):
            self.assertEqual(len(self.observed("json", level)), count, level)

    def test_no_namespace_is_louder_than_the_level(self) -> None:
        """LOG_LEVEL holds for Twisted's own messages too, whichever part of it they come from."""
        for namespace in ("twisted.web._newclient", "twisted.internet.tcp", "infergate"):
            stream = io.StringIO()
            log = Logger(namespace, observer=logs.observer(stream.write, "json", "critical"))
            for name in ("debug", "info", "warn", "error"):
                log.emit(LogLevel.levelWithName(name), name)
            self.assertEqual(stream.getvalue(), "", namespace)

    def test_formats(self) -> None:
        """LOG_FORMAT chooses between JSON and text."""
        self.assertEqual(json.loads(self.observed("json", "critical")[0])["message"], "critical")
        self.assertRegex(self.observed("text", "critical")[0], r"Z critical critical\Z")

    def test_repeated_message_is_bounded(self) -> None:
        """What Twisted says twice for each refused connection is not in the log a thousand times,
        and what was left out is counted."""
        stream = io.StringIO()
        now = 100.0
        self.patch(logs, "Repeats", lambda: Repeats(lambda: now))
        log = Logger("twisted.internet.tcp", observer=logs.observer(stream.write, "json", "info"))
        for number in range(1000):
            log.info("Closed socket from {address}", address=number)
        self.assertEqual(len(stream.getvalue().splitlines()), BURST)
        now += INTERVAL
        log.info("Closed socket from {address}", address="last")
        last = json.loads(stream.getvalue().splitlines()[-1])
        self.assertEqual(
            last["message"], "Closed socket from last (990 more of this kind left out)"
        )

    def test_request(self) -> None:
        """An exchange that has ended is one event, of level info, which holds its record."""
        events: list[LogEvent] = []
        self.patch(logs, "_log", Logger(observer=events.append))
        record = streamed()
        logs.log_request(record)
        (event,) = events
        self.assertIs(event["record"], record)
        self.assertEqual(event["log_level"], LogLevel.info)
