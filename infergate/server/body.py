"""The body of one request, as it arrives: it may be asked for before it is whole, and fail on the
way."""

from __future__ import annotations

from io import BytesIO

from twisted.internet.defer import Deferred

from infergate.errors import BodyTooLarge, GatewayError


class Body:
    """Gathers one request's body, up to a limit in bytes.

    The connection calls `receive` with each chunk of it (by `Request.receive`) and then `end`, or
    `fail` where it will never be whole. A handler calls `read` at most once, at any time, by
    `Request.read_body`. The bytes belong to the body until they were read, then to the reader;
    nothing is kept twice.
    """

    __slots__ = ("_data", "_error", "_left", "_reader", "_whole")

    def __init__(self, limit: int) -> None:
        """Begin with nothing; `limit` is in bytes. Called when a `Request` is made."""
        # Bytes that may still come.
        self._left = limit
        self._data: bytes | BytesIO = b""
        self._whole = False
        self._error: GatewayError | None = None
        self._reader: Deferred[bytes] | None = None

    @property
    def awaited(self) -> bool:
        """Return whether a client that waits for ``100 Continue`` would wait in vain without one:
        nothing of the body has come, and it is not whole."""
        return not (self._whole or self._data)

    def receive(self, chunk: bytes) -> None:
        """Take a chunk of the body. A chunk that takes it above the limit fails it with
        `BodyTooLarge` for whoever reads it, and nothing is raised here; after a failure chunks are
        thrown away. Called by `Request.receive`."""
        if self._error is not None:
            return
        data = self._data
        self._left -= len(chunk)
        if self._left < 0:
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
        """Have `read` return: the body is whole. Called by the connection behind the last chunk,
        once."""
        self._whole = True
        if self._reader is not None:
            reader, self._reader = self._reader, None
            reader.callback(self._take())

    def fail(self, error: GatewayError) -> None:
        """Have `read` raise `error`, or the first one that was given, and let go of what has come.

        Called by the connection where the framing breaks, where the body is too slow or the client
        leaves, and by `receive` where it is too large; more than once does no harm.
        """
        self._data = b""
        self._error = self._error or error
        if self._reader is not None:
            reader, self._reader = self._reader, None
            reader.errback(error)

    def read(self) -> bytes | Deferred[bytes]:
        """Return the whole body, or a Deferred of it where some is still to come; the bytes are the
        caller's from then on. Raises the `GatewayError` that `fail` was called with, if it was, or
        has the Deferred fail with it."""
        if self._error is not None:
            raise self._error
        if self._whole:
            return self._take()
        self._reader = Deferred()
        return self._reader

    def _take(self) -> bytes:
        """Hand over what has come, and keep none of it."""
        data, self._data = self._data, b""
        return data if isinstance(data, bytes) else data.getvalue()
