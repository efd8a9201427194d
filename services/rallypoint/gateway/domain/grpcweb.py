"""gRPC-Web on the wire, as functions of bytes (grpc/grpc doc/PROTOCOL-WEB.md).

    message frame   flag:1 len:4be data          flag bit 0: compressed with `grpc-encoding`
    trailer frame   0x80   len:4be "k: v\\r\\n"…   the last frame; `grpc-status` lives there
    text mode       base64 of the above, per write; padding may sit in the middle
    HTTP/1.1 chunk  "%x\\r\\n" data "\\r\\n"       around every write of a stream

Bytes in, values out; what the peer did wrong is an error of `kit.errors`.
"""

import binascii
import re
import zlib
from collections.abc import Callable, Iterable
from enum import Enum

from rallypoint.kit import errors

Framing = Callable[[bytes], bytes]
"""Turns a serialized message into the bytes for the transport; one object per way of sending."""

COMPRESSED = 0x01
TRAILER = 0x80
PREFIX_BYTES = 5
_GZIP_WINDOW = 31  # zlib: 15 bits of window, gzip wrapper only
_SEGMENT = re.compile(rb"[^=]+={0,2}")
_TIMEOUT = re.compile(r"(\d{1,8})([HMSmun])")
_UNIT_S = {"H": 3600.0, "M": 60.0, "S": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9}
_UNPRINTABLE = re.compile(rb"[^\x20-\x24\x26-\x7e]")


class Mode(Enum):
    """How frames are written."""

    BINARY = "application/grpc-web+proto"
    TEXT = "application/grpc-web-text+proto"


_MODES = {
    "application/grpc-web": Mode.BINARY,
    "application/grpc-web+proto": Mode.BINARY,
    "application/grpc-web-text": Mode.TEXT,
    "application/grpc-web-text+proto": Mode.TEXT,
}


def mode(content_type: str) -> Mode | None:
    """Return the mode that a content-type asks for, None for one we do not speak."""
    found = _MODES.get(content_type)
    return found or _MODES.get(content_type.split(";", 1)[0].strip().lower())


def frame(body: bytes, flag: int = 0) -> bytes:
    """Return one frame."""
    return b"%c%b%b" % (flag, len(body).to_bytes(4, "big"), body)


def chunk(data: bytes) -> bytes:
    """Return `data` as one HTTP/1.1 chunk."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def web(body: bytes) -> bytes:
    """Frame a message for a binary stream."""
    size = len(body)
    return b"%x\r\n\0%b%b\r\n" % (size + PREFIX_BYTES, size.to_bytes(4, "big"), body)


def web_text(body: bytes) -> bytes:
    """Frame a message for a text stream."""
    return chunk(binascii.b2a_base64(frame(body), newline=False))


def native(body: bytes) -> bytes:
    """Frame a message for native gRPC: the library does it."""
    return body


FRAMINGS: dict[Mode, Framing] = {Mode.BINARY: web, Mode.TEXT: web_text}


def encode(data: bytes, how: Mode) -> bytes:
    """Return frames as the mode writes them, without a chunk."""
    return data if how is Mode.BINARY else binascii.b2a_base64(data, newline=False)


def decode_text(body: bytes) -> bytes:
    """Return the bytes of a text body; each padded segment stands alone."""
    try:
        return b"".join(
            binascii.a2b_base64(segment, strict_mode=True) for segment in _SEGMENT.findall(body)
        )
    except binascii.Error as error:
        raise errors.InvalidArgument("TEXT_MALFORMED", "the body is not base64") from error


def body_limit(max_bytes: int, how: Mode) -> int:
    """Return the largest body that can carry one message of `max_bytes`, bytes."""
    framed = max_bytes + PREFIX_BYTES
    return framed if how is Mode.BINARY else (framed + 2) // 3 * 4 + 4


def one_message(body: bytes, *, gzip: bool, max_bytes: int) -> bytes:
    """Return the one message in a (decoded) request body, decompressed.

    UNIMPLEMENTED for none or several, as gRPC's cardinality rules ask; RESOURCE_EXHAUSTED above
    `max_bytes`, of which never more than one byte extra is decompressed.
    """
    if not body:
        raise errors.Unimplemented("REQUEST_EMPTY", "the request has no message")
    size = int.from_bytes(body[1:PREFIX_BYTES], "big")
    end = PREFIX_BYTES + size
    if size > max_bytes:
        raise too_large(max_bytes)
    if len(body) < end:
        raise errors.InvalidArgument("FRAME_MALFORMED", "the body ends within a message")
    if len(body) > end:
        raise errors.Unimplemented("REQUEST_MULTIPLE", "the request has more than one message")
    flag = body[0]
    if flag == 0:
        return body[PREFIX_BYTES:]
    if flag != COMPRESSED:
        raise errors.InvalidArgument("FRAME_MALFORMED", f"unknown frame flag {flag}")
    if not gzip:
        raise errors.Internal("COMPRESSION_UNDECLARED", "compressed message, no grpc-encoding")
    return gunzip(body[PREFIX_BYTES:], max_bytes)


def gunzip(data: bytes, max_bytes: int) -> bytes:
    """Return the decompressed message; stops at one byte above `max_bytes`."""
    inflater = zlib.decompressobj(_GZIP_WINDOW)
    try:
        message = inflater.decompress(data, max_bytes + 1)
    except zlib.error as error:
        raise errors.InvalidArgument("GZIP_MALFORMED", "the message is not gzip") from error
    if len(message) > max_bytes:
        raise too_large(max_bytes)
    if not inflater.eof:
        raise errors.InvalidArgument("GZIP_MALFORMED", "the compressed message is cut off")
    return message


def too_large(max_bytes: int) -> errors.ResourceExhausted:
    """Return the refusal of a message over its limit."""
    return errors.ResourceExhausted(
        "MESSAGE_TOO_LARGE", f"the message is larger than {max_bytes} bytes"
    )


def is_gzip(grpc_encoding: str) -> bool:
    """Tell whether messages may be compressed; UNIMPLEMENTED for an encoding we do not know."""
    if grpc_encoding in ("", "identity"):
        return False
    if grpc_encoding == "gzip":
        return True
    raise errors.Unimplemented("ENCODING_UNSUPPORTED", "grpc-encoding is not identity or gzip")


def parse_timeout(text: str) -> float:
    """Return a `grpc-timeout` in seconds."""
    found = _TIMEOUT.fullmatch(text)
    if found is None or not text.isascii():
        raise errors.InvalidArgument("TIMEOUT_MALFORMED", "grpc-timeout cannot be read")
    return int(found[1]) * _UNIT_S[found[2]]


def quote_message(message: str) -> bytes:
    """Return a `grpc-message` value: printable ASCII, the rest percent-encoded UTF-8."""
    return _UNPRINTABLE.sub(lambda found: b"%%%02X" % found[0][0], message.encode())


def fields(pairs: Iterable[tuple[str, str]]) -> bytes:
    """Return header lines; ValueError for a value that would end its line."""
    lines = []
    for name, value in pairs:
        line = f"{name.lower()}: {value}"
        if not line.isprintable() or not line.isascii():
            raise ValueError(f"metadata {name!r} is not printable ASCII")
        lines.append(line.encode() + b"\r\n")
    return b"".join(lines)


def status_lines(code: int, message: str = "", details: bytes = b"") -> bytes:
    """Return the header lines of a status; `details` is an encoded google.rpc.Status."""
    lines = b"grpc-status: %d\r\n" % code
    if message:
        lines += b"grpc-message: %b\r\n" % quote_message(message)
    if details:
        encoded = binascii.b2a_base64(details, newline=False).rstrip(b"=")
        lines += b"grpc-status-details-bin: %b\r\n" % encoded
    return lines


def trailer_frame(lines: bytes) -> bytes:
    """Return the last frame of a body."""
    return frame(lines, TRAILER)


OK_TRAILER = trailer_frame(status_lines(0))
