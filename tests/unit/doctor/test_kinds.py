"""Which server a backend is."""

from __future__ import annotations

import json

from tests.unit.doctor.examined import Action, Examined, hangs, listing, says


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

    def test_broken_json_is_no_sign(self) -> None:
        """Bytes that are no UTF-8 and brackets without end are looked at like any other answer."""
        for body in (b'{"data":[{"owned_by":"\xff"}]}', b'{"x":' + b"[" * 5000):
            routes = ("/v1/models", "/api/version", "/get_server_info", "/version")
            self.assertIsNone(self.kind({route: says(body) for route in routes}))
