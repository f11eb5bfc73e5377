"""The line that says at start what runs: where, in front of what, for whom, within which limits."""

from __future__ import annotations

from typing import Any

from twisted.internet.address import UNIXAddress

from infergate import __version__
from infergate.api.operations import NAMES
from infergate.config.settings import Settings
from infergate.process.listening import read_endpoint


def start_line(settings: Settings, address: Any) -> str:
    """Return the one line about a gateway that listens at `address`, for the log.

    Called by `tap` once the main port listens; `address` is what its `getHost` returns, since the
    port of ``PORT=0`` is known only then. It holds no secret:

        infergate 0.1.0 at http://127.0.0.1:8080; backend: http://127.0.0.1:9000/v1;
        operations: chat; keys needed; limits: RATE_LIMIT=60/minute
    """
    return (
        f"infergate {__version__} at {url(address, settings.listen)}; "
        f"backend: {settings.backend_url or 'echo'}; "
        f"operations: {', '.join(name for name in NAMES if name in settings.routes)}; "
        f"{'keys needed' if settings.needs_key else 'no key needed'}; limits: {_limits(settings)}"
    )


def url(address: Any, endpoint: str | None = None) -> str:
    """Return the URL that reaches `address`, which was listened on by an `endpoint` string.

    `address` is one of Twisted's: ``https`` where the endpoint is one of TLS, brackets around IPv6,
    and ``unix:/path`` of a Unix socket. Called by `start_line`, and by `tap` for `METRICS_LISTEN`.
    """
    if isinstance(address, UNIXAddress):
        name = address.name or b""
        return f"unix:{name.decode('utf-8', 'backslashreplace')}"
    scheme = "https" if read_endpoint(endpoint or "")[0] in ("ssl", "tls") else "http"
    host = f"[{address.host}]" if ":" in address.host else address.host
    return f"{scheme}://{host}:{address.port}"


def _limits(settings: Settings) -> str:
    """Return the limits on callers that are on, ``none`` without one, for `start_line`."""
    limits = {
        "RATE_LIMIT": settings.rate_limit,
        "MAX_CONCURRENT_REQUESTS": settings.max_concurrent_requests,
    }
    said = [f"{name}={value}" for name, value in limits.items() if value]
    if _keys_have_limits(settings):
        said.append("those of API_KEYS_FILE")
    return ", ".join(said) or "none"


def _keys_have_limits(settings: Settings) -> bool:
    """Return whether a line of `API_KEYS_FILE` limits requests, tokens or concurrency, of its
    caller or of all.

    Called by `_limits`.
    """
    if settings.api_keys_file is None:
        return False
    policies = settings.api_keys_file.content.policies(None)
    everybodys = (policies.default, *policies.by_name.values())
    return any(policy.rate or policy.tokens or policy.concurrent for policy in everybodys)
