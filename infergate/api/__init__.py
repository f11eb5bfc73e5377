"""What is said: requests checked, replies shaped, streams scanned.

Pure: no socket, no clock, no Twisted. Imports `infergate.errors` alone.

    operations        the table of operations: what a backend can be asked to do
    completions       text completions: an operation
    chat              chat completions: an operation
    reply             plain replies of completions, held to the contract
    chunks            the chunks of a streamed completion
    responses         OpenAI's responses: an operation
    response_events   the events of a streamed response
    anthropic         Anthropic's messages: an operation
    anthropic_events  the events of a streamed message
    embeddings        texts into vectors: an operation
    rerank            documents in order: an operation
    tokenize          what a model reads: an operation
    models            the list of models, as a caller sees it
    infill            llama.cpp's own completions: an operation
    echo              what the echo says
    members           the members of a request, judged one by one
    prompts           a prompt: a text, tokens, or several of these
    operation         what one operation is
    messages          the messages of a chat: judged, and read for the echo
    names             the names of members, counted in a text
    events            the events of a stream: framed, passed on, told to a reader
    repeats           a short cut for events that differ in their text alone
    refusals          what a backend says when it refuses or fails
    objects           objects of JSON, taken apart and put together again
    screening         what a client may see of a backend's words
    passing           header fields that an operator lets through
    mediatype         what the header fields declare a body to be
    usage             tokens used, and who counted them
    batches           a large array, decoded a part at a time
    strictjson        JSON from a stranger
    steps             long work in steps
"""
