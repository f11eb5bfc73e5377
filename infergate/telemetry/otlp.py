"""What metrics and traces have in common as messages of OTLP.

Needs the extra ``otlp``; imported only where something is pushed. A message is put together out of
parts that are made one by one, since all at once would keep the event loop for too long: in
protobuf, elements of a list that are written one after the other are the list.

Attributes are written here too, byte for byte: as objects of the library, which copies them into
each span, they would be most of what a trace costs.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from functools import lru_cache

from opentelemetry.proto.common.v1.common_pb2 import InstrumentationScope

from infergate import __version__

Value = str | int | float | bool

SCOPE = InstrumentationScope(name="infergate", version=__version__)

ELEMENT = b"\x12"
"""The tag of an element of a message, which its length follows."""

# In all of these messages the first field says what the elements of the second are of: a resource
# of its scopes, a scope of its metrics or spans; in an attribute they are its name and its value.
_FIRST, _SECOND = b"\x0a", b"\x12"


def message(resource: Mapping[str, Value], elements: Iterable[bytes]) -> bytes:
    """Return the body of a push: metrics or spans of one process, of which `resource` are the
    attributes.

    It is an ``ExportMetricsServiceRequest`` or an ``ExportTraceServiceRequest``, which look alike:
    one resource, one scope, and `elements`, each as `element` returns it or several in a row.
    Called by a pusher. Raises as `attribute` does.
    """
    about = field(_FIRST, b"".join(field(_FIRST, attribute(*item)) for item in resource.items()))
    scope = [field(_FIRST, SCOPE.SerializeToString()), *elements]
    size = sum(map(len, scope))
    about += _SECOND + varint(size)
    # Half a megabyte of spans, which is copied once: five times was 2 % of a request's CPU.
    return b"".join((_FIRST, varint(len(about) + size), about, *scope))


def element(data: bytes) -> bytes:
    """Return a serialized metric or span as an element of a `message`."""
    return field(ELEMENT, data)


def attribute(name: str, value: Value) -> bytes:
    """Return one attribute, a serialized `KeyValue`.

    Raises `UnicodeEncodeError` for a name that is not ASCII, `ValueError` for a negative integer.
    """
    if isinstance(value, str):
        known = field(b"\x0a", value.encode("utf-8", "replace"))
    elif isinstance(value, bool):
        known = b"\x10\x01" if value else b"\x10\x00"
    elif isinstance(value, int):
        known = b"\x18" + varint(value)
    else:
        known = b"\x21" + struct.pack("<d", value)
    return field(_FIRST, name.encode("ascii")) + field(_SECOND, known)


def field(tag: bytes, data: bytes) -> bytes:
    """Return a field of a message: its tag, the length of its bytes, and these. `tag` is the
    field's number and its wire type, as it is written: ``b"\\x0a"`` for number 1."""
    return tag + varint(len(data)) + data


@lru_cache(4096)
def varint(number: int) -> bytes:
    """Return a number as protobuf writes it: seven bits a byte, the last ones first, and a bit that
    says that more follow; 300 is ``b"\\xac\\x02"``. Raises `ValueError` for a negative number.
    Called for lengths and for integers."""
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)
