"""What was asked for: one frozen value.

Each setting is a field of `Settings`, whose metadata holds all that is known of it: what is
allowed, a line about it, its group, and whether it is a secret. `loading` reads them; `manual`
makes the options, the help, ``.env.example`` and docs/settings.md of them.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import attrs

from infergate.access.auth import KeyRing
from infergate.access.keysfile import KeysFile, keys_from_text
from infergate.access.ratelimit import Rate, parse_rate
from infergate.access.redisurl import SharedState, parse_shared_state
from infergate.api.operations import NAMES
from infergate.api.passing import parse_forwarded, parse_returned
from infergate.config import values
from infergate.config.sources import FILE
from infergate.config.values import FromFile
from infergate.ledger.connecting import UsageDB, parse_usage_db
from infergate.server.addresses import Networks, parse_networks
from infergate.server.origins import NO_ORIGINS, Origins, parse_origins

if TYPE_CHECKING:
    from infergate.access.jwks import OneKey


def _setting(
    group: str, parse: Callable[[str], Any], about: str, default: Any = None, **metadata: bool
) -> Any:
    """Describe one setting of one of the groups that `manual` has titles for, by these marks:

    `secret`: never shown; `file`: may be given as the path of a file; `empty`: an empty text is a
    value, not the lack of one; `credential`: it decides who may come in, so that an empty text is
    a mistake.

    Returns the field of `Settings`; `default` is its value where nothing is written. `parse` makes
    the value of a text, or raises `ValueError` with what is allowed, in words that can follow the
    setting's name and text (see `values`); `about` is a line for people. Each group has a short
    form of this function below.
    """
    for mark in ("secret", "file", "empty", "credential"):
        metadata.setdefault(mark, False)
    return attrs.field(
        default=default,
        repr=not metadata["secret"],
        metadata={"group": group, "parse": parse, "about": about, **metadata},
    )


_listening = partial(_setting, "listening")
_backend = partial(_setting, "backend")
_deadlines = partial(_setting, "deadlines")
_limits = partial(_setting, "limits")
_keys = partial(_setting, "keys")
_telemetry = partial(_setting, "telemetry")
_logs = partial(_setting, "logs")


def _usual_algorithms(settings: Settings) -> tuple[str, ...]:
    """Return the default of `jwt_algorithms`, which depends on the key: none without one.

    Called by attrs where the setting is not given.
    """
    if settings.jwt_secret is not None:
        return ("HS256",)
    return ("RS256",) if settings.jwt_public_key_file or settings.jwt_jwks_url else ()


@attrs.frozen(kw_only=True)
class Settings:
    """What is asked for: sizes are in bytes and times in seconds; None is unset.

    Made by `loading.load`, and by `reload` with what files say by then (`attrs.evolve`). Its repr
    shows no secret. What a setting means is in the line about it, and in docs/settings.md.
    """

    port: int = _listening(values.whole(0, 65535), "port to listen on; 0: any that is free", 8080)
    host: str = _listening(values.host, "address to listen on", "127.0.0.1")
    listen: str | None = _listening(
        values.line,
        "Twisted endpoint string in place of PORT and HOST: unix:/run/gate, "
        "ssl:443:privateKey=key.pem:certKey=cert.pem, tls:DIRECTORY:port=443, "
        "systemd:domain=INET:index=0, haproxy:tcp:8080",
    )
    reuse_port: bool = _listening(
        values.boolean, "true: several processes listen on the port (SO_REUSEPORT)", False
    )
    routes: frozenset[str] = _listening(
        values.some_of(*NAMES),
        f"operations that are open, comma-separated, out of {', '.join(NAMES)}; or all",
        frozenset(NAMES),
    )
    backend_url: str | None = _backend(
        values.backend_url,
        "http://host:port of the backend, or the base of its API as an SDK takes it "
        "(https://host/api/v4), or unix:/path/of/socket; unset: echo",
    )
    backend_ca_file: Any | None = _backend(
        values.authorities,
        "PEM file of the authorities trusted for an https backend, in place of the system's",
    )
    backend_health_path: str = _backend(
        values.path,
        "the backend's health route, below the base without its /v1; empty: none is asked",
        "/health",
        empty=True,
    )
    backend_api_key: str | None = _backend(
        values.header_token, "sent to the backend as Authorization: Bearer", secret=True, file=True
    )
    forward_headers: tuple[bytes, ...] = _backend(
        parse_forwarded,
        "comma-separated names of header fields that go on from the client to the backend",
        (),
    )
    return_headers: tuple[bytes, ...] = _backend(
        parse_returned,
        "comma-separated names of header fields that go back from the backend to the client",
        (),
    )
    backend_connect_timeout: float = _deadlines(
        values.seconds, "seconds to connect to the backend, the TLS handshake included", 5.0
    )
    backend_timeout: float | None = _deadlines(
        values.seconds,
        "seconds until the backend's answer begins: a reply's head, a stream's first event; unset: "
        "60, and on for as long as the health route answers 200, asked each 60 seconds of waiting",
    )
    stream_idle_timeout: float = _deadlines(
        values.seconds, "seconds between two chunks of a response body", 60.0
    )
    request_timeout: float = _deadlines(values.seconds, "seconds for the whole exchange", 600.0)
    backend_retries: int = _backend(
        values.whole(0, 10), "more tries after a connection that failed before a byte was sent", 1
    )
    default_model: str | None = _backend(
        values.line,
        "model of a request that names none; unset: the backend chooses; empty: model is required",
        empty=True,
    )
    stream_usage: str = _backend(
        values.choice("inject", "off"),
        "inject: ask the backend for the usage of every stream; off: leave stream_options alone",
        "inject",
    )
    max_tokens_limit: int = _limits(
        values.whole(1),
        "largest max_tokens, max_completion_tokens or max_output_tokens let through",
        131072,
    )
    max_body_bytes: int = _limits(values.whole(1), "largest request body", 33554432)
    max_response_bytes: int = _limits(
        values.whole(1), "largest reply that is not a stream", 67108864
    )
    max_event_bytes: int = _limits(values.whole(64), "largest single event of a stream", 16777216)
    max_url_bytes: int = _limits(values.whole(32), "largest target of a request", 8000)
    max_header_bytes: int = _limits(values.whole(256), "largest head of a request", 16384)
    max_headers: int = _limits(values.whole(1), "most header fields of a request", 100)
    max_requests_per_connection: int = _limits(
        values.whole(1), "requests after which a connection is closed", 10000
    )
    max_connection_age: float = _limits(
        values.seconds_or_none,
        "seconds after which a connection's next answer closes it; 0: off",
        0.0,
    )
    max_connections: int = _limits(values.whole(1), "most open client connections", 1000)
    max_concurrent_requests: int = _limits(
        values.whole(0), "most operations under way at the backend at once; 0: off", 0
    )
    header_timeout: float = _deadlines(
        values.seconds, "seconds a client gets for a request head", 10.0
    )
    body_timeout: float = _deadlines(
        values.seconds, "seconds a client gets for a request body", 60.0
    )
    keepalive_timeout: float = _deadlines(values.seconds, "seconds between two requests", 75.0)
    write_stall_timeout: float = _deadlines(
        values.seconds, "seconds a client may take nothing of what is ready for it", 60.0
    )
    api_keys: KeyRing | None = _keys(
        keys_from_text,
        "comma-separated API keys: key, name:key, sha256:HEX or name:sha256:HEX, where HEX is the "
        "SHA-256 of a key; unset: nobody needs one",
        secret=True,
        credential=True,
    )
    api_keys_file: FromFile[KeysFile] | None = _keys(
        values.api_keys_file,
        "file of API keys, one a line, with what each may do; # begins a comment",
        credential=True,
    )
    jwt_secret: OneKey | None = _keys(
        values.jwt_secret,
        "checks JWTs with this secret; at most one of the three JWT keys",
        secret=True,
        file=True,
        credential=True,
    )
    jwt_public_key_file: FromFile[OneKey] | None = _keys(
        values.jwt_public_key_file, "checks JWTs with the PEM public key in it", credential=True
    )
    jwt_jwks_url: str | None = _keys(
        values.url, "checks JWTs with the public keys found there", credential=True
    )
    jwt_algorithms: tuple[str, ...] = _keys(
        values.algorithms,
        "comma-separated algorithms let in; unset: HS256 with a secret, else RS256",
        attrs.Factory(_usual_algorithms, takes_self=True),
    )
    jwt_issuer: str | None = _keys(values.line, "required iss claim")
    jwt_audience: str | None = _keys(values.line, "required aud claim")
    rate_limit: Rate | None = _keys(
        parse_rate, "requests of each caller: N/second, N/minute, N/hour or N/day; unset: no limit"
    )
    shared_state: SharedState | None = _keys(
        parse_shared_state,
        "redis://[user:password@]host[:port][/db], rediss:// or unix:/path: limits hold across "
        "all processes that name it",
        secret=True,
        file=True,
    )
    shared_state_failure: str = _keys(
        values.choice("local", "refuse"),
        "while SHARED_STATE is away each process counts for itself, or refuses who has limits",
        "local",
    )
    shared_state_ca_file: Any | None = _keys(
        values.authorities,
        "PEM file of the authorities that a rediss:// is verified by; unset: the system's",
    )
    usage_db: UsageDB | None = _keys(
        parse_usage_db,
        "path of an SQLite file, or postgresql://..., in which usage is kept",
        file=True,
    )
    trusted_proxies: Networks = _listening(
        parse_networks,
        "comma-separated addresses or networks whose X-Forwarded-For is believed; unix: of clients "
        "at a unix: socket",
        (),
    )
    cors_origins: Origins = _listening(
        parse_origins,
        "comma-separated origins whose pages may call from a browser, or *; unset: none",
        NO_ORIGINS,
    )
    metrics_listen: str | None = _telemetry(
        values.line, "Twisted endpoint string that /metrics is served on, and there alone"
    )
    error_format: str = _logs(
        values.choice("auto", "code", "openai"), "auto, code or openai", "auto"
    )
    log_format: str | None = _logs(
        values.choice("json", "text"), "json or text; unset: text on a terminal, else json"
    )
    log_level: str = _logs(
        values.choice("debug", "info", "warn", "error", "critical"),
        "debug, info, warn, error or critical",
        "info",
    )
    log_probes: bool = _logs(
        values.boolean,
        "true: successful probes and /metrics are logged at info; false: at debug",
        False,
    )
    drain_delay: float = _deadlines(
        values.seconds_or_none,
        "seconds after SIGTERM in which requests are served as ever, while the probes of readiness "
        "say draining already; DRAIN_TIMEOUT follows",
        0.0,
    )
    drain_timeout: float = _deadlines(
        values.seconds_or_none, "seconds that running requests get after SIGTERM", 30.0
    )
    sse_keepalive: float = _deadlines(
        values.seconds_or_none,
        "seconds of silence before a comment goes to a stream's client; 0: off",
        0.0,
    )
    otel_exporter_otlp_endpoint: str | None = _telemetry(
        values.base_url, "http://host:port that metrics are pushed to by OTLP"
    )

    @property
    def rings(self) -> dict[str, KeyRing]:
        """Return the API keys that are set, by the setting that holds them.

        A ring is the digests of keys with the names of their callers (`KeyRing`). Called by
        `wiring.callers`, which looks credentials up in them, and for the warnings.
        """
        file = self.api_keys_file
        in_file = None if file is None else file.content.ring
        rings = {"API_KEYS": self.api_keys, "API_KEYS_FILE": in_file}
        return {name: ring for name, ring in rings.items() if ring is not None}

    @property
    def needs_key(self) -> bool:
        """Return whether a caller needs credentials: API keys or a key for tokens are set.

        Called by `compose`, `wiring.callers` and for what is said at the start.
        """
        credentials = (field for field in attrs.fields(Settings) if field.metadata["credential"])
        return any(getattr(self, field.name) is not None for field in credentials)


def names() -> set[str]:
    """Return every name that a setting may be given by in the environment and in ``.env``.

    In upper case; of a secret that may stand in a file also that with ``_FILE`` behind it. Called
    by `manual` and by `warnings.misspelt_names`.
    """
    fields = attrs.fields(Settings)
    files = {field.name + FILE for field in fields if field.metadata["file"]}
    return {name.upper() for name in {field.name for field in fields} | files}
