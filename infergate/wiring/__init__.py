"""The parts of one gateway, each made out of the settings: `compose` puts them together.

Nothing here listens, connects or logs. What is made is started by `service`. A setting that shows
to be wrong only when its part is made raises `SettingsError`, which ends the start with one line.

pushing     what is pushed by OTLP, and what gives ids to traces
backing     the worker, and how the backend is
callers     who is known, what each may do, and where it is counted
stores      what is kept outside the process: USAGE_DB and SHARED_STATE
servers     the servers that a gateway reaches
"""
