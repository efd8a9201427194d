"""Callers that break off: no room is left that stands still for ever, or that nobody knows."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest
from tests.integration.conftest import Runs
from tests.integration.moves_stack import COUNTING
from tests.support.waiting import until

from rallypoint.cli.brokers import Brokers
from rallypoint.games.saved import layout_hash
from rallypoint.internal.v1 import allocation_pb2, events_pb2
from rallypoint.internal.v1 import room_host_pb2 as host
from rallypoint.internal.v1 import room_transfer_pb2 as transfer
from rallypoint.kit import errors, subjects
from rallypoint.kit.bus import Bus
from rallypoint.kit.clock import SystemClock
from rallypoint.kit.names import RoomId
from rallypoint.kit.runtime import RuntimeSettings
from rallypoint.room_state import config
from rallypoint.room_state.arrivals import Arrivals
from rallypoint.room_state.closing import Closer
from rallypoint.room_state.facts import RoomFacts
from rallypoint.room_state.node import Node

Fresh = Callable[[str], str]


@dataclass
class Both:
    """A node that makes rooms and one that takes them in."""

    bus: Bus
    source: Node
    target: Node
    arrivals: Arrivals

    async def offer(self, room_id: str) -> tuple[transfer.TransferRoomRequest, int]:
        """A room of the source, ready to be taken; and the revision of its owner's record."""
        kv = self.bus.kv(subjects.OWNERS.name)
        own = events_pb2.OwnRecord(node_id="source", epoch=1).SerializeToString()
        revision = await kv.put(subjects.own(RoomId(room_id)), own)
        await self.source.create(wanted(room_id, revision))
        entry = await kv.get(subjects.snapshot(RoomId(room_id)))
        assert entry is not None
        await self.arrivals.prepare(
            transfer.PrepareRoomRequest(
                room_id=room_id, epoch=2, transfer="t", game="counting", players=1,
                layout=layout_hash(COUNTING),
            )
        )  # fmt: skip
        return transfer.TransferRoomRequest(
            room_id=room_id, epoch=2, transfer="t", snapshot=entry.value or b""
        ), await kv.put(subjects.own(RoomId(room_id)), own)


def wanted(room_id: str, own_revision: int = 0) -> host.CreateRoomRequest:
    return host.CreateRoomRequest(
        room_id=room_id, epoch=1, game="counting", own_revision=own_revision, options=b"{}",
        players=[allocation_pb2.SeatRequest(player_id="p0")],
    )  # fmt: skip


@asynccontextmanager
async def both(brokers: Brokers) -> AsyncIterator[Both]:
    """Two nodes in this process."""
    bus = await Bus.connect(brokers.nats.url, name="cancelled")
    await bus.ensure_topology()
    tasks: set[asyncio.Task[None]] = set()

    def spawn(work: object, /, *, name: str) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work, name=name)  # type: ignore[arg-type]
        tasks.add(task)
        return task  # type: ignore[return-value]

    def node(node_id: str) -> Node:
        base = RuntimeSettings(instance=node_id, incarnation="a")
        facts, clock = RoomFacts(bus, node_id), SystemClock()
        return Node(
            config.Settings(runtime=base, node_id=node_id, set="local"), {"counting": COUNTING},
            spawn=spawn, facts=facts, closer=Closer(bus, facts, clock=clock, wait_s=1.0),
            bus=bus, clock=clock,
        )  # fmt: skip

    target = node("target")
    arrivals = Arrivals(target, bus, place="target|a", spawn=spawn)
    try:
        yield Both(bus, node("source"), target, arrivals)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await bus.close()


async def broken_off(call: Awaitable[object], turns: int) -> None:
    """Make a call whose caller goes after so many turns of the loop."""
    calling = asyncio.ensure_future(call)
    for _ in range(turns):
        await asyncio.sleep(0)
    calling.cancel()
    with contextlib.suppress(asyncio.CancelledError, errors.RallypointError):
        await calling


async def repeated(call: Callable[[], Awaitable[None]]) -> None:
    """Make a call as a source does: again while the answer is to wait."""
    async with asyncio.timeout(5):
        while True:
            try:
                return await call()
            except errors.Unavailable:
                await asyncio.sleep(0.01)


@pytest.mark.parametrize("broken", ["take", "start"])
def test_call_that_breaks_off_leaves_no_room_standing(
    brokers: Brokers, runs: Runs, fresh: Fresh, broken: str
) -> None:
    async def scenario() -> None:
        async with both(brokers) as nodes:
            for turns in range(8):
                room_id = fresh("room")
                taking, revision = await nodes.offer(room_id)
                starting = transfer.StartRoomRequest(
                    room_id=room_id, epoch=2, transfer="t", own_revision=revision
                )
                if broken == "take":
                    await broken_off(nodes.arrivals.take(taking), turns)
                await repeated(lambda taking=taking: nodes.arrivals.take(taking))
                if broken == "start":
                    await broken_off(nodes.arrivals.start(starting), turns)
                await repeated(lambda starting=starting: nodes.arrivals.start(starting))
                placed = nodes.target.rooms[room_id]
                assert (placed.room.still, placed.room.identity.own_revision) == (None, revision)
                tick = placed.runner.table.tick
                await until(lambda p=placed, t=tick: p.runner.table.tick > t)
                assert placed.runner.table.rooms == len(nodes.target.rooms), "one is nobody's"

    runs(scenario())


def test_table_for_a_coming_room_is_made_before_it_stands_still(
    brokers: Brokers, runs: Runs, fresh: Fresh
) -> None:
    async def scenario() -> None:
        async with both(brokers) as nodes:
            assert nodes.target.status()["tables"] == 0
            await nodes.offer(fresh("room"))
            assert (nodes.target.status()["tables"], len(nodes.target.rooms)) == (1, 0)

    runs(scenario())


def test_room_whose_maker_goes_is_known_or_was_never_made(
    brokers: Brokers, runs: Runs, fresh: Fresh
) -> None:
    async def scenario() -> None:
        async with both(brokers) as nodes:
            for turns in range(12):
                request = wanted(fresh("room"))
                await broken_off(nodes.source.create(request), turns)
                await nodes.source.create(request)
                placed = nodes.source.rooms[request.room_id]
                assert placed.runner.table.rooms == len(nodes.source.rooms), "one is nobody's"

    runs(scenario())
