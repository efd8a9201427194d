"""What an API server answers instead of a result, as errors that name the cluster.

KubeError (a RallypointError)    cluster, status; the message names cluster, verb and path
├── Invalid 400, 422             ├── Unauthorized 401       ├── Forbidden 403
├── NotFound 404                 ├── Conflict 409           ├── AlreadyExists 409
├── Gone 410                     ├── TooManyRequests 429    ├── Unavailable 5xx, no answer
├── Unreadable                   an answer that cannot be decoded
└── NotLeading                   a write refused here, before it was sent
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import msgspec

from rallypoint.kit import errors


class Status(msgspec.Struct, frozen=True):
    """The body of a refusal (`kind: Status`)."""

    message: str = ""
    reason: str = ""
    code: int = 0


class KubeError(errors.RallypointError):
    """A call to a cluster failed."""

    kind: ClassVar[str] = "KUBE_FAILED"

    def __init__(
        self,
        message: str,
        *,
        cluster: str,
        status: int = 0,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(
            self.kind,
            f"cluster {cluster}: {message}",
            retry_after_s=retry_after_s,
            metadata={"cluster": cluster},
        )
        self.cluster = cluster
        self.status = status


class Invalid(KubeError, errors.InvalidArgument):
    """The object breaks a rule of its schema, or the request is malformed."""

    kind = "KUBE_INVALID"


class Unauthorized(KubeError, errors.Unauthenticated):
    """The credentials are not known there."""

    kind = "KUBE_UNAUTHORIZED"


class Forbidden(KubeError, errors.PermissionDenied):
    """The credentials are known; a role, a quota or a webhook forbids it."""

    kind = "KUBE_FORBIDDEN"


class NotFound(KubeError, errors.NotFound):
    """No such object, or no such resource."""

    kind = "KUBE_NOT_FOUND"


class Conflict(KubeError, errors.Aborted):
    """The object changed meanwhile, or another field manager owns the field."""

    kind = "KUBE_CONFLICT"


class AlreadyExists(KubeError, errors.AlreadyExists):
    """An object of that name is there."""

    kind = "KUBE_ALREADY_EXISTS"


class Gone(KubeError, errors.OutOfRange):
    """That resource version is no longer kept: list again."""

    kind = "KUBE_GONE"


class TooManyRequests(KubeError, errors.ResourceExhausted):
    """The server asks for patience, or a disruption budget forbids an eviction."""

    kind = "KUBE_TOO_MANY_REQUESTS"


class Unavailable(KubeError, errors.Unavailable):
    """The server failed or did not answer; whether a write took place is not known."""

    kind = "KUBE_UNAVAILABLE"


class Unreadable(KubeError, errors.Internal):
    """The answer does not fit the type."""

    kind = "KUBE_UNREADABLE"


class NotLeading(KubeError, errors.FailedPrecondition):
    """This process does not hold the lease, or not for long enough to write."""

    kind = "KUBE_NOT_LEADING"


_BY_STATUS: Mapping[int, type[KubeError]] = {
    400: Invalid, 401: Unauthorized, 403: Forbidden, 404: NotFound, 409: Conflict, 410: Gone,
    413: Invalid, 415: Invalid, 422: Invalid, 429: TooManyRequests,
}  # fmt: skip


def decode_status(body: bytes) -> Status:
    """Return the Status in a body; proxies on the way answer with other things."""
    try:
        return msgspec.json.decode(body, type=Status)
    except msgspec.MsgspecError:
        return Status(message=body[:200].decode(errors="replace").strip())


def from_answer(
    code: int,
    body: bytes,
    *,
    cluster: str,
    call: str,
    retry_after_s: float | None = None,
) -> KubeError:
    """Return the error of an answer; `call` is the verb and the path."""
    status = decode_status(body)
    kind = _BY_STATUS.get(code, Unavailable if code >= 500 else KubeError)
    if code == 409 and status.reason == "AlreadyExists":
        kind = AlreadyExists
    if status.reason == "Expired":
        kind = Gone
    said = status.message or status.reason or "no message"
    return kind(f"{call}: {code} {said}", cluster=cluster, status=code, retry_after_s=retry_after_s)
