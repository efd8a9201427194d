"""Tickets and matches in Redis: each transition one Lua call, in the .lua file of its name.

Transitions made by the leader carry its epoch and raise `Fenced`
when Redis knows another; transitions made for clients check states only (decisions §1). A call
whose reply was lost raises StoreUnavailable and may have been done: all of them can be asked
again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rallypoint.internal.v1 import matchmaking_store_pb2 as pb
from rallypoint.kit import errors, keys
from rallypoint.kit.names import PlayerId, QueueName
from rallypoint.kit.store import Store
from rallypoint.matchmaking.domain import attention, tickets
from rallypoint.matchmaking.domain.tickets import Row

PACKAGE = "rallypoint.matchmaking"
AGAIN_MS = 5_000
"""A ticket whose time ends while a match holds it is looked at again after this."""
CHUNK = 1_000


class Fenced(errors.Aborted):
    """Another leader has a higher epoch: stop leading at once."""

    def __init__(self, epoch: str) -> None:
        super().__init__("LEADER_FENCED", f"the queue's epoch is {epoch}")


Changes = list[tuple[str, Row]]
"""Tickets and the rows they came to."""


@dataclass(frozen=True, slots=True)
class Made:
    """The answer to a create: MADE, SAME (this very request) or EXISTS (another live ticket)."""

    outcome: str
    ticket_id: str
    row: Row


@dataclass(frozen=True, slots=True)
class Standing:
    """A ticket as Redis has it; `match` while a match holds it."""

    record: pb.TicketRecord
    row: Row
    match: pb.MatchRecord | None


@dataclass(frozen=True, slots=True)
class OutboxEntry:
    """A fact on its way out."""

    entry_id: str
    kind: str
    """`ticket` or `match`."""
    name: str
    """The id of the ticket or the match."""
    value: bytes
    """The row as text, or the MatchRecord."""


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _changes(flat: Sequence[Any]) -> Changes:
    pairs = zip(flat[::2], flat[1::2], strict=True)
    return [(_text(ticket), tickets.parse_row(_text(row))) for ticket, row in pairs]


def _unfenced(reply: Sequence[Any]) -> tuple[str, Sequence[Any]]:
    outcome = _text(reply[0])
    if outcome == "FENCED":
        raise Fenced(_text(reply[1]))
    return outcome, reply[1:]


class TicketStore:
    """One queue's tickets and matches."""

    def __init__(
        self, store: Store, queue: str, *, retention_s: float, unattended_s: float = 0.0
    ) -> None:
        name = QueueName(queue)
        self._store = store
        self.unattended_s = unattended_s
        self._retention_ms = int(retention_s * 1000)
        self._epoch, self._state = keys.mm_epoch(name), keys.mm_state(name)
        self._body, self._expiry = keys.mm_body(name), keys.mm_expiry(name)
        self._queued, self._player = keys.mm_queued(name), keys.mm_player(name)
        self._match, self._outbox = keys.mm_match(name), keys.mm_outbox(name)
        self._placing = keys.mm_placing(name)
        self._create = store.load(PACKAGE, "tickets_create.lua")
        self._cancel = store.load(PACKAGE, "tickets_cancel.lua")
        self._attend = store.load(PACKAGE, "tickets_attend.lua")
        self._expire = store.load(PACKAGE, "tickets_expire.lua")
        self._commit = store.load(PACKAGE, "matches_commit.lua")
        self._assign = store.load(PACKAGE, "matches_assign.lua")
        self._requeue = store.load(PACKAGE, "matches_requeue.lua")
        self._raise = store.load(PACKAGE, "leader_epoch.lua")

    async def create(self, record: pb.TicketRecord) -> Made:
        """Put a ticket in the queue."""
        reply = await self._create(
            keys=[
                self._state, self._body, self._expiry, self._queued, self._player, self._outbox,
            ],
            args=[
                record.ticket_id, record.player_id, record.SerializeToString(),
                self._until_ms(record.search_start_ms, record.expire_ms), record.search_start_ms,
            ],
        )  # fmt: skip
        row = tickets.parse_row(_text(reply[2]))
        return Made(_text(reply[0]), _text(reply[1]), row)

    async def cancel(
        self, ticket_id: str, player_id: str, *, now_ms: int
    ) -> tuple[str, Row | None]:
        """Withdraw a ticket: CANCELLED, ENDED (was over), MATCHED (too late) or UNKNOWN."""
        reply = await self._cancel(
            keys=[self._state, self._expiry, self._queued, self._outbox],
            args=[ticket_id, player_id, now_ms + self._retention_ms],
        )
        row = tickets.parse_row(_text(reply[1])) if len(reply) > 1 else None
        return _text(reply[0]), row

    async def attend(self, expiries_ms: Mapping[str, int], *, now_ms: int) -> None:
        """Somebody attends to tickets, given with the end of their time; moves queued ones only."""
        ends = [
            (ticket, self._until_ms(now_ms, expire_ms)) for ticket, expire_ms in expiries_ms.items()
        ]
        for start in range(0, len(ends), CHUNK):  # a call each, so that Redis serves others between
            pairs = [value for end in ends[start : start + CHUNK] for value in end]
            await self._attend(keys=[self._state, self._expiry], args=pairs)

    def _until_ms(self, now_ms: int, expire_ms: int) -> int:
        return attention.until_ms(now_ms, unattended_s=self.unattended_s, expire_ms=expire_ms)

    async def expire(self, epoch: int, *, now_ms: int, limit: int) -> tuple[int, Changes]:
        """End and forget what is due; (how many were looked at, those that expired now)."""
        reply = await self._expire(
            keys=[
                self._epoch, self._state, self._body, self._expiry,
                self._queued, self._player, self._match, self._outbox,
            ],
            args=[epoch, now_ms, now_ms + self._retention_ms, now_ms + AGAIN_MS, limit],
        )  # fmt: skip
        _, rest = _unfenced(reply)
        return int(_text(rest[0])), _changes(rest[1:])

    async def commit(
        self, epoch: int, matches: Sequence[pb.MatchRecord]
    ) -> list[tuple[str, Changes]]:
        """Bind tickets to matches, each match whole or not at all, in one pipeline.

        Per match COMMITTED and its tickets, or CONFLICT and those that are not queued.
        """
        if not matches:
            return []
        calls = [
            self._commit.call(
                keys=[
                    self._epoch,
                    self._state,
                    self._queued,
                    self._match,
                    self._outbox,
                    self._placing,
                ],
                args=[epoch, match.match_id, match.SerializeToString(), *match.ticket_ids],
            )
            for match in matches
        ]
        results: list[tuple[str, Changes]] = []
        for reply in await self._store.script_many(calls):
            outcome, rest = _unfenced(reply)
            results.append((outcome, _known(rest)))
        return results

    async def assign(self, epoch: int, match: pb.MatchRecord, *, now_ms: int) -> Changes | None:
        """Tell a match's tickets where to play; None when the match is gone."""
        reply = await self._assign(
            keys=[
                self._epoch, self._state, self._expiry, self._match, self._outbox, self._placing,
            ],
            args=[
                epoch, match.match_id, match.SerializeToString(),
                now_ms + self._retention_ms, *match.ticket_ids,
            ],
        )  # fmt: skip
        outcome, rest = _unfenced(reply)
        return _changes(rest) if outcome == "ASSIGNED" else None

    async def requeue(
        self, epoch: int, match: pb.MatchRecord, reason: str, *, now_ms: int
    ) -> Changes:
        """Send a match's tickets back to where they were in the queue, attended to now."""
        bodies = await self._store.hmget(self._body, match.ticket_ids)
        triples: list[str | int] = []
        for ticket, start_ms, body in zip(
            match.ticket_ids, match.search_starts_ms, bodies, strict=True
        ):
            expire_ms = pb.TicketRecord.FromString(body or b"").expire_ms
            triples += [ticket, start_ms, self._until_ms(now_ms, expire_ms)]
        reply = await self._requeue(
            keys=[
                self._epoch, self._state, self._queued, self._match,
                self._outbox, self._placing, self._expiry,
            ],
            args=[epoch, match.match_id, reason, *triples],
        )  # fmt: skip
        _, rest = _unfenced(reply)
        return _changes(rest)

    async def raise_epoch(self, epoch: int) -> int:
        """Make the queue's epoch at least this; the one it has now."""
        return int(_text(await self._raise(keys=[self._epoch], args=[epoch])))

    async def epoch(self) -> int:
        """The queue's epoch in Redis; 0 before the first leader."""
        value = await self._store.get(self._epoch)
        return int(_text(value)) if value is not None else 0

    async def read(self, ticket_id: str) -> Standing | None:
        """A ticket and, while a match holds it, the match."""
        row_text = await self._store.hget(self._state, ticket_id)
        body = await self._store.hget(self._body, ticket_id)
        if row_text is None or body is None:
            return None
        row = tickets.parse_row(_text(row_text))
        match = await self.read_match(row.match_id) if row.match_id else None
        return Standing(pb.TicketRecord.FromString(body), row, match)

    async def read_match(self, match_id: str) -> pb.MatchRecord | None:
        """A match; None once it was dissolved or forgotten."""
        record = await self._store.hget(self._match, match_id)
        return None if record is None else pb.MatchRecord.FromString(record)

    async def of_player(self, player_id: str) -> str | None:
        """The player's live or last ticket."""
        ticket_id = await self._store.hget(self._player, player_id)
        return None if ticket_id is None else _text(ticket_id)

    async def queued(self, ticket_ids: Sequence[str]) -> list[tuple[pb.TicketRecord, Row]]:
        """Those of the tickets that are queued, with their records."""
        found: list[tuple[pb.TicketRecord, Row]] = []
        for start in range(0, len(ticket_ids), CHUNK):
            some = list(ticket_ids[start : start + CHUNK])
            rows = await self._store.hmget(self._state, some)
            bodies = await self._store.hmget(self._body, some)
            for row_text, body in zip(rows, bodies, strict=True):
                if row_text is None or body is None:
                    continue
                row = tickets.parse_row(_text(row_text))
                if row.state is tickets.State.QUEUED:
                    found.append((pb.TicketRecord.FromString(body), row))
        return found

    async def all_queued(self) -> list[tuple[pb.TicketRecord, Row]]:
        """Every queued ticket, oldest first."""
        names = await self._store.zrange(self._queued, 0, -1)
        return await self.queued([_text(name) for name in names])

    async def unassigned(self) -> list[pb.MatchRecord]:
        """Committed matches whose players have not been told a room."""
        names = [_text(name) for name in await self._store.smembers(self._placing)]
        records: list[bytes | None] = []
        for start in range(0, len(names), CHUNK):
            records += await self._store.hmget(self._match, names[start : start + CHUNK])
        return [pb.MatchRecord.FromString(record) for record in records if record is not None]

    async def place(self, ticket_id: str) -> tuple[int, int]:
        """(place in line from 1, or 0 when not queued; tickets queued)."""
        rank = await self._store.zrank(self._queued, ticket_id)
        return (0 if rank is None else rank + 1), await self.searching()

    async def searching(self) -> int:
        """Tickets queued."""
        return int(await self._store.zcard(self._queued))

    async def outbox(self, limit: int) -> list[OutboxEntry]:
        """The oldest facts not yet published."""
        entries = await self._store.xrange(self._outbox, count=limit)
        return [_outbox_entry(entry_id, fields) for entry_id, fields in entries]

    async def outbox_done(self, entry_ids: Iterable[str]) -> None:
        """Forget facts that were published."""
        await self._store.xdel(self._outbox, *entry_ids)


def _known(flat: Sequence[Any]) -> Changes:
    """Changes without tickets that Redis has forgotten, which a conflict may name."""
    pairs = zip(flat[::2], flat[1::2], strict=True)
    gone = Row(tickets.State.EXPIRED, 0, 0, PlayerId(""))
    return [
        (_text(ticket), tickets.parse_row(_text(row)) if row else gone) for ticket, row in pairs
    ]


def _outbox_entry(entry_id: Any, fields: Any) -> OutboxEntry:
    values = {_text(name): value for name, value in dict(fields).items()}
    if "ticket" in values:
        return OutboxEntry(_text(entry_id), "ticket", _text(values["ticket"]), values["row"])
    return OutboxEntry(_text(entry_id), "match", _text(values["match"]), values["record"])
