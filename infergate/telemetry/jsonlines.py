"""One JSON object for each exchange, and for every other event of the process: the log that
machines read."""

from __future__ import annotations

from datetime import datetime, timezone
from functools import lru_cache
from typing import Any

import msgspec
from twisted.logger import LogEvent

from infergate.telemetry.escaping import escaped
from infergate.telemetry.record import Record
from infergate.telemetry.repeats import message_of


def json_line(event: LogEvent) -> str:
    """The line of an event: of an exchange (its `event` is ``request``), or of anything else
    (``log``). Whatever it quotes, it is one line, and no terminal obeys anything in it."""
    line: dict[str, object] = {"event": "log", "time": _time(event), "level": level_name(event)}
    record = event.get("record")
    if isinstance(record, Record):
        line["event"] = "request"
        line.update(fields(record))
    else:
        line["message"] = message_of(event)
        if "request_id" in event:
            line["request_id"] = event["request_id"]
        line.update(traceback_of(event))
    return escaped(_json(line)) + "\n"


def fields(record: Record) -> dict[str, object]:
    """What the log says of one exchange, under the names and in the order of the contract. What is
    not known is None, and not zero. No prompt, reply, key or token is in a record."""
    usage = record.usage
    return {
        "request_id": record.request_id,
        "client": record.client,
        "caller": record.caller,
        "method": record.method,
        "path": record.path,
        "operation": record.operation,
        "status": record.status,
        "outcome": record.outcome,
        "error": record.error,
        "cause": record.cause,
        "backend_status": record.backend_status,
        "model": record.model,
        "stream": record.stream,
        "latency_ms": _milliseconds(record.duration),
        "ttft_ms": _milliseconds(record.first_token_seconds),
        "backend_ms": _milliseconds(record.backend_seconds),
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.total_tokens,
        "usage_source": usage.source,
        "bytes_in": record.bytes_in,
        "bytes_out": record.bytes_out,
        "retry_count": record.retry_count,
        "trace_id": record.trace_id,
        "span_id": record.span_id,
    }


def level_name(event: LogEvent) -> str:
    """Twisted's older messages have no level."""
    level = event.get("log_level")
    return "info" if level is None else str(level.name)


def traceback_of(event: LogEvent) -> dict[str, Any]:
    """The traceback of an event that has one."""
    failure = event.get("log_failure")
    return {} if failure is None else {"traceback": failure.getTraceback()}


def _json(line: dict[str, object]) -> str:
    try:
        return msgspec.json.encode(line).decode("utf-8")
    except UnicodeEncodeError:
        # Half a surrogate pair, such as a file name can hold: written as such a half is escaped.
        return msgspec.json.encode({name: _whole(value) for name, value in line.items()}).decode()


def _whole(value: object) -> object:
    return value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else value


def _time(event: LogEvent) -> str:
    milliseconds = round(event.get("log_time", 0.0) * 1_000_000) // 1000
    return f"{_second(milliseconds // 1000)}.{milliseconds % 1000:03}Z"


@lru_cache(1)
def _second(second: int) -> str:
    """Written once for all lines of it."""
    return datetime.fromtimestamp(second, timezone.utc).isoformat().removesuffix("+00:00")


def _milliseconds(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1000, 3)
