"""Convert the texts that settings are written as into values.

Each function is the parser of a setting: `loading.load` calls it with what somebody wrote, as does
`otel` with a variable, and `reload` with the path of a file that is read again. It returns the
value, or raises `ValueError` with what is allowed, in words that can follow a setting's name and
text and repeat neither: the text may be a secret.

    whole(0, 65535)("8080")     8080
    whole(0, 65535)("80 80")    ValueError: must be a whole number from 0 to 65535
                                shown as: PORT='80 80': must be a whole number from 0 to 65535

`whole`, `choice` and `some_of` take what is allowed and return such a parser.

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
    """Return a parser of whole numbers in ASCII digits, from `least` to `most`, both allowed.

        whole(0, 65535)("0080")    80

    The parser raises `ValueError` for any other number or text, signs and underscores included.
    """

    def parse(text: str) -> int:
        if not re.fullmatch("[0-9]{1,16}", text) or not least <= int(text) <= most:
            raise ValueError(f"must be a whole number from {least} to {most}")
        return int(text)

    return parse


def _number(text: str) -> float:
    """Convert a text to a number that is not negative; any other text to NaN, which no comparison
    lets through. Used by `seconds` and `seconds_or_none`; raises nothing."""
    # float() alone would take underscores, nan, and the digits of any script.
    return float(text) if re.fullmatch(r"[0-9]+(\.[0-9]+)?|\.[0-9]+", text) else math.nan


def seconds(text: str) -> float:
    """Return a time above 0 in seconds, fractions allowed: ``2``, ``0.5`` and ``.5``.

    The parser of time limits that cannot be turned off. Raises `ValueError` for any other text.
    """
    if not 0 < _number(text) < math.inf:
        raise ValueError("must be a number of seconds above 0")
    return _number(text)


def seconds_or_none(text: str) -> float:
    """Return a time in seconds, where 0 is one too, or turns something off.

    Which of the two it is, the line about the setting says. Raises `ValueError` for any other text.
    """
    if not 0 <= _number(text) < math.inf:
        raise ValueError("must be a number of seconds from 0")
    return _number(text)


def line(text: str) -> str:
    """Check that a text has no control characters, and return it; they could forge a line of the
    log.

    The parser of endpoint strings, names of models and claims of tokens. Raises `ValueError` for a
    character that is not printable, such as a line feed.
    """
    if not text.isprintable():
        raise ValueError("must be printable text")
    return text


def host(text: str) -> str:
    """Check that a text may be an address or a host name, without brackets, and return it.

        127.0.0.1    ::1    fe80::1%eth0    gate.example

    Whether there is such a host shows when it is listened on. Raises `ValueError` for any
    character that none of these has.
    """
    if not re.fullmatch(r"[\w.:%-]+", text, re.ASCII):
        raise ValueError("must be an address or a host name")
    return text


def boolean(text: str) -> bool:
    """Return whether a switch is on: ``true`` or ``false``, in any case.

    Raises `ValueError` for any other word, also for ``1`` and ``yes``.
    """
    return choice("true", "false")(text) == "true"


def choice(*allowed: str) -> Callable[[str], str]:
    """Return a parser of one of several words, in any case, which returns it in lower case.

        choice("json", "text")("JSON")    "json"

    The parser raises `ValueError`, which lists the words that are `allowed`, for any other.
    """

    def parse(text: str) -> str:
        if text.lower() not in allowed:
            raise ValueError(f"must be {', '.join(allowed[:-1])} or {allowed[-1]}")
        return text.lower()

    return parse


def some_of(*allowed: str) -> Callable[[str], frozenset[str]]:
    """Return a parser of some of several words, comma-separated and in any case, or ``all``.

        some_of("chat", "rerank")("chat")    frozenset({"chat"})

    The parser raises `ValueError` for a word that is not `allowed`, and for none at all.
    """

    def parse(text: str) -> frozenset[str]:
        words = {word.strip().lower() for word in text.split(",")}
        if words == {"all"}:
            return frozenset(allowed)
        if not words <= set(allowed):
            raise ValueError(f"must be all, or a comma-separated list out of {', '.join(allowed)}")
        return frozenset(words)

    return parse


def url(text: str) -> str:
    """Check that a text is an HTTP URL, with a query if need be, and return it as it is.

    Raises `ValueError` as `_split` does.
    """
    _split(text)
    return text


def base_url(text: str) -> str:
    """Return an HTTP URL that paths are put behind, without the ``/`` at its end.

    Its scheme and host are in lower case then. Raises `ValueError` for a URL with a query, and as
    `_split` does.
    """
    return "".join(_base(text))


def backend_url(text: str) -> str:
    """Return the base of the backend's API, as an SDK's `base_url`, or ``unix:/path`` of a socket.

    It has no ``/`` at its end, and ``/v1`` where no path was given:

        http://127.0.0.1:9000       http://127.0.0.1:9000/v1
        https://host/api/v4/        https://host/api/v4
        unix:/run/llama.sock        as it is

    Raises `ValueError` for what is neither, for a query, and for a URL that ends in
    ``/chat/completions``, which is put behind the base.
    """
    if text.startswith("unix:"):
        if not re.fullmatch(r"unix:/[^\0\r\n]+", text):
            raise ValueError("must be unix: and the absolute path of a socket")
        return text
    root, path = _base(text)
    if path.endswith("/chat/completions"):
        raise ValueError("must end before /chat/completions")
    return root + (path or "/v1")


def path(text: str) -> str:
    """Check that a text is the path of a URL, in visible ASCII, or empty, and return it.

    The parser of `BACKEND_HEALTH_PATH`. Raises `ValueError` for one that does not begin with ``/``.
    """
    if not re.fullmatch(r"(/[!-\x7e]*)?", text, re.ASCII):
        raise ValueError("must be a path that begins with /, or empty")
    return text


def authorities(path: str) -> Any:
    """Return the certificates in a PEM file, as the authorities that are trusted: a trust root of
    Twisted's, which `optionsForClientTLS` takes.

    Raises `ValueError` for a file that cannot be read, holds no certificate, or one that is broken.
    """
    from twisted.internet.ssl import Certificate, trustRootFromCertificates

    blocks = re.findall(
        rb"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----",
        _readable(Path(path).read_bytes),
        re.DOTALL,
    )
    try:
        certificates = [Certificate.loadPEM(block) for block in blocks]
    except Exception:
        certificates = []
    if not certificates:
        raise ValueError("must be a PEM file of certificates")
    return trustRootFromCertificates(certificates)


def _base(text: str) -> tuple[str, str]:
    """Return the root and the path of an HTTP URL, for what needs a URL without a query.

        HTTP://Host:80/v1/    ("http://host:80", "/v1")

    Raises `ValueError` for a query, and as `_split` does. Called by `base_url` and `backend_url`.
    """
    match = _split(text)
    if match["query"] is not None:
        raise ValueError("must be a URL without a query")
    return match["root"].lower(), match["path"].removesuffix("/")


def _split(text: str) -> re.Match[str]:
    """Return the parts of an HTTP URL, as the groups of `_URL`: root, ipv6, port, path and query.

    Raises `ValueError` for any other scheme, for a user name, a fragment or a space, and for a port
    or an IPv6 address that cannot be one. Called by `url` and `_base`.
    """
    match = _URL.fullmatch(text)
    if match is None or not 1 <= int(match["port"] or 80) <= 65535 or not _is_ipv6(match["ipv6"]):
        raise ValueError(
            "must be http:// or https:// and a host, without a user name, fragment or space"
        )
    return match


def _is_ipv6(text: str | None) -> bool:
    """Return whether the host between brackets is an IPv6 address; True for None, no brackets.
    Called by `_split`; raises nothing."""
    try:
        return text is None or bool(IPv6Address(text))
    except ValueError:
        return False


def header_token(text: str) -> str:
    """Check that a text can stand behind ``Bearer`` in a header field, and return it.

    That is visible ASCII without a space, somewhat more than RFC 6750, 2.1, allows. The parser of
    `BACKEND_API_KEY`. Raises `ValueError`, which shows nothing of the text.
    """
    if not re.fullmatch("[!-~]+", text):
        raise ValueError("must be visible ASCII characters without a space")
    return text


def api_keys_file(path: str) -> FromFile[KeysFile]:
    """Return the keys in a file, and what they may do; also called when it is read again.

    Raises `KeysFileError`, a `ValueError` that names the file and the line, for a wrong
    line, and `ValueError` for a file that cannot be read.
    """
    return FromFile(path, _readable(lambda: keys_from_file(path)))


def jwt_secret(text: str) -> OneKey:
    """Return the key that tokens are signed with, for the HMAC algorithms (`HS256` and so on).

    Raises `ValueError` for a text that is empty or a public key.
    """
    # Most start without JWT, and sooner for not loading the cryptography.
    from infergate.access import jwks

    return jwks.secret(text)


def jwt_public_key_file(path: str) -> FromFile[OneKey]:
    """Return the PEM public key in a file; also called when it is read again.

    Raises `ValueError` for a file that cannot be read, or that holds no public key.
    """
    from infergate.access import jwks

    return FromFile(path, jwks.public_key(_readable(Path(path).read_bytes)))


def _readable(read: Callable[[], Content]) -> Content:
    """Return what `read` makes of a file.

    Raises `ValueError`, with what the operating system says, where it cannot be read; what else
    `read` raises passes through. Called by the parsers of settings that name a file.
    """
    try:
        return read()
    except OSError as why:
        raise ValueError(f"must be a file that can be read: {why.strerror}") from None


def algorithms(text: str) -> tuple[str, ...]:
    """Return the names of JWT algorithms, comma-separated, in the order in which they are written.

    Raises `ValueError` for a name that is in neither list of `access.algorithms`; ``none``, for a
    token without a signature, is in neither.
    """
    names = tuple(name.strip() for name in text.split(","))
    if not set(names).issubset((*HMAC, *PUBLIC)):
        raise ValueError(f"must be a comma-separated list out of {', '.join((*HMAC, *PUBLIC))}")
    return names
