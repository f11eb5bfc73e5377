"""What is said: requests checked, replies shaped, streams scanned.

Pure: no socket, no clock, no Twisted. Imports `infergate.errors` alone.

    reply       the backend's reply, shaped to the contract
    chat        the chat request: parse, validate, shape
    messages    the messages of a chat: judged, and read for the echo
    members     the other members of a request, judged one by one
    refusals    what a backend says when it refuses or fails
    chunks      the chunks of a streamed completion
    events      the events of a stream: framed, passed on, told to a reader
    screening   what a client may see of a backend's words
    passing     header fields that an operator lets through
    mediatype   what the header fields declare a body to be
    usage       tokens used, and who counted them
    operations  what a backend can be asked to do: names and paths
    batches     a large array, decoded a part at a time
    strictjson  JSON from a stranger
"""
