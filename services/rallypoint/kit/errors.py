"""Errors say who is to blame, carry a reason, and map one to one to canonical status codes.

    RallypointError                    code, reason (UPPER_SNAKE), message, retry_after_s, metadata
    ├── ClientFault                    the caller must change something; never counted as our error
    │   ├── InvalidArgument 3          ├── NotFound 5             ├── AlreadyExists 6
    │   ├── PermissionDenied 7         ├── ResourceExhausted 8    ├── FailedPrecondition 9
    │   ├── Aborted 10                 ├── OutOfRange 11          ├── Unimplemented 12
    │   └── Unauthenticated 16
    └── ServerFault                    ours; alarmed
        ├── DeadlineExceeded 4         ├── Internal 13            └── Unavailable 14

Adapters turn foreign exceptions into these with `raise … from`; `kit.rpc` and the gateway's edge
turn these into a status with details, each in one place.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from typing import ClassVar


class Code(IntEnum):
    """The canonical status codes with gRPC's numbers."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


class RallypointError(Exception):
    """An error a caller may see. `retry_after_s` is set where waiting helps."""

    code: ClassVar[Code] = Code.UNKNOWN

    def __init__(
        self,
        reason: str,
        message: str = "",
        *,
        retry_after_s: float | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(reason, message)
        self.reason = reason
        self.message = message or reason.replace("_", " ").lower()
        self.retry_after_s = retry_after_s
        self.metadata: dict[str, str] = dict(metadata or {})

    def __str__(self) -> str:
        return f"{self.reason}: {self.message}"


class ClientFault(RallypointError):
    """The caller must change something."""


class ServerFault(RallypointError):
    """Our side failed."""


class InvalidArgument(ClientFault):
    """The request can never succeed."""

    code = Code.INVALID_ARGUMENT


class NotFound(ClientFault):
    """What was named does not exist."""

    code = Code.NOT_FOUND


class AlreadyExists(ClientFault):
    """What was to be made exists."""

    code = Code.ALREADY_EXISTS


class PermissionDenied(ClientFault):
    """Known, but not allowed."""

    code = Code.PERMISSION_DENIED


class Unauthenticated(ClientFault):
    """Not known who calls."""

    code = Code.UNAUTHENTICATED


class FailedPrecondition(ClientFault):
    """The state does not allow it now; a plain retry will not help."""

    code = Code.FAILED_PRECONDITION


class ResourceExhausted(ClientFault):
    """A limit was met: rate, size or capacity."""

    code = Code.RESOURCE_EXHAUSTED


class Aborted(ClientFault):
    """Lost a race; read again and retry at a higher level."""

    code = Code.ABORTED


class OutOfRange(ClientFault):
    """Past the end of what exists."""

    code = Code.OUT_OF_RANGE


class Unimplemented(ClientFault):
    """No such method here."""

    code = Code.UNIMPLEMENTED


class DeadlineExceeded(ServerFault):
    """Took longer than the caller waits."""

    code = Code.DEADLINE_EXCEEDED


class Internal(ServerFault):
    """A bug."""

    code = Code.INTERNAL


class Unavailable(ServerFault):
    """Something we need is away; retry with back-off."""

    code = Code.UNAVAILABLE


_BY_CODE: dict[int, type[RallypointError]] = {
    kind.code: kind
    for kind in (
        InvalidArgument, NotFound, AlreadyExists, PermissionDenied, Unauthenticated,
        FailedPrecondition, ResourceExhausted, Aborted, OutOfRange, Unimplemented,
        DeadlineExceeded, Internal, Unavailable,
    )
}  # fmt: skip


def from_code(
    code: int,
    reason: str,
    message: str = "",
    *,
    retry_after_s: float | None = None,
    metadata: Mapping[str, str] | None = None,
) -> RallypointError:
    """Return the error of a canonical code; codes without a class of their own become Internal."""
    kind = _BY_CODE.get(code, Internal)
    return kind(reason, message, retry_after_s=retry_after_s, metadata=metadata)
