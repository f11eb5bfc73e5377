"""What metrics and traces have in common as messages of OTLP.

Needs the extra ``otlp``; imported only where something is pushed. A message is put together out of
parts that are made one by one, since all at once would keep the event loop for too long: in
protobuf, elements of a list that are written one after the other are the list.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache

from opentelemetry.proto.common.v1.common_pb2 import AnyValue, InstrumentationScope, KeyValue
from opentelemetry.proto.resource.v1.resource_pb2 import Resource

from infergate import __version__

Value = str | int | float | bool

SCOPE = InstrumentationScope(name="infergate", version=__version__)

# In all of these messages the first field says what the elements of the second are of: a resource
# of its scopes, a scope of its metrics or spans. Both are of wire type 2: a length, then as many
# bytes.
_FIRST, _SECOND = b"\x0a", b"\x12"


def message(resource: Mapping[str, Value], elements: Iterable[bytes]) -> bytes:
    """The body of a push: metrics or spans, each a serialized message, of one process, of which
    `resource` are the attributes."""
    scope = _field(_FIRST, SCOPE.SerializeToString())
    scope += b"".join(_field(_SECOND, element) for element in elements)
    process = _field(_FIRST, Resource(attributes=attributes(resource)).SerializeToString())
    return _field(_FIRST, process + _field(_SECOND, scope))


def attributes(known: Mapping[str, Value]) -> list[KeyValue]:
    """Attributes as OTLP has them."""
    return [attribute(name, value) for name, value in known.items()]


@lru_cache(4096)
def attribute(name: str, value: Value) -> KeyValue:
    """One attribute; most have few values, and are made once. Nobody may change it."""
    if isinstance(value, str):
        known = AnyValue(string_value=value)
    elif isinstance(value, bool):
        known = AnyValue(bool_value=value)
    elif isinstance(value, int):
        known = AnyValue(int_value=value)
    else:
        known = AnyValue(double_value=value)
    return KeyValue(key=name, value=known)


def _field(tag: bytes, data: bytes) -> bytes:
    """A field of a message: its tag, the length of its bytes as a varint, and these."""
    size, length = len(data), bytearray()
    while size > 0x7F:
        length.append(size & 0x7F | 0x80)
        size >>= 7
    length.append(size)
    return tag + bytes(length) + data
