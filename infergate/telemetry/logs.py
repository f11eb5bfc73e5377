"""One record into one line, and every other event of the process into a line like it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timezone
from functools import lru_cache
from time import time
from typing import Any

import msgspec
from twisted.logger import (
    FilteringLogObserver,
    ILogObserver,
    LogEvent,
    Logger,
    LogLevel,
    LogLevelFilterPredicate,
    formatEvent,
)
from zope.interface import provider

from infergate.telemetry.escaping import escaped
from infergate.telemetry.record import Record
from infergate.telemetry.repeats import Repeats

_log = Logger(namespace="infergate")


def log_request(record: Record) -> None:
    """Emit the line of an exchange that has ended."""
    # As `Logger.info` does, which looks through all levels for the one it was called by.
    _log.observer(
        {
            "log_logger": _log,
            "log_level": LogLevel.info,
            "log_namespace": _log.namespace,
            "log_source": None,
            "log_format": "request",
            "log_time": time(),
            "record": record,
        }
    )


def fields(record: Record) -> dict[str, object]:
    """What the log says of one exchange. No prompt, reply, key or token is in a record."""
    usage = record.usage
    return {
        "request_id": record.request_id,
        "client": record.client,
        "caller": record.caller,
        "method": record.method,
        "path": record.path,
        "status": record.status,
        "outcome": record.outcome,
        "error": record.error,
        "model": record.model,
        "stream": record.stream,
        "latency_ms": _ms(record.duration),
        "ttft_ms": None if record.first_token is None else _ms(record.first_token - record.opened),
        "backend_ms": _ms(record.backend_seconds),
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.total_tokens,
        "usage_source": usage.source,
        "bytes_in": record.bytes_in,
        "bytes_out": record.bytes_out,
        "retry_count": record.retry_count,
    }


def json_line(event: LogEvent) -> str:
    """One JSON object: an exchange (`event` is ``request``), or anything else (``log``)."""
    line: dict[str, object] = {"event": "log", "time": _time(event), "level": _level(event)}
    record = event.get("record")
    if isinstance(record, Record):
        line["event"] = "request"
        line.update(fields(record))
    else:
        line["message"] = _message(event)
        if "request_id" in event:
            line["request_id"] = event["request_id"]
        line.update(_traceback(event))
    return escaped(_json(line)) + "\n"


def _json(line: dict[str, object]) -> str:
    try:
        return msgspec.json.encode(line).decode("utf-8")
    except UnicodeEncodeError:
        # Half a surrogate pair, as a token's claims can hold: written as such a half is escaped.
        return msgspec.json.encode({name: _whole(value) for name, value in line.items()}).decode()


def _whole(value: object) -> object:
    return value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else value


def text_line(event: LogEvent) -> str:
    """The same for a human at a terminal."""
    record = event.get("record")
    if isinstance(record, Record):
        said = {name: value for name, value in fields(record).items() if value is not None}
        message = "request " + " ".join(f"{name}={_plain(value)}" for name, value in said.items())
    else:
        trace = _traceback(event).get("traceback")
        message = _message(event) + (f"\n{trace}" if trace else "")
        # What an event quotes may hold line ends: what follows one is seen to belong to it.
        message = "\n    ".join(escaped(part) for part in message.splitlines())
    return f"{_time(event)} {_level(event):<8} {message}\n"


FORMATS: dict[str, Callable[[LogEvent], str]] = {"json": json_line, "text": text_line}


def observer(write: Callable[[str], object], log_format: str, level: str) -> ILogObserver:
    """An observer that hands each event from `level` up, as a line in one of `FORMATS`, to
    `write`."""
    line = FORMATS[log_format]
    lowest = LogLevel.levelWithName(level)
    predicate = LogLevelFilterPredicate(lowest)
    # It has a line for each interim response, and who publishes keys could send thousands.
    predicate.setLogLevelForNamespace("twisted.web._newclient", max(lowest, LogLevel.warn))

    @provider(ILogObserver)
    def write_line(event: LogEvent) -> None:
        write(line(event))

    return FilteringLogObserver(write_line, [predicate, Repeats()])


def _message(event: LogEvent) -> str:
    left_out = event.get("left_out")
    return formatEvent(event) + (f" ({left_out} more of this kind left out)" if left_out else "")


def _traceback(event: LogEvent) -> dict[str, Any]:
    failure = event.get("log_failure")
    return {} if failure is None else {"traceback": failure.getTraceback()}


def _time(event: LogEvent) -> str:
    milliseconds = round(event.get("log_time", 0.0) * 1_000_000) // 1000
    return f"{_second(milliseconds // 1000)}.{milliseconds % 1000:03}Z"


@lru_cache(1)
def _second(second: int) -> str:
    """Written once for all lines of it."""
    return datetime.fromtimestamp(second, timezone.utc).isoformat().removesuffix("+00:00")


def _level(event: LogEvent) -> str:
    level = event.get("log_level")
    return "info" if level is None else str(level.name)


def _plain(value: object) -> object:
    """A text of the client's cannot begin a line or a field of its own, nor move the cursor."""
    if isinstance(value, str) and (not value.isprintable() or {" ", "=", '"'} & set(value)):
        return repr(value)
    return value


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1000, 3)
