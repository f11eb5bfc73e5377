"""The keys of a JWT issuer, and its clock."""

from __future__ import annotations

from infergate.backend.fetch import MAX_BYTES, base_and_path
from infergate.doctor.asking import FAULTS, Answer, Asker
from infergate.doctor.connections import clocks
from infergate.doctor.report import Check, fail, ok
from infergate.doctor.subject import Subject

ISSUER = "JWT_JWKS_URL"


async def issuer(subject: Subject) -> list[Check]:
    """Fetch the key set of `JWT_JWKS_URL`; return one check of whether tokens can be verified by
    it, and where it came one of the issuer's clock. An empty list where the setting is not used.

    The question carries no key of the backend's. Raises `SettingsError` for a host name that no
    certificate can be for; `examine` runs this beside the backend's checks.
    """
    url = subject.settings.jwt_jwks_url
    if url is None:
        return []
    base, path = base_and_path(url)
    agent, _ = subject.servers.origin(ISSUER, url)
    asker = subject.asker(agent, base, keyless=True)
    try:
        answer = await asker.get(path, MAX_BYTES)
    except FAULTS as error:
        said = f"the key set cannot be fetched: {asker.fault(error)}"
        return [fail(ISSUER, said, "correct the URL, or start the issuer")]
    if answer.status != 200:
        said = f"the key set cannot be fetched: {asker.quote(answer)}"
        return [fail(ISSUER, said, "correct the URL")]
    return [_keys(asker, answer), *clocks("the issuer of tokens", answer, subject.wall())]


def _keys(asker: Asker, answer: Answer) -> Check:
    """Return the check of an answer with a key set: a failure where not one key in it can be used,
    or where it is no set."""
    # Imported only where tokens are checked: cryptography takes long to load.
    from infergate.access.jwks import read_keys

    try:
        count = len(read_keys(answer.body))
    except (ValueError, RecursionError):
        count = 0
    if count:
        return ok(ISSUER, f"the set has {count} usable {'key' if count == 1 else 'keys'}")
    said = f"there is no key that tokens can be verified with: {asker.shown(answer.body)}"
    return fail(ISSUER, said, "the URL must be that of a JWK set (RFC 7517)")
