"""One JSON object for each exchange, and for every other event of the process: the log that
machines read."""

from __future__ import annotations

from datetime import datetime, timezone
from functools import lru_cache
from typing import Any

from msgspec import Struct
from msgspec.json import Encoder
from msgspec.structs import asdict
from twisted.logger import LogEvent

from infergate.telemetry.escaping import escaped
from infergate.telemetry.record import Record
from infergate.telemetry.repeats import message_of


class RequestLine(Struct, gc=False):
    """The line of an exchange: its members under the names and in the order of the contract."""

    event: str
    time: str
    level: str
    request_id: str
    client: str
    caller: str | None
    method: str | None
    path: str | None
    operation: str | None
    status: int | None
    outcome: str
    error: str | None
    cause: str | None
    backend_status: int | None
    model: str | None
    stream: bool
    latency_ms: float | None
    ttft_ms: float | None
    backend_ms: float | None
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    usage_source: str
    bytes_in: int
    bytes_out: int
    retry_count: int | None
    trace_id: str | None
    span_id: str | None


_encoder = Encoder()

# The end of a line's time by its millisecond: to look it up takes a fourth of the time.
_FRACTIONS = [f".{millisecond:03}Z" for millisecond in range(1000)]


def json_line(event: LogEvent) -> str:
    """Return the line of an event, with its line end: of an exchange (its `event` is ``request``),
    or of anything else (``log``).

        {"event":"log","time":"2026-11-23T02:55:46.250Z","level":"info","message":"Listening ..."}

    Whatever it quotes, it is one line, and no terminal obeys anything in it. Called by the log's
    observer for each event that is to be written, where `LOG_FORMAT` is ``json``, or is not set and
    the log goes to no terminal.
    """
    record = event.get("record")
    if isinstance(record, Record):
        text = _json(_request_line(record, _time(event), event["log_level"].name))
        # JSON escapes every control character of ASCII but the last one.
        good = text.isascii() and "\x7f" not in text
        return (text if good else escaped(text)) + "\n"
    line: dict[str, object] = {"event": "log", "time": _time(event), "level": level_name(event)}
    line["message"] = message_of(event)
    if "request_id" in event:
        line["request_id"] = event["request_id"]
    line.update(traceback_of(event))
    return escaped(_json(line)) + "\n"


def fields(record: Record) -> dict[str, object]:
    """Return what the log says of one exchange, but for when and how loudly, in the order of the
    line.

    What is not known is None, and not zero. No prompt, reply, key or token is in a record. Called
    for the status page.
    """
    line = asdict(_request_line(record, "", ""))
    return {name: line[name] for name in RequestLine.__struct_fields__[3:]}


def _request_line(record: Record, time: str, level: str) -> RequestLine:
    """Return the line of an exchange, not yet as text: `time` as it is written, `level` by its
    name. Called by `json_line` and `fields`."""
    # By position, and made into text by an encoder that is made once: with a dictionary, each name
    # would be looked up and escaped for each line.
    usage = record.usage
    return RequestLine(
        "request",
        time,
        level,
        record.request_id,
        record.client,
        record.caller,
        record.method,
        record.path,
        record.operation,
        record.status,
        record.outcome,
        record.error,
        record.cause,
        record.backend_status,
        record.model,
        record.stream,
        _milliseconds(record.duration),
        _milliseconds(record.first_token_seconds),
        _milliseconds(record.backend_seconds),
        usage.prompt_tokens,
        usage.completion_tokens,
        usage.total_tokens,
        usage.source,
        record.bytes_in,
        record.bytes_out,
        record.retry_count,
        record.trace_id,
        record.span_id,
    )


def level_name(event: LogEvent) -> str:
    """Return the name of an event's level; Twisted's older messages have none, and are ``info``."""
    level = event.get("log_level")
    name: str = "info" if level is None else level.name
    return name


def traceback_of(event: LogEvent) -> dict[str, Any]:
    """Return the traceback of an event that has one as a dictionary's ``traceback``, else an empty
    one."""
    failure = event.get("log_failure")
    return {} if failure is None else {"traceback": failure.getTraceback()}


def _json(line: RequestLine | dict[str, object]) -> str:
    """Return a line as JSON. Half a surrogate pair, as in an undecodable file name, is escaped.
    Called by `json_line`."""
    try:
        return _encoder.encode(line).decode("utf-8")
    except UnicodeEncodeError:
        # Half a surrogate pair, such as a file name can hold: written as such a half is escaped.
        members = line if isinstance(line, dict) else asdict(line)
        return _encoder.encode({name: _whole(value) for name, value in members.items()}).decode()


def _whole(value: object) -> object:
    """Return a text with each half of a surrogate pair as ``\\udc80``; any other value as it is.
    Called by `_json` for each member."""
    return value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else value


def _time(event: LogEvent) -> str:
    """Return when an event was logged, in UTC, to the millisecond: ``2026-11-23T02:55:46.250Z``.

    Rounded down, so that no line is of a second that has not begun, but for half a microsecond,
    since 0.250 as a float is a little less. Called by `json_line`.
    """
    second, milliseconds = divmod(int(event.get("log_time", 0.0) * 1000 + 0.0005), 1000)
    return _second(second) + _FRACTIONS[milliseconds]


@lru_cache(1)
def _second(second: int) -> str:
    """Return a Unix second as ``2026-11-23T02:55:46``; made once for all lines of it. Called by
    `_time`."""
    return datetime.fromtimestamp(second, timezone.utc).isoformat().removesuffix("+00:00")


def _milliseconds(seconds: float | None) -> float | None:
    """Return seconds as milliseconds, to the microsecond; None stays None. Called by
    `_request_line`."""
    # To round to a whole number takes a third of the time of rounding to three digits.
    return None if seconds is None else round(seconds * 1_000_000) / 1000
