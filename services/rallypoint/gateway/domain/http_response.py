"""HTTP/1.1 responses as bytes, precomputed where they repeat.

A refusal that is not a gRPC-Web answer still names its canonical code: in `grpc-status`,
`grpc-message` and `grpc-status-details-bin` headers, and as text.
"""

from http import HTTPStatus

from rallypoint.gateway.domain import grpcweb
from rallypoint.kit import errors

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
LAST_CHUNK = b"0\r\n\r\n"
CLOSE_LINE = b"connection: close\r\n"
UPGRADE_LINES = b"upgrade: websocket\r\nsec-websocket-version: 13\r\n"
"""What a 426 says besides: the protocol that would have been right."""


def status_line(http_status: int) -> bytes:
    """Return the status line."""
    return b"HTTP/1.1 %d %b\r\n" % (http_status, HTTPStatus(http_status).phrase.encode())


def head(http_status: int, lines: bytes, *, length: int | None, close: bool = False) -> bytes:
    """Return a head; `lines` are complete header lines, `length` None leaves the length open."""
    size = b"" if length is None else b"content-length: %d\r\n" % length
    end = CLOSE_LINE if close else b""
    return b"".join((status_line(http_status), lines, size, end, b"\r\n"))


def refusal(
    http_status: int, error: errors.RallypointError, *, details: bytes, lines: bytes = b""
) -> bytes:
    """Return a response that refuses and announces the close of the connection."""
    body = f"{error.reason}: {error.message}\n".encode()
    every = b"".join(
        (
            b"content-type: text/plain; charset=utf-8\r\n",
            grpcweb.status_lines(int(error.code), error.message, details),
            lines,
        )
    )
    return head(http_status, every, length=len(body), close=True) + body


def unary_head(how: grpcweb.Mode, lines: bytes, *, close: bool) -> bytes:
    """Return the head of a unary answer up to the number of its content-length."""
    end = CLOSE_LINE if close else b""
    return b"HTTP/1.1 200 OK\r\ncontent-type: %b\r\n%b%bcontent-length: " % (
        how.value.encode(),
        lines,
        end,
    )


def stream_head(how: grpcweb.Mode, lines: bytes, *, close: bool) -> bytes:
    """Return the head of a stream, without the blank line: response metadata may follow."""
    end = CLOSE_LINE if close else b""
    return (
        b"HTTP/1.1 200 OK\r\ncontent-type: %b\r\ntransfer-encoding: chunked\r\n"
        b"cache-control: no-store\r\nx-accel-buffering: no\r\n%b%b"
    ) % (how.value.encode(), lines, end)
