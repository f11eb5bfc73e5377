"""The phases of a client's connection, and the table of what ends each.

A connection and the request on it are one state machine. `Connection._enter` alone changes its
phase, and sets the deadline that goes with it:

    phase      | deadline, from its beginning   | what its passing does      | next phase
    -----------|--------------------------------|----------------------------|--------------------
    IDLE       | HEADER_TIMEOUT for the first   | closes the connection      | HEAD, at the first
               | request, then                  | without an answer: nothing | byte of a request
               | KEEPALIVE_TIMEOUT              | was asked                  |
    QUEUED     | none: the next request is here | -                          | HEAD, when its turn
               | and waits for its turn         |                            | has come
    HEAD       | HEADER_TIMEOUT                 | answers 408                | BODY, when the head
               |                                |                            | is whole; ANSWERING,
               |                                |                            | when its body is too
    BODY       | BODY_TIMEOUT                   | fails the body: who reads  | ANSWERING, when the
               |                                | it answers 408             | body is whole
    ANSWERING  | REQUEST_TIMEOUT, from the      | answers 504, or cuts the   | DELIVERING, when the
               | first byte of the head; it     | answer that has begun      | answer is written
               | bounds HEAD and BODY too       |                            |
    WATCHING   | none: an event stream about    | -                          | CLOSED, when either
               | the gateway itself             |                            | side ends it
    DELIVERING | the same: each sweep looks how | cuts the connection        | IDLE or QUEUED, when
               | much the client has taken      |                            | the client has it
    LINGERING  | REQUEST_TIMEOUT, where an      | cuts the connection        | CLOSED
               | answer is not all taken yet    |                            |
    CLOSED     | none                           | -                          | -

DELIVERING is passed over where little is on its way; the client's next request ends it too.
LINGERING comes after HEAD, BODY or ANSWERING where the answer is the connection's last: it is
written, our side is closed or about to be, and what still arrives is thrown away. An answer may
begin in BODY already; it is then the connection's last too, since the rest of the body stays
unread. From each phase a lost connection leads to CLOSED.

Beside the phase stands `flow.Flow`: in any phase, while more was written than the client takes,
and in LINGERING, a client that takes nothing is cut.
"""

from __future__ import annotations

from enum import IntEnum


class Phase(IntEnum):
    """Where a connection stands. The numbers go up with the course of an exchange, so that ``phase
    >= LINGERING`` asks whether anything written now comes too late to be part of an answer, and a
    comparison costs no more than one of integers."""

    IDLE = 0
    QUEUED = 1
    HEAD = 2
    BODY = 3
    ANSWERING = 4
    WATCHING = 5
    DELIVERING = 6
    LINGERING = 7
    CLOSED = 8


IDLE, QUEUED, HEAD, BODY, ANSWERING, WATCHING, DELIVERING, LINGERING, CLOSED = Phase
