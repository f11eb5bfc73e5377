"""Records of exchanges that have ended, for the tests of the ledger."""

from __future__ import annotations

from infergate.api.usage import NO_USAGE, Usage
from infergate.telemetry.record import Record

AT = 1_790_000_000  # 2026-09-21T14:13:20Z


def ended(at: float = AT, **known: object) -> Record:
    """A chat of alice's with the model tiny that went well, took two seconds and ended `at` a
    second since 1970, but for what is `known` of it."""
    record = Record(opened=100.0, client="192.0.2.1", request_id="id-1")
    members: dict[str, object] = {
        "method": "POST",
        "route": "/v1/chat/completions",
        "operation": "chat",
        "caller": "alice",
        "model": "tiny",
        "model_accepted": True,
        "status": 200,
        "backend_began": 100.0,
        "backend_ended": 102.0,
        "usage": used(3, 5),
    }
    for name, value in (members | known).items():
        setattr(record, name, value)
    record.close(102.0)
    record.epoch = round((at - 102.0) * 1e9)
    return record


def used(prompt: int, completion: int, cached: int = 0) -> Usage:
    return Usage(prompt, completion, prompt + completion, "backend", cached)


def refused(outcome: str = "rate_limited", **known: object) -> Record:
    """One that never came to the backend."""
    nothing = {"backend_began": None, "backend_ended": None, "usage": NO_USAGE}
    return ended(outcome=outcome, model_accepted=False, **nothing, **known)
