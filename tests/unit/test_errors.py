"""Every way to fail, and how each failure reads."""

from __future__ import annotations

import json
import re

from twisted.trial.unittest import SynchronousTestCase

from infergate import errors
from infergate.errors import GatewayError

CONTRACT = {
    "BadRequest": (400, "bad_request", "client_error"),
    "InvalidJSON": (400, "invalid_json", "client_error"),
    "InvalidRequest": (400, "invalid_request", "client_error"),
    "Unauthorized": (401, "unauthorized", "unauthorized"),
    "NotFound": (404, "not_found", "client_error"),
    "MethodNotAllowed": (405, "method_not_allowed", "client_error"),
    "RequestTimeout": (408, "request_timeout", "client_error"),
    "BodyTooLarge": (413, "body_too_large", "client_error"),
    "URITooLong": (414, "uri_too_long", "client_error"),
    "UnsupportedMediaType": (415, "unsupported_media_type", "client_error"),
    "ExpectationFailed": (417, "expectation_failed", "client_error"),
    "RateLimited": (429, "rate_limit_exceeded", "rate_limited"),
    "HeadersTooLarge": (431, "headers_too_large", "client_error"),
    "ClientGone": (499, "client_disconnected", "client_disconnected"),
    "InternalError": (500, "internal_error", "internal_error"),
    "NotImplementedMethod": (501, "not_implemented", "client_error"),
    "BackendError": (502, "backend_error", "backend_error"),
    "BackendUnavailable": (502, "backend_unavailable", "backend_unavailable"),
    "CutByShutdown": (502, "shutting_down", "shutdown"),
    "ShuttingDown": (503, "shutting_down", "shutdown"),
    "Overloaded": (503, "overloaded", "overloaded"),
    "GatewayTimeout": (504, "gateway_timeout", "timeout"),
    "VersionNotSupported": (505, "http_version_not_supported", "client_error"),
}


def family(cls: type[GatewayError] = GatewayError) -> list[type[GatewayError]]:
    """Every public class of the tree."""
    below = [found for child in cls.__subclasses__() for found in family(child)]
    return below if cls.__name__.startswith("_") else [cls, *below]


def instance(cls: type[GatewayError]) -> GatewayError:
    named = cls in (errors.InvalidRequest, errors.KeyExpired)
    return cls("It is wrong.") if named else cls()


class Tree(SynchronousTestCase):
    def test_contract(self) -> None:
        """Each failure has the status, code and outcome that clients and dashboards rely on."""
        for name, expected in CONTRACT.items():
            error = instance(getattr(errors, name))
            self.assertEqual((error.status, error.code, error.outcome), expected, name)

    def test_drawing(self) -> None:
        """The tree at the top of the module shows every class, and no other, with its status."""
        drawn = dict(re.findall(r"[├└]── (\w+)(?: +(\d+))?", errors.__doc__ or ""))
        self.assertEqual({"GatewayError", *drawn}, {cls.__name__ for cls in family()})
        for name, status in drawn.items():
            if status:
                self.assertEqual(int(status), getattr(errors, name).status, name)

    def test_message(self) -> None:
        """Every failure says one sentence, and a better one where its cause knows it."""
        for name in CONTRACT:
            if name not in ("BadRequest", "InvalidJSON", "InvalidRequest"):
                self.assertRegex(instance(getattr(errors, name)).message, r"\A[A-Z].*\.\Z", name)
        better = errors.BadRequest("The Host header is not a host.")
        self.assertEqual(better.message, "The Host header is not a host.")
        self.assertEqual(str(better), better.message)


class Bodies(SynchronousTestCase):
    def test_code_format(self) -> None:
        """By default an error is a code, a message and the request's id."""
        body = json.loads(errors.NotFound().body("id-1", "code"))
        self.assertEqual(
            body,
            {
                "error": "not_found",
                "message": "There is nothing at this path.",
                "request_id": "id-1",
            },
        )

    def test_param(self) -> None:
        """A 400 names the member at fault, or says that there is none to name."""
        wrong = errors.InvalidRequest("Wrong.", code="invalid_stop", param="stop")
        body = json.loads(wrong.body("id-1", "code"))
        self.assertEqual((body["error"], body["param"]), ("invalid_stop", "stop"))
        self.assertIsNone(json.loads(errors.BadRequest("No.").body("id-1", "code"))["param"])
        self.assertNotIn("param", json.loads(errors.BodyTooLarge().body("id-1", "code")))

    def test_openai_format(self) -> None:
        """With ERROR_FORMAT=openai the same facts have the shape that OpenAI's SDKs print."""
        wrong = errors.InvalidRequest("Wrong.", code="invalid_stop", param="stop")
        self.assertEqual(
            json.loads(wrong.body("id-1", "openai")),
            {
                "error": {
                    "message": "Wrong.",
                    "type": "invalid_request_error",
                    "code": "invalid_stop",
                    "param": "stop",
                },
                "request_id": "id-1",
            },
        )

    def test_kinds(self) -> None:
        """The type of an error is the one that OpenAI gives its status."""
        kinds = {
            400: "invalid_request_error",
            401: "authentication_error",
            404: "invalid_request_error",
            429: "rate_limit_error",
            500: "server_error",
            502: "server_error",
            504: "server_error",
        }
        for name, (status, _, _) in CONTRACT.items():
            if status in kinds:
                self.assertEqual(instance(getattr(errors, name)).kind, kinds[status], name)
        self.assertEqual(errors.BackendRejected(403, "No.", None, ()).kind, "permission_error")

    def test_event(self) -> None:
        """In a stream an error is one event in the object form, which every client reads."""
        event = errors.GatewayTimeout("Too\nlate.").event()
        self.assertTrue(event.startswith(b"data: ") and event.endswith(b"\n\n"))
        self.assertEqual(event.count(b"\n"), 2)
        self.assertEqual(
            json.loads(event[6:]),
            {
                "error": {
                    "message": "Too\nlate.",
                    "type": "server_error",
                    "code": "gateway_timeout",
                }
            },
        )


class Headers(SynchronousTestCase):
    def test_challenge(self) -> None:
        """A 401 names the scheme that is wanted (RFC 9110, 11.6.1)."""
        self.assertEqual(errors.Unauthorized().headers, [(b"WWW-Authenticate", b"Bearer")])

    def test_retry_after(self) -> None:
        """Who is to come back later is told when, in whole seconds from 1."""
        for cls in (errors.RateLimited, errors.ShuttingDown, errors.Overloaded):
            self.assertEqual(cls(7).headers, [(b"Retry-After", b"7")])
            self.assertEqual(cls(0).headers, [(b"Retry-After", b"1")])
            self.assertEqual(cls().headers, [(b"Retry-After", b"1")])

    def test_should_retry(self) -> None:
        """An SDK is kept from paying twice for a prompt that has reached the backend, and from
        nothing else."""
        never = [(b"x-should-retry", b"false")]
        for cls in (errors.BackendError, errors.BackendUnavailable, errors.GatewayTimeout):
            self.assertEqual(cls().headers, never)
            self.assertEqual(cls(prompt_sent=False).headers, [])
        self.assertEqual(errors.ShuttingDown().headers, [(b"Retry-After", b"1")])
        self.assertEqual(errors.InternalError().headers, [])


class Rejected(SynchronousTestCase):
    def test_passed_on(self) -> None:
        """A backend's refusal keeps its status and message, and its error object goes along."""
        error = errors.BackendRejected(422, "Too hot.", {"code": 7}, [(b"Retry-After", b"2")])
        self.assertEqual((error.status, error.code), (422, "backend_rejected"))
        self.assertEqual(error.headers, [(b"Retry-After", b"2")])
        self.assertEqual(json.loads(error.body("id-1", "code"))["backend_error"], {"code": 7})
        openai = {"error": {"code": 7}, "request_id": "id-1"}
        self.assertEqual(json.loads(error.body("id-1", "openai")), openai)
        without = errors.BackendRejected(422, "Too hot.", None, ())
        self.assertNotIn("backend_error", json.loads(without.body("id-1", "code")))

    def test_outcome(self) -> None:
        """A refusal is the client's error, but for a 429, which is a rate limit."""
        self.assertEqual(errors.BackendRejected(400, "", None, ()).outcome, "client_error")
        self.assertEqual(errors.BackendRejected(429, "", None, ()).outcome, "rate_limited")


class Formats(SynchronousTestCase):
    def test_auto_gives_sdks_an_object(self) -> None:
        """In ``auto`` OpenAI's SDKs, the AI SDK and whoever asks for responses get the object, and
        everyone else the code; a setting that names a form is obeyed."""
        chat, sdk = "/v1/chat/completions", {b"x-stainless-lang": [b"js"]}
        agent = {b"user-agent": [b"ai-sdk/openai/2.0 runtime/node"]}
        for path, fields, form in (
            (chat, {}, "code"),
            (chat, {b"user-agent": [b"curl/8"]}, "code"),
            (chat, sdk, "openai"),
            (chat, agent, "openai"),
            ("/v1/responses", {}, "openai"),
            ("/v1/responses/input_tokens", {}, "openai"),
            ("/v1/responsesx", {}, "code"),
            (None, {}, "code"),
        ):
            self.assertEqual(errors.error_format("auto", path, fields), form)
            for setting in ("code", "openai"):
                self.assertEqual(errors.error_format(setting, path, fields), setting)

    def test_messages_have_anthropics_form(self) -> None:
        """What is at and below /v1/messages has Anthropic's form, whatever the setting."""
        for path in ("/v1/messages", "/v1/messages/count_tokens", "/v1/messages/"):
            for setting in ("auto", "code", "openai"):
                self.assertEqual(errors.error_format(setting, path, {}), "anthropic")
        self.assertEqual(errors.error_format("code", "/v1/messagesx", {}), "code")
        for error, kind in (
            (errors.InvalidJSON("No."), "invalid_request_error"),
            (errors.Unauthorized(), "authentication_error"),
            (errors.NotFound(), "not_found_error"),
            (errors.BodyTooLarge(), "request_too_large"),
            (errors.RateLimited(1), "rate_limit_error"),
            (errors.UnsupportedMediaType(), "invalid_request_error"),
            (errors.BackendError("No.", detail={"code": 1}), "api_error"),
            (errors.Overloaded(1), "overloaded_error"),
            (errors.GatewayTimeout(), "timeout_error"),
        ):
            self.assertEqual(
                json.loads(error.body("id-1", "anthropic")),
                {
                    "type": "error",
                    "error": {"type": kind, "message": error.message, "code": error.code},
                    "request_id": "id-1",
                },
            )
