"""What a request's header fields declare its body to be (RFC 9110, 8.3 and 8.4).

    Content-Type: application/json                    let through
    Content-Type: application/json; charset=UTF-8     let through
    Content-Type: text/plain                          a 415
    Content-Encoding: gzip                            a 415, whatever the type is

The body itself is not looked at here: `operation` reads it as JSON, whatever was declared.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from infergate.errors import UnsupportedMediaType

DECLARE_JSON = "send -H 'Content-Type: application/json'"
"""What somebody who uses curl has most often forgotten."""

_TOKEN = rb"[\w!#$%&'*+.^`|~-]+"
_VALUE = rb"(?:%b|\"(?:[^\"\\]|\\.)*\")" % _TOKEN
# Blanks belong to what follows them, so that there is one way to match any number of them.
_JSON = re.compile(
    rb"application/json((?:[ \t]*;(?:[ \t]*%b=%b)?)*)[ \t]*" % (_TOKEN, _VALUE), re.IGNORECASE
)
_PARAMETER = re.compile(rb";[ \t]*(%b)=(%b)" % (_TOKEN, _VALUE))
_UTF_8 = frozenset({b"utf-8", b"utf8"})
CODINGS = frozenset(
    {"aes128gcm", "br", "compress", "dcb", "dcz", "deflate", "exi", "gzip", "pack200-gzip",
     "x-compress", "x-gzip", "zstd"}
)  # fmt: skip
"""The registered content codings: what else stands in the field is not repeated to anybody."""


def check_media_type(content_type: Sequence[bytes], content_encoding: Sequence[bytes]) -> None:
    """Check that a body is declared to be one ``application/json``, in UTF-8 or without a word
    about it, and without a content coding; takes the values of the two header fields, one for each
    line of the head, and returns nothing.

    Called by the gateway for each request of an operation, before its body is read. Other
    parameters than `charset` are ignored, and ``identity`` is no coding. Raises
    `UnsupportedMediaType`, whose message says what to send instead, and repeats nothing that the
    client sent but the name of a registered coding.
    """
    for coding in b",".join(content_encoding).decode("latin-1").split(","):
        coding = coding.strip(" \t")
        if coding.lower() not in ("", "identity"):
            named = coding if coding.lower() in CODINGS else "of an unknown content coding"
            raise UnsupportedMediaType(
                f"The body is declared to be {named}: send it uncompressed, without "
                "Content-Encoding."
            )
    if not content_type:
        raise UnsupportedMediaType(f"The body is not declared to be JSON: {DECLARE_JSON}.")
    match = _JSON.fullmatch(content_type[0]) if len(content_type) == 1 else None
    if match is None:
        raise UnsupportedMediaType(f"The body is declared to be something else: {DECLARE_JSON}.")
    for name, value in _PARAMETER.findall(match[1]):
        if name.lower() == b"charset" and value.strip(b'"').lower() not in _UTF_8:
            raise UnsupportedMediaType(f"The body must be in UTF-8: {DECLARE_JSON}.")
