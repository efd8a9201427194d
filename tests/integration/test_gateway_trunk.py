"""A gateway whose Attach goes on over a trunk, which may break or not be there at all."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from tests.integration.conftest import Runs
from tests.integration.gateway_peer import TOKEN, Peer, PeerRoom, a_room, ticked
from tests.integration.gateway_stack import Player, Running, Watched, gateway, settings
from tests.support.waiting import until

from rallypoint.cli.brokers import Brokers
from rallypoint.cli.ports import free_one
from rallypoint.gateway import attach
from rallypoint.internal.v1 import room_host_pb2 as host
from rallypoint.kit.trunk import Trunk
from rallypoint.v1 import room_pb2

Fresh = Callable[[str], str]


@dataclass
class Played:
    """A player in a room whose node answers."""

    running: Running
    peer: Peer
    room: PeerRoom
    player: Player
    watched: Watched

    @property
    def way(self) -> str:
        """How the gateway reaches the node."""
        nodes: dict[str, str] = self.running.runtime.health.statistics()["nodes"]
        return nodes[f"127.0.0.1:{self.peer.port}"]

    @property
    def trunk(self) -> Trunk:
        """The node's end of it."""
        trunk = self.peer.attaches[-1].trunk
        assert trunk is not None
        return trunk

    async def goes_on(self) -> None:
        """Frames and inputs pass, and the client's stream is the one of before."""
        await ticked(self.peer, self.room, self.watched)
        seen = len(self.room.inputs)
        await self.player.send_input(self.watched.welcome.stream_token, seen + 1)
        await until(lambda: len(self.room.inputs) > seen)
        assert not self.watched.ended


@asynccontextmanager
async def played(
    brokers: Brokers, fresh: Fresh, tmp_path: Path, peer: Peer, **link: bool
) -> AsyncIterator[Played]:
    """Somebody plays at a gateway."""
    wanted = settings(tmp_path)
    wanted = replace(wanted, link=replace(wanted.link, **link))
    async with gateway(brokers, wanted) as running:
        room = await a_room(peer, running, fresh("room"))
        player = await Player(running.url, fresh("device").ljust(16).encode()).open()
        watched = await player.join(room.room_id, TOKEN)
        yield Played(running, peer, room, player, watched)
        await player.channel.close()


def test_everything_goes_over_the_trunk(
    runs: Runs, brokers: Brokers, fresh: Fresh, tmp_path: Path
) -> None:
    async def scenario() -> None:
        async with Peer() as peer, played(brokers, fresh, tmp_path, peer) as here:
            await until(lambda: here.way == "trunk")
            await here.goes_on()
            request = room_pb2.SendMessageRequest(
                stream_token=here.watched.welcome.stream_token, request_id=1, body=b"hi"
            )
            method = "/rallypoint.v1.RoomService/SendMessage"
            answer = await here.player.call(method, request, room_pb2.SendMessageResponse)
            assert answer.body == b"echo hi"
            assert peer.attaches[-1].outbox.empty()
            await here.player.call(
                "/rallypoint.v1.RoomService/Leave",
                room_pb2.LeaveRequest(stream_token=here.watched.welcome.stream_token),
                room_pb2.LeaveResponse,
            )
            await until(lambda: here.watched.ended)
            assert here.room.left == [0]

    runs(scenario())


def _cut(trunk: Trunk) -> None:
    trunk.abort()


def _babble(trunk: Trunk) -> None:
    trunk.send(b"\xff\xff\xff")


def _babble_later(trunk: Trunk) -> None:
    # A frame of a room nobody plays, then what is no message at all.
    trunk.send(host.AttachResponse(frames=[host.RoomFrame(room_id="?")]).SerializeToString())
    trunk.send(b"\x12\x7f")


@pytest.mark.parametrize("breaks", [_cut, _babble, _babble_later])
def test_broken_trunk_is_made_anew_and_streams_stay(
    runs: Runs, brokers: Brokers, fresh: Fresh, tmp_path: Path, breaks: Callable[[Trunk], None]
) -> None:
    async def scenario() -> None:
        async with Peer() as peer, played(brokers, fresh, tmp_path, peer) as here:
            await until(lambda: here.way == "trunk")
            await here.goes_on()
            seen = len(here.watched.frames())
            breaks(here.trunk)
            here.room.held.clear()
            await until(lambda: len(peer.attaches) == 2 and bool(here.room.held))
            await here.goes_on()
            assert here.watched.frames()[seen].base_tick == 0
            assert here.room.generations == {0: 1}
            await until(lambda: here.way == "trunk")

    runs(scenario())


def test_trunks_that_never_last_are_given_up_for_a_while(
    runs: Runs, brokers: Brokers, fresh: Fresh, tmp_path: Path
) -> None:
    async def scenario() -> None:
        async with Peer() as peer, played(brokers, fresh, tmp_path, peer) as here:
            for number in range(1, 4):
                await until(lambda: here.way == "trunk")
                # Unread bytes at the node's end make its end a reset, as a middle box would.
                here.trunk.pause_reading()
                await here.player.send_input(here.watched.welcome.stream_token, number)
                await asyncio.sleep(0.1)
                here.trunk.abort()
                await until(lambda expected=number + 1: len(peer.attaches) == expected)
            await until(lambda: here.way == "grpc")
            await here.goes_on()
            assert peer.attaches[-1].trunk is None

    runs(scenario())


async def _nowhere(peer: Peer) -> None:
    peer.trunk_port = free_one()


async def _elsewhere(peer: Peer) -> None:
    # Who listens there knows nothing of our tokens.
    peer.trunk_port = await other.trunks.listen("127.0.0.1", 0)


async def _nothing(peer: Peer) -> None:
    peer.trunk_port = 0


other = Peer()


@pytest.mark.parametrize("lead", [_nowhere, _elsewhere, _nothing])
def test_without_a_way_to_the_trunk_grpc_stays(
    runs: Runs,
    brokers: Brokers,
    fresh: Fresh,
    tmp_path: Path,
    lead: Callable[[Peer], object],
) -> None:
    async def scenario() -> None:
        async with Peer() as peer:
            await lead(peer)  # type: ignore[misc]  # all are coroutines
            async with played(brokers, fresh, tmp_path, peer) as here:
                await here.goes_on()
                await asyncio.sleep(0.1)
                await here.goes_on()
                assert here.way == "grpc"
                assert len(peer.attaches) == 1
            other.trunks.close()

    runs(scenario())


def test_a_gateway_may_do_without(
    runs: Runs, brokers: Brokers, fresh: Fresh, tmp_path: Path
) -> None:
    async def scenario() -> None:
        async with (
            Peer() as peer,
            played(brokers, fresh, tmp_path, peer, trunks=False) as here,
        ):
            await here.goes_on()
            assert here.way == "grpc"

    runs(scenario())


class Listener:
    """An owner of a link that only counts."""

    def greeting(self) -> host.AttachRequest:
        return host.AttachRequest()

    def received(self, response: bytes) -> Iterable[None]:
        said = host.AttachResponse.FromString(response)
        if said.HasField("trunk"):
            self.link.trunk_offered(said.trunk)
        if said.trunk_begins:
            self.link.trunk_begins()
        return ()

    def detached(self) -> None:
        return

    def __init__(self, address: str) -> None:
        bounded = attach.LinkSettings(pending_inputs_max=20)
        self.link = attach.Link(address, owner=self, gateway_id="gateway-1", settings=bounded)


def test_inputs_leave_the_earlier_the_later_frames_come(runs: Runs) -> None:
    data = host.AttachRequest(resyncs=[1]).SerializeToString()

    async def scenario() -> None:
        async with Peer() as peer, asyncio.TaskGroup() as tasks:
            link = Listener(f"127.0.0.1:{peer.port}").link
            running = tasks.create_task(link.run(), name="link")
            await until(lambda: link.way == "trunk")
            now = asyncio.get_running_loop().time()
            waits = []
            for late_s in (0.001, 0.011, 5.0):
                link.ticked(late_s)
                waits.append(link.inputs(data, count=1, now=now, wait_s=0.03))
            assert waits[0] - waits[1] == pytest.approx(0.01, abs=0.005)
            assert waits[2] == 0.0
            await until(lambda: peer.resyncs == 3)  # the last took the others along
            link.close()
            await running

    runs(scenario())


def test_a_node_that_reads_slowly_costs_a_bounded_number_of_inputs(runs: Runs) -> None:
    many = host.AttachRequest(resyncs=[0] * 30_000).SerializeToString()

    async def scenario() -> None:
        async with Peer() as peer, asyncio.TaskGroup() as tasks:
            link = Listener(f"127.0.0.1:{peer.port}").link
            running = tasks.create_task(link.run(), name="link")
            await until(lambda: link.way == "trunk")
            await until(lambda: peer.attaches[0].trunk is not None)
            trunk = peer.attaches[0].trunk
            assert trunk is not None
            await asyncio.sleep(0.05)
            trunk.pause_reading()
            sent = 0
            while not link.dropped_inputs:
                link.inputs(many, count=1, now=asyncio.get_running_loop().time(), wait_s=0.0)
                sent += 1
                await asyncio.sleep(0.0)
                assert sent < 10_000
            trunk.resume_reading()
            await until(lambda: peer.resyncs == (sent - 1) * 30_000)
            link.close()
            await running

    runs(scenario())
