"""Answers already given, so that a repeated message is answered again and not done again.

The last 64 request ids of a seat are remembered; older ones are refused, whether they were seen or
not: a client that repeats a message so late has lost its place.
"""

from dataclasses import dataclass
from typing import Final

from rallypoint.kit import errors

REMEMBERED: Final = 64


@dataclass(frozen=True, slots=True)
class Reply:
    """The answer to a message: a status code (0 is OK) with its reason, or bytes."""

    code: int = 0
    reason: str = ""
    body: bytes = b""


class ReplyLog:
    """Answers by request id, for one seat."""

    def __init__(self) -> None:
        self._replies: dict[int, Reply] = {}
        self._newest = 0

    def known(self, request_id: int) -> Reply | None:
        """The answer already given; Aborted MESSAGE_TOO_OLD for one that is forgotten."""
        reply = self._replies.get(request_id)
        if reply is None and request_id <= self._newest - REMEMBERED:
            raise errors.Aborted("MESSAGE_TOO_OLD", "the message comes too late to be repeated")
        return reply

    def keep(self, request_id: int, reply: Reply) -> None:
        """Remember an answer."""
        self._newest = max(self._newest, request_id)
        self._replies[request_id] = reply
        while len(self._replies) > REMEMBERED:
            del self._replies[min(self._replies)]
