"""What is said: requests checked, replies shaped, streams scanned.

Pure: no socket, no clock, no Twisted. Imports `infergate.errors` alone.

    operations  the table of operations: what a backend can be asked to do
    chat        chat completions: an operation
    reply       plain replies of completions, held to the contract
    chunks      the chunks of a streamed completion
    members     the members of a request, judged one by one
    operation   what one operation is
    messages    the messages of a chat: judged, and read for the echo
    models      the list of models, as a caller sees it
    events      the events of a stream: framed, passed on, told to a reader
    refusals    what a backend says when it refuses or fails
    screening   what a client may see of a backend's words
    passing     header fields that an operator lets through
    mediatype   what the header fields declare a body to be
    usage       tokens used, and who counted them
    batches     a large array, decoded a part at a time
    strictjson  JSON from a stranger
"""
