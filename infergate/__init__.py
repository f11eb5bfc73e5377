"""An inference gateway on Twisted, for one backend that speaks OpenAI's HTTP API.

A request meets the modules in this order; each imports only what stands below it.

    tap         `twistd infergate`: the only module that knows the reactor
    settings    what was asked for: options, environment, .env, defaults
    values      what one setting may be
    command     what both twistd plugins need
    service     start, drain, stop
    edge        connections: limits, deadlines, flow control
    routes      an app's routes, matched once
    gateway     the Klein app: routes, and the order of the checks
    admission   who may come in, and how often
    tokens      who is calling: JWT
    auth        who is calling: API keys
    ratelimit   how often a caller may come
    worker      a checked request in, an answer out: echo or backend
    relay       a stream on its way through
    exchange    one request in hand, and every way to answer it
    framing     HTTP/1.1 requests out of bytes, and nothing ambiguous among them
    addresses   where a request comes from
    reply       the backend's reply, shaped to the contract
    contract    the chat request: parse, validate, shape
    strictjson  JSON from a stranger
    sse         the events of a stream, and what they say
    fetch       a small document over HTTP
    backend     the backend over treq: deadlines, each failure's name
    origin      the one origin behind: its endpoint, its pool, an agent for it
    upstream    one connection to the origin: a request out, its response in
    responses   HTTP/1.1 responses out of bytes
    tokenkeys   the keys that tokens are verified with
    eager       writing to a socket at once, or with others
    turn        a turn of the reactor, and what may wait for its end
    deadlines   moments that are cheap to move
    otlp        the figures, pushed
    metrics     one record into every figure
    logs        one record into one line
    record      what is known of one request
    errors      every way to fail

Beside them: `mock` and `mock_tap`, a backend to try things against.
"""

__version__ = "0.1.0"
