"""Certificates that are about to end: those of the gateway's own listeners, and the backend's."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from datetime import datetime, timezone

from cryptography.x509 import Certificate
from twisted.internet.protocol import Factory

from infergate.doctor.report import Check, fail, ok, warn
from infergate.doctor.subject import Subject
from infergate.process.certificates import Certificates
from infergate.process.pem import read_pem
from infergate.process.watching import Refused

DAYS = 14
"""A certificate with fewer days left is warned of."""


def listeners(subject: Subject) -> Iterator[Check]:
    """Yield a check for each listener of the gateway that has TLS, `LISTEN` and `METRICS_LISTEN`:
    whether its files can be used, by the gateway's own reading of them, and how long they are good
    for.

    Nothing is listened on. What the gateway would refuse is a failed check.
    """
    settings = subject.settings
    for setting in ("listen", "metrics_listen"):
        endpoint = getattr(settings, setting)
        name = f"{setting.upper()} certificate"
        certificates = Certificates(endpoint or "", Factory())
        if certificates.path is None:
            continue
        try:
            certificates.read()
        except Refused as why:
            yield fail(
                name,
                str(why).removeprefix("certificate "),
                f"correct the path in {setting.upper()}, or the file",
            )
            continue
        own = read_pem(filter(os.path.isfile, certificates.paths())).certificates
        hint = "renew it: the gateway takes a changed file by itself"
        yield judged(name, certificates.path, own, subject.wall(), hint)


def judged(
    name: str, what: str, certificates: Sequence[Certificate], now: float, hint: str
) -> Check:
    """Return the check of how long the first of some `certificates` to end is still good for: a
    failure where it has ended, or there is none, and a warning below `DAYS`.

    `what` begins the line, a path or "it", `now` is the time in Unix seconds, and `hint` says how
    to renew them. Called for the gateway's certificates here, and by `reach` for the backend's.
    """
    if not certificates:
        return fail(name, f"{what} holds no certificate", "put one in, with its key")
    ends = min(one.not_valid_after_utc for one in certificates)
    left = (ends - datetime.fromtimestamp(now, timezone.utc)).total_seconds() / 86400
    day = f"{ends:%Y-%m-%d}"
    if left < 0:
        return fail(name, f"{what} has ended on {day}", hint)
    if left < DAYS:
        return warn(name, f"{what} ends on {day}, in {left:.0f} days", hint)
    return ok(name, f"{what} is good until {day}")
