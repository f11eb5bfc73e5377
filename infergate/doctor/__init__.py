"""The doctor: what `infergate check` looks at, and what it says of it.

examine       everything, in order and in time
operations    each operation that is open, tried plain and as a stream
streaming     a stream read to its end: whether it is whole, and when its tokens come
backend       whether it is well, what it is, which models it lists
kinds         which server it is
refused       what a refusal means, and what to do about it
reaching      its name, port, TLS and certificate
keys          the keys of a JWT issuer
connections   how idle connections are treated, and whether clocks agree
stores        the ledger and Redis
certificates  those that are about to end
machine       what this machine gives a process
subject       what is examined, and what is known of it so far
asking        one question to a server, and its answer
report        what was looked at, as lines and as an object

Four terms mean the same everywhere here. A *check* is one thing that was looked at, with what was
found and what to do about it (`report.Check`). The *subject* is the gateway that the settings
describe, with the backend behind it; each module is handed it, and the first ones leave in it what
the later ones need (`subject.Subject`). An *asker* sends requests to one server (`asking.Asker`),
and an *answer* is the whole of what came back (`asking.Answer`). What is wrong with anything that
is looked at becomes a check and no exception; what a function raises none the less is said with it.
"""
