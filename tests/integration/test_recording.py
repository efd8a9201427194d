"""Rooms recorded by real nodes on a real NATS: what is kept is what was played."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

from tests.integration.conftest import Runs
from tests.integration.rooms_stack import (
    AttachPeer,
    RunningNode,
    attached,
    host,
    room_node,
)
from tests.support.waiting import until

from rallypoint.cli.brokers import Brokers
from rallypoint.client.replay import Mark, Marked, Playback, Step, Word
from rallypoint.games import skirmish
from rallypoint.games.definition import define
from rallypoint.internal.v1 import allocation_pb2, events_pb2
from rallypoint.kit import errors, metrics, subjects
from rallypoint.kit.bus import Bus
from rallypoint.kit.names import RoomId
from rallypoint.v1 import room_pb2

Fresh = Callable[[str], str]
SKIRMISH = define(skirmish.Skirmish)
RECORDING = allocation_pb2.Recording(max_bytes=1 << 24)
States = dict[tuple[int, int], bytes]


async def recorded(bus: Bus, room_id: str) -> list[events_pb2.ReplayRecord]:
    subject = subjects.replay(RoomId(room_id))
    facts = bus.stored(subjects.REPLAY.name, subject)
    return [events_pb2.ReplayRecord.FromString(fact.data) async for fact in facts]


async def until_ended(bus: Bus, room_id: str) -> list[events_pb2.ReplayRecord]:
    found: list[events_pb2.ReplayRecord] = []
    async with asyncio.timeout(20):
        while not any(record.chunk.last for record in found):
            await asyncio.sleep(0.05)
            with contextlib.suppress(errors.Unavailable):  # the broker may just come back
                found = await recorded(bus, room_id)
    return found


def played_back(records: list[events_pb2.ReplayRecord]) -> tuple[States, list[Mark], list[Word]]:
    """The states by epoch and tick, what is marked, and what was said."""
    playback = Playback()
    states: States = {}
    moments = []
    for record in records:
        for moment in playback.take(record.chunk):
            moments.append(moment)
            if isinstance(moment, Step):
                tables = playback.tables
                state = b"".join(
                    column.tobytes() for table in tables.values() for column in table.values()
                )
                states[playback.epoch, moment.tick] = state
    marks = [moment for moment in moments if isinstance(moment, Mark)]
    return states, marks, [moment for moment in moments if isinstance(moment, Word)]


async def seat(peer: AttachPeer, room_id: str, grant: allocation_pb2.SeatGrant) -> States:
    """Join; the states that the player sees, which go on growing."""
    seen: States = {}
    player = await peer.join(room_id, grant.player_id, grant.seat_token)
    decoder = player.decoder
    assert decoder is not None

    def note(frame: room_pb2.Frame) -> None:
        seen[frame.epoch, frame.tick] = b"".join(
            column.tobytes() for table in decoder.tables.values() for column in table.values()
        )

    player.on_frame = note
    return seen


async def close(node: RunningNode, room_id: str) -> None:
    await node.stub.CloseRoom(host.CloseRoomRequest(room_id=room_id, reason="TEST"))


def test_recording_shows_what_players_saw_and_how_it_ended(
    brokers: Brokers, runs: Runs, fresh: Fresh
) -> None:
    async def play() -> None:
        room_id = fresh("room")
        async with room_node(brokers) as node, attached(node, SKIRMISH) as peer:
            grants = await node.create(room_id, recording=RECORDING, queue="q")
            seen = await seat(peer, room_id, grants[0])
            await until(lambda: len(seen) > 100)
            await close(node, room_id)
            records = await until_ended(node.bus, room_id)
        states, marks, words = played_back(records)
        assert seen.items() <= states.items()
        assert marks == []
        assert words[-1].control.kind == room_pb2.CONTROL_KIND_CLOSED
        assert words[-1].control.reason == "TEST"
        assert set(records[-1].players) == {"p0", "p1"}
        assert records[0].chunk.head.queue == "q"

    runs(play())


def test_room_without_it_is_not_recorded(brokers: Brokers, runs: Runs, fresh: Fresh) -> None:
    async def play() -> None:
        room_id = fresh("room")
        async with room_node(brokers) as node:
            await node.create(room_id)
            await asyncio.sleep(0.2)
            await close(node, room_id)
            await asyncio.sleep(0.2)
            assert await recorded(node.bus, room_id) == []

    runs(play())


def test_recovered_room_is_recorded_on(brokers: Brokers, runs: Runs, fresh: Fresh) -> None:
    async def play() -> None:
        room_id, dead, heir = fresh("room"), fresh("dead"), fresh("heir")
        async with room_node(brokers, node_id=heir) as second:
            async with room_node(brokers, node_id=dead) as first:
                revision = await first.own(room_id)
                await first.create(room_id, recording=RECORDING, own_revision=revision)
                await asyncio.sleep(2.5)
                revision = await second.own(room_id, 2)
                await second.stub.RestoreRoom(
                    host.RestoreRoomRequest(room_id=room_id, epoch=2, own_revision=revision)
                )
                async with attached(second, SKIRMISH) as peer:
                    tokens = await second.create(room_id, epoch=2)
                    seen = await seat(peer, room_id, tokens[0])
                    await until(lambda: len(seen) > 20)
                    await close(second, room_id)
            states, marks, _ = played_back(await until_ended(second.bus, room_id))
        assert seen.items() <= states.items()
        assert {epoch for epoch, _ in states} == {1, 2}
        assert [mark.kind for mark in marks] == [Marked.RECOVERED]

    runs(play())


def test_broker_that_stands_still_delays_no_tick_and_loses_nothing(
    own_brokers: Brokers, runs: Runs, fresh: Fresh
) -> None:
    async def play() -> None:
        room_id = fresh("room")
        async with room_node(own_brokers) as node, attached(node, SKIRMISH) as peer:
            grants = await node.create(room_id, recording=RECORDING)
            seen = await seat(peer, room_id, grants[0])
            await until(lambda: len(seen) > 20)
            own_brokers.nats.pause()
            before = len(seen)
            await until(lambda: len(seen) > before + 60)
            own_brokers.nats.resume()
            await close(node, room_id)
            states, marks, _ = played_back(await until_ended(node.bus, room_id))
        assert seen.items() <= states.items()
        assert marks == []

    runs(play())


def test_what_waits_is_bounded_and_what_is_dropped_is_a_gap(
    own_brokers: Brokers, runs: Runs, fresh: Fresh
) -> None:
    async def play() -> None:
        rooms = [fresh("room") for _ in range(8)]
        async with (
            room_node(own_brokers, replay_pending_bytes=8000) as node,
            attached(node, SKIRMISH) as peer,
        ):
            dropped = metrics.ROOM_REPLAY_CHUNKS.labels("dropped")._value.get
            made = [await node.create(room_id, recording=RECORDING) for room_id in rooms]
            seen = [
                await seat(peer, room_id, grants[0])
                for room_id, grants in zip(rooms, made, strict=True)
            ]
            await until(lambda: len(seen[0]) > 50)
            before = dropped()
            own_brokers.nats.pause()
            await until(lambda: dropped() >= before + 4)
            own_brokers.nats.resume()
            for room_id in rooms:
                await close(node, room_id)
            shown = [played_back(await until_ended(node.bus, room_id)) for room_id in rooms]
        for (states, _, _), live in zip(shown, seen, strict=True):
            assert all(live[place] == state for place, state in states.items() if place in live)
        marks = [mark.kind for _, marks, _ in shown for mark in marks]
        assert set(marks) == {Marked.GAP}

    runs(play())
