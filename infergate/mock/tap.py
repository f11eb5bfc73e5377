"""``twistd infergate-mock``: the mock backend as a service.

The plugin in ``twisted/plugins`` names this module to twistd, which makes an `Options`, has it
parse the command line, and calls `makeService` with it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import msgspec
from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort

from infergate.command import OneLineOptions, allow_many_connections
from infergate.mock.backend import Mock
from infergate.mock.script import Script

_FIELDS = msgspec.structs.fields(Script)


class _Where(msgspec.Struct):
    """The two options that are not the script's, checked: a port in its range, an address as
    text."""

    port: Annotated[int, msgspec.Meta(ge=0, le=65535)]
    host: str


class Options(OneLineOptions):
    """Where to listen, and the `Script` for requests that bring none of their own."""

    program = "infergate-mock"
    synopsis = "[options]"
    longdesc = (
        "A backend with the routes of llama.cpp that answers with what was asked, and is slow or "
        "fails as told: by these options, or for one request by a body member such as "
        '"mock": {"fail": "reset", "fail_after": 3}.'
    )
    optParameters = (
        ("port", "p", "9000", "the port to listen on; 0: any that is free"),
        ("host", None, "127.0.0.1", "the address to listen on"),
        *(
            (field.name.replace("_", "-"), None, None, field.type.__metadata__[-1].description)
            for field in _FIELDS
        ),
    )


def script_from(options: Mapping[str, Any]) -> Script:
    """Return the script that the options ask for; an option that is not given has its default.

    `options` are texts by their option names, as in ``{"chunk-delay": "0.5"}``. Raises
    `msgspec.ValidationError`, which names the option as a member, for a value that is not allowed.
    """
    given = {field.name: options.get(field.name.replace("_", "-")) for field in _FIELDS}
    given = {name: value for name, value in given.items() if value is not None}
    return msgspec.convert(given, Script, strict=False)


def makeService(options: Mapping[str, Any], reactor: Any = None) -> Service:
    """Listen, and return the service that stops listening when twistd ends.

    It listens at once, so that a port that is taken ends the process before it has begun. Raises
    `SystemExit` with one line for that, and for an option whose value is not allowed. twistd calls
    it without a `reactor`; a test gives its own.
    """
    if reactor is None:
        from twisted.internet import reactor
    allow_many_connections()
    try:
        where = msgspec.convert(dict(options), _Where, strict=False)
        site = Mock(script_from(options), reactor).site()
        return _Listening(reactor.listenTCP(where.port, site, 1024, where.host))
    except (msgspec.ValidationError, CannotListenError) as why:
        raise SystemExit(f"infergate-mock: {why}") from None


class _Listening(Service):
    """A service around a port that is listened on already. twistd starts and stops it."""

    def __init__(self, port: IListeningPort) -> None:
        self._port = port

    def stopService(self) -> Deferred[None] | None:
        """Stop listening; the Deferred fires when the port is closed. Connections that are open
        stay so until the process ends."""
        super().stopService()  # type: ignore[no-untyped-call]
        return self._port.stopListening()
