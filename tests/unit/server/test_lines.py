"""Lines of an answer's head."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from infergate.server import lines
from infergate.server.lines import date_line, status_line, type_line


class LineTests(SynchronousTestCase):
    def test_reason_phrase_is_that_of_the_standard(self) -> None:
        """The reason phrase is the standard's, and empty where there is none."""
        for status, line in (
            (200, b"HTTP/1.1 200 OK"),
            (404, b"HTTP/1.1 404 Not Found"),
            (599, b"HTTP/1.1 599 "),
        ):
            self.assertEqual(status_line(status), line)

    def test_date_goes_on_with_the_time(self) -> None:
        """The date goes on with the time, though it is formatted once a second."""
        now = [1_700_000_000.2]
        self.patch(lines, "time", lambda: now[0])
        seen = []
        for _ in range(4):
            seen.append(date_line())
            now[0] += 0.5
        self.assertEqual(seen[0], b"Date: Tue, 14 Nov 2023 22:13:20 GMT")
        self.assertEqual(seen[0], seen[1])
        self.assertEqual(seen[2], b"Date: Tue, 14 Nov 2023 22:13:21 GMT")

    def test_content_type_begins_no_line(self) -> None:
        """A backend's content type stays on its line, whatever is in it."""
        line = type_line(b"text/plain\r\nX-Evil: 1\x00")
        self.assertEqual(line, b"Content-Type: text/plain  X-Evil: 1 ")
