"""What every SDK is put through: the processes, and the failures with what becomes of each."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any, ClassVar

from tests.e2e.harness import Process, SharedProcesses, gateway, mock, running

KEY, OTHER_KEY = "sk-alice", "sk-bob"
DEADLINE = "1"
"""Seconds that the gateways wait for the backend, but for the patient one."""
NEVER = 30.0
"""Seconds that the backend is told to take where it is not to be waited for."""
PATIENCE = 1.5
"""Seconds that a client waits in place of the patient gateway."""

QUESTION = [{"role": "user", "content": "hello big world"}]
ANSWER = "Mock: hello big world"
TOKENS = 7

ERRORS: tuple[tuple[dict[str, Any], str, int, str], ...] = (
    ({"temperature": -1}, "BadRequestError", 400, "invalid_temperature"),
    ({"mock": {"status": 400}}, "BadRequestError", 400, "backend_rejected"),
    ({"mock": {"status": 404}}, "NotFoundError", 404, "backend_rejected"),
    ({"mock": {"status": 409}}, "ConflictError", 409, "backend_rejected"),
    ({"mock": {"status": 422}}, "UnprocessableEntityError", 422, "backend_rejected"),
    ({"mock": {"status": 429}}, "RateLimitError", 429, "backend_rejected"),
    ({"mock": {"status": 401}}, "InternalServerError", 502, "backend_error"),
    ({"mock": {"status": 503}}, "InternalServerError", 502, "backend_error"),
    ({"mock": {"fail": "html"}}, "InternalServerError", 502, "backend_error"),
    ({"mock": {"fail": "cut_json"}}, "InternalServerError", 502, "backend_error"),
    (
        {"mock": {"fail": "reset", "fail_after": 0}},
        "InternalServerError",
        502,
        "backend_unavailable",
    ),
    ({"mock": {"delay": NEVER}}, "InternalServerError", 504, "gateway_timeout"),
)
"""Members of a request; the class of both openai packages, the status and the code."""


def shown_code(members: dict[str, Any], code: str) -> str | None:
    """The code that an SDK finds in the error object: that of the backend's own object, where it
    sent one that may be shown. The mock's objects have none."""
    status = members.get("mock", {}).get("status")
    return code if status in (None, 401) else None


BREAKS = (
    ("reset", "backend_error", "backend_error"),
    ("close", "backend_error", "backend_error"),
    ("stall", "gateway_timeout", "timeout"),
    ("error_event", None, "backend_error"),
)
"""How a stream breaks off; the code of the error, and the outcome in the log."""

BROKEN_AFTER = {"fail_after": 3}
BROKEN_ANSWER = "Mock: hello "


class Gateways(SharedProcesses):
    """One mock backend, behind gateways of several settings; none may complain in its log."""

    plain: ClassVar[Process]
    code_format: ClassVar[Process]
    patient: ClassVar[Process]
    unconnected: ClassVar[Process]
    limited: ClassVar[Process]

    @classmethod
    def start(cls, stack: ExitStack) -> None:
        backend = mock()
        stack.enter_context(running(backend))
        settings = {
            "BACKEND_URL": backend.url,
            "API_KEYS": f"alice:{KEY},bob:{OTHER_KEY}",
        }
        cls.patient = gateway(settings)
        cls.limited = gateway({**settings, "RATE_LIMIT": "1/second"})
        settings |= {"BACKEND_TIMEOUT": DEADLINE, "STREAM_IDLE_TIMEOUT": DEADLINE}
        cls.plain = gateway(settings)
        cls.code_format = gateway({**settings, "ERROR_FORMAT": "code"})
        cls.unconnected = gateway({"BACKEND_URL": "http://127.0.0.1:1"})
        stack.enter_context(running(*cls.gateways()))

    @classmethod
    def gateways(cls) -> tuple[Process, ...]:
        return cls.plain, cls.code_format, cls.patient, cls.unconnected, cls.limited

    def tearDown(self) -> None:
        for process in self.gateways():
            self.assertEqual(process.complaints(), [])
