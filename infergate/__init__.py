"""An inference gateway on Twisted, for one backend that speaks OpenAI's HTTP API.

A request meets the modules in this order; each imports only what stands below it.

    settings    what was asked for: options, environment, .env, defaults
    tap         `twistd infergate`: the only module that knows the reactor
    service     start, drain, stop
    edge        connections: limits, deadlines, flow control, one record a request
    framing     HTTP/1.1 requests out of bytes, and nothing ambiguous among them
    gateway     the Klein app: routes, and the order of the checks
    auth        who is calling: API keys
    tokens      who is calling: JWT
    ratelimit   how often
    contract    the chat request and its reply: parse, validate, shape
    worker      a checked request in, an answer out: echo or backend
    relay       the body on its way through
    sse         the events of a stream, and what they say
    backend     the backend over treq: pool, deadlines, each failure's name
    deadlines   moments that are cheap to move
    metrics     one record into every figure
    otlp        the same figures, pushed
    logs        one record into one line
    record      what is known of one request
    errors      every way to fail

Beside them: `mock` and `mock_tap`, a backend to try things against.
"""

__version__ = "0.1.0"
