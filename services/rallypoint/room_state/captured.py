"""A room at one moment, as values and as the message `RoomSnapshot`.

This is how a room is read back, and how it goes to another node. Each second's snapshots are made
without these values: `packed`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from google.protobuf.message import DecodeError
from google.protobuf.timestamp_pb2 import Timestamp

from rallypoint.games.engine import RoomSpec
from rallypoint.games.room import Seat, SeatState
from rallypoint.games.saved import SavedInputs, SavedRoom
from rallypoint.internal.v1 import snapshot_pb2
from rallypoint.kit import errors
from rallypoint.room_state.domain.replies import Reply, SavedReplies
from rallypoint.room_state.domain.seats import SavedBook, SavedSeat
from rallypoint.room_state.hosted import HostedRoom, RoomIdentity
from rallypoint.room_state.recording import Recording

if TYPE_CHECKING:
    from rallypoint.games.engine import RoomTable


@dataclass(frozen=True, slots=True)
class Captured:
    """One room at one moment; `at` is unix time in seconds, `copy` counts the copies of a room."""

    identity: RoomIdentity
    book: SavedBook
    replies: Mapping[int, SavedReplies]
    engine: SavedRoom
    at: float
    copy: int = 0

    def spec(self, epoch: int) -> RoomSpec:
        """What the engine needs to make the room again."""
        seats = [item.seat for item in self.book.seats]
        return RoomSpec(
            id=self.identity.room_id, seats=seats, options=options(self.identity.options),
            epoch=epoch,
        )  # fmt: skip


def take(room: HostedRoom, table: RoomTable, *, now: float, at: float) -> Captured:
    """Copy a room; raises what the game's on_snapshot raises. `now` is the loop's clock."""
    return Captured(
        identity=room.identity,
        book=room.book.saved(now),
        replies={slot: log.saved() for slot, log in room.replies.items()},
        engine=table.snapshot(room.slot),
        at=at,
        copy=room.copies,
    )


def options(data: bytes) -> Mapping[str, Any]:
    """The options of a room; InvalidArgument OPTIONS_INVALID when they are no JSON object."""
    try:
        found = json.loads(data or b"{}")
    except ValueError as error:
        raise errors.InvalidArgument("OPTIONS_INVALID", "options must be JSON") from error
    if not isinstance(found, dict):
        raise errors.InvalidArgument("OPTIONS_INVALID", "options must be a JSON object")
    return found


def to_message(item: Captured) -> snapshot_pb2.RoomSnapshot:
    """What another node goes on with."""
    message = head(item.identity, item.book, item.replies)
    message.taken_at.CopyFrom(_taken_at(item))
    message.engine.CopyFrom(_engine(item.engine))
    message.engine.inputs.extend(
        snapshot_pb2.InputsSnapshot(
            applied_seq=inputs.applied,
            newest_seq=inputs.newest,
            waiting_seqs=[seq for seq, _ in inputs.waiting],
            waiting=[data for _, data in inputs.waiting],
            current=inputs.current,
        )
        for inputs in item.engine.inputs
    )
    message.engine.events.extend(
        snapshot_pb2.EventSnapshot(ago_ticks=ago, field=data) for ago, data in item.engine.events
    )
    return message


def _taken_at(item: Captured) -> Timestamp:
    taken_at = Timestamp()
    taken_at.FromNanoseconds(int(item.at * 1e9))
    return taken_at


def head(
    identity: RoomIdentity, book: SavedBook, replies: Mapping[int, SavedReplies]
) -> snapshot_pb2.RoomSnapshot:
    """All but the engine and the time."""
    return snapshot_pb2.RoomSnapshot(
        room_id=identity.room_id,
        epoch=identity.epoch,
        game=identity.game,
        queue=identity.queue,
        set=identity.set,
        options=identity.options,
        trace=identity.trace,
        seats=[_seat(seat, replies.get(seat.seat.slot)) for seat in book.seats],
        capacity=book.capacity,
        reuse_seats=book.reuse,
        kicked=sorted(book.kicked),
        code=identity.code,
        visibility=identity.visibility,
        created_s=identity.created_s,
        recording=None if identity.recording is None else identity.recording.message(),
    )


def from_bytes(data: bytes) -> Captured:
    """What was stored; FailedPrecondition SNAPSHOT_MALFORMED when it cannot be read."""
    try:
        message = snapshot_pb2.RoomSnapshot.FromString(data)
        return from_message(message)
    except (DecodeError, ValueError) as error:
        raise errors.FailedPrecondition("SNAPSHOT_MALFORMED", str(error)) from error


def from_message(message: snapshot_pb2.RoomSnapshot) -> Captured:
    """What was stored; ValueError when it makes no sense."""
    return Captured(
        identity=RoomIdentity(
            room_id=message.room_id,
            epoch=message.epoch,
            game=message.game,
            queue=message.queue,
            set=message.set,
            own_revision=0,
            code=message.code,
            visibility=message.visibility,
            created_s=message.created_s,
            options=message.options,
            recording=Recording.of(message.recording) if message.HasField("recording") else None,
            trace=dict(message.trace),
        ),
        book=SavedBook(
            tuple(_seat_of(slot, seat) for slot, seat in enumerate(message.seats)),
            message.capacity,
            message.reuse_seats,
            frozenset(message.kicked),
        ),
        replies={
            slot: _replies_of(seat)
            for slot, seat in enumerate(message.seats)
            if seat.newest_request or seat.replies
        },
        engine=_engine_of(message.engine),
        at=message.taken_at.ToNanoseconds() / 1e9,
    )


def _seat(item: SavedSeat, replies: SavedReplies | None) -> snapshot_pb2.SeatSnapshot:
    seat = snapshot_pb2.SeatSnapshot(
        player_id=item.seat.player_id,
        display_name=item.seat.display_name,
        team=item.seat.team,
        state=int(item.state),
        kept_ms=None if item.kept_s is None else round(item.kept_s * 1000),
        generation=item.generation,
        token_hashes=item.tokens,
    )
    if replies is not None:
        seat.newest_request = replies.newest
        seat.replies.extend(
            snapshot_pb2.ReplySnapshot(
                request_id=number, mark=mark, code=reply.code, reason=reply.reason, body=reply.body
            )
            for number, mark, reply in replies.replies
        )
    return seat


def _seat_of(slot: int, seat: snapshot_pb2.SeatSnapshot) -> SavedSeat:
    return SavedSeat(
        Seat(slot, seat.player_id, seat.display_name, seat.team),
        SeatState(seat.state),
        seat.kept_ms / 1000 if seat.HasField("kept_ms") else None,
        seat.generation,
        tuple(seat.token_hashes),
    )


def _replies_of(seat: snapshot_pb2.SeatSnapshot) -> SavedReplies:
    return SavedReplies(
        seat.newest_request,
        tuple(
            (item.request_id, item.mark, Reply(item.code, item.reason, item.body))
            for item in seat.replies
        ),
    )


def _engine(item: SavedRoom) -> snapshot_pb2.EngineSnapshot:
    """All but inputs and events."""
    return snapshot_pb2.EngineSnapshot(
        layout=item.layout,
        tick=item.tick,
        age_ticks=item.age,
        columns=item.columns,
        game=item.game,
        timers=timers(item),
        locked=item.locked,
        metadata=dict(item.metadata),
        backfill=item.backfill,
        next_event_id=item.next_event,
    )


def timers(item: SavedRoom) -> list[snapshot_pb2.TimerSnapshot]:
    """When which methods are called."""
    return [snapshot_pb2.TimerSnapshot(in_ticks=ticks, method=name) for ticks, name in item.timers]


def _engine_of(message: snapshot_pb2.EngineSnapshot) -> SavedRoom:
    return SavedRoom(
        layout=message.layout,
        tick=message.tick,
        age=message.age_ticks,
        columns=message.columns,
        game=message.game,
        timers=tuple((timer.in_ticks, timer.method) for timer in message.timers),
        locked=message.locked,
        metadata=tuple(sorted(message.metadata.items())),
        backfill=message.backfill,
        next_event=message.next_event_id,
        events=tuple((event.ago_ticks, event.field) for event in message.events),
        inputs=tuple(
            SavedInputs(
                applied=inputs.applied_seq,
                newest=inputs.newest_seq,
                waiting=tuple(zip(inputs.waiting_seqs, inputs.waiting, strict=True)),
                current=inputs.current,
            )
            for inputs in message.inputs
        ),
    )
