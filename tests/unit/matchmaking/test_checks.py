"""What a request may hold."""

from __future__ import annotations

from typing import Any

import pytest

from rallypoint.kit import errors
from rallypoint.matchmaking import checks
from rallypoint.v1 import matchmaking_pb2 as v1


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"request_id": ""}, "REQUEST_ID_INVALID"),
        ({"request_id": "r" * 65}, "REQUEST_ID_INVALID"),
        ({"request_id": "two words"}, "REQUEST_ID_INVALID"),
        ({"party_id": "p1"}, "PARTIES_LATER"),
        ({"search_fields": v1.SearchFields(tags=["t"] * 33)}, "SEARCH_FIELDS_TOO_LARGE"),
        ({"search_fields": v1.SearchFields(tags=["t" * 2049])}, "SEARCH_FIELDS_TOO_LARGE"),
        (
            {"search_fields": v1.SearchFields(double_args={"x": float("nan")})},
            "SEARCH_FIELDS_INVALID",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_requests_that_can_never_succeed_are_refused(change: dict[str, Any], reason: str) -> None:
    request = v1.CreateTicketRequest(**{"request_id": "r1", "queue": "q", **change})
    with pytest.raises(errors.ClientFault) as caught:
        checks.create(request)
    assert caught.value.reason == reason
