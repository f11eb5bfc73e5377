"""What was looked at, and how it is said: a line for people, an object for scripts."""

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

    `message` says how it is, in the words of whoever said so; `hint` what to do about it, and is
    empty where there is nothing to do.
    """

    name: str
    status: str
    message: str
    hint: str = ""

    def line(self, *, utf8: bool) -> str:
        """The line for people."""
        said = self.message if not self.hint else f"{self.message} {_ARROW} {self.hint}"
        if utf8:
            return f"{_SIGNS[self.status]} {self.name}: {said}"
        said = said.replace(_ARROW, "->").encode("ascii", "backslashreplace").decode("ascii")
        return f"{_WORDS[self.status]} {self.name}: {said}"


def ok(name: str, message: str) -> Check:
    """It works."""
    return Check(name, OK, message)


def warn(name: str, message: str, hint: str) -> Check:
    """It will be wrong, or is not offered."""
    return Check(name, WARN, message, hint)


def fail(name: str, message: str, hint: str) -> Check:
    """It is wrong."""
    return Check(name, FAIL, message, hint)


def all_well(checks: Sequence[Check]) -> bool:
    """Whether nothing is wrong."""
    return all(check.status != FAIL for check in checks)


def document(
    checks: Sequence[Check],
    kind: str | None = None,
    url: str | None = None,
    models: Sequence[str] = (),
) -> bytes:
    """The object for scripts, in one line of JSON."""
    said = {
        "ok": all_well(checks),
        "backend": {"kind": kind, "url": url, "models": models},
        "checks": [attrs.asdict(check) for check in checks],
    }
    return msgspec.json.encode(said) + b"\n"


def speaks_utf8(environ: Mapping[str, str], encoding: str | None) -> bool:
    """Whether the terminal has UTF-8: Python writes in that `encoding`, and the locale says no
    other. Where the locale is C, Python takes UTF-8 all the same, and sets ``LC_CTYPE`` to say so
    (PEP 538, PEP 540)."""
    if (encoding or "").lower().replace("-", "") != "utf8":
        return False
    chosen = [environ.get(name, "") for name in ("LC_ALL", "LC_CTYPE", "LANG")]
    chosen[1] = "" if chosen[1] == "C.UTF-8" else chosen[1]
    locale = next(filter(None, chosen), "UTF-8")
    return "utf8" in locale.lower().replace("-", "")
