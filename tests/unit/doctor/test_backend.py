"""The backend as a server: health, list of models, base path."""

from __future__ import annotations

from infergate.doctor.backend import SHOWN
from tests.unit.doctor.examined import FAIL, OK, WARN, Examined, listing, refuses, says


class Health(Examined):
    def test_backend_without_the_route_is_warned_of(self) -> None:
        """It works, but a slow answer is given up after a minute."""
        check = self.the("health", {"/health": refuses(404, "File Not Found")})
        self.assert_said(check, WARN, "/health answers 404", "BACKEND_HEALTH_PATH", "60 s")
        check = self.the("health", {"/health": refuses(404, "no")}, backend_timeout=9)
        self.assertNotIn("60 s", check.hint)

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

    def test_failure_is_quoted(self) -> None:
        """The operations are tried all the same."""
        checks = {one.name: one for one in self.examine({"/v1/models": refuses(500, "oh no")})}
        self.assert_said(checks["models"], FAIL, "500", "oh no", "log")
        self.assert_said(checks["chat"], OK)
