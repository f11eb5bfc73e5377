"""Twisted made quicker, and every private name of Twisted that this takes.

writing       writing to a socket at once, or with others at the end of an event loop iteration
epoll         a quicker event loop iteration, and what can wait for its end
slices        long work in slices
deadlines     deadlines that are cheap to move, and the clock that they are on
certificates  why a certificate was not accepted
headers       header fields that are known to be good

`docs/design.md` says of each private name what it gains, and what happens without it.
"""
