"""Each operation, tried plain and as a stream."""

from __future__ import annotations

from infergate.api.operations import NAMES, OPERATIONS
from infergate.doctor.operations import trials
from tests.unit.doctor.examined import FAIL, WARN, Examined, refuses, says
from tests.unit.inmemory import CHAT


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
