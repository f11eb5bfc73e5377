"""What is said: requests checked, replies shaped, streams scanned.

Pure: no socket, no clock, no Twisted. Imports `infergate.errors` alone.

    reply       the backend's reply, shaped to the contract
    chat        the chat request: parse, validate, shape
    messages    the messages of a chat: judged, and read for the echo
    members     the other members of a request, judged one by one
    events      the events of a stream, and what they say
    mediatype   what the header fields declare a body to be
    usage       tokens used, and who counted them
    operations  what a backend can be asked to do: names and paths
    batches     a large array, decoded a part at a time
    strictjson  JSON from a stranger
"""
