"""What the gateway costs, beside other gateways on the same backend: ``python -m benchmarks``.

`backend` is the model server and `load` the clients, both cheap so that two cores are enough;
`targets` is what is compared, each in an environment of its own, and `processes` runs it;
`report` makes tables and plots of the figures; `__main__` says what is run when. ``baselines/``
holds the gateways that are written by hand and the configuration of the others.
"""
