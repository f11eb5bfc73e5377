"""A stream of the backend's, read to its end."""

from __future__ import annotations

from tests.unit.doctor.examined import EVENTS, FAIL, OK, Action, Examined, hangs, says, streams
from tests.unit.inmemory import CHAT, DONE, BackendConnection, completion, delta, event

STREAM = f"{CHAT} stream"
ERROR = b'data: {"error":{"message":"slot is gone"}}\n\n'


class Streams(Examined):
    def stream(self, action: Action) -> None:
        self.check = self.the("chat stream", {STREAM: action})

    def test_good_one(self) -> None:
        """With its end, or a proper end of its body, as the gateway takes it too."""
        self.stream(streams(*EVENTS))
        self.assert_said(self.check, OK, "first token after")
        self.stream(streams(*EVENTS[:-1]))
        self.assert_said(self.check, OK)

    def test_answer_without_a_word(self) -> None:
        """A model may end at once, or do nothing but think."""
        self.stream(streams(EVENTS[2], DONE))
        self.assert_said(self.check, OK, "no token")
        thinks = event({"choices": [{"index": 0, "delta": {"reasoning_content": "hm"}}]})
        self.stream(streams(thinks, thinks, EVENTS[2], DONE))
        self.assert_said(self.check, OK)

    def test_plain_json_in_its_place(self) -> None:
        """The gateway makes an event of it; clients wait for all of it."""
        self.stream(says(completion()))
        self.assert_said(self.check, FAIL, "plain JSON", "chat.completion", "have the backend")
        self.stream(says(b"1, 2, 3"))
        self.assert_said(self.check, FAIL, "no event stream comes: 1, 2, 3")

    def test_stream_that_stops_early(self) -> None:
        """In an event of its own, in its framing, or by an error; the last of it is quoted."""
        self.stream(streams(delta("one"), delta(" two")))
        self.assert_said(self.check, FAIL, "without its end", '" two"')

        def cut(connection: BackendConnection) -> None:
            streams(delta("one"), end=False)(connection)
            connection.close()

        self.stream(cut)
        self.assert_said(self.check, FAIL, "cut short", '"one"')
        self.stream(streams(delta("one"), ERROR, DONE))
        self.assert_said(self.check, FAIL, "ends with an error: slot is gone")
        self.stream(says(b""))
        self.assert_said(self.check, FAIL, "no event stream")

    def test_stream_that_stands_still(self) -> None:
        """It is given up with the time for one question."""
        self.stream(streams(delta("one"), end=False))
        self.assert_said(self.check, FAIL, "no whole answer within 10 s", '"one"')
        self.stream(hangs)
        self.assert_said(self.check, FAIL, "no whole answer within 10 s")

    def test_event_that_is_too_large(self) -> None:
        """The gateway would not let it through either."""
        self.check = self.the("chat stream", {STREAM: streams(*EVENTS)}, max_event_bytes=64)
        self.assert_said(self.check, FAIL, "MAX_EVENT_BYTES")


def at_once(through: int, seconds: float = 0.5) -> Action:
    """A stream of which some events come, and the others together after some time."""

    def run(connection: BackendConnection) -> None:
        connection.begin()
        for word in EVENTS[:through]:
            connection.piece(word)
        connection.clock.advance(seconds)
        connection.piece(b"".join([delta(" and"), delta(" so"), delta(" on"), *EVENTS[through:]]))
        connection.end()

    return run


class Buffered(Examined):
    def test_stream_that_comes_all_at_once_is_buffered(self) -> None:
        """Whether its first event was let through or not."""
        for through in (0, 1):
            check = self.the("chat stream", {STREAM: at_once(through)})
            self.assert_said(check, FAIL, "buffers its stream", "nothing for 5", "buffering")

    def test_quick_backend_does_not_buffer(self) -> None:
        """Where all of it takes no time, nobody can tell, and nobody cares."""
        self.assert_said(self.the("chat stream", {STREAM: at_once(0, 0.04)}), OK)

    def test_once_may_be_chance(self) -> None:
        """The doctor itself may have been held up: it tries once more before it says so."""
        actions = [at_once(0), streams(*EVENTS)]
        check = self.the("chat stream", {STREAM: lambda connection: actions.pop(0)(connection)})
        self.assert_said(check, OK)
        self.assertEqual(actions, [])

    def test_slow_first_token_is_no_buffer(self) -> None:
        """A model that thinks long and then streams is well."""

        def slowly(connection: BackendConnection) -> None:
            connection.begin()
            connection.clock.advance(3)
            streams_on(connection)

        def streams_on(connection: BackendConnection) -> None:
            for one in EVENTS:
                connection.piece(one)
                connection.clock.advance(0.01)
            connection.end()

        self.assert_said(self.the("chat stream", {STREAM: slowly}), OK, "3.0 s")
