"""What is known afterwards: one record a request, and every view of it.

otlp        the metrics, pushed
metrics     one record into every metric
logs        one record into one line
record      what is known of one request
"""
