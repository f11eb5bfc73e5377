"""What was asked for: one frozen value, read once at start.

Each setting is a field of `Settings`, whose metadata holds all that is known of it: what is
allowed, a line about it, and whether it is a secret. The options of ``twistd infergate`` and
``.env.example`` are made from these fields too.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from ipaddress import IPv6Address
from pathlib import Path
from typing import Any

import attrs
from dotenv.parser import parse_stream

from infergate.addresses import Networks, parse_networks
from infergate.auth import keys_from_file, keys_from_text
from infergate.ratelimit import Rate, parse_rate

LARGEST = 2**53
"""The largest whole number that all readers of JSON understand alike (RFC 8259, 6)."""

_HMAC = ("HS256", "HS384", "HS512")
_PUBLIC = ("RS256", "RS384", "RS512", "ES256", "ES384", "ES512", "PS256", "PS384", "PS512", "EdDSA")
_JWT_KEYS = ("jwt_secret", "jwt_public_key_file", "jwt_jwks_url")

_URL = re.compile(
    r"(?P<root>https?://(?:\[(?P<ipv6>[0-9a-f:.]+)\]|[\w-]+(?:\.[\w-]+)*\.?)(?::(?P<port>[0-9]{1,5}))?)"
    r"(?P<path>(?:/[\w.~!$&'()*+,;=:@%-]+)*/?)(?P<query>\?[\w.~!$&'()*+,;=:@%/?-]*)?",
    re.ASCII | re.IGNORECASE,
)


class SettingsError(Exception):
    """One line: the setting, its value (None hides it) and what is allowed."""

    def __init__(self, name: str, value: str | None, allowed: str) -> None:
        super().__init__(f"{name if value is None else f'{name}={value!r}'}: {allowed}")


def _whole(least: int, most: int = LARGEST) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not re.fullmatch("[0-9]{1,16}", text) or not least <= int(text) <= most:
            raise ValueError(f"must be a whole number from {least} to {most}")
        return int(text)

    return parse


def _number(text: str) -> float:
    # float() alone would take underscores, nan, and the digits of any script.
    return float(text) if re.fullmatch(r"[0-9]+(\.[0-9]+)?|\.[0-9]+", text) else math.nan


def _seconds(text: str) -> float:
    if not 0 < _number(text) < math.inf:
        raise ValueError("must be a number of seconds above 0")
    return _number(text)


def _seconds_or_none(text: str) -> float:
    if not 0 <= _number(text) < math.inf:
        raise ValueError("must be a number of seconds from 0")
    return _number(text)


def _line(text: str) -> str:
    if not text.isprintable():
        raise ValueError("must be printable text")
    return text


def _host(text: str) -> str:
    if not re.fullmatch(r"[\w.:%-]+", text, re.ASCII):
        raise ValueError("must be an address or a host name")
    return text


def _choice(*allowed: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text.lower() not in allowed:
            raise ValueError(f"must be {', '.join(allowed[:-1])} or {allowed[-1]}")
        return text.lower()

    return parse


def _url(text: str) -> str:
    _split(text)
    return text


def _base_url(text: str) -> str:
    return "".join(_base(text))


def _backend_url(text: str) -> str:
    root, path = _base(text)
    return root + path.removesuffix("/v1")


def _base(text: str) -> tuple[str, str]:
    match = _split(text)
    if match["query"] is not None:
        raise ValueError("must be a URL without a query")
    return match["root"], match["path"].removesuffix("/")


def _split(text: str) -> re.Match[str]:
    match = _URL.fullmatch(text)
    if match is None or not 1 <= int(match["port"] or 80) <= 65535 or not _is_ipv6(match["ipv6"]):
        raise ValueError(
            "must be http:// or https:// and a host, without a user name, fragment or space"
        )
    return match


def _is_ipv6(text: str | None) -> bool:
    try:
        return text is None or bool(IPv6Address(text))
    except ValueError:
        return False


def _header_token(text: str) -> str:
    if not re.fullmatch("[!-~]+", text):
        raise ValueError("must be visible ASCII characters without a space")
    return text


def _jwt_secret(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("must be UTF-8") from None
    return text


def _api_keys(text: str) -> str:
    keys_from_text(text)
    return text


def _api_keys_file(path: str) -> str:
    try:
        keys_from_file(path)
    except OSError as why:
        raise ValueError(f"must be a file that can be read: {why.strerror}") from None
    return path


def _algorithms(text: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in text.split(","))
    if not set(names).issubset((*_HMAC, *_PUBLIC)):
        raise ValueError(f"must be a comma-separated list out of {', '.join((*_HMAC, *_PUBLIC))}")
    return names


def _networks(text: str) -> Networks:
    try:
        return parse_networks(text)
    except ValueError:
        raise ValueError(
            "must be addresses, or networks without a bit set past the prefix, separated by "
            "commas, as in 127.0.0.1,10.0.0.0/8"
        ) from None


def _setting(parse: Callable[[str], Any], about: str, default: Any = None, **metadata: bool) -> Any:
    """`secret`: never shown; `empty`: an empty text is a value, not the lack of one."""
    metadata.setdefault("secret", False)
    metadata.setdefault("empty", False)
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

    port: int = _setting(_whole(0, 65535), "port to listen on; 0: any that is free", 8080)
    host: str = _setting(_host, "address to listen on", "127.0.0.1")
    listen: str | None = _setting(_line, "Twisted endpoint string instead of PORT and HOST")
    backend_url: str | None = _setting(
        _backend_url, "http://host:port of the backend, with or without /v1; unset: echo"
    )
    backend_api_key: str | None = _setting(
        _header_token, "sent to the backend as Authorization: Bearer", secret=True
    )
    backend_connect_timeout: float = _setting(_seconds, "seconds to connect to the backend", 5.0)
    backend_timeout: float = _setting(
        _seconds, "seconds until the backend's response headers arrive", 60.0
    )
    stream_idle_timeout: float = _setting(
        _seconds, "seconds between two pieces of a response body", 60.0
    )
    request_timeout: float = _setting(_seconds, "seconds for the whole exchange", 600.0)
    backend_retries: int = _setting(
        _whole(0, 10), "more tries after a connection that failed before a byte was sent", 1
    )
    default_model: str = _setting(
        _line,
        "used where a request names no model; empty: model is required",
        "default",
        empty=True,
    )
    max_tokens_limit: int = _setting(
        _whole(1), "largest max_tokens or max_completion_tokens let through", 131072
    )
    max_body_bytes: int = _setting(_whole(1), "largest request body", 10485760)
    max_response_bytes: int = _setting(_whole(1), "largest reply that is not a stream", 67108864)
    max_event_bytes: int = _setting(_whole(64), "largest single event of a stream", 1048576)
    max_url_bytes: int = _setting(_whole(32), "largest target of a request", 8000)
    max_header_bytes: int = _setting(_whole(256), "largest head of a request", 16384)
    max_headers: int = _setting(_whole(1), "most header fields of a request", 100)
    max_requests_per_connection: int = _setting(
        _whole(1), "requests after which a connection is closed", 10000
    )
    max_connections: int = _setting(_whole(1), "most open client connections", 1000)
    header_timeout: float = _setting(_seconds, "seconds a client gets for a request head", 10.0)
    body_timeout: float = _setting(_seconds, "seconds a client gets for a request body", 60.0)
    keepalive_timeout: float = _setting(_seconds, "seconds between two requests", 75.0)
    write_stall_timeout: float = _setting(
        _seconds, "seconds a client may take nothing of what is ready for it", 60.0
    )
    api_keys: str | None = _setting(
        _api_keys,
        "comma-separated key, name:key, sha256:<hex> or name:sha256:<hex>; unset: nobody needs one",
        secret=True,
    )
    api_keys_file: str | None = _setting(_api_keys_file, "the same, one a line, with # comments")
    jwt_secret: str | None = _setting(
        _jwt_secret, "checks JWTs with this secret; at most one of the three JWT keys", secret=True
    )
    jwt_public_key_file: str | None = _setting(_line, "checks JWTs with the PEM public key in it")
    jwt_jwks_url: str | None = _setting(_url, "checks JWTs with the public keys found there")
    jwt_algorithms: tuple[str, ...] = _setting(
        _algorithms,
        "comma-separated algorithms let in; unset: HS256 with a secret, else RS256",
        attrs.Factory(_usual_algorithms, takes_self=True),
    )
    jwt_issuer: str | None = _setting(_line, "required iss claim")
    jwt_audience: str | None = _setting(_line, "required aud claim")
    rate_limit: Rate | None = _setting(
        parse_rate, "N/second, N/minute or N/hour for each caller; unset: off"
    )
    trusted_proxies: Networks = _setting(
        _networks, "comma-separated addresses or networks whose X-Forwarded-For is believed", ()
    )
    metrics_listen: str | None = _setting(_line, "Twisted endpoint string for /metrics alone")
    error_format: str = _setting(_choice("code", "openai"), "code or openai", "code")
    log_format: str = _setting(_choice("json", "text"), "json or text", "json")
    log_level: str = _setting(
        _choice("debug", "info", "warn", "error", "critical"),
        "debug, info, warn, error or critical",
        "info",
    )
    drain_timeout: float = _setting(
        _seconds_or_none, "seconds that running requests get after SIGTERM", 30.0
    )
    sse_keepalive: float = _setting(
        _seconds_or_none,
        "seconds of silence before a comment goes to a stream's client; 0: off",
        0.0,
    )
    otel_exporter_otlp_endpoint: str | None = _setting(
        _base_url, "http://host:port that metrics are pushed to by OTLP"
    )


def load(
    options: Mapping[str, str | None],
    environ: Mapping[str, str],
    dotenv: Mapping[str, str | None],
) -> Settings:
    """The settings out of `options`, by their option names, over `environ` over `dotenv`.

    An empty text is the default, also where a source further down says otherwise. Raises
    `SettingsError` for the first that is wrong.
    """
    given = {}
    for field in attrs.fields(Settings):
        name = field.name.upper()
        sources = (options.get(_option(field.name)), environ.get(name), dotenv.get(name))
        text = next((text for text in sources if text is not None), None)
        if text is not None and not field.metadata["secret"]:
            text = text.strip()
        if text or (text is not None and field.metadata["empty"]):
            given[field.name] = _parsed(field, text)
    settings = Settings(**given)
    _check_jwt(settings)
    return settings


def _parsed(field: attrs.Attribute[Any], text: str) -> Any:
    try:
        return field.metadata["parse"](text)
    except ValueError as why:
        # What was meant as a URL may hold a password or a token.
        hidden = field.metadata["secret"] or "@" in text or "?" in text
        shown = None if hidden else text
        raise SettingsError(field.name.upper(), shown, str(why)) from None


def _check_jwt(settings: Settings) -> None:
    """What no JWT setting says alone; a key for one kind of algorithm is never used for another,
    or a public key would do as a secret (RFC 8725, 2.1)."""
    keys = [name for name in _JWT_KEYS if getattr(settings, name) is not None]
    others = " and ".join(name.upper() for name in keys)
    if len(keys) > 1:
        raise SettingsError(others, None, "only one of them may be set")
    for name in ("jwt_algorithms", "jwt_issuer", "jwt_audience"):
        if getattr(settings, name) and not keys:
            needed = ", ".join(key.upper() for key in _JWT_KEYS)
            raise SettingsError(name.upper(), None, f"needs one of {needed}")
    for key in keys:
        allowed = _algorithms_for(settings, key)
        if not set(settings.jwt_algorithms).issubset(allowed):
            value = ",".join(settings.jwt_algorithms)
            why = f"must be out of {', '.join(allowed)}, which {key.upper()} is for"
            raise SettingsError("JWT_ALGORITHMS", value, why)


def _algorithms_for(settings: Settings, key: str) -> tuple[str, ...]:
    if settings.jwt_jwks_url is not None:
        return _PUBLIC
    # Most start without JWT, and sooner where the cryptography need not be loaded.
    from infergate import tokenkeys

    value = str(getattr(settings, key))
    try:
        if settings.jwt_secret is not None:
            return tokenkeys.secret(value).algorithms
        return tokenkeys.public_key(Path(value).read_bytes()).algorithms
    except OSError as why:
        allowed = f"must be a file that can be read: {why.strerror}"
        raise SettingsError(key.upper(), value, allowed) from None
    except ValueError as why:
        raise SettingsError(key.upper(), None, str(why)) from None


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
        if binding.error:
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
    return field.metadata["about"] + (f" [default: {default}]" if default else "")


def _default(field: attrs.Attribute[Any]) -> str:
    """A default as it would be written; nothing for one that is unset or depends."""
    if isinstance(field.default, float):
        return f"{field.default:g}"
    return str(field.default) if isinstance(field.default, str | int) else ""
