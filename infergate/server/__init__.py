"""HTTP/1.1 towards clients: bytes to requests, and answers back.

edge        the connections of one listener: limits, turns, the end of all
connection  one client connection: bytes, flow control, the change of its phases
places      who has a place below MAX_CONNECTIONS, and who makes room
flow        flow control, and a client that takes nothing
routes      an app's routes, matched once
request     one request in hand, and every way to answer it
lines       lines of an answer's head, each made once
body        a request's body, as it arrives
phases      where a connection stands, and what ends each phase
parser      requests out of bytes, and nothing ambiguous among them
grammar     what a head may say, and how it says where the body ends
facts       what a head says of its request
head        a request's head, and the head that a client sends again
origins     which web pages may call
addresses   where a request comes from
"""
