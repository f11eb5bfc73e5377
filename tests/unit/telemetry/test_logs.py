"""The log of the process: events, their levels, and who sees them."""

from __future__ import annotations

import io
import json

from twisted.logger import ILogObserver, LogEvent, Logger, LogLevel
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from infergate.telemetry import logs
from infergate.telemetry.jsonlines import json_line
from infergate.telemetry.logs import RequestLog
from infergate.telemetry.record import Record
from infergate.telemetry.repeats import BURST, INTERVAL, Repeats


class Observer(SynchronousTestCase):
    def observed(self, level: str) -> list[str]:
        stream = io.StringIO()
        observer = logs.observer(stream.write, json_line, level)
        verifyObject(ILogObserver, observer)
        log = Logger(observer=observer)
        for name in ("debug", "info", "warn", "error", "critical"):
            log.emit(LogLevel.levelWithName(name), name)
        return stream.getvalue().splitlines()

    def test_only_what_is_as_grave_as_the_level_is_written(self) -> None:
        """Only what is as grave as LOG_LEVEL, or more, is written."""
        for level, count in (("debug", 5), ("info", 4), ("warn", 3), ("error", 2), ("critical", 1)):
            self.assertEqual(len(self.observed(level)), count, level)

    def test_no_namespace_is_louder_than_the_level(self) -> None:
        """LOG_LEVEL holds for Twisted's own messages too, whichever part of it they come from."""
        for namespace in ("twisted.web._newclient", "twisted.internet.tcp", "infergate"):
            stream = io.StringIO()
            log = Logger(namespace, observer=logs.observer(stream.write, json_line, "critical"))
            for name in ("debug", "info", "warn", "error"):
                log.emit(LogLevel.levelWithName(name), name)
            self.assertEqual(stream.getvalue(), "", namespace)

    def test_repeated_message_is_bounded(self) -> None:
        """What Twisted says twice for each refused connection is not in the log a thousand times,
        and what was left out is counted."""
        stream = io.StringIO()
        now = 100.0
        self.patch(logs, "Repeats", lambda: Repeats(lambda: now))
        log = Logger(
            "twisted.internet.tcp", observer=logs.observer(stream.write, json_line, "info")
        )
        for number in range(1000):
            log.info("Closed socket from {address}", address=number)
        self.assertEqual(len(stream.getvalue().splitlines()), BURST)
        now += INTERVAL
        log.info("Closed socket from {address}", address="last")
        last = json.loads(stream.getvalue().splitlines()[-1])
        self.assertEqual(
            last["message"], "Closed socket from last (990 more of this kind left out)"
        )


class Requests(SynchronousTestCase):
    def level(self, *, probes: bool = False, **known: object) -> str:
        """The level of the event of a record."""
        events: list[LogEvent] = []
        self.patch(logs, "_log", Logger(observer=events.append))
        record = Record(opened=100.0, client="192.0.2.1", request_id="id-1")
        record.method, record.status = "POST", 200
        for name, value in known.items():
            setattr(record, name, value)
        record.close(100.0)
        RequestLog(probes=probes)(record)
        (event,) = events
        self.assertIs(event["record"], record)
        return str(event["log_level"].name)

    def test_level_goes_by_the_outcome(self) -> None:
        """What an operator has to mend is an error, also where a stream broke under 200; what
        a limit refused is a warning; what a client got wrong is not."""
        for outcome, level in (
            ("ok", "info"),
            ("client_error", "info"),
            ("unauthorized", "info"),
            ("forbidden", "info"),
            ("client_disconnected", "info"),
            ("rate_limited", "warn"),
            ("overloaded", "warn"),
            ("shutdown", "warn"),
            ("backend_error", "error"),
            ("backend_unavailable", "error"),
            ("timeout", "error"),
            ("internal_error", "error"),
        ):
            self.assertEqual(self.level(outcome=outcome), level, outcome)

    def test_successful_probe_is_logged_as_asked(self) -> None:
        """At debug, or at info with LOG_PROBES; so is HEAD, which only asks."""
        for known in ({"probe": True}, {"method": "HEAD"}):
            self.assertEqual(self.level(**known), "debug")
            self.assertEqual(self.level(probes=True, **known), "info")
            self.assertEqual(self.level(outcome="client_error", **known), "info")

    def test_probe_that_answers_503_is_a_warning(self) -> None:
        """Whatever LOG_PROBES says."""
        for probes in (False, True):
            self.assertEqual(self.level(probes=probes, probe=True, status=503), "warn")
