"""An event as a line for machines."""

from __future__ import annotations

import json

from twisted.logger import LogEvent, LogLevel
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from infergate.api.usage import Usage
from infergate.errors import GatewayTimeout
from infergate.telemetry.jsonlines import fields, json_line
from infergate.telemetry.record import Record

CONTRACT = [
    "event",
    "time",
    "level",
    "request_id",
    "client",
    "caller",
    "method",
    "path",
    "operation",
    "status",
    "outcome",
    "error",
    "cause",
    "backend_status",
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
    "retry_count",
    "trace_id",
    "span_id",
]


def streamed() -> Record:
    record = Record(opened=100.0, client="192.0.2.1", request_id="id-1")
    record.method, record.path, record.status = "POST", "/v1/chat/completions", 200
    record.caller, record.model, record.stream, record.retry_count = "bob", "tiny", True, 2
    record.backend_began, record.backend_ended, record.first_token = 100.01, 102.0, 100.25
    record.usage = Usage(3, 5, 8, "backend")
    record.bytes_in, record.bytes_out = 52, 4096
    record.operation, record.backend_status = "chat", 200
    record.trace_id = "0af7651916cd43dd8448eb211c80319c"
    error = GatewayTimeout()
    error.cause = "BACKEND_TIMEOUT"
    record.fail(error)
    record.close(102.5)
    return record


def request_event(record: Record) -> LogEvent:
    return {"log_time": 1795402546.25, "log_level": LogLevel.info, "record": record}


class Fields(SynchronousTestCase):
    def test_line_has_the_fields_of_the_contract_in_its_order(self) -> None:
        """A line has the fields of the contract, in its order."""
        line = json.loads(json_line(request_event(streamed())))
        self.assertEqual(list(line), CONTRACT)

    def test_times_are_in_milliseconds_and_the_rest_as_recorded(self) -> None:
        """Times are in milliseconds from the first byte in; the rest is as it was recorded."""
        line = json.loads(json_line(request_event(streamed())))
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
                "operation": "chat",
                "status": 200,
                "outcome": "timeout",
                "error": "gateway_timeout",
                "cause": "BACKEND_TIMEOUT",
                "backend_status": 200,
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
                "trace_id": "0af7651916cd43dd8448eb211c80319c",
                "span_id": None,
            },
        )

    def test_what_is_not_known_is_null(self) -> None:
        """What is not known is null, and not zero."""
        record = Record(opened=100.0, client="unix", request_id="id-1")
        record.status = 400
        record.close(100.0)
        line = fields(record)
        for name in (
            *("caller", "method", "path", "operation", "model", "error", "cause", "ttft_ms"),
            *("backend_status", "backend_ms", "retry_count", "trace_id", "span_id"),
        ):
            self.assertIsNone(line[name], name)
        self.assertEqual(line["usage_source"], "none")

    def test_line_is_one_line_whatever_a_client_put_into_it(self) -> None:
        """A line is one line, whatever a client put into it, and valid JSON."""
        record = streamed()
        record.model = 'evil"\n{"event":"request"}\u2028\x00\x1b'
        text = json_line(request_event(record))
        self.assertEqual(text.count("\n"), 1)
        self.assertTrue(text.endswith("\n"))
        self.assertEqual(json.loads(text)["model"], record.model)

    def test_json_holds_nothing_that_a_terminal_obeys(self) -> None:
        """Control characters, C1 ones too, and characters that change the order or the place of
        others are escaped; what was logged reads the same to a JSON parser."""
        record = streamed()
        for character in "\x00\x1b\x7f\x85\x9b\xad\u061c\u200f\u2028\u202e\u2066\ufeff\U000e0041":
            record.model = f"evil{character}[31m"
            text = json_line(request_event(record))
            self.assertTrue(text.removesuffix("\n").isprintable(), ascii(character))
            self.assertEqual(json.loads(text)["model"], record.model)
        record.model = "gut\u00e4 \U0001f600"
        self.assertIn(record.model, json_line(request_event(record)))

    def test_broken_text_loses_no_line(self) -> None:
        """Half a surrogate pair, which UTF-8 cannot hold, is escaped, and the line is there."""
        record = streamed()
        record.caller = "half \ud800"
        line = json.loads(json_line(request_event(record)))
        self.assertEqual(line["caller"], "half \\ud800")


class Others(SynchronousTestCase):
    def test_other_events_are_lines_of_the_same_kind(self) -> None:
        """Any other event is a line of the same kind, with its request's id where it has one."""
        event = {
            "log_time": 0.0,
            "log_level": LogLevel.warn,
            "log_format": "{what} is slow",
            "what": "it",
            "request_id": "id-1",
        }
        self.assertEqual(
            json.loads(json_line(event)),
            {
                "event": "log",
                "time": "1970-01-01T00:00:00.000Z",
                "level": "warn",
                "message": "it is slow",
                "request_id": "id-1",
            },
        )

    def test_traceback_is_in_the_line(self) -> None:
        """A fault of the gateway's own is logged with its traceback, in one line."""
        try:
            raise ZeroDivisionError("canary")
        except ZeroDivisionError:
            event = {"log_format": "It broke", "log_failure": Failure()}
        text = json_line(event)
        line = json.loads(text)
        self.assertEqual(text.count("\n"), 1)
        self.assertEqual((line["message"], line["level"]), ("It broke", "info"))
        self.assertIn("ZeroDivisionError: canary", line["traceback"])
