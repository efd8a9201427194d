"""gRPC-Web as a client reads and writes it."""

from __future__ import annotations

import base64

import pytest

from rallypoint.client import grpcweb
from rallypoint.kit import errors, status


def frame(body: bytes, flag: int = 0) -> bytes:
    return bytes((flag,)) + len(body).to_bytes(4, "big") + body


def test_request_is_one_frame_behind_its_length() -> None:
    head = grpcweb.head("host:1", "/a.B/C", token="t", timeout_ms=250)
    text, _, body = grpcweb.request(head, b"hello").partition(b"\r\n\r\n")
    lines = text.split(b"\r\n")
    assert lines[0] == b"POST /a.B/C HTTP/1.1"
    assert {b"host: host:1", b"authorization: Bearer t", b"grpc-timeout: 250m"} <= set(lines)
    assert lines[-1] == b"content-length: 10"
    assert body == frame(b"hello")


@pytest.mark.parametrize("step", [1, 3, 7, 1000])
def test_frames_arrive_whole_however_they_are_cut(step: int) -> None:
    wire = frame(b"first") + frame(b"") + frame(b"x" * 300) + frame(b"grpc-status: 0", 0x80)
    frames = grpcweb.Frames()
    found = [
        f for start in range(0, len(wire), step) for f in frames.feed(wire[start : start + step])
    ]
    assert found == [(0, b"first"), (0, b""), (0, b"x" * 300), (0x80, b"grpc-status: 0")]


def test_huge_frame_is_refused_before_it_is_kept() -> None:
    with pytest.raises(errors.Internal):
        grpcweb.Frames().feed(b"\0\xff\xff\xff\xff")


def test_ok_status_is_no_failure() -> None:
    assert grpcweb.failure(grpcweb.trailers(b"grpc-status: 0\r\n")) is None


def test_missing_status_is_a_failure() -> None:
    failure = grpcweb.failure({})
    assert failure is not None
    assert failure.reason == "STATUS_MISSING"


def test_details_become_the_typed_error() -> None:
    sent = errors.ResourceExhausted("TOO_FAST", "slow down", retry_after_s=1.5)
    details = base64.b64encode(status.to_details(sent)).decode().rstrip("=")
    got = grpcweb.failure({"grpc-status": "8", "grpc-status-details-bin": details})
    assert isinstance(got, errors.ResourceExhausted)
    assert (got.reason, got.message, got.retry_after_s) == ("TOO_FAST", "slow down", 1.5)


def test_plain_status_keeps_its_message() -> None:
    got = grpcweb.failure({"grpc-status": "5", "grpc-message": "not%20here"})
    assert isinstance(got, errors.NotFound)
    assert got.message == "not here"


def test_http_status_alone_maps_to_a_code() -> None:
    assert isinstance(grpcweb.http_failure(503), errors.Unavailable)
    assert isinstance(grpcweb.http_failure(403), errors.PermissionDenied)
