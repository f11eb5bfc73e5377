"""The backend as a server: health, kind, list of models, base path."""

from __future__ import annotations

import json
from typing import Any

from infergate.doctor.backend import SHOWN
from tests.unit.doctor.examined import FAIL, OK, WARN, Action, Examined, hangs, refuses, says


def listing(*names: str, **entry: Any) -> Action:
    data = [{"id": name, "object": "model", **entry} for name in names]
    return says(json.dumps({"object": "list", "data": data}).encode())


class Health(Examined):
    def test_backend_without_the_route_is_warned_of(self) -> None:
        """It works, but a slow answer is given up after a minute."""
        check = self.the("health", {"/health": refuses(404, "File Not Found")})
        self.assert_said(check, WARN, "/health answers 404", "BACKEND_HEALTH_PATH", "60 s")
        check = self.the("health", {"/health": refuses(404, "no")}, backend_timeout=9)
        self.assertNotIn("60 s", check.hint)

    def test_one_that_loads_is_asked_nothing_more(self) -> None:
        """Every other question would get the same answer."""
        checks = self.examine({"/health": refuses(503, "Loading model")})
        self.assert_said(checks[2], FAIL, "still loading", "503 Whatever: Loading model", "wait")
        self.assert_said(checks[-1], WARN, "not tried: chat")
        self.assertEqual(len(checks), 4)

    def test_one_that_fails_is_asked_on(self) -> None:
        """The route may be wrong, and the backend be well."""
        checks = {one.name: one for one in self.examine({"/health": refuses(500, "oh")})}
        self.assert_said(checks["health"], FAIL, "500", "oh")
        self.assert_said(checks["chat"], OK)

    def test_no_route_no_question(self) -> None:
        """With BACKEND_HEALTH_PATH empty none is asked."""
        checks = self.examine(backend_health_path="")
        self.assertNotIn("health", [check.name for check in checks])


class Models(Examined):
    def test_first_of_the_list_is_tried(self) -> None:
        """Unless DEFAULT_MODEL is set; the names are shown, the first dozen of them."""
        names = [f"m{number}" for number in range(SHOWN + 1)]
        check = self.the("models", {"/v1/models": listing(*names)})
        self.assert_said(check, OK, f"{SHOWN + 1} listed: m0, m1", "...")
        self.assertEqual((self.subject.models, self.subject.model), (names, "m0"))
        sent = self.port.connections[1].requests[-1]
        self.assertEqual(sent.json["model"], "m0", sent)
        self.the("models", default_model="tiny")
        self.assertEqual(self.subject.model, "tiny")

    def test_default_model_that_is_not_listed_is_warned_of(self) -> None:
        """llama.cpp takes any name, others do not."""
        check = self.the("models", default_model="old")
        self.assert_said(check, WARN, "DEFAULT_MODEL='old'", "listed: tiny")

    def test_empty_list_is_warned_of(self) -> None:
        """As Ollama's is before a model was pulled."""
        self.assert_said(self.the("models", {"/v1/models": listing()}), WARN, "empty", "load")

    def test_without_a_list_the_backend_may_be_well(self) -> None:
        """The route is no operation: what counts is whether a chat is answered."""
        checks = {one.name: one for one in self.examine({"/v1/models": refuses(404, "no")})}
        self.assert_said(checks["models"], WARN, "no list: 404", "DEFAULT_MODEL")
        self.assert_said(checks["chat"], OK)

    def test_wrong_base_path_is_set_right(self) -> None:
        """Where another base of the same server has a list, that is the right one."""
        answers = {"/v1/models": refuses(404, "no"), "/openai/v1/models": listing("tiny")}
        check = self.the("models", answers, backend_url="http://backend:9000/v1")
        right = "BACKEND_URL=http://backend:9000/openai/v1"
        self.assert_said(check, FAIL, "base path of BACKEND_URL is wrong", right)
        check = self.the("models", backend_url="http://backend:9000/api")
        self.assert_said(check, FAIL, "BACKEND_URL=http://backend:9000/v1", "404")

    def test_page_in_place_of_a_list_is_quoted(self) -> None:
        """A web page under the API's path is a wrong path."""
        page = says(b"<!doctype html><title>Chat</title>")
        check = self.the("models", {"/v1/models": page})
        self.assert_said(check, FAIL, "not valid JSON", "<title>Chat", "BACKEND_URL")

    def test_refused_key_is_named_by_its_setting(self) -> None:
        """What the backend said is quoted, without the key."""
        refusal = {"/v1/models": refuses(401, "sk-mine is wrong")}
        check = self.the("models", refusal)
        self.assert_said(check, FAIL, "401", "sk-mine is wrong", "set BACKEND_API_KEY")
        check = self.the("models", refusal, backend_api_key="sk-mine")
        self.assert_said(check, FAIL, "*** is wrong", "BACKEND_API_KEY is none")

    def test_redirect_is_followed_by_nobody(self) -> None:
        """Where it leads is said."""
        moved = says(b"", "Location: https://elsewhere/v1/models", status=308)
        check = self.the("models", {"/v1/models": moved})
        self.assert_said(check, FAIL, "https://elsewhere/v1/models", "BACKEND_URL")

    def test_failure_is_quoted(self) -> None:
        """The operations are tried all the same."""
        checks = {one.name: one for one in self.examine({"/v1/models": refuses(500, "oh no")})}
        self.assert_said(checks["models"], FAIL, "500", "oh no", "log")
        self.assert_said(checks["chat"], OK)


class Kinds(Examined):
    def kind(self, answers: dict[str, Action]) -> str | None:
        self.examine(answers)
        return self.subject.kind

    def test_server_field_comes_first(self) -> None:
        """llama.cpp says what it is."""
        body = json.dumps({"data": [{"id": "m", "owned_by": "vllm"}]}).encode()
        self.assertEqual(self.kind({"/v1/models": says(body, "Server: llama.cpp")}), "llama.cpp")

    def test_owner_of_the_models(self) -> None:
        """Each of them names another."""
        for owner, kind in (
            ("llamacpp", "llama.cpp"),
            ("vllm", "vLLM"),
            ("sglang", "SGLang"),
            ("library", "Ollama"),
        ):
            self.assertEqual(self.kind({"/v1/models": listing("m", owned_by=owner)}), kind)

    def test_route_that_only_one_of_them_has(self) -> None:
        """Where neither says, as with models of one's own in Ollama."""
        version = says(b'{"version":"0.12.6"}')
        self.assertEqual(self.kind({"/api/version": version, "/version": version}), "Ollama")
        self.assertEqual(self.kind({"/get_server_info": version}), "SGLang")
        self.assertEqual(self.kind({"/version": version}), "vLLM")

    def test_nothing_is_guessed(self) -> None:
        """A page, an answer without the member, or none at all is no sign."""
        signs: dict[str, Action] = {
            "/api/version": says(b"<html>"),
            "/get_server_info": says(b"[]"),
            "/version": hangs,
        }
        self.assertEqual(self.kind(signs), None)
