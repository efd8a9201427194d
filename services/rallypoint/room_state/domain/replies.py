"""Answers already given, so that a repeated message is answered again and not done again.

The last 64 request ids of a seat are remembered; older ones are refused, whether they were seen or
not: a client that repeats a message so late has lost its place. An id that comes again with another
message is refused: a client that counts from 1 again must not hear that its new message was done.
"""

import hashlib
from dataclasses import dataclass
from typing import Final, Self

from rallypoint.kit import errors

REMEMBERED: Final = 64


@dataclass(frozen=True, slots=True)
class Reply:
    """The answer to a message: a status code (0 is OK) with its reason, or bytes."""

    code: int = 0
    reason: str = ""
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class SavedReplies:
    """The answers of one seat: the newest request id, and id, mark and answer of each."""

    newest: int = 0
    replies: tuple[tuple[int, bytes, Reply], ...] = ()


def mark_of(kind: int, body: bytes) -> bytes:
    """What tells a message from another one; small, since clients choose how long theirs are."""
    return hashlib.blake2b(body, digest_size=8, salt=kind.to_bytes(8, "big")).digest()


class ReplyLog:
    """Answers by request id, for one seat."""

    def __init__(self) -> None:
        self._replies: dict[int, tuple[bytes, Reply]] = {}
        self._newest = 0

    def known(self, request_id: int, mark: bytes) -> Reply | None:
        """The answer already given; Aborted MESSAGE_TOO_OLD for one that is forgotten,
        AlreadyExists REQUEST_ID_REUSED when it was given to another message."""
        kept = self._replies.get(request_id)
        if kept is None:
            if request_id <= self._newest - REMEMBERED:
                raise errors.Aborted("MESSAGE_TOO_OLD", "the message comes too late to be repeated")
            return None
        if kept[0] != mark:
            raise errors.AlreadyExists("REQUEST_ID_REUSED", "another message had this request_id")
        return kept[1]

    def saved(self) -> SavedReplies:
        """The answers, for a snapshot."""
        return SavedReplies(
            self._newest,
            tuple((number, mark, reply) for number, (mark, reply) in self._replies.items()),
        )

    @classmethod
    def restored(cls, saved: SavedReplies) -> Self:
        """A log that goes on with saved answers."""
        log = cls()
        log._newest = saved.newest
        log._replies = {number: (mark, reply) for number, mark, reply in saved.replies}
        return log

    def keep(self, request_id: int, reply: Reply, *, mark: bytes) -> None:
        """Remember an answer."""
        self._newest = max(self._newest, request_id)
        self._replies[request_id] = (mark, reply)
        while len(self._replies) > REMEMBERED:
            del self._replies[min(self._replies)]
