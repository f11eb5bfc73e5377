"""What is said: requests checked, replies shaped, streams scanned.

Pure: no socket, no clock, no Twisted. Imports `infergate.errors` alone.

    reply       the backend's reply, shaped to the contract
    chat        the chat request: parse, validate, shape
    events      the events of a stream, and what they say
    mediatype   what the header fields declare a body to be
    usage       tokens used, and who counted them
    operations  what a backend can be asked to do: names and paths
    strictjson  JSON from a stranger
"""
