"""What is known afterwards: one record a request, and every view of it.

otlp        the metrics, pushed
exposition  the text of /metrics, and how often it is written anew
metrics     one record into every metric
logs        one record into one line
repeats     messages that come again and again
lines       lines on their way out
targets     where lines go
escaping    text of unknown origin, made fit for terminals
record      what is known of one request
"""
