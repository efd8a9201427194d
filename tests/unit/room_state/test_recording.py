"""A recording shows what everybody saw, from any chunk on, and nothing that only some saw."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rallypoint.client.replay import Mark, Marked, Playback, Step, Word
from rallypoint.games.columns import Table, u16
from rallypoint.games.definition import define
from rallypoint.games.engine import RoomSpec, RoomTable
from rallypoint.games.game import GameInfo, RoomGame
from rallypoint.games.room import Seat
from rallypoint.games.schema import Visibility
from rallypoint.internal.v1 import events_pb2
from rallypoint.room_state import recording
from rallypoint.room_state.recording import Cut, Recording, Tape
from rallypoint.v1 import replay_pb2, room_pb2

SEATS = [Seat(0, "alice", "A"), Seat(1, "bob", "B", 1)]
SECRET = 0x5EC2
HZ = 10
PER_CHUNK = 20
CREATED, MOVED = replay_pb2.REPLAY_START_CREATED, replay_pb2.REPLAY_START_MOVED
RECOVERED = replay_pb2.REPLAY_START_RECOVERED


class Pile(Table, rows=3):
    top = u16()
    marks = u16()


class Hand(Table, visibility=Visibility.OWNER):
    cards = u16()


class Plan(Table, visibility=Visibility.TEAM):
    aim = u16()


class Cards(RoomGame):
    info = GameInfo(name="cards", max_players=2, tick_hz=HZ)
    tables = (Pile, Hand, Plan)

    def on_create(self) -> None:
        self.room.table(Hand).cards[:] = SECRET
        self.room.table(Plan).aim[:] = SECRET

    def on_tick(self, dt_s: float) -> None:
        pile = self.room.table(Pile)
        pile.top[self.room.tick % 3] += 1 + len(self.room.id)
        if self.room.tick % 7 == 0:
            self.room.emit(1, self.room.tick.to_bytes(2, "little"))


CARDS = define(Cards)


@dataclass
class Shelf:
    """Takes chunks; its clock follows the play."""

    cuts: list[Cut] = field(default_factory=list)
    now_s: float = 1000.0

    def put(self, cut: Cut) -> None:
        self.cuts.append(cut)

    def now(self) -> float:
        return self.now_s

    def records(self) -> list[events_pb2.ReplayRecord]:
        return [events_pb2.ReplayRecord.FromString(cut.record()) for cut in self.cuts]

    def chunks(self) -> list[replay_pb2.ReplayChunk]:
        return [record.chunk for record in self.records()]


class Recorded:
    """One room that is recorded, and what its players saw at each tick."""

    def __init__(self, *, max_bytes: int = 1 << 30, phase: int = 15) -> None:
        self.shelf = Shelf()
        self.seats: Sequence[Seat] = SEATS
        self.epoch = 1
        self.seen: list[tuple[int, list[int]]] = []
        self._wanted, self._phase = Recording(max_bytes), phase
        self.table = RoomTable(CARDS, capacity=2)
        self.table.step()
        self.slot = self.table.open(RoomSpec(id="r", seats=SEATS, epoch=1))
        self.tape = self._tape(CREATED)

    def _tape(self, start: replay_pb2.ReplayStart.ValueType) -> Tape:
        return Tape(
            CARDS, self._wanted, self.shelf, room_id="r", epoch=self.epoch, queue="q",
            created_s=990, start=start, seats=lambda: self.seats, phase=self._phase,
        )  # fmt: skip

    def play(self, ticks: int) -> None:
        for _ in range(ticks):
            self.table.step()
            self.shelf.now_s += 1 / HZ
            recording.roll({self.slot: self.tape}, self.table, self.table.deltas())
            top = self.table.room(self.slot).table(Pile).top
            self.seen.append((self.table.tick_of(self.slot), np.asarray(top).tolist()))

    def move(self, start: replay_pb2.ReplayStart.ValueType, *, away_s: float = 0.0) -> None:
        """To another table, under another epoch."""
        if start == MOVED:
            self.tape.cut()
        saved = self.table.snapshot(self.slot)
        self.epoch += 1
        self.shelf.now_s += away_s
        self.table = RoomTable(CARDS, capacity=2)
        spec = RoomSpec(id="r", seats=SEATS, epoch=self.epoch)
        self.slot = self.table.restore(spec, saved)
        self.tape = self._tape(start)

    def end(self) -> None:
        self.tape.end(room_pb2.Control(kind=room_pb2.CONTROL_KIND_CLOSED, reason="FINISHED"))


def shown(chunks: Sequence[replay_pb2.ReplayChunk]) -> tuple[list[tuple[int, list[int]]], Playback]:
    """What a viewer of these chunks sees, and the viewer."""
    playback = Playback()
    states = [
        (moment.tick, playback.tables["pile"]["top"].tolist())
        for chunk in chunks
        for moment in playback.take(chunk)
        if isinstance(moment, Step)
    ]
    return states, playback


def marks(chunks: Sequence[replay_pb2.ReplayChunk]) -> list[Mark]:
    playback = Playback()
    found = [moment for chunk in chunks for moment in playback.take(chunk)]
    return [moment for moment in found if isinstance(moment, Mark)]


acts = st.lists(
    st.one_of(
        st.tuples(st.just("play"), st.integers(1, 50)),
        st.tuples(st.just("cut"), st.just(0)),
        st.tuples(st.sampled_from(["move", "recover"]), st.just(0)),
    ),
    max_size=12,
)


@given(acts, st.integers(0, 40))
def test_any_recording_shows_what_was_seen(acts: list[tuple[str, int]], phase: int) -> None:
    room = Recorded(phase=phase)
    for act, ticks in acts:
        if act == "play":
            room.play(ticks)
        elif act == "cut":
            room.tape.cut()
        else:
            room.move(MOVED)
    room.end()
    states, playback = shown(room.shelf.chunks())
    assert states == room.seen
    assert playback.ended


@given(st.integers(1, 200), st.data())
def test_whatever_chunks_are_lost_the_others_show_what_was_seen(
    ticks: int, data: st.DataObject
) -> None:
    room = Recorded()
    room.play(ticks)
    room.end()
    chunks = room.shelf.chunks()
    kept = [chunk for chunk in chunks if data.draw(st.booleans())]
    seen = dict(room.seen)
    states, _ = shown(kept)
    assert all(seen[tick] == state for tick, state in states)
    numbers = [chunk.number for chunk in kept]
    gaps = sum(b != a + 1 for a, b in itertools.pairwise(numbers))
    assert [mark.kind for mark in marks(kept)] == [Marked.GAP] * gaps


def test_node_that_dies_leaves_a_mark_and_the_time_without_play() -> None:
    room = Recorded()
    room.play(3 * PER_CHUNK)
    room.move(RECOVERED, away_s=4.0)
    room.play(PER_CHUNK)
    room.end()
    found = marks(room.shelf.chunks())
    assert [mark.kind for mark in found] == [Marked.RECOVERED]
    assert found[0].lost_s >= 4.0


def test_old_owner_that_wakes_up_shows_nothing() -> None:
    room = Recorded()
    room.play(PER_CHUNK + 1)
    zombie, table, slot = room.tape, room.table, room.slot
    room.move(RECOVERED)
    room.play(PER_CHUNK)
    table.step()
    recording.roll({slot: zombie}, table, table.deltas())
    zombie.cut()
    room.play(PER_CHUNK)
    room.tape.cut()
    chunks = room.shelf.chunks()
    newest = itertools.accumulate((chunk.epoch for chunk in chunks), max)
    owners = [chunk for chunk, epoch in zip(chunks, newest, strict=True) if chunk.epoch == epoch]
    assert len(owners) == len(chunks) - 1
    states, _ = shown(chunks)
    assert states[-1] == room.seen[-1]
    assert states == shown(owners)[0]


def test_secrets_of_seats_and_teams_are_not_recorded() -> None:
    room = Recorded()
    room.play(2 * PER_CHUNK)
    room.end()
    _, playback = shown(room.shelf.chunks())
    assert not playback.tables["hand"]["cards"].any()
    assert not playback.tables["plan"]["aim"].any()
    needle = SECRET.to_bytes(2, "little")
    assert all(needle not in cut.record() for cut in room.shelf.cuts)


def test_words_to_all_and_events_come_once_and_in_order() -> None:
    room = Recorded()
    room.play(10)
    room.tape.say(room_pb2.Control(kind=room_pb2.CONTROL_KIND_MESSAGE, reason="HI"))
    room.play(50)
    room.end()
    playback = Playback()
    moments = [moment for chunk in room.shelf.chunks() for moment in playback.take(chunk)]
    words = [moment for moment in moments if isinstance(moment, Word)]
    assert [word.control.reason for word in words] == ["HI", "FINISHED"]
    ids = [event.id for moment in moments if isinstance(moment, Step) for event in moment.events]
    assert ids == list(range(1, len(ids) + 1))
    assert len(ids) >= 60 // 7
    times = [moment.at_s for moment in moments]
    assert times == sorted(times)


def test_everybody_who_had_a_seat_may_see_it() -> None:
    room = Recorded()
    room.play(2 * PER_CHUNK)
    room.seats = [SEATS[0], Seat(1, "carol", "C", 1)]
    room.play(2 * PER_CHUNK)
    room.end()
    records = room.shelf.records()
    assert list(records[0].players) == ["alice", "bob"]
    assert list(records[-1].players) == ["alice", "bob", "carol"]
    assert [seat.player_id for seat in records[-1].chunk.head.seats] == ["alice", "carol"]


@pytest.mark.parametrize("max_bytes", [1, 2000], ids=["tiny", "some"])
def test_too_large_a_room_is_recorded_in_part(max_bytes: int) -> None:
    room = Recorded(max_bytes=max_bytes)
    room.play(40 * PER_CHUNK)
    room.end()
    chunks = room.shelf.chunks()
    assert sum(cut.size for cut in room.shelf.cuts) < max_bytes + 2000
    assert marks(chunks)[0].kind is Marked.FULL
    _, playback = shown(chunks)
    assert playback.ended


def test_size_of_a_chunk_counts_all_who_ever_had_a_seat() -> None:
    room = Recorded()
    room.play(PER_CHUNK)
    room.seats = [Seat(0, "x" * 5000, "X"), SEATS[1]]
    room.end()
    assert room.shelf.cuts[-1].size > 10_000, "in the head, and in the list"
