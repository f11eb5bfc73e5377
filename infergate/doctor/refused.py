"""What a backend's refusal means for the gateway, and what to do about it."""

from __future__ import annotations

from infergate.api.refusals import NOT_BEGUN, NOT_SHOWN
from infergate.doctor.asking import Answer
from infergate.doctor.report import Check, fail
from infergate.doctor.subject import Subject


def refused(subject: Subject, name: str, answer: Answer, hint: str) -> Check:
    """Return the failed check of an answer that is no success: what its status means for the
    gateway, and what to do about it.

    `name` is that of the check, and `hint` is for a status that says no more than that the request
    was refused. The answer is quoted. Sets `stopped` in the subject where any other question would
    get the same answer: 401 and 403 are about the gateway's key, 503 and 529 about a backend that
    is not ready. Called for each refusal of the backend's that has no check of its own. Raises
    nothing.
    """
    said, status = subject.backend.quote(answer), answer.status
    # Every other question would get the same answer.
    subject.stopped = subject.stopped or status in NOT_SHOWN | NOT_BEGUN
    if status in NOT_SHOWN:
        hint = "set BACKEND_API_KEY to a key that the backend takes"
        if subject.settings.backend_api_key is not None:
            hint = "BACKEND_API_KEY is none that the backend takes: correct it"
        return fail(name, f"the backend refuses the key: {said}", hint)
    if status in NOT_BEGUN:
        hint = "wait until it has loaded, and check again"
        return fail(name, f"the backend is still loading, or has too much to do: {said}", hint)
    if 300 <= status < 400:
        where = subject.backend.shown(answer.field(b"location")) or "nowhere"
        hint = "the gateway follows no redirect: set BACKEND_URL to where it leads"
        return fail(name, f"the backend redirects to {where}: {said}", hint)
    if status == 429:
        hint = "it lets nobody ask so often: check again later"
    if status >= 500:
        return fail(name, f"the backend fails: {said}", "the backend's own log says why")
    return fail(name, f"the backend refuses it: {said}", hint)
