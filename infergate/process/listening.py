r"""Where to listen, and a sentence about what cannot be listened on.

Twisted's endpoint strings fail in Python's words: ``systemd:`` without a descriptor with "list
index out of range", ``tls:`` without a directory with "missing 1 required positional argument".
Here each failure becomes a `SettingsError`, one line that names the setting, its value and what is
allowed.

An endpoint string is a kind and arguments between colons; a colon in an argument has a backslash
before it:

    ssl:8443:privateKey=key.pem:certKey=cert.pem    kind ssl, one unnamed argument, two named
    unix:/run/a\:b                                  kind unix, one unnamed argument
"""

from __future__ import annotations

import errno
import os
import re
import socket
from contextlib import suppress
from pathlib import Path
from typing import Any

from cryptography.exceptions import UnsupportedAlgorithm
from OpenSSL import SSL, crypto
from twisted.internet.endpoints import quoteStringArgument, serverFromString
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort, IProtocolFactory
from twisted.python.failure import Failure

from infergate.config.settings import Settings
from infergate.config.sources import SettingsError
from infergate.process.pem import read_pem

BACKLOG = 1024
"""Connections that may wait to be accepted: many clients come back at once after a restart."""

SOCKET_MODE = "660"
"""Who may use a Unix socket: its owner and group. Twisted's 666 lets in everybody on the machine,
and a socket is chosen over a port to let in less."""

FORMS = {
    "tcp": "tcp:PORT or tcp:PORT:interface=ADDRESS",
    "tcp6": "tcp6:PORT or tcp6:PORT:interface=ADDRESS",
    "unix": "unix:PATH or unix:PATH:mode=600",
    "ssl": "ssl:PORT:privateKey=FILE:certKey=FILE",
    "tls": "tls:DIRECTORY:port=PORT, with the certificates and keys in DIRECTORY/NAME.pem",
    "systemd": "systemd:domain=INET:index=0 or systemd:domain=INET:name=NAME",
    "haproxy": "haproxy: before one of the others, as in haproxy:tcp:PORT",
}
"""How each endpoint is written."""

ORDERS = {
    "unix": ("address", "mode", "backlog", "lockfile"),
    "ssl": ("port", "privateKey", "certKey", "sslmethod", "interface", "backlog", "extraCertChain",
            "dhParameters"),
    "tls": ("path", "port", "backlog", "interface"),
}  # fmt: skip
"""The names of the arguments that may stand unnamed, in their order, of the kinds of which anything
but the kind is looked at here."""

# A colon, and an equals sign, that no backslash takes its meaning from.
_COLON = re.compile(r"(?<!\\):")
_EQUALS = re.compile(r"(?<!\\)=")


def listen_main(reactor: Any, settings: Settings, factory: IProtocolFactory) -> IListeningPort:
    """Listen on the main port, where the settings say, and return the port, which listens already.

    Called by `tap` before the reactor runs. That is `LISTEN`, an endpoint string, or else `PORT`
    on `HOST`. Raises `SettingsError`, which names the one of the three that is at fault.
    """
    if settings.listen is not None:
        return listen(reactor, "LISTEN", settings.listen, factory)
    host = quoteStringArgument(settings.host)
    description = f"tcp:{settings.port}:interface={host}:backlog={BACKLOG}"
    try:
        return _listening(reactor, description, factory)
    except Exception as error:
        setting, value = "PORT", str(settings.port)
        if _is_about_the_host(error):
            setting, value = "HOST", settings.host
        raise SettingsError(setting, value, _sentence(description, error)) from None


def listen(
    reactor: Any, setting: str, description: str, factory: IProtocolFactory
) -> IListeningPort:
    """Listen at an endpoint string, and return the port, which listens already.

    Called by `listen_main` for `LISTEN` and by `tap` for `METRICS_LISTEN`; `setting` is the name of
    that one, for the `SettingsError` that this raises for whatever is wrong.
    """
    try:
        return _listening(reactor, with_mode(description), factory)
    except Exception as error:
        raise SettingsError(setting, description, _sentence(description, error)) from None


def with_mode(description: str) -> str:
    """Return an endpoint string with the mode of its Unix socket: `SOCKET_MODE`, unless it says
    another, by name or as its second argument. Other endpoints are returned as they are.

        unix:/run/gate             unix:/run/gate:mode=660
        unix:/run/gate:mode=600    as it is

    Called by `listen`; raises nothing.
    """
    kind, arguments = read_endpoint(description)
    if kind != "unix" or "mode" in arguments:
        return description
    return f"{description}:mode={SOCKET_MODE}"


def read_endpoint(description: str) -> tuple[str, dict[str, str]]:
    """Return the kind of an endpoint string, and its arguments by their names, those that stand
    unnamed by the names that `ORDERS` has for them.

        haproxy:tls:/etc/gate:port=8443    ("tls", {"path": "/etc/gate", "port": "8443"})

    Of ``haproxy:`` that is the endpoint behind it. Nothing is checked: Twisted refuses what it
    cannot listen with. Called by the modules of this room; raises nothing.
    """
    kind, *arguments = _COLON.split(description)
    if kind == "haproxy" and arguments:
        kind, *arguments = arguments
    named: dict[str, str] = {}
    unnamed = iter(ORDERS.get(kind, ()))
    for argument in arguments:
        *written, value = _EQUALS.split(argument, maxsplit=1)
        name = written[0] if written else next(unnamed, None)
        if name is not None:
            named[name] = re.sub(r"\\(.)", r"\1", value)
    return kind, named


def _listening(reactor: Any, description: str, factory: IProtocolFactory) -> IListeningPort:
    """Listen at once, and return the port: what is wrong shows before anything has started.

    Raises whatever the endpoint does, which `_sentence` puts into words, and what
    `_check_certificates` does. An endpoint of a plugin whose Deferred fires later is refused with
    `ValueError`: nothing could be said of it in time. Called by `listen_main` and `listen`.
    """
    _check_certificates(description)
    _drop_stale_lock(description)
    outcome: list[Any] = []
    serverFromString(reactor, description).listen(factory).addBoth(outcome.append)
    for listening in outcome:
        if isinstance(listening, Failure):
            listening.raiseException()
        if IListeningPort.providedBy(listening):
            return listening
    raise ValueError(f"{description} does not listen, or not at once")


def _check_certificates(description: str) -> None:
    """Refuse a ``tls:`` directory of certificates that holds none, or that holds a root.

    Twisted looks into an empty one only when a client comes, whose handshake then fails; with a
    root among them it never ends. Raises `FileNotFoundError` or `ValueError` for the first and
    `OSError` for the second (see `Contents.check_roots`) or a file that cannot be read, `TypeError`
    for a key behind a password. Any other endpoint passes. Called by `_listening`.
    """
    kind, arguments = read_endpoint(description)
    if kind == "tls":
        path = arguments.get("path")
        if not path:
            raise ValueError("no directory")
        if not any(Path(path).glob("*.pem")):
            raise FileNotFoundError(errno.ENOENT, "No certificate", f"{path}/*.pem")
        # What is broken Twisted refuses itself.
        with suppress(ValueError, UnsupportedAlgorithm):
            read_pem(Path(path).rglob("*.pem")).check_roots()


def _drop_stale_lock(description: str) -> None:
    """Remove a Unix socket and its lock, where it has one and nobody listens any more.

    Twisted keeps the id of its process in a link beside the socket, ``gate.lock``, and takes over
    from a process that is gone. But in a container each process has the id of the one before it: of
    one that was killed the lock would hold for ever. Any other endpoint passes. Raises nothing.
    Called by `_listening`.
    """
    kind, arguments = read_endpoint(description)
    path = arguments.get("address")
    if kind != "unix" or path is None:
        return
    with suppress(OSError), socket.socket(socket.AF_UNIX) as client:
        client.settimeout(1)
        try:
            client.connect(path)
        except ConnectionRefusedError:
            os.unlink(f"{path}.lock")
            os.unlink(path)


def _is_about_the_host(error: Exception) -> bool:
    """Return whether the address is at fault, and not the port on it: a host name that cannot be
    resolved, or an address that is no address of this machine.

    Called by `listen_main`, to name `HOST` or `PORT`, and by `_sentence`.
    """
    cause = error.socketError if isinstance(error, CannotListenError) else error
    if isinstance(cause, (socket.gaierror, UnicodeError)):
        return True
    return getattr(cause, "errno", None) in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)


def _sentence(description: str, error: Exception) -> str:
    """Return what is wrong with an endpoint, in words that can follow its setting and value.

    `error` is what listening raised, of whatever class. What the operating system said is kept
    (``Address already in use``); what Python said of the string's form is not, and the form of that
    kind of endpoint is shown in its place. Called by `listen_main` and `listen` for the
    `SettingsError`.
    """
    kind = _COLON.split(description)[0]
    if _is_about_the_host(error):
        cause = getattr(error, "socketError", error)
        return f"must be an address of this machine: {getattr(cause, 'strerror', None) or cause}"
    if isinstance(error, CannotListenError):
        cause = error.socketError
        return f"cannot be listened on: {getattr(cause, 'strerror', None) or cause}"
    if isinstance(error, OSError):
        # Of a Unix socket it is the name of the lock, which says nothing.
        named = f": {error.filename}" if kind in ("ssl", "tls") and error.filename else ""
        return f"cannot be listened on: {error.strerror or error}{named}"
    if isinstance(error, (SSL.Error, crypto.Error)):
        return "must name a certificate and its key, in PEM form"
    if kind == "systemd" and isinstance(error, LookupError):
        return "must name a descriptor that systemd hands over, and it has handed over no such one"
    if kind in FORMS:
        return f"must be {FORMS[kind]}"
    return f"must begin with {', '.join(f'{known}:' for known in FORMS)}"
