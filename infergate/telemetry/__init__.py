"""What is known afterwards: one record a request, and every view of it.

push          when metrics and spans are pushed
collector     where they are pushed
spans         one record into its spans
tracing       which requests are traced, by what ids
otlpmetrics   the metrics as messages of OTLP
otlp          what messages of OTLP have in common
exposition    the text of /metrics, and how often it is written anew
reachability  whether the backend can be reached
accounts      one record to everybody who accounts for it
lag           how late the event loop is
metrics       one record into every metric
callers       one record into the metrics of its caller
counter       counts by labels
histogram     values in buckets, and examples of them
buckets       the ends of the buckets
batch         records that are accounted for together
logs          one event for each record, and the levels of events
textlines     an event as a line for people
jsonlines     an event as a line for machines
repeats       messages that come again and again
lines         lines on their way out
targets       where lines go
escaping      text of unknown origin, made fit for terminals
timing        where the time went, for the client
record        what is known of one request
tracecontext  which trace a request belongs to
"""
