"""One self-contained document, and the policy that its browser is held to.

Scripts and styles stand inline, each named by its hash in the ``Content-Security-Policy``: nothing
else on the page can run, whatever a client may have put into a name that it shows, and no other
host is asked for anything.
"""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from pathlib import Path

_FILES = Path(__file__).parent


@cache
def document() -> bytes:
    """Return the page, in UTF-8: `page.html` with the scripts and the styles in their places.

    Where the HTML says ``@@page.js@@``, the text of that file is put. Read once in a process and
    kept. Called by `StatusSite.page`. Raises `OSError` where a file of the package is missing.
    """
    html = _read("page.html")
    for name, text in _parts().items():
        html = html.replace(f"@@{name}@@", text)
    return html.encode("utf-8")


@cache
def headers() -> tuple[tuple[bytes, bytes], ...]:
    """Return the header fields that go with the page, as names and values; made once and kept.

    The policy lets the browser run the two scripts and apply the two styles of the page, and
    connect to nothing but the gateway. Raises as `document` does.
    """
    parts = _parts()
    scripts = " ".join(_hash(parts[name]) for name in ("uplot.js", "page.js"))
    styles = " ".join(_hash(parts[name]) for name in ("uplot.css", "page.css"))
    policy = (
        f"default-src 'none'; script-src {scripts}; style-src {styles}; connect-src 'self'; "
        "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return (
        (b"Content-Security-Policy", policy.encode("ascii")),
        (b"Cache-Control", b"no-store"),
        (b"X-Content-Type-Options", b"nosniff"),
        (b"Referrer-Policy", b"no-referrer"),
    )


def _parts() -> dict[str, str]:
    """Return the texts that stand inline in the page, by the name of their file. Called by
    `document` and `headers`."""
    return {name: _read(name) for name in ("uplot.js", "page.js", "uplot.css", "page.css")}


def _read(name: str) -> str:
    return (_FILES / name).read_text("utf-8")


def _hash(text: str) -> str:
    """Return how a policy names an inline script or style (Content Security Policy Level 3, 2.3.1):
    in quotes, ``'sha256-...'``, with the hash of its UTF-8 in base64. Called by `headers`."""
    digest = hashlib.sha256(text.encode("utf-8")).digest()
    return f"'sha256-{base64.b64encode(digest).decode('ascii')}'"
