"""HTTP/1.1 towards the one backend.

fetch       a small document over HTTP
client      the backend over treq: what every request to it carries
health      whether the backend is well
call        one exchange: its phases, its deadlines, and a name for each failure
agent       the one origin: a pool of connections to it, an agent over that
endpoint    how to connect: TCP, TLS, a time limit
connection  one connection to the origin: a request out, its response in
parser      responses out of bytes
"""
