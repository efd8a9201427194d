"""gRPC-Web on the wire, as functions of bytes (grpc/grpc doc/PROTOCOL-WEB.md).

    message frame   flag:1 len:4be data          flag bit 0: compressed with `grpc-encoding`
    trailer frame   0x80   len:4be "k: v\\r\\n"…   the last frame; `grpc-status` lives there
    text mode       base64 of the above, per write; padding may sit in the middle
    HTTP/1.1 chunk  "%x\\r\\n" data "\\r\\n"       around every frame of a stream

Bytes in, values out; what the peer did wrong is an error of `kit.errors`.
"""

from collections.abc import Callable

Framing = Callable[[bytes], bytes]
"""Turns a serialized message into the bytes for the transport; one object per way of sending."""
