"""Twisted made quicker, and every private name of Twisted that this takes.

writing     writing to a socket at once, or with others at the end of a turn
epoll       a turn of the reactor, and what may wait for its end
deadlines   deadlines that are cheap to move
headers     header fields that are known to be good
"""
