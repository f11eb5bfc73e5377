"""One line of at most 120 columns for each exchange: the log that people read at a terminal.

    14:03:07 200 POST chat qwen2.5-7b 2.41s (first 310ms) 12+345 tokens alice 3f2a91c0
    14:03:09 502 POST chat qwen2.5-7b 1ms alice 77b0c3de backend_unavailable: connection refused

Nothing is printed that is not known, or zero. Texts that come from outside are escaped and cut.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from unicodedata import east_asian_width

from twisted.logger import LogEvent

from infergate.telemetry.escaping import escaped
from infergate.telemetry.jsonlines import level_name, traceback_of
from infergate.telemetry.record import Record
from infergate.telemetry.repeats import message_of

COLUMNS = 120
"""The longest line about an exchange."""

MODEL, CALLER, PATH, ID = 24, 16, 32, 8
"""Columns of a model's name, a caller's name, a path, and of a request's id, of which the first
few characters find it among others of the same day."""

RED, YELLOW, GREEN, PLAIN = "\x1b[31m", "\x1b[33m", "\x1b[32m", "\x1b[0m"

_LEVEL_COLOURS = {"warn": YELLOW, "error": RED, "critical": RED}


class TextLines:
    """Makes a line of each event, with its line end; `colours` says whether the terminal shows any.

    The log's observer calls it with each event that is to be written. Times of day are local: who
    looks at a terminal looks at the clock beside it.
    """

    def __init__(self, *, colours: bool) -> None:
        self._colours = colours

    def __call__(self, event: LogEvent) -> str:
        """Return the line of an event, with its line end; a message of several lines goes on
        indented."""
        record = event.get("record")
        level = level_name(event)
        clock = time.strftime("%H:%M:%S", time.localtime(event.get("log_time", 0.0)))
        if not isinstance(record, Record):
            return f"{clock} {self._paint(level, _LEVEL_COLOURS.get(level))} {_message(event)}\n"
        status = str(record.status)
        rest = _cut(" ".join(_parts(record)), COLUMNS - len(clock) - len(status) - 2)
        return f"{clock} {self._paint(status, _colour(record, level))} {rest}\n"

    def _paint(self, text: str, colour: str | None) -> str:
        """Return a text in a colour, such as `RED`, where the terminal shows colours; None is no
        colour."""
        return f"{colour}{text}{PLAIN}" if self._colours and colour is not None else text


def shows_colours(fd: int) -> bool:
    """Say whether a descriptor is a terminal that shows colours, which nobody has asked it not to
    (https://no-color.org). Called by `tap`."""
    capable = os.environ.get("TERM", "dumb") != "dumb" and not os.environ.get("NO_COLOR")
    return capable and os.isatty(fd)


def _message(event: LogEvent) -> str:
    """Return the message of an event other than an exchange, with its traceback, escaped. Called by
    `TextLines`."""
    trace = traceback_of(event).get("traceback")
    message = message_of(event) + (f"\n{trace}" if trace else "")
    # What an event quotes may hold line ends: what follows one is seen to belong to it.
    return "\n    ".join(escaped(part) for part in message.splitlines())


def _colour(record: Record, level: str) -> str:
    """Return the colour of the status in an exchange's line; `level` is the name of its event's
    level.

    A stream that broke under 200 is red like a 502, a probe that answers 503 yellow. Called by
    `TextLines`.
    """
    if level == "error" or record.status == 500:
        return RED
    return YELLOW if level == "warn" or (record.status or 0) >= 400 else GREEN


def _parts(record: Record) -> Iterator[str]:
    """Yield what is known of an exchange, after its time and status: the words of its line, in
    order. Called by `TextLines`, which cuts the line where they are too many."""
    yield _text(record.method or "-", ID)
    yield record.operation or _text(record.path or "-", PATH)
    if record.model:
        yield _text(record.model, MODEL)
    yield _duration(record.duration)
    if record.first_token_seconds is not None:
        yield f"(first {_duration(record.first_token_seconds)})"
    if record.usage.total_tokens:
        yield f"{record.usage.prompt_tokens}+{record.usage.completion_tokens} tokens"
    if record.caller is not None:
        yield _text(record.caller, CALLER)
    yield _text(record.request_id, ID, end="")
    why = ": ".join(part for part in (record.error, record.cause) if part is not None)
    if why:
        yield escaped(why)


def _duration(seconds: float) -> str:
    """Return a time with three digits or so, as people say it: ``4ms``, ``2.41s``, ``3m07s``.
    Called by `_parts`."""
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f}ms"
    if seconds < 59.995:
        return f"{seconds:.2f}s"
    return f"{round(seconds) // 60}m{round(seconds) % 60:02}s"


def _text(text: str, columns: int, end: str = "…") -> str:
    """Return a text of the client's in one word, escaped and cut: it cannot look like the next
    column. Called by `_parts`."""
    return _cut(escaped(text).replace(" ", "\u00b7"), columns, end)


def _cut(text: str, columns: int, end: str = "…") -> str:
    """Return at most so many columns of a text, of which Chinese characters take two each. What was
    cut off shows by the `end`, which takes its columns too. Called for each text of the client's,
    and for the whole line."""
    if len(text) * 2 <= columns:
        return text
    widths = [2 if east_asian_width(character) in "WF" else 1 for character in text]
    if sum(widths) <= columns:
        return text
    room = columns - len(end)
    kept = 0
    while room >= widths[kept]:
        room -= widths[kept]
        kept += 1
    return text[:kept] + end
