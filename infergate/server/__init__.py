"""HTTP/1.1 towards clients: bytes to requests, and answers back.

connection  one client connection: limits, deadlines, flow control
routes      an app's routes, matched once
request     one request in hand, and every way to answer it
parser      requests out of bytes, and nothing ambiguous among them
addresses   where a request comes from
"""
