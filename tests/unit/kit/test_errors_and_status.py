"""Errors keep everything over the wire's details and map to canonical codes."""

from __future__ import annotations

import pytest

from rallypoint.kit import errors, status

KINDS = [
    errors.InvalidArgument, errors.NotFound, errors.AlreadyExists, errors.PermissionDenied,
    errors.Unauthenticated, errors.FailedPrecondition, errors.ResourceExhausted, errors.Aborted,
    errors.OutOfRange, errors.Unimplemented, errors.Unavailable, errors.Internal,
    errors.DeadlineExceeded,
]  # fmt: skip


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_error_survives_the_details(kind: type[errors.RallypointError]) -> None:
    sent = kind("SOME_REASON", "some text", retry_after_s=1.5, metadata={"field": "queue"})
    read = status.from_details(status.to_details(sent))
    assert type(read) is kind
    assert (read.reason, read.message, read.retry_after_s, read.metadata) == (
        "SOME_REASON", "some text", 1.5, {"field": "queue"},
    )  # fmt: skip


def test_error_without_retry_has_none_after_the_wire() -> None:
    read = status.from_details(status.to_details(errors.NotFound("ROOM_UNKNOWN")))
    assert (read.retry_after_s, read.message) == (None, "room unknown")


def test_malformed_details_are_an_internal_error() -> None:
    assert status.from_details(b"\xff\xff\xff").reason == "STATUS_MALFORMED"


def test_codes_without_a_class_become_internal() -> None:
    assert isinstance(errors.from_code(errors.Code.UNKNOWN, "X"), errors.Internal)


def test_blame_is_in_the_tree() -> None:
    blamed = {kind for kind in KINDS if issubclass(kind, errors.ServerFault)}
    assert blamed == {errors.Unavailable, errors.Internal, errors.DeadlineExceeded}
