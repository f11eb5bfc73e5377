"""The doctor: what `infergate check` looks at, and what it says of it.

examine       everything, in order and in time
operations    each operation that is open, tried plain and as a stream
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
"""
