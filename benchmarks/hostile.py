"""A backend that answers with what is most work: ``python -m benchmarks.hostile PORT``.

``POST /next`` with a body sets what every request after it is answered with: the body as it is,
with the content type of the request for it. So it keeps no shapes of its own.
"""

from __future__ import annotations

import asyncio
import re
import sys
from typing import cast

import uvloop

from benchmarks.replies import PLAIN

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_TYPE = re.compile(rb"\r\ncontent-type: *([^\r]*)", re.IGNORECASE)


class Hostile(asyncio.Protocol):
    """One connection: requests one after the other, kept alive."""

    reply = PLAIN

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._request = bytearray()
        self._size = 0

    def data_received(self, data: bytes) -> None:
        request = self._request
        request += data
        if not self._size and (head := request.find(b"\r\n\r\n") + 4) >= 4:
            length = _LENGTH.search(request, 0, head)
            self._size = head + int(length[1]) if length else head
        if self._size and len(request) >= self._size:
            self._answer(bytes(request[: self._size]))
            del request[: self._size]
            self._size = 0

    def _answer(self, request: bytes) -> None:
        if request.startswith(b"POST /next "):
            head, _, body = request.partition(b"\r\n\r\n")
            declared = _TYPE.search(head)
            kind = declared[1] if declared else b"application/json"
            fields = b"Content-Type: %b\r\nContent-Length: %d" % (kind, len(body))
            Hostile.reply = b"HTTP/1.1 200 OK\r\n%b\r\n\r\n%b" % (fields, body)
            self._transport.write(b"HTTP/1.1 204 Set\r\n\r\n")
        else:
            self._transport.write(Hostile.reply)


async def main(port: int) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Hostile, "127.0.0.1", port, backlog=4096)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1])))
