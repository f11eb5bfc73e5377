"""What the gateway costs, beside other gateways on the same backend: ``python -m benchmarks``.

`__main__` says what is run when. Three processes meet: a `backend` (or one that is `hostile`), a
target in the middle, and clients (`load`, `probe`, `flood`), all cheap, so that two cores are
enough.

processes, targets, bench   what is started, how, and what it cost
question, replies, shapes   what is said over the wire
peers                       beside other gateways, one load after the other
dialects                    a streamed chunk of each dialect beside one of a chat
waits, watched              how long one request or reply keeps the others waiting
growth                      how cost grows with what there is more of
scaling, shared_port,       what two processes on one port carry, Redis's share, and a simulation
shared_state, model,        of the event loop with costs that are fitted to measurements
simulation
instructions, inmemory      what is executed, counted by callgrind
versions                    two versions of the gateway in alternating runs
report, plots, page         tables, plots, and where they go

``baselines/`` holds the gateways that are written by hand and the configuration of the others,
``instructions.json`` the counts to compare with.
"""
