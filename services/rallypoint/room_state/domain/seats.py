"""Seats: who may sit where, with which token, on which stream.

One writer, so nothing is ever overbooked. Tokens are 128 random bits, kept as SHA-256. Each join
hands out a new token and keeps the one it was opened with, so that a lost reply never loses a seat;
an older one is retired when a newer one is used (decisions §4). In a room with snapshots that
happens only once the newer one is in a written snapshot: until then a join keeps all tokens and
hands out none, so that a client always holds one that a restored room knows. The generation counts
the streams of a seat; the newest wins.

    EMPTY   RESERVED --join--> CONNECTED --drop--> DROPPED --join--> CONNECTED
            RESERVED, CONNECTED, DROPPED --leave--> LEFT

A book with a capacity takes players later, too. In a room without a rated result (`reuse`) they get
seats that were left, once no seat is empty; who was kicked gets none.
"""

import hashlib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Final, Self

from rallypoint.games.room import Seat, SeatState
from rallypoint.kit import errors

MAX_TOKENS: Final = 3
Token = bytes


class SeatEvent(Enum):
    """What happens to a seat."""

    JOIN = auto()
    DROP = auto()
    LEAVE = auto()


TRANSITIONS: Final[Mapping[tuple[SeatState, SeatEvent], SeatState]] = {
    (SeatState.RESERVED, SeatEvent.JOIN): SeatState.CONNECTED,
    (SeatState.CONNECTED, SeatEvent.JOIN): SeatState.CONNECTED,
    (SeatState.DROPPED, SeatEvent.JOIN): SeatState.CONNECTED,
    (SeatState.CONNECTED, SeatEvent.DROP): SeatState.DROPPED,
    (SeatState.RESERVED, SeatEvent.LEAVE): SeatState.LEFT,
    (SeatState.CONNECTED, SeatEvent.LEAVE): SeatState.LEFT,
    (SeatState.DROPPED, SeatEvent.LEAVE): SeatState.LEFT,
}


@dataclass(frozen=True, slots=True)
class Opened:
    """A seat was taken: by a stream of this generation, and with this token for the next.

    Without a token the ones offered stay good.
    """

    slot: int
    generation: int
    token: Token


@dataclass(frozen=True, slots=True)
class SavedSeat:
    """A seat in a snapshot; `kept_s` is how long it is still kept, None without a limit."""

    seat: Seat
    state: SeatState
    kept_s: float | None
    generation: int
    tokens: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class SavedBook:
    """A book in a snapshot."""

    seats: tuple[SavedSeat, ...]
    capacity: int
    reuse: bool
    kicked: frozenset[str]


@dataclass(slots=True)
class _Record:
    seat: Seat
    state: SeatState = SeatState.RESERVED
    deadline: float | None = None
    generation: int = 0
    tokens: list[bytes] = field(default_factory=list)
    saved: frozenset[bytes] = frozenset()


class SeatBook:
    """The seats of one room. `now` is any clock that only grows; `saves` tells whether the room
    is snapshotted, and `written` called after each."""

    def __init__(
        self,
        seats: Sequence[Seat],
        *,
        reserve_until: float,
        grace_s: float,
        new_token: Callable[[], Token],
        capacity: int = 0,
        reuse: bool = False,
        saves: bool = False,
    ) -> None:
        self.capacity = max(capacity, len(seats))
        self._reuse = reuse
        self._kicked: set[str] = set()
        self._records = [_Record(seat, deadline=reserve_until) for seat in seats]
        self._grace_s = grace_s
        self._new_token = new_token
        self._saves = saves
        self._saved: SavedBook | None = None
        """All seats while no time is running for any."""
        self._changes = 0
        self._counted = (-1, 0)
        """Who was connected after how many changes. Metrics count in a thread of their own: what
        was counted beside a change, or is kept too late, belongs to changes that are past."""
        self._written: SavedBook | None = None

    @classmethod
    def restored(
        cls,
        saved: SavedBook,
        *,
        now: float,
        grace_s: float,
        rejoin_s: float,
        new_token: Callable[[], Token],
    ) -> Self:
        """The book of a room that goes on here; who was connected has `rejoin_s` to come back."""
        book = cls(
            [], reserve_until=now, grace_s=grace_s, new_token=new_token, saves=True,
            capacity=saved.capacity, reuse=saved.reuse,
        )  # fmt: skip
        book._kicked = set(saved.kicked)
        for item in saved.seats:
            kept_s = rejoin_s if item.state is SeatState.CONNECTED else item.kept_s
            book._records.append(
                _Record(
                    item.seat,
                    item.state,
                    deadline=None if kept_s is None else now + kept_s,
                    generation=item.generation,
                    tokens=list(item.tokens),
                    saved=frozenset(item.tokens),
                )
            )
        return book

    def saved(self, now: float) -> SavedBook:
        """All seats, for a snapshot; the same object while nothing changes and time means
        nothing."""
        if self._saved is not None:
            return self._saved
        seats = tuple(
            SavedSeat(
                record.seat,
                record.state,
                None if record.deadline is None else max(0.0, record.deadline - now),
                record.generation,
                tuple(record.tokens),
            )
            for record in self._records
        )
        saved = SavedBook(seats, self.capacity, self._reuse, frozenset(self._kicked))
        if all(record.deadline is None for record in self._records):
            self._saved = saved  # kept while this is so: every step and grant gives it up
        return saved

    def written(self, saved: SavedBook) -> None:
        """A snapshot with these seats is stored."""
        if saved is self._written:
            return
        self._written = saved
        for record, item in zip(self._records, saved.seats, strict=False):  # seats may have come
            record.saved = frozenset(item.tokens)

    @property
    def abandoned(self) -> bool:
        """Whether everybody has left for good."""
        return all(record.state is SeatState.LEFT for record in self._records)

    @property
    def visited(self) -> bool:
        """Whether anybody has ever come."""
        return any(record.generation for record in self._records)

    @property
    def taken(self) -> int:
        """Seats that are held for somebody."""
        return sum(record.state is not SeatState.LEFT for record in self._records)

    @property
    def free(self) -> int:
        """Seats that a player who comes now could get."""
        return len(self._free())

    @property
    def connected(self) -> int:
        """Players with a stream."""
        changes = self._changes
        known, count = self._counted
        if known != changes:
            count = [record.state for record in self._records].count(SeatState.CONNECTED)
            self._counted = (changes, count)
        return count

    def seats(self) -> list[Seat]:
        """Everybody with a seat."""
        return [record.seat for record in self._records]

    def state(self, slot: int) -> SeatState:
        """How a seat is."""
        return self._records[slot].state

    def player_id(self, slot: int) -> str:
        """Whose seat it is."""
        return self._records[slot].seat.player_id

    def generation(self, slot: int) -> int:
        """The newest stream of a seat; 0 for one that does not exist."""
        return self._records[slot].generation if slot < len(self._records) else 0

    def grants(self, player_ids: Collection[str] | None = None) -> list[tuple[Seat, Token]]:
        """A fresh token for each seat, or those of some; those given out last stay good."""
        return [
            (record.seat, self._grant(record))
            for record in self._records
            if player_ids is None or record.seat.player_id in player_ids
        ]

    def held(self, player_id: str) -> int | None:
        """The seat that is a player's; None without one."""
        for record in self._records:
            if record.seat.player_id == player_id and record.state is not SeatState.LEFT:
                return record.seat.slot
        return None

    def grant(self, slot: int) -> Token:
        """A fresh token for a seat; those given out last stay good."""
        return self._grant(self._records[slot])

    def offered(self, player_ids: Collection[str]) -> list[int]:
        """The seats that players who have none would get, in turn: ResourceExhausted ROOM_FULL
        without so many free ones, PermissionDenied KICKED when one was thrown out."""
        if not self._kicked.isdisjoint(player_ids):
            raise errors.PermissionDenied("KICKED", "the player was thrown out of the room")
        free, wanted = self._free(), len(set(player_ids))
        if wanted > len(free):
            raise errors.ResourceExhausted("ROOM_FULL", "no seat is free")
        return free[:wanted]

    def admit(self, player_id: str, display_name: str, *, team: int, reserve_until: float) -> Seat:
        """A seat for a player who has none; raises as `offered` does."""
        (slot,) = self.offered([player_id])
        self._saved = None
        seat = Seat(slot, player_id, display_name, team)
        record = _Record(seat, deadline=reserve_until)
        if slot < len(self._records):
            # Stream tokens of the player before name a lower generation, and so stay dead.
            record.generation = self._records[slot].generation
            self._records[slot] = record
        else:
            self._records.append(record)
        self._changes += 1
        return seat

    def kick(self, slot: int) -> None:
        """The player of a seat is to get none again."""
        self._saved = None
        self._kicked.add(self._records[slot].seat.player_id)

    def is_kicked(self, player_id: str) -> bool:
        """Whether a player is to get no seat again."""
        return player_id in self._kicked

    def _free(self) -> list[int]:
        """Seats for new players: the empty ones first."""
        left = [r.seat.slot for r in self._records if self._reuse and r.state is SeatState.LEFT]
        return [*range(len(self._records), self.capacity), *left]

    def open(self, player_id: str, tokens: Sequence[Token]) -> Opened:
        """Take the seat that one of the tokens opens; PermissionDenied SEAT_REFUSED for none.

        Tokens come newest first.
        """
        offered = [_hash(token) for token in tokens]
        for record in self._records:
            used = [h for h in offered if h in record.tokens]
            if used and record.seat.player_id == player_id:
                if self._saves and offered[0] not in record.tokens:
                    # Given out after the snapshot that we come from: who holds both is right.
                    record.tokens = [used[0], offered[0]]
                    used = offered[:1]
                newest = max(used, key=record.tokens.index)
                self._step(record, SeatEvent.JOIN)
                record.generation += 1
                record.deadline = None
                if self._saves and newest not in record.saved:
                    return Opened(record.seat.slot, record.generation, b"")
                record.tokens = [newest]
                return Opened(record.seat.slot, record.generation, self._grant(record))
        raise errors.PermissionDenied("SEAT_REFUSED", "no such seat for this player")

    def retake(self, slot: int, player_id: str, generation: int) -> Opened:
        """A gateway that lost its Attach claims the seat of a stream it still holds.

        Aborted STREAM_REPLACED when a newer stream has it.
        """
        record = self._records[slot] if slot < len(self._records) else None
        if record is None or record.seat.player_id != player_id:
            raise errors.PermissionDenied("SEAT_REFUSED", "no such seat for this player")
        if generation < record.generation:
            raise errors.Aborted("STREAM_REPLACED", "a newer stream has the seat")
        self._step(record, SeatEvent.JOIN)
        record.generation = generation
        record.deadline = None
        return Opened(slot, generation, b"")

    def streams(self) -> list[tuple[int, int]]:
        """Seats with their streams' generations; in a restored room they may not be back yet."""
        return [
            (record.seat.slot, record.generation)
            for record in self._records
            if record.state is SeatState.CONNECTED
        ]

    def awaits(self, slot: int, generation: int) -> bool:
        """Whether a room that was restored waits for this stream of a seat."""
        record = self._records[slot] if slot < len(self._records) else None
        return (
            record is not None
            and record.state is SeatState.CONNECTED
            and record.deadline is not None
            and record.generation == generation
        )

    def drop(self, slot: int, now: float) -> None:
        """The seat's stream broke; it is kept for the grace time."""
        self._step(self._records[slot], SeatEvent.DROP)
        self._records[slot].deadline = now + self._grace_s

    def leave(self, slot: int) -> None:
        """The seat is given up."""
        record = self._records[slot]
        self._step(record, SeatEvent.LEAVE)
        record.deadline = None
        record.tokens.clear()

    def expired(self, now: float) -> list[tuple[int, str]]:
        """Seats whose time is over, and why; to be left by the caller."""
        return [
            (record.seat.slot, _expiry(record.state))
            for record in self._overdue(now)
            if record.state is not SeatState.CONNECTED
        ]

    def missing(self, now: float) -> list[int]:
        """Seats of a restored room whose players did not come back; to be dropped by the caller."""
        return [
            record.seat.slot for record in self._overdue(now) if record.state is SeatState.CONNECTED
        ]

    @property
    def settled(self) -> bool:
        """Whether no seat is known to have a deadline: then time changes nothing here."""
        return self._saved is not None

    def _overdue(self, now: float) -> list[_Record]:
        if self.settled:
            return []
        return [
            record
            for record in self._records
            if record.deadline is not None and record.deadline <= now
        ]

    def _grant(self, record: _Record) -> Token:
        self._saved = None
        token = self._new_token()
        if record.state is not SeatState.LEFT:
            record.tokens = [*record.tokens, _hash(token)][-MAX_TOKENS:]
        return token

    def _step(self, record: _Record, event: SeatEvent) -> None:
        self._saved = None
        state = TRANSITIONS.get((record.state, event))
        if state is None:
            raise errors.PermissionDenied("SEAT_REFUSED", f"the seat is {record.state.name}")
        record.state = state
        self._changes += 1


def _expiry(state: SeatState) -> str:
    return "NO_SHOW" if state is SeatState.RESERVED else "GRACE_EXPIRED"


def _hash(token: Token) -> bytes:
    return hashlib.sha256(token).digest()
