"""What a request may hold; everything else is refused here with a reason."""

from __future__ import annotations

import re

from rallypoint.kit import errors, names
from rallypoint.v1 import matchmaking_pb2 as v1

MAX_FIELDS = 32
MAX_FIELDS_BYTES = 2048
_REQUEST_ID = re.compile(r"[\x21-\x7e]{1,64}")


def create(request: v1.CreateTicketRequest) -> None:
    """Refuse a CreateTicket that can never succeed."""
    names.check_name(request.queue, "queue")
    if not _REQUEST_ID.fullmatch(request.request_id):
        raise errors.InvalidArgument(
            "REQUEST_ID_INVALID", "request_id must be 1 to 64 printable ASCII characters"
        )
    if request.party_id:
        raise errors.Unimplemented("PARTIES_LATER", "parties come with a later release")
    search_fields(request.search_fields)


def search_fields(fields: v1.SearchFields) -> None:
    """Refuse too many entries, too many bytes, and numbers that are none."""
    entries = len(fields.double_args) + len(fields.string_args) + len(fields.tags)
    if entries > MAX_FIELDS or fields.ByteSize() > MAX_FIELDS_BYTES:
        raise errors.InvalidArgument(
            "SEARCH_FIELDS_TOO_LARGE",
            f"search_fields hold at most {MAX_FIELDS} entries and {MAX_FIELDS_BYTES} bytes",
        )
    if any(value != value or abs(value) == float("inf") for value in fields.double_args.values()):
        raise errors.InvalidArgument("SEARCH_FIELDS_INVALID", "numbers must be finite")


def ticket_id(value: str) -> None:
    """Refuse what cannot be a ticket's id."""
    names.check_id(value, "ticket_id")
