"""Clients that pipeline: ``python -m benchmarks.flood PORT CONNECTIONS``.

Each connection writes small requests as fast as they are taken, and throws the answers away, until
standard input ends.
"""

from __future__ import annotations

import selectors
import socket
import sys

SMALL = b"GET / HTTP/1.1\r\nHost:a\r\n\r\n"
WRITE = SMALL * (65536 // len(SMALL))


class Client:
    """One connection; `unsent` begins in the middle of a request where a write was cut there."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), 60)
        self.socket.setblocking(False)
        self.unsent = memoryview(WRITE)

    def write(self) -> None:
        self.unsent = self.unsent[self.socket.send(self.unsent) :] or memoryview(WRITE)


def main(port: int, connections: int) -> None:
    selector = selectors.DefaultSelector()
    selector.register(sys.stdin, selectors.EVENT_READ)

    def connect() -> None:
        client = Client(port)
        events = selectors.EVENT_READ | selectors.EVENT_WRITE
        selector.register(client.socket, events, client)

    for _ in range(connections):
        connect()
    print("ready", flush=True)
    while True:
        for key, events in selector.select():
            client = key.data
            if client is None:
                return
            try:
                if events & selectors.EVENT_READ and not client.socket.recv(1 << 18):
                    raise ConnectionError
                if events & selectors.EVENT_WRITE:
                    client.write()
            except BlockingIOError:
                continue
            except ConnectionError:  # the gateway has had enough of this one
                selector.unregister(client.socket)
                client.socket.close()
                connect()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
