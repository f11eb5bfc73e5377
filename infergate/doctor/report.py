"""What was looked at, and how it is said: a line for people, an object for scripts.

    ✓ models: 2 listed: qwen3, gemma3
    ! idle connections: the backend closes them after 0.5 s, ... → raise the keep-alive ...
    FAIL connection: 127.0.0.1:9000 cannot be reached: connection refused -> nothing listens there

The last of these is how a line reads where the terminal shows ASCII alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import attrs
import msgspec

OK, WARN, FAIL = "ok", "warn", "fail"

_SIGNS = {OK: "\N{CHECK MARK}", WARN: "!", FAIL: "\N{BALLOT X}"}
_WORDS = {OK: "ok", WARN: "warn", FAIL: "FAIL"}
_ARROW = "\N{RIGHTWARDS ARROW}"


@attrs.frozen
class Check:
    """One thing that was looked at. `ok`, `warn` and `fail` make them.

    `name` says what it was, as ``models`` or ``chat stream``, and `status` is `OK`, `WARN` or
    `FAIL`. `message` says how it is, where it can in the words of the server or the system; `hint`
    what to do about it, and is empty where there is nothing to do.
    """

    name: str
    status: str
    message: str
    hint: str = ""

    def line(self, *, utf8: bool) -> str:
        """Return the line for people, without a line end; in ASCII alone unless `utf8`, with what
        is not ASCII as Python escapes it."""
        said = self.message if not self.hint else f"{self.message} {_ARROW} {self.hint}"
        if utf8:
            return f"{_SIGNS[self.status]} {self.name}: {said}"
        said = said.replace(_ARROW, "->").encode("ascii", "backslashreplace").decode("ascii")
        return f"{_WORDS[self.status]} {self.name}: {said}"


def ok(name: str, message: str) -> Check:
    """Return the check of something that works. `name` says what it is, `message` how it is."""
    return Check(name, OK, message)


def warn(name: str, message: str, hint: str) -> Check:
    """Return the check of something that is likely to go wrong, or is not offered; `hint` says what
    to do. It leaves the exit status at 0."""
    return Check(name, WARN, message, hint)


def fail(name: str, message: str, hint: str) -> Check:
    """Return the check of something that is wrong; `hint` says what to do. It makes the exit status
    1."""
    return Check(name, FAIL, message, hint)


def all_well(checks: Sequence[Check]) -> bool:
    """Return whether nothing is wrong: warnings do not count."""
    return all(check.status != FAIL for check in checks)


def document(
    checks: Sequence[Check],
    kind: str | None = None,
    url: str | None = None,
    models: Sequence[str] = (),
) -> bytes:
    """Return the object for scripts, in one line of JSON with its line feed.

    `kind`, `url` and `models` are what is known of the backend; None and no models where that is
    nothing. Called once by ``infergate check --json``, with all checks:

        {"ok": true, "backend": {"kind": "vLLM", "url": "http://...", "models": [...]},
         "checks": [{"name": "models", "status": "ok", "message": "...", "hint": ""}, ...]}
    """
    said = {
        "ok": all_well(checks),
        "backend": {"kind": kind, "url": url, "models": models},
        "checks": [attrs.asdict(check) for check in checks],
    }
    return msgspec.json.encode(said) + b"\n"


def speaks_utf8(environ: Mapping[str, str], encoding: str | None) -> bool:
    """Return whether the terminal has UTF-8: Python writes in that `encoding`, and the locale in
    `environ` says no other.

    Where the locale is C, Python takes UTF-8 all the same, and sets ``LC_CTYPE`` to say so (PEP
    538, PEP 540). Of the three variables of a locale the first that is set counts.
    """
    if (encoding or "").lower().replace("-", "") != "utf8":
        return False
    chosen = [environ.get(name, "") for name in ("LC_ALL", "LC_CTYPE", "LANG")]
    chosen[1] = "" if chosen[1] == "C.UTF-8" else chosen[1]
    locale = next(filter(None, chosen), "UTF-8")
    return "utf8" in locale.lower().replace("-", "")
