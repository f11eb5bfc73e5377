"""The texts that settings are written as, into values.

Each function raises `ValueError` with what is allowed, in words that can follow a setting's
name and text and repeat neither: the text may be a secret.

    whole(0, 65535)("8080")     8080
    whole(0, 65535)("80 80")    ValueError: must be a whole number from 0 to 65535
                                shown as: PORT='80 80': must be a whole number from 0 to 65535

What a text means is made here, once: a file of keys is read, a certificate is loaded. `FromFile`
keeps the path beside what the file meant, for those that may be read again.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from ipaddress import IPv6Address
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import attrs

from infergate.access.algorithms import HMAC, PUBLIC
from infergate.access.keysfile import KeysFile, keys_from_file

if TYPE_CHECKING:
    from infergate.access.jwks import OneKey

LARGEST = 2**53
"""The largest whole number that all readers of JSON understand alike (RFC 8259, 6)."""

_URL = re.compile(
    r"(?P<root>https?://(?:\[(?P<ipv6>[0-9a-f:.]+)\]|[\w-]+(?:\.[\w-]+)*\.?)"
    r"(?::(?P<port>[0-9]{1,5}))?)"
    r"(?P<path>(?:/[\w.~!$&'()*+,;=:@%-]+)*/?)(?P<query>\?[\w.~!$&'()*+,;=:@%/?-]*)?",
    re.ASCII | re.IGNORECASE,
)

Content = TypeVar("Content")


@attrs.frozen
class FromFile(Generic[Content]):
    """What a file meant when it was read; `path` is for reading it again, and for messages."""

    path: str
    content: Content = attrs.field(repr=False)


def whole(least: int, most: int = LARGEST) -> Callable[[str], int]:
    """A whole number in ASCII digits."""

    def parse(text: str) -> int:
        if not re.fullmatch("[0-9]{1,16}", text) or not least <= int(text) <= most:
            raise ValueError(f"must be a whole number from {least} to {most}")
        return int(text)

    return parse


def _number(text: str) -> float:
    # float() alone would take underscores, nan, and the digits of any script.
    return float(text) if re.fullmatch(r"[0-9]+(\.[0-9]+)?|\.[0-9]+", text) else math.nan


def seconds(text: str) -> float:
    """A time above 0, fractions allowed."""
    if not 0 < _number(text) < math.inf:
        raise ValueError("must be a number of seconds above 0")
    return _number(text)


def seconds_or_none(text: str) -> float:
    """A time, where 0 is one too, or turns something off."""
    if not 0 <= _number(text) < math.inf:
        raise ValueError("must be a number of seconds from 0")
    return _number(text)


def line(text: str) -> str:
    """Text without control characters, which could forge a line of the log."""
    if not text.isprintable():
        raise ValueError("must be printable text")
    return text


def host(text: str) -> str:
    """An address or a host name, without brackets."""
    if not re.fullmatch(r"[\w.:%-]+", text, re.ASCII):
        raise ValueError("must be an address or a host name")
    return text


def boolean(text: str) -> bool:
    """A switch: ``true`` or ``false``, in any case."""
    return choice("true", "false")(text) == "true"


def choice(*allowed: str) -> Callable[[str], str]:
    """One of several words, in any case."""

    def parse(text: str) -> str:
        if text.lower() not in allowed:
            raise ValueError(f"must be {', '.join(allowed[:-1])} or {allowed[-1]}")
        return text.lower()

    return parse


def some_of(*allowed: str) -> Callable[[str], frozenset[str]]:
    """Some of several words, in any case, or all of them."""

    def parse(text: str) -> frozenset[str]:
        words = {word.strip().lower() for word in text.split(",")}
        if words == {"all"}:
            return frozenset(allowed)
        if not words <= set(allowed):
            raise ValueError(f"must be all, or a comma-separated list out of {', '.join(allowed)}")
        return frozenset(words)

    return parse


def url(text: str) -> str:
    """An HTTP URL, with a query if need be."""
    _split(text)
    return text


def base_url(text: str) -> str:
    """An HTTP URL that paths are put behind: no ``/`` at its end."""
    return "".join(_base(text))


def backend_url(text: str) -> str:
    """The base of the backend's API, as an SDK's `base_url`: without a ``/`` at its end, and with
    ``/v1`` where no path was given. Or ``unix:/path`` of a socket."""
    if text.startswith("unix:"):
        if not re.fullmatch(r"unix:/[^\0\r\n]+", text):
            raise ValueError("must be unix: and the absolute path of a socket")
        return text
    root, path = _base(text)
    if path.endswith("/chat/completions"):
        raise ValueError("must end before /chat/completions")
    return root + (path or "/v1")


def path(text: str) -> str:
    """The path of a URL; empty for none."""
    if not re.fullmatch(r"(/[!-\x7e]*)?", text, re.ASCII):
        raise ValueError("must be a path that begins with /, or empty")
    return text


def authorities(path: str) -> FromFile[Any]:
    """The certificates in a PEM file, as the authorities that are trusted."""
    from twisted.internet.ssl import Certificate, trustRootFromCertificates

    blocks = re.findall(
        rb"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----",
        _readable(Path.read_bytes, Path(path)),
        re.DOTALL,
    )
    try:
        certificates = [Certificate.loadPEM(block) for block in blocks]
    except Exception:
        certificates = []
    if not certificates:
        raise ValueError("must be a PEM file of certificates")
    return FromFile(path, trustRootFromCertificates(certificates))


def _base(text: str) -> tuple[str, str]:
    match = _split(text)
    if match["query"] is not None:
        raise ValueError("must be a URL without a query")
    return match["root"].lower(), match["path"].removesuffix("/")


def _split(text: str) -> re.Match[str]:
    """The parts of an HTTP URL; raises `ValueError` for any other."""
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


def header_token(text: str) -> str:
    """What can stand behind ``Bearer`` in a header (RFC 6750, 2.1)."""
    if not re.fullmatch("[!-~]+", text):
        raise ValueError("must be visible ASCII characters without a space")
    return text


def api_keys_file(path: str) -> FromFile[KeysFile]:
    """The keys in a file, and what they may do."""
    return FromFile(path, _readable(keys_from_file, path))


def jwt_secret(text: str) -> OneKey:
    """The key that tokens are signed with."""
    # Most start without JWT, and sooner for not loading the cryptography.
    from infergate.access import jwks

    return jwks.secret(text)


def jwt_public_key_file(path: str) -> FromFile[OneKey]:
    """The PEM public key in a file."""
    from infergate.access import jwks

    return FromFile(path, jwks.public_key(_readable(Path.read_bytes, Path(path))))


Where = TypeVar("Where")


def _readable(read: Callable[[Where], Content], path: Where) -> Content:
    try:
        return read(path)
    except OSError as why:
        raise ValueError(f"must be a file that can be read: {why.strerror}") from None


def algorithms(text: str) -> tuple[str, ...]:
    """The names of JWT algorithms, never ``none``."""
    names = tuple(name.strip() for name in text.split(","))
    if not set(names).issubset((*HMAC, *PUBLIC)):
        raise ValueError(f"must be a comma-separated list out of {', '.join((*HMAC, *PUBLIC))}")
    return names
