"""What is known afterwards: one record a request, and every view of it.

otlp        the metrics, pushed
exposition  the text of /metrics, and how often it is written anew
metrics     one record into every metric
logs        one record into one line
record      what is known of one request
"""
