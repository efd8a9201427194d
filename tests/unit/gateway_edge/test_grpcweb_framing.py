"""Messages, trailers, text mode and time-outs as bytes."""

from __future__ import annotations

import base64
import contextlib
import gzip
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rallypoint.gateway.domain import grpcweb
from rallypoint.kit import errors

LIMIT = 100


def one(body: bytes, *, gzipped: bool = False, limit: int = LIMIT) -> bytes:
    return grpcweb.one_message(body, gzip=gzipped, max_bytes=limit)


@given(st.binary(max_size=LIMIT))
def test_framed_message_comes_back(message: bytes) -> None:
    assert one(grpcweb.frame(message)) == message


@given(st.binary(max_size=LIMIT))
def test_gzipped_message_comes_back(message: bytes) -> None:
    body = grpcweb.frame(gzip.compress(message), grpcweb.COMPRESSED)
    assert one(body, gzipped=True, limit=1000) == message


@given(st.lists(st.binary(max_size=20), max_size=8))
def test_text_segments_decode_with_padding_between(parts: list[bytes]) -> None:
    body = b"".join(base64.b64encode(part) for part in parts)
    assert grpcweb.decode_text(body) == b"".join(parts)


@given(st.binary(max_size=200), st.booleans())
def test_any_body_is_a_message_or_an_error_of_ours(body: bytes, gzipped: bool) -> None:
    message = b""
    with contextlib.suppress(errors.RallypointError):
        message = one(body, gzipped=gzipped)
    assert len(message) <= LIMIT


@pytest.mark.parametrize(
    ("body", "gzipped", "kind", "reason"),
    [
        pytest.param(b"", False, errors.Unimplemented, "REQUEST_EMPTY", id="empty"),
        pytest.param(
            grpcweb.frame(b"a") * 2, False, errors.Unimplemented, "REQUEST_MULTIPLE", id="two"
        ),
        pytest.param(b"\0\0\0", False, errors.InvalidArgument, "FRAME_MALFORMED", id="half prefix"),
        pytest.param(
            grpcweb.frame(b"abc")[:-1], False, errors.InvalidArgument, "FRAME_MALFORMED", id="short"
        ),
        pytest.param(
            grpcweb.frame(b"a", 0x80), False, errors.InvalidArgument, "FRAME_MALFORMED", id="flag"
        ),
        pytest.param(
            grpcweb.frame(b"a", 1),
            False,
            errors.Internal,
            "COMPRESSION_UNDECLARED",
            id="undeclared",
        ),
        pytest.param(
            grpcweb.frame(b"a", 1), True, errors.InvalidArgument, "GZIP_MALFORMED", id="not gzip"
        ),
        pytest.param(
            grpcweb.frame(gzip.compress(b"abc")[:-9], 1),
            True,
            errors.InvalidArgument,
            "GZIP_MALFORMED",
            id="cut gzip",
        ),
        pytest.param(
            grpcweb.frame(bytes(LIMIT + 1)),
            False,
            errors.ResourceExhausted,
            "MESSAGE_TOO_LARGE",
            id="large",
        ),
        pytest.param(
            grpcweb.frame(gzip.compress(bytes(50_000), 9), 1),
            True,
            errors.ResourceExhausted,
            "MESSAGE_TOO_LARGE",
            id="bomb",
        ),
    ],
)
def test_wrong_body_is_refused_with_a_reason(
    body: bytes, gzipped: bool, kind: type[errors.RallypointError], reason: str
) -> None:
    with pytest.raises(kind) as caught:
        one(body, gzipped=gzipped)
    assert caught.value.reason == reason


def test_bomb_is_not_inflated_beyond_its_limit() -> None:
    bomb = gzip.compress(bytes(20_000_000))
    with pytest.raises(errors.ResourceExhausted):
        grpcweb.gunzip(bomb, LIMIT)


def test_zlib_without_the_gzip_wrapper_is_refused() -> None:
    with pytest.raises(errors.InvalidArgument):
        grpcweb.gunzip(zlib.compress(b"abc"), LIMIT)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("1H", 3600), ("2M", 120), ("3S", 3), ("250m", 0.25), ("10u", 1e-5), ("99999999n", 0.1)],
)
def test_timeout_units_are_read(text: str, seconds: float) -> None:
    assert grpcweb.parse_timeout(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "5", "S", "123456789S", "-1S", "1.5S", "1 S", "bogus", "٣S"])
def test_unreadable_timeout_is_refused(text: str) -> None:
    with pytest.raises(errors.InvalidArgument) as caught:
        grpcweb.parse_timeout(text)
    assert caught.value.reason == "TIMEOUT_MALFORMED"


@pytest.mark.parametrize(
    ("content_type", "mode"),
    [
        ("application/grpc-web", grpcweb.Mode.BINARY),
        ("application/grpc-web+proto", grpcweb.Mode.BINARY),
        ("Application/gRPC-Web+proto; charset=utf-8", grpcweb.Mode.BINARY),
        ("application/grpc-web-text", grpcweb.Mode.TEXT),
        ("application/grpc-web-text+proto", grpcweb.Mode.TEXT),
        ("application/grpc-web+json", None),
        ("application/grpc", None),
        ("image/jpeg", None),
        ("", None),
    ],
)
def test_content_type_decides_the_mode(content_type: str, mode: grpcweb.Mode | None) -> None:
    assert grpcweb.mode(content_type) is mode


def test_web_framing_is_one_chunk_with_one_frame() -> None:
    assert grpcweb.web(b"hello") == b"a\r\n\0\0\0\0\5hello\r\n"


def test_text_framing_is_base64_of_the_frame() -> None:
    size, _, rest = grpcweb.web_text(b"hello").partition(b"\r\n")
    assert base64.b64decode(rest[:-2]) == b"\0\0\0\0\5hello"
    assert int(size, 16) == len(rest) - 2


@given(st.text(max_size=50))
def test_message_is_quoted_to_printable_ascii(text: str) -> None:
    from urllib.parse import unquote_to_bytes

    try:
        plain = text.encode()
    except UnicodeEncodeError:
        return  # lone surrogates cannot be in a message
    quoted = grpcweb.quote_message(text)
    assert unquote_to_bytes(quoted) == plain
    assert all(0x20 <= byte <= 0x7E for byte in quoted)


@pytest.mark.parametrize("value", ["a\r\ngrpc-status: 0", "a\nb", "\0", "é"])
def test_metadata_cannot_end_its_line(value: str) -> None:
    with pytest.raises(ValueError, match="printable"):
        grpcweb.fields([("x-name", value)])


def test_limit_of_a_text_body_fits_the_largest_message() -> None:
    body = base64.b64encode(grpcweb.frame(bytes(LIMIT)))
    assert len(body) <= grpcweb.body_limit(LIMIT, grpcweb.Mode.TEXT) <= len(body) + 8
