"""Usage that lasts: what was used, by hour, caller, operation, model and outcome.

Fed from the record of each request and from nothing else. Nothing here ever holds up a request:
records are added up in memory, and one thread writes the sums to the database.

writer      one batch at a time, what a database that is away costs, and the stop
connecting  which of the two a USAGE_DB names
postgresql  the table in PostgreSQL
sqlite      the table in an SQLite file
mounts      whether a file is on a network file system
thread      one thread for what blocks
report      the sums as a table, CSV or JSON
queries     what is read out of the table
schema      the tables, their versions, and what a database must do
gathering   what is not written yet, in bounded memory
entry       one record into one row

The terms: a record (`telemetry.record.Record`) is what is known of one exchange; a row adds up all
records of one hour, caller, operation, model and outcome; a batch is up to 1,000 rows that are
written in one transaction; a store (`schema.IStore`) is the database of either kind.
"""
