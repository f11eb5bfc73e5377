"""HTTP/1.1 towards the one backend.

fetch       a small document over HTTP
health      how the backend is
client      the backend over treq: what every request to it carries
call        one exchange: its phases and its deadlines
agent       the one origin: a pool of connections to it, an agent over that
endpoint    how to connect: TCP, TLS, a time limit
causes      what a failure is called, and why it came
connection  one connection to the origin: a request out, its response in
parser      responses out of bytes
head        a response's head, and the head that a backend sends again
"""
