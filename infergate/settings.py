"""What was asked for: one frozen value, read once at start.

Each setting is a field of `Settings`, whose metadata holds all that is known of it: what is
allowed, a line about it, and whether it is a secret. The options of ``twistd infergate`` and
``.env.example`` are made from these fields too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
from dotenv.parser import parse_stream

from infergate import values
from infergate.access.algorithms import PUBLIC
from infergate.access.auth import KeyRing
from infergate.access.ratelimit import Rate, parse_rate
from infergate.server.addresses import Networks
from infergate.values import FromFile

if TYPE_CHECKING:
    from infergate.access.jwks import OneKey

_JWT_KEYS = ("jwt_secret", "jwt_public_key_file", "jwt_jwks_url")

EMPTY_CREDENTIAL = "must not be empty, which would let everybody in; unset it where that is meant"


class SettingsError(Exception):
    """One line: the setting, its value (None hides it) and what is allowed."""

    def __init__(self, name: str, value: str | None, allowed: str) -> None:
        # What was meant as a URL may hold a password or a token.
        hidden = value is None or not {"@", "?", "#"}.isdisjoint(value)
        super().__init__(f"{name if hidden else f'{name}={value!r}'}: {allowed}")


def _setting(parse: Callable[[str], Any], about: str, default: Any = None, **metadata: bool) -> Any:
    """Describe one setting, and what it is by these marks:

    `secret`: never shown; `empty`: an empty text is a value, not the lack of one; `credential`:
    it decides who may come in, so that an empty text is a mistake.
    """
    for mark in ("secret", "empty", "credential"):
        metadata.setdefault(mark, False)
    return attrs.field(
        default=default,
        repr=not metadata["secret"],
        metadata={"parse": parse, "about": about, **metadata},
    )


def _usual_algorithms(settings: Settings) -> tuple[str, ...]:
    if settings.jwt_secret is not None:
        return ("HS256",)
    return ("RS256",) if settings.jwt_public_key_file or settings.jwt_jwks_url else ()


@attrs.frozen(kw_only=True)
class Settings:
    """Sizes are in bytes and times in seconds; None is unset."""

    port: int = _setting(values.whole(0, 65535), "port to listen on; 0: any that is free", 8080)
    host: str = _setting(values.host, "address to listen on", "127.0.0.1")
    listen: str | None = _setting(values.line, "Twisted endpoint string instead of PORT and HOST")
    backend_url: str | None = _setting(
        values.backend_url, "http://host:port of the backend, with or without /v1; unset: echo"
    )
    backend_api_key: str | None = _setting(
        values.header_token, "sent to the backend as Authorization: Bearer", secret=True
    )
    backend_connect_timeout: float = _setting(
        values.seconds, "seconds to connect to the backend", 5.0
    )
    backend_timeout: float = _setting(
        values.seconds, "seconds until the backend's response headers arrive", 60.0
    )
    stream_idle_timeout: float = _setting(
        values.seconds, "seconds between two pieces of a response body", 60.0
    )
    request_timeout: float = _setting(values.seconds, "seconds for the whole exchange", 600.0)
    backend_retries: int = _setting(
        values.whole(0, 10), "more tries after a connection that failed before a byte was sent", 1
    )
    default_model: str = _setting(
        values.line,
        "used where a request names no model; empty: model is required",
        "default",
        empty=True,
    )
    max_tokens_limit: int = _setting(
        values.whole(1), "largest max_tokens or max_completion_tokens let through", 131072
    )
    max_body_bytes: int = _setting(values.whole(1), "largest request body", 10485760)
    max_response_bytes: int = _setting(
        values.whole(1), "largest reply that is not a stream", 67108864
    )
    max_event_bytes: int = _setting(values.whole(64), "largest single event of a stream", 1048576)
    max_url_bytes: int = _setting(values.whole(32), "largest target of a request", 8000)
    max_header_bytes: int = _setting(values.whole(256), "largest head of a request", 16384)
    max_headers: int = _setting(values.whole(1), "most header fields of a request", 100)
    max_requests_per_connection: int = _setting(
        values.whole(1), "requests after which a connection is closed", 10000
    )
    max_connections: int = _setting(values.whole(1), "most open client connections", 1000)
    header_timeout: float = _setting(
        values.seconds, "seconds a client gets for a request head", 10.0
    )
    body_timeout: float = _setting(values.seconds, "seconds a client gets for a request body", 60.0)
    keepalive_timeout: float = _setting(values.seconds, "seconds between two requests", 75.0)
    write_stall_timeout: float = _setting(
        values.seconds, "seconds a client may take nothing of what is ready for it", 60.0
    )
    api_keys: KeyRing | None = _setting(
        values.api_keys,
        "comma-separated key, name:key, sha256:<hex> or name:sha256:<hex>; unset: nobody needs one",
        secret=True,
        credential=True,
    )
    api_keys_file: FromFile[KeyRing] | None = _setting(
        values.api_keys_file, "the same, one a line, with # comments", credential=True
    )
    jwt_secret: OneKey | None = _setting(
        values.jwt_secret,
        "checks JWTs with this secret; at most one of the three JWT keys",
        secret=True,
        credential=True,
    )
    jwt_public_key_file: FromFile[OneKey] | None = _setting(
        values.jwt_public_key_file, "checks JWTs with the PEM public key in it", credential=True
    )
    jwt_jwks_url: str | None = _setting(
        values.url, "checks JWTs with the public keys found there", credential=True
    )
    jwt_algorithms: tuple[str, ...] = _setting(
        values.algorithms,
        "comma-separated algorithms let in; unset: HS256 with a secret, else RS256",
        attrs.Factory(_usual_algorithms, takes_self=True),
    )
    jwt_issuer: str | None = _setting(values.line, "required iss claim")
    jwt_audience: str | None = _setting(values.line, "required aud claim")
    rate_limit: Rate | None = _setting(
        parse_rate, "N/second, N/minute or N/hour for each caller; unset: off"
    )
    trusted_proxies: Networks = _setting(
        values.networks,
        "comma-separated addresses or networks whose X-Forwarded-For is believed",
        (),
    )
    metrics_listen: str | None = _setting(values.line, "Twisted endpoint string for /metrics alone")
    error_format: str = _setting(values.choice("code", "openai"), "code or openai", "code")
    log_format: str = _setting(values.choice("json", "text"), "json or text", "json")
    log_level: str = _setting(
        values.choice("debug", "info", "warn", "error", "critical"),
        "debug, info, warn, error or critical",
        "info",
    )
    drain_timeout: float = _setting(
        values.seconds_or_none, "seconds that running requests get after SIGTERM", 30.0
    )
    sse_keepalive: float = _setting(
        values.seconds_or_none,
        "seconds of silence before a comment goes to a stream's client; 0: off",
        0.0,
    )
    otel_exporter_otlp_endpoint: str | None = _setting(
        values.base_url, "http://host:port that metrics are pushed to by OTLP"
    )

    @property
    def needs_key(self) -> bool:
        """Whether a caller needs credentials."""
        credentials = (field for field in attrs.fields(Settings) if field.metadata["credential"])
        return any(getattr(self, field.name) is not None for field in credentials)


def load(
    options: Mapping[str, str | None],
    environ: Mapping[str, str],
    dotenv: Mapping[str, str | None],
) -> Settings:
    """The settings out of `options`, by their option names, over `environ` over `dotenv`.

    An empty text is the default, also where a source further down says otherwise; but an empty
    credential is a secret that failed to be injected, and is refused. Raises `SettingsError` for
    the first setting that is wrong.
    """
    texts: dict[str, str] = {}
    given = {}
    for field in attrs.fields(Settings):
        name = field.name.upper()
        sources = (options.get(_option(field.name)), environ.get(name), dotenv.get(name))
        text = next((text for text in sources if text is not None), None)
        if text is not None and not field.metadata["secret"]:
            text = text.strip()
        if field.metadata["credential"] and text is not None and not text.strip():
            raise SettingsError(name, None, EMPTY_CREDENTIAL)
        if text or (text is not None and field.metadata["empty"]):
            texts[field.name] = text
            given[field.name] = _parsed(field, text)
    settings = Settings(**given)
    _check_jwt(settings, texts)
    return settings


def _parsed(field: attrs.Attribute[Any], text: str) -> Any:
    try:
        return field.metadata["parse"](text)
    except ValueError as why:
        shown = None if field.metadata["secret"] else text
        raise SettingsError(field.name.upper(), shown, str(why)) from None


def _check_jwt(settings: Settings, texts: Mapping[str, str]) -> None:
    """Refuse what no JWT setting says alone; `texts` are the settings as they were written.

    A key for one kind of algorithm is never used for the other, or a public key would do as a
    secret (RFC 8725, 2.1).
    """
    keys = [name for name in _JWT_KEYS if getattr(settings, name) is not None]
    if len(keys) > 1:
        why = f"must not be set beside {keys[0].upper()}"
        raise SettingsError(keys[1].upper(), texts[keys[1]], why)
    if keys:
        allowed = _algorithms_for(settings)
        if not set(settings.jwt_algorithms).issubset(allowed):
            why = f"must be out of {', '.join(allowed)}, which {keys[0].upper()} is for"
            raise SettingsError("JWT_ALGORITHMS", ",".join(settings.jwt_algorithms), why)
        return
    for name in ("jwt_algorithms", "jwt_issuer", "jwt_audience"):
        if name in texts:
            why = "must go with JWT_SECRET, JWT_PUBLIC_KEY_FILE or JWT_JWKS_URL"
            raise SettingsError(name.upper(), texts[name], why)


def _algorithms_for(settings: Settings) -> tuple[str, ...]:
    """The algorithms that the one JWT key can be for."""
    if settings.jwt_secret is not None:
        return settings.jwt_secret.algorithms
    if settings.jwt_public_key_file is not None:
        return settings.jwt_public_key_file.content.algorithms
    return PUBLIC


def read_dotenv(path: str | Path = ".env") -> dict[str, str | None]:
    """The names and values of a ``.env`` file, without interpolation; none if it is missing.

    Raises `SettingsError` where it cannot be read. `dotenv_values` would pass over a line that
    it cannot parse, and a line with API_KEYS must not be lost for a missing quote.
    """
    try:
        with open(path, encoding="utf-8-sig") as stream:
            bindings = list(parse_stream(stream))
    except FileNotFoundError:
        return {}
    except OSError as why:
        raise SettingsError(str(path), None, f"cannot be read: {why.strerror}") from None
    except UnicodeDecodeError:
        raise SettingsError(str(path), None, "must be UTF-8") from None
    for binding in bindings:
        if binding.error or (binding.key is not None and binding.value is None):
            raise SettingsError(str(path), None, f"line {binding.original.line} is not NAME=value")
    return {binding.key: binding.value for binding in bindings if binding.key is not None}


def option_parameters() -> list[list[str | None]]:
    """The `optParameters` of a `twisted.python.usage.Options` with an option a setting."""
    return [[_option(field.name), None, None, _about(field)] for field in attrs.fields(Settings)]


def env_example() -> str:
    """The text of ``.env.example``: a line about each setting, and its default."""
    parts = ["# Copy this file to .env and take the # away from what you set.\n"]
    for field in attrs.fields(Settings):
        parts.append(f"# {field.metadata['about']}\n#{field.name.upper()}={_default(field)}\n")
    return "\n".join(parts)


def _option(name: str) -> str:
    return name.replace("_", "-")


def _about(field: attrs.Attribute[Any]) -> str:
    default = _default(field)
    about: str = field.metadata["about"]
    return f"{about} [default: {default}]" if default else about


def _default(field: attrs.Attribute[Any]) -> str:
    """A default as it would be written; nothing for one that is unset or depends."""
    if isinstance(field.default, float):
        return f"{field.default:g}"
    return str(field.default) if isinstance(field.default, str | int) else ""
