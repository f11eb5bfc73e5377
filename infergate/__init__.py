"""An inference gateway on Twisted, for one backend that speaks OpenAI's HTTP API.

The plan of the house. Each room or module imports only what stands below it; what stands on
one line never imports one another. Each room's docstring lists its modules the same way.

    commands             `infergate`: the command and its subcommands
    tap                  `twistd infergate`: reads the settings, listens, makes the service
    doctor               what `infergate check` looks at, and what it says of it
    compose              wires the gateway out of its settings
    wiring               the parts of the gateway, each out of the settings
    process              listening, reloading, draining: how the process lives
    config               what was asked for: settings, where they are written, what they may be
    command              what the plugins and the commands share
    gateway              the Klein app: routes, and the order of the checks
    worker               a checked request in, an answer out: echo or backend
    acceptance           whether the backend took the request
    relay                a stream on its way through
    status               the status page and its feed
    access               who may come in, and how much
    server backend       HTTP towards clients; HTTP towards the backend
    ledger               usage that lasts, in SQLite or PostgreSQL
    telemetry            what is known afterwards
    api                  what is said: pure, no socket, no clock
    reactor              Twisted made quicker
    errors               every way to fail

Beside them: `mock`, a backend to try things against.

How to read a docstring. It says what a function may raise: where it names no error, the function
raises none of its own. A name that begins with an underscore is used in its own module alone, by
the class or the functions around it; who calls any other is said where its class, its module or its
room does not tell. A nested function is part of the one around it, whose docstring speaks for both.
"""

import os

__version__ = "0.1.0"

# Where systemd, or what does its work, hands over sockets without names, Twisted takes none of
# them. It looks once, when its endpoints are imported, and that is after this module was. They get
# the name that sd_listen_fds_with_names(3) gives them.
if (_count := os.environ.get("LISTEN_FDS", "")).isdecimal():
    os.environ.setdefault("LISTEN_FDNAMES", ":".join(["unknown"] * int(_count)))
