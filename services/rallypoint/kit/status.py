"""Errors to and from `google.rpc.Status` bytes (the value of `grpc-status-details-bin`).

Details are one ErrorInfo (domain "rallypoint", reason, metadata) and, where waiting helps, one
RetryInfo. Unknown details are ignored when reading.
"""

from __future__ import annotations

from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

from rallypoint.kit import errors

DOMAIN = "rallypoint"


def to_details(error: errors.RallypointError) -> bytes:
    """Return the encoded google.rpc.Status of an error."""
    status = status_pb2.Status(code=int(error.code), message=error.message)
    info = error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN, metadata=error.metadata)
    status.details.add().Pack(info)
    if error.retry_after_s is not None:
        retry = error_details_pb2.RetryInfo()
        retry.retry_delay.FromNanoseconds(int(error.retry_after_s * 1e9))
        status.details.add().Pack(retry)
    encoded: bytes = status.SerializeToString()
    return encoded


def from_details(details: bytes) -> errors.RallypointError:
    """Return the error that `details` encodes; undecodable bytes give Internal STATUS_MALFORMED."""
    status = status_pb2.Status()
    try:
        status.ParseFromString(details)
    except DecodeError:
        return errors.Internal("STATUS_MALFORMED", "the status details cannot be decoded")
    info = error_details_pb2.ErrorInfo()
    retry = error_details_pb2.RetryInfo()
    retry_after_s: float | None = None
    for detail in status.details:
        if detail.Is(error_details_pb2.ErrorInfo.DESCRIPTOR):
            detail.Unpack(info)
        elif detail.Is(error_details_pb2.RetryInfo.DESCRIPTOR):
            detail.Unpack(retry)
            retry_after_s = retry.retry_delay.ToNanoseconds() / 1e9
    return errors.from_code(
        status.code,
        info.reason or "UNKNOWN",
        status.message,
        retry_after_s=retry_after_s,
        metadata=dict(info.metadata),
    )
