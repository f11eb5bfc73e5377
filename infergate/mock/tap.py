"""``twistd infergate-mock``: the mock backend as a service."""

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
    """Raises msgspec.ValidationError, which names the option as a member."""
    given = {field.name: options.get(field.name.replace("_", "-")) for field in _FIELDS}
    given = {name: value for name, value in given.items() if value is not None}
    return msgspec.convert(given, Script, strict=False)


def makeService(options: Mapping[str, Any], reactor: Any = None) -> Service:
    """Listens at once, so that a port that is taken ends the process before it has begun."""
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
    def __init__(self, port: IListeningPort) -> None:
        self._port = port

    def stopService(self) -> Deferred[None] | None:
        super().stopService()  # type: ignore[no-untyped-call]
        return self._port.stopListening()
