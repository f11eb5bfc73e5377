"""The backend as a server: whether it is well, what it is, which models it lists.

`examine` calls `health` and then `listing`, once the server was reached. The list of models is read
by the gateway's own `models.names`, which is a `Steps`, a generator that gives way to the event
loop between two slices of a long text; here `at_once` runs it in one go.
"""

from __future__ import annotations

from infergate.api import models
from infergate.api.operations import MODELS_PATH
from infergate.api.steps import at_once
from infergate.doctor.asking import FAULTS, Answer, advice
from infergate.doctor.connections import clocks
from infergate.doctor.kinds import kind_of
from infergate.doctor.reaching import SECURE, speaks_tls
from infergate.doctor.refused import refused
from infergate.doctor.report import Check, fail, ok, warn
from infergate.doctor.subject import Subject
from infergate.errors import BackendError, GatewayTimeout

HEALTH, MODELS, KIND = "health", "models", "backend"

SHOWN = 12
"""Models that are named in a line."""

BASE_PATH = (
    "the base path of BACKEND_URL may be wrong: it is that of the API, as in an SDK's base_url"
)

_BASES = ("/v1", "/openai/v1", "/api/v1", "")
"""Where the API is looked for, at the server's root and below the path that was given."""


async def health(subject: Subject) -> list[Check]:
    """Ask the health route how the backend is; return one check, or an empty list where
    `BACKEND_HEALTH_PATH` is empty.

    No answer, a 5xx but 501, and plain HTTP at a port that has TLS are failures; any other status
    but 200 is a warning, since the backend may have no such route. Raises `SettingsError` as
    `speaks_tls` does.
    """
    path = subject.settings.backend_health_path
    if not path:
        return []
    try:
        answer = await subject.backend.get(path)
    except FAULTS as error:
        return [await _unanswered(subject, HEALTH, error)]
    if answer.status == 200:
        return [ok(HEALTH, f"{path} answers 200")]
    if answer.status == 400 and await speaks_tls(subject):
        return [_plainly(subject, HEALTH, subject.backend.quote(answer))]
    if answer.status >= 500 and answer.status != 501:
        return [refused(subject, HEALTH, answer, "")]
    hint = "set BACKEND_HEALTH_PATH to a route that answers 200 while the backend is well"
    if subject.settings.backend_timeout is None:
        hint += "; without one no answer may take more than 60 s to begin"
    return [warn(HEALTH, f"{path} answers {subject.backend.quote(answer)}", hint)]


async def listing(subject: Subject) -> list[Check]:
    """Ask for the list of models; return what the backend is and what it lists, and whether its
    clock is right where callers come with JWTs.

    Leaves the `kind` and the `models` in the subject, and `stopped` where no operation need be
    tried. Raises `SettingsError` as `speaks_tls` does.
    """
    limit = subject.settings.max_response_bytes
    try:
        answer = await subject.backend.get(MODELS_PATH, limit)
    except FAULTS as error:
        return [await _unanswered(subject, MODELS, error)]
    checks = []
    if subject.checks_tokens:
        checks = clocks("the backend", answer, subject.wall())
    subject.kind = await kind_of(subject.backend, answer)
    checks.append(
        ok(KIND, f"{subject.kind or 'a server of no kind that is known here'} at {subject.url}")
    )
    return [*checks, await _models(subject, answer)]


async def _models(subject: Subject, answer: Answer) -> Check:
    """Return the check of what an answer says of the models, which are kept in the subject. A
    success that is no list, as a web page is none, is a failure. Raises `SettingsError` as
    `speaks_tls` does."""
    if not answer.good:
        return await _not_listed(subject, answer)
    try:
        subject.models = at_once(models.names(answer.body))
    except BackendError as error:
        said = f"{error.message} It says: {subject.backend.shown(answer.body)}"
        subject.stopped = True
        return await _elsewhere(subject, said) or fail(MODELS, said, BASE_PATH)
    return _listed(subject, subject.models)


def _listed(subject: Subject, names: list[str]) -> Check:
    """Return the check of a list that was read: whether there is a model in it, and the
    `DEFAULT_MODEL` where one is set. Up to `SHOWN` names are in its line."""
    shown = ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")
    model = subject.settings.default_model
    if model and model not in names:
        said = f"DEFAULT_MODEL={model!r} is not among those listed: {shown or 'there are none'}"
        return warn(MODELS, said, "set DEFAULT_MODEL to one of them, unless the backend takes any")
    if not names:
        return warn(MODELS, "the list is empty", "have the backend load a model")
    return ok(MODELS, f"{len(names)} listed: {shown}")


async def _not_listed(subject: Subject, answer: Answer) -> Check:
    """Return the check of an answer to the question for the models that is no success.

    With 404, 405 and 501 there may be no list at all, which is a warning alone: operations are
    tried all the same, with the `DEFAULT_MODEL`. Raises `SettingsError` as `speaks_tls` does.
    """
    said = subject.backend.quote(answer)
    if answer.status == 400 and await speaks_tls(subject):
        return _plainly(subject, MODELS, said)
    if answer.status in (400, 404, 405, 501):
        elsewhere = await _elsewhere(subject, said)
        if elsewhere is not None:
            return elsewhere
    if answer.status in (404, 405, 501):
        return warn(MODELS, f"there is no list: {said}", f"set DEFAULT_MODEL. Or {BASE_PATH}")
    return refused(subject, MODELS, answer, BASE_PATH)


async def _elsewhere(subject: Subject, said: str) -> Check | None:
    """Return the failed check that says that the path of `BACKEND_URL` is wrong, where the list is
    found at another; None where it is at none of those that are usual, or the backend is a Unix
    socket.

    `said` is what was said at the path that was given. Of ``http://host/api`` it is looked for at
    ``/v1``, ``/openai/v1`` and ``/api/v1``, at ``/api`` and below it. Once it is found nothing more
    is asked. Raises nothing: a path that gives no answer is passed over.
    """
    if subject.url.startswith("unix:"):
        return None
    scheme, _, rest = subject.url.partition("://")
    root, _, path = rest.partition("/")
    parents = dict.fromkeys(("", f"/{path}".removesuffix("/v1")))
    # The root itself cannot be the base: BACKEND_URL without a path means /v1.
    bases = dict.fromkeys(parent + below for parent in parents for below in _BASES)
    for base in filter(None, bases):
        url = f"{scheme}://{root}{base}"
        try:
            answer = await subject.asker(subject.origin[0], url).get("/v1/models")
            if url != subject.url and answer.good and at_once(models.names(answer.body)):
                subject.stopped = True
                wrong = f"the base path of BACKEND_URL is wrong, there is no list of models: {said}"
                return fail(MODELS, wrong, f"set BACKEND_URL={url}, which has one")
        except (*FAULTS, BackendError):
            continue
    return None


async def _unanswered(subject: Subject, name: str, error: Exception) -> Check:
    """Return the failed check for a question that got no answer; `error` is one of `FAULTS`, and
    `name` that of the question, `HEALTH` or `MODELS`. Nothing more is asked after the latter.

    Raises `SettingsError` as `speaks_tls` does.
    """
    said = subject.backend.fault(error)
    # A server that has TLS does not wait where it is spoken to without.
    if not isinstance(error, GatewayTimeout) and await speaks_tls(subject):
        return _plainly(subject, name, said)
    subject.stopped = name == MODELS
    return fail(name, said, advice(error))


def _plainly(subject: Subject, name: str, said: str) -> Check:
    """Return the failed check for plain HTTP at a port that has TLS, after which nothing more is
    asked. `said` is what the server said to it."""
    subject.stopped = True
    return fail(name, f"plain HTTP is spoken to a port that has TLS: {said}", SECURE)
