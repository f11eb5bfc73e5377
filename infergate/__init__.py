"""An inference gateway on Twisted, for one backend that speaks OpenAI's HTTP API.

The plan of the house. Each room or module imports only what stands below it; what stands on
one line never imports one another. Each room's docstring lists its modules the same way.

    console              `infergate`, the command: twistd in the foreground, and what is beside it
    report newkey        `infergate usage`: what the ledger holds; `infergate key`: a strong key
    tap                  `twistd infergate`: reads the settings and handles signals
    reload               files that are read again: keys, certificates
    certificates         those of one listener, which can be read again
    watching             files that are looked at once a second
    sharing              ports that several processes listen on
    listening greeting   where to listen; the line that says what runs
    compose              wires the gateway out of its settings
    wiring               the parts of the gateway, each out of the settings
    stores               what is kept outside the process: USAGE_DB and SHARED_STATE
    otel                 the standard OTEL_* variables
    manual dotenv        the settings as text for people; the file .env
    settings             what was asked for: each setting, its default and what is allowed
    sources              where a setting is written: option, environment, .env, a file of its own
    values               what one setting may be
    command              what both twistd plugins need
    service              start, drain, stop
    notify               what systemd is told of the service
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
    errors leftovers     every way to fail; quotes and ${NAME} that another program left

Beside them: `mock`, a backend to try things against.
"""

__version__ = "0.1.0"
