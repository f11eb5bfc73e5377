"""The body of one request, as it arrives."""

from __future__ import annotations

from io import BytesIO

from twisted.internet.defer import Deferred

from infergate.errors import BodyTooLarge, GatewayError


class Body:
    """Gathers one request's body, up to a limit in bytes.

    The connection calls `receive` with each chunk of it and then `end`, or `fail` where it will
    never be whole. A handler calls `read` at most once, at any time. The bytes belong to the body
    until they were read, then to the reader; nothing is kept twice.
    """

    __slots__ = ("_data", "_error", "_limit", "_reader", "_whole")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._data: bytes | BytesIO = b""
        self._whole = False
        self._error: GatewayError | None = None
        self._reader: Deferred[bytes] | None = None

    def __len__(self) -> int:
        data = self._data
        return len(data) if isinstance(data, bytes) else data.tell()

    @property
    def awaited(self) -> bool:
        """Whether a client that waits for ``100 Continue`` would wait in vain without one."""
        return not (self._whole or self._data)

    def receive(self, chunk: bytes) -> None:
        """Take a part of the body; too much of it fails the body for whoever reads it."""
        if self._error is not None:
            return
        data = self._data
        if len(self) + len(chunk) > self._limit:
            self.fail(BodyTooLarge())
        elif not data:
            self._data = chunk
        else:
            # One buffer: a list of two-byte chunks would take twenty times their size. This kind
            # gives out what it holds without a copy.
            if isinstance(data, bytes):
                first, data = data, BytesIO()
                data.write(first)
                self._data = data
            data.write(chunk)

    def end(self) -> None:
        self._whole = True
        if self._reader is not None:
            reader, self._reader = self._reader, None
            reader.callback(self._take())

    def fail(self, error: GatewayError) -> None:
        """`read` raises `error`, or the first one that was given. What came is let go."""
        self._data = b""
        self._error = self._error or error
        if self._reader is not None:
            reader, self._reader = self._reader, None
            reader.errback(error)

    async def read(self) -> bytes:
        """The whole body, once it is there. Raises what `fail` was called with, if it was."""
        if self._error is not None:
            raise self._error
        if self._whole:
            return self._take()
        self._reader = Deferred()
        return await self._reader

    def _take(self) -> bytes:
        data, self._data = self._data, b""
        return data if isinstance(data, bytes) else data.getvalue()
