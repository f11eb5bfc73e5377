"""What a client may see of a backend's words: no page of HTML, and no traceback, however they are
spelled.

A traceback tells strangers about the backend's inside, and a proxy's page of HTML is nothing that a
client could show. The message of a refusal and the error event of a stream are looked at here
before they are passed on; a model's answer is not, since it may well be about HTML.
"""

from __future__ import annotations

import re

MAX_SCREENED = 65536
"""Bytes of a text that is looked at; a longer one is not shown."""

_MAX_UNWRAPPED = 4
"""Times that a text is taken for JSON in a string of JSON."""

# Markup that begins a page or lays one out. Others in angle brackets are words of a prompt or of
# a model: <|im_start|>, </s>, <think>, <YOUR_API_KEY>.
_HTML = re.compile(
    r"<\s*/?(?:!doctype|html|head|body|title|meta|center|h[1-6]|hr|div|pre|table|script|style|p|br)"
    r"\b[^<]{0,200}>",
    re.IGNORECASE,
)
_TRACEBACK = re.compile(
    r"Traceback \(most recent call last\)"  # Python
    r"|\bFile \"[^\"\n]{1,300}\", line \d"
    r"|\n[ \t]*at [\w.$<>/ ]{1,200}\([^()\n]{0,200}:\d+\)"  # Java, JavaScript
    r"|\bgoroutine \d+ \["  # Go
    r"|\bstack backtrace:",  # Rust
    re.IGNORECASE,
)
_ESCAPE = re.compile(r"(?<!\\)\\+(?:u([0-9a-fA-F]{4})|x([0-9a-fA-F]{2})|([nrt\"/\\]))")
_ESCAPED = {"n": "\n", "r": "\r", "t": "\t"}


def fit_to_show(text: bytes | str) -> bool:
    """Return whether a text, or the JSON that it is, holds neither HTML nor a traceback.

    Called by `refusals.read_refusal` with a whole body, and by the `Scanner` with an error event.
    False also for what is longer than `MAX_SCREENED`. Raises nothing; bytes that are no UTF-8 are
    replaced before the look.
    """
    if len(text) > MAX_SCREENED:
        return False
    plain = text if isinstance(text, str) else text.decode("utf-8", "replace")
    # "Trac\u0065back" in JSON, and "Trac\\u0065back" in a JSON text within a string of JSON.
    for _ in range(_MAX_UNWRAPPED):
        if _HTML.search(plain) or _TRACEBACK.search(plain):
            return False
        unwrapped = _ESCAPE.sub(_unescaped, plain)
        if unwrapped == plain:
            return True
        plain = unwrapped
    return False


def _unescaped(escape: re.Match[str]) -> str:
    """Return the character that one escape stands for, such as ``e`` for ``\\u0065``. For
    `fit_to_show`."""
    code = escape[1] or escape[2]
    return chr(int(code, 16)) if code else _ESCAPED.get(escape[3], escape[3])
