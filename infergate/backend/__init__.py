"""HTTP/1.1 towards the one backend.

fetch       a small document over HTTP
client      the backend over treq
call        one exchange: four deadlines, and a name for each failure
agent       the one origin: its endpoint, its pool, an agent for it
connection  one connection to the origin: a request out, its response in
parser      responses out of bytes
"""
