"""Each operation, tried plain and as a stream."""

from __future__ import annotations

from infergate.api.operations import NAMES, OPERATIONS
from infergate.doctor.operations import trials
from tests.unit.doctor.examined import (
    EVENTS,
    FAIL,
    OK,
    WARN,
    Action,
    Examined,
    hangs,
    refuses,
    says,
    streams,
)
from tests.unit.inmemory import CHAT, DONE, BackendConnection, completion, delta, event

STREAM = f"{CHAT} stream"
ERROR = b'data: {"error":{"message":"slot is gone"}}\n\n'


class Trials(Examined):
    def test_every_operation_can_be_tried(self) -> None:
        """Each has a tiny request in its row, which its own check takes."""
        self.examine()
        self.subject.settings = type(self.subject.settings)(routes=frozenset(NAMES))
        tried = {trial.operation.name for trial in trials(self.subject)}
        self.assertEqual(tried, {operation.name for operation in OPERATIONS})
        for trial in trials(self.subject):
            for stream in (False, True):
                trial._ask(stream=stream)

    def test_shut_operations_are_not_tried(self) -> None:
        """ROUTES says which are open."""
        checks = self.examine(routes=frozenset({"tokenize"}))
        names = [check.name for check in checks]
        self.assertIn("tokenize", names)
        self.assertNotIn("chat", names)


class Refusals(Examined):
    def test_operation_that_is_not_offered_is_no_fault(self) -> None:
        """404, 405 and 501 say so; the stream is not tried then."""
        for status in (404, 405, 501):
            answers = {"/v1/responses": refuses(status, "no such thing")}
            checks = self.examine(answers, routes=frozenset({"responses"}))
            self.assertNotIn("responses stream", [check.name for check in checks])
            (check,) = [check for check in checks if check.name == "responses"]
            words = f"not offered: {status} Whatever: no such thing"
            self.assert_said(check, WARN, words, "ROUTES")

    def test_chat_must_be_there(self) -> None:
        """Of a chat the same is wrong, and the base path is the likely reason."""
        for status in (404, 405, 501):
            check = self.the("chat", {CHAT: refuses(status, "nothing here")})
            self.assert_said(check, FAIL, str(status), "nothing here")
        check = self.the("chat", {CHAT: refuses(404, "nothing"), "/v1/models": refuses(404, "no")})
        self.assert_said(check, FAIL, "path of BACKEND_URL")

    def test_unknown_model_is_told_from_a_wrong_path(self) -> None:
        """By what the backend says, or by its list; the models that it has are named."""
        for said in ("The model `old` does not exist.", "not found"):
            check = self.the("chat", {CHAT: refuses(404, said)}, default_model="old")
            self.assert_said(check, FAIL, "the model 'old'", said, "DEFAULT_MODEL to one of tiny")

    def test_refusal_that_only_speaks_of_models_is_not_about_its_name(self) -> None:
        """A model that is listed is known; without a list nobody can tell."""
        said = "longer than the model's context"
        answers = {CHAT: refuses(400, said)}
        self.assert_said(self.the("chat", answers), FAIL, f"refuses it: 400 Whatever: {said}")
        answers["/v1/models"] = refuses(404, "no")
        self.assert_said(self.the("chat", answers), FAIL, "refuses the model", said)

    def test_other_refusals_are_quoted(self) -> None:
        """With a way out where nobody needs the operation."""
        answers = {"/v1/embeddings": refuses(400, "no pooling")}
        check = self.the("embeddings", answers, routes=frozenset({"embeddings"}))
        self.assert_said(check, FAIL, "400 Whatever: no pooling", "out of ROUTES")

    def test_loading_backend_is_asked_no_other_operation(self) -> None:
        """As one that begins to load between the list and a chat."""
        checks = self.examine({CHAT: refuses(503, "Loading")}, routes=frozenset(NAMES))
        self.assert_said(checks[-2], WARN, "not tried: completions")


class Plain(Examined):
    def test_what_is_no_reply_is_quoted(self) -> None:
        """It is judged as the gateway judges it."""
        for body in (b'{"text":"1"}', b"<html>", b'{"error":{"message":"no"}}'):
            check = self.the("chat", {CHAT: says(body)})
            self.assert_said(check, FAIL, body.decode())

    def test_compressed_answer_is_named(self) -> None:
        """Nobody asked for it."""
        check = self.the("chat", {CHAT: says(b"", "Content-Encoding: gzip")})
        self.assert_said(check, FAIL, "compressed", "turn compression off")

    def test_connection_that_closes_without_an_answer(self) -> None:
        """The cause is the gateway's word for it."""
        check = self.the("chat", {CHAT: lambda connection: connection.close()})
        self.assert_said(check, FAIL, "closed before an answer", "log")


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
