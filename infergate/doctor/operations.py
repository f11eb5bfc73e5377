"""Each operation that is open, tried with a tiny request, plain and as a stream.

What is sent, and how the answer is judged, is the operation's own, as in the gateway: its row in
`api.operations` checks the request, shapes the reply and reads the stream.

An *operation* is what a backend can be asked to do, such as ``chat``; a *route* is one path of it;
an `Ask` is a request for it that was checked. A `Trial` is one route tried. A stream is *held back*
where something between the model and us has kept it until it was whole (`streaming.Listener`).
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import suppress

from msgspec import Raw

from infergate.acceptance import SUCCESS
from infergate.api.objects import written
from infergate.api.operation import Ask, Operation, Route, Rules, Stamp, request_members
from infergate.api.operations import OPERATIONS
from infergate.api.steps import at_once
from infergate.doctor.asking import Answer, NoTimeLeft, advice
from infergate.doctor.backend import BASE_PATH
from infergate.doctor.refused import refused
from infergate.doctor.report import Check, fail, ok, warn
from infergate.doctor.streaming import Listener
from infergate.doctor.subject import Subject
from infergate.errors import BackendFailure

NOT_OFFERED = (404, 405, 501)
"""Statuses that say of any operation but a chat that the backend does not have it."""

UNBUFFERED = (
    "a proxy in front of it may hold streams back until they are whole: turn buffering, caching "
    "and compression of answers off there"
)

_EVENTS, _JSON = b"text/event-stream", b"application/json"
_TRUE = Raw(b"true")


async def operations(subject: Subject) -> AsyncIterator[Check]:
    """Yield the checks of every operation that is open, one after another: it is one inference
    server.

    Each route gives one check, and a second one where it streams. Where the time is used up, or a
    fault would meet every other operation too, the last check names what was not tried. Called by
    `examine` once the models are known; `NoTimeLeft` is not raised.
    """
    left = trials(subject)
    try:
        while left and not subject.stopped:
            yield await left[0].plain()
            if left[0].goes_on:
                yield await left[0].stream()
            left.pop(0)
    except NoTimeLeft:
        alone = ",".join(dict.fromkeys(trial.operation.name for trial in left))
        yield not_tried(left, f"the time for everything has passed: check --routes={alone} alone")
        return
    if left:
        yield not_tried(left)


def trials(subject: Subject) -> list[Trial]:
    """Return a trial of each route of every operation that is open by `ROUTES`, in the order in
    which they are tried. A route without a tiny request of its own, as one that only counts tokens,
    has none."""
    return [
        Trial(subject, operation, route)
        for operation in OPERATIONS
        if operation.name in subject.settings.routes
        for route in operation.routes
        if route.sample
    ]


def not_tried(left: list[Trial], hint: str = "check again when that is mended") -> Check:
    """Return the warning that names what a fault, or the lack of time, has kept from being tried;
    `left` are those trials. Called by `operations`, and by `examine` where it comes to no trial at
    all."""
    names = ", ".join(trial.name for trial in left)
    return warn("operations", f"not tried: {names}", hint)


class Trial:
    """One route of an operation, tried. `plain` comes first; `goes_on` then says whether `stream`
    can bring anything new.

    `trials` makes them and `operations` calls them. A check is called ``chat``, or where a route is
    not the first of its operation as ``infill /completion``, and of a stream ``chat stream``.
    """

    def __init__(self, subject: Subject, operation: Operation, route: Route) -> None:
        """Send nothing yet. `route` is one of the operation's, and has a tiny request."""
        self.operation = operation
        self.name = operation.name
        if route is not operation.routes[0]:
            self.name = f"{operation.name} {route.path}"
        self.goes_on = operation.reader is not None
        self._subject = subject
        self._backend = subject.backend
        self._route = route

    async def plain(self) -> Check:
        """Send a request for a whole answer and return the check of it: how long it took, or what
        is wrong.

        A refusal clears `goes_on`. Raises `NoTimeLeft`, as `stream` does, where it is too late to
        begin.
        """
        ask = self._ask(stream=False)
        began = self._backend.now()
        try:
            call, response = await self._backend.post(self._route.target, ask.body(), _JSON)
            limit = self._subject.settings.max_response_bytes
            answer = await self._backend.whole(call, response, began, limit)
        except BackendFailure as error:
            return fail(self.name, self._backend.fault(error), advice(error))
        if not answer.good:
            return self._refused(self.name, answer)
        try:
            stamp = Stamp("check", int(time.time()))
            at_once(self.operation.shape(answer.body, ask.without_members(), stamp))
        except BackendFailure as error:
            said = f"{error.message} It says: {self._backend.shown(answer.body)}"
            return fail(self.name, said, f"if that is no {self._route.path}, {BASE_PATH}")
        return ok(self.name, f"answers in {_milliseconds(answer.seconds)}")

    async def stream(self) -> Check:
        """Send a request for a stream and return the check of it: when its first token came, or
        what is wrong.

        A stream that seems to be held back is asked for once more, and the second one counts.
        Raises `NoTimeLeft` where it is too late for the first.
        """
        check, held_back = await self._stream()
        if held_back:
            # Once more: this process itself may have been held up while the tokens came.
            with suppress(NoTimeLeft):
                check, _ = await self._stream()
        return check

    async def _stream(self) -> tuple[Check, bool]:
        """Ask for one stream and read it; return the check, and whether it seems to have been held
        back. Raises `NoTimeLeft`, and no `BackendFailure`: that is a failed check."""
        name = f"{self.name} stream"
        ask = self._ask(stream=True)
        backend = self._backend
        began = backend.now()
        try:
            call, response = await backend.post(self._route.target, ask.body(), _EVENTS)
            if response.code not in SUCCESS:
                limit = self._subject.settings.max_response_bytes
                answer = await backend.whole(call, response, began, limit)
                return self._refused(name, answer), False
        except BackendFailure as error:
            return fail(name, backend.fault(error), advice(error)), False
        listener = Listener(self._subject, self.operation, ask, call, began)
        wrong = await listener.listen()
        if wrong is not None:
            return fail(name, *wrong), False
        if listener.held_back:
            silence = _milliseconds(listener.silence)
            said = f"the backend buffers its stream: nothing for {silence}, then the rest at once"
            return fail(name, said, UNBUFFERED), True
        first = "it has no token"
        if listener.first:
            first = f"first token after {_milliseconds(listener.first - began)}"
        return ok(name, f"{first}, and its end comes"), False

    def _ask(self, *, stream: bool) -> Ask:
        """Return the tiny request, checked as a client's would be, for the model that is tried. A
        `stream` is asked for its usage where the settings say so."""
        settings = self._subject.settings
        members = request_members(self._route.sample)
        if self._subject.model is not None:
            members["model"] = written(self._subject.model)
        if stream:
            members["stream"] = _TRUE
        rules = Rules(None, 2**31, inject_usage=settings.stream_usage == "inject")
        return self.operation.check(members, self._route, rules)

    def _refused(self, name: str, answer: Answer) -> Check:
        """Return the check of an answer that is no success, after which no stream is asked for.

        An operation that the backend does not have is a warning, but for a chat; a refusal that is
        about the model says so; all else `refused` puts into words. `name` is that of the check.
        """
        said, status = self._backend.quote(answer), answer.status
        self.goes_on = False
        leave_out = f"leave {self.operation.name} out of ROUTES, where nobody needs it"
        if status in NOT_OFFERED and self.operation.name != "chat":
            return warn(name, f"not offered: {said}", leave_out)
        if status in (400, 404) and self._names_model(answer):
            models = self._subject.models
            known = f"one of {', '.join(models[:8])}" if models else "one that it has"
            said = f"the backend refuses the model {self._subject.model!r}: {said}"
            return fail(name, said, f"set DEFAULT_MODEL to {known}")
        return refused(self._subject, name, answer, BASE_PATH if status == 404 else leave_out)

    def _names_model(self, answer: Answer) -> bool:
        """Return whether a refusal with 400 or 404 is likely to be about the model that was tried:
        where that is not among those listed, or where the line of the answer has the word ``model``
        in it. With 400 the word counts only where there was no list."""
        model, models = self._subject.model, self._subject.models
        if models is not None and model not in (None, *models):
            return True
        likely = answer.status == 404 or models is None
        return likely and "model" in self._backend.quote(answer).lower()


def _milliseconds(seconds: float) -> str:
    """Return a time of some seconds as text: ``340 ms``, and from a second on ``1.2 s``."""
    return f"{1000 * seconds:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"
