"""Rooms through a real gateway: joins, frames, inputs, commands, replaced and ended streams."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from tests.integration.conftest import Runs
from tests.integration.gateway_peer import Peer, PeerRoom
from tests.integration.gateway_stack import (
    CLUSTER_KEY,
    ROOM,
    Player,
    Running,
    gateway,
    settings,
)
from tests.support.waiting import until

from rallypoint.cli.brokers import Brokers
from rallypoint.client.native import NativeChannel
from rallypoint.gateway.domain import tokens
from rallypoint.kit import errors
from rallypoint.v1 import room_pb2

pytestmark = pytest.mark.usefixtures("each_backend")

Fresh = Callable[[str], str]
TOKEN = b"seat-token-of-slot-0"
OTHER = b"seat-token-of-slot-1"


@asynccontextmanager
async def playing(
    brokers: Brokers, fresh: Fresh, tmp_path: Path
) -> AsyncIterator[tuple[Running, Peer, PeerRoom, Player]]:
    """A gateway, a node with a room, and a player."""
    async with Peer() as peer, gateway(brokers, settings(tmp_path)) as running:
        room = PeerRoom(fresh("room"), tokens={TOKEN: 0, OTHER: 1})
        await peer.own(running.runtime.bus, room)
        player = await Player(running.url, fresh("device").ljust(16).encode()).open()
        yield running, peer, room, player
        await player.channel.close()


def test_join_brings_welcome_keyframe_then_deltas(
    runs: Runs, brokers: Brokers, fresh: Fresh, tmp_path: Path
) -> None:
    async def scenario() -> None:
        async with playing(brokers, fresh, tmp_path) as (_, peer, room, player):
            watched = await player.join(room.room_id, TOKEN)
            for _ in range(3):
                peer.tick(room, data=b"x")
            await until(lambda: len(watched.frames()) == 3)
            assert watched.welcome.slot == 0
            assert watched.welcome.stream_token
            assert [frame.base_tick for frame in watched.frames()] == [0, 1, 2]
            assert [frame.tick for frame in watched.frames()] == [1, 2, 3]
            watched.close()
            await until(lambda: not room.held)

    runs(scenario())


def test_native_clients_get_the_same_stream(
    runs: Runs, brokers: Brokers, fresh: Fresh, tmp_path: Path
) -> None:
    async def scenario() -> None:
        async with playing(brokers, fresh, tmp_path) as (running, peer, room, player):
            native = Player(running.url, b"")
            native.session = player.session
            native.channel = NativeChannel(f"127.0.0.1:{running.settings.native_port}")
            watched = await native.join(room.room_id, TOKEN)
            for _ in range(3):
                peer.tick(room, data=b"x")
            await until(lambda: len(watched.frames()) == 3)
            await native.send_input(watched.welcome.stream_token, 1)
            await until(lambda: room.inputs)
            assert [frame.base_tick for frame in watched.frames()] == [0, 1, 2]
            watched.close()
            await until(lambda: not room.held)
            await native.channel.close()

    runs(scenario())


def test_nobody_gets_frames_of_another_room(
    runs: Runs, brokers: Brokers, fresh: Fresh, tmp_path: Path
) -> None:
    async def scenario() -> None:
        async with playing(brokers, fresh, tmp_path) as (running, peer, room, player):
            other = PeerRoom(fresh("room"), tokens={TOKEN: 0, OTHER: 1})
            await peer.own(running.runtime.bus, other)
            stopped = asyncio.Event()

            async def tick() -> None:
                while not stopped.is_set():
                    for each in (room, other):
                        peer.tick(each, data=each.room_id.encode())
                    await asyncio.sleep(0.002)

            async def come_and_go(wanted: PeerRoom, seat: bytes) -> None:
                for _ in range(15):
                    watched = await player.join(wanted.room_id, seat)
                    await until(watched.frames)
                    watched.close()
                    seen = {frame.sections[0].data for frame in watched.frames()}
                    assert seen == {wanted.room_id.encode()}

            ticking = asyncio.create_task(tick())
            places = [(room, TOKEN), (other, TOKEN), (room, OTHER), (other, OTHER)]
            await asyncio.gather(*(come_and_go(*place) for place in places))
            stopped.set()
            await ticking

    runs(scenario())


def test_silent_stream_hears_keep_alives(
    runs: Runs, brokers: Brokers, fresh: Fresh, tmp_path: Path
) -> None:
    async def scenario() -> None:
        async with playing(brokers, fresh, tmp_path) as (_, peer, room, player):
            watched = await player.join(room.room_id, TOKEN)
            peer.tick(room)
            await until(lambda: len(watched.messages) >= 5)
            assert [message.WhichOneof("kind") for message in watched.messages[2:5]] == [None] * 3

    runs(scenario())


@pytest.mark.parametrize(
    ("room_id", "offered", "schema_hash", "reason"),
    [
        ("", (TOKEN,), 0, "NAME_INVALID"),
        ("no-such-room", (TOKEN,), 0, "ROOM_UNKNOWN"),
        ("*", (b"wrong",), 0, "SEAT_REFUSED"),
        ("*", (), 0, "SEAT_TOKENS"),
        ("*", (b"x",) * 5, 0, "SEAT_TOKENS"),
        ("*", (TOKEN,), 5, "SCHEMA_MISMATCH"),
    ],
    ids=["no name", "unknown room", "wrong token", "no token", "many tokens", "schema"],
)
def test_join_is_refused_with_a_reason(
    runs: Runs,
    brokers: Brokers,
    fresh: Fresh,
    tmp_path: Path,
    room_id: str,
    offered: tuple[bytes, ...],
    schema_hash: int,
    reason: str,
) -> None:
    async def scenario() -> None:
        async with playing(brokers, fresh, tmp_path) as (running, _, room, player):
            name = room.room_id if room_id == "*" else room_id
            watched = await player.join(name, *offered, schema_hash=schema_hash)
            await until(lambda: watched.ended)
            assert watched.error is not None
            assert watched.error.reason == reason
            assert not watched.messages
            assert running.runtime.health.statistics()["streams"] == 0

    runs(scenario())


def test_inputs_reach_the_room_in_batches(
    runs: Runs, brokers: Brokers, fresh: Fresh, tmp_path: Path
) -> None:
    async def scenario() -> None:
        async with playing(brokers, fresh, tmp_path) as (_, _, room, player):
            watched = await player.join(room.room_id, TOKEN)
            token = watched.welcome.stream_token
            await asyncio.gather(*(player.send_input(token, n, b"a", b"b") for n in range(1, 9)))
            await until(lambda: len(room.inputs) == 8)
            assert sorted(item.first_seq for item in room.inputs) == list(range(1, 9))
            assert {tuple(item.inputs) for item in room.inputs} == {(b"a", b"b")}
            assert {(item.seat.slot, item.seat.generation) for item in room.inputs} == {(0, 1)}
            assert {item.ack_tick for item in room.inputs} == {1}

    runs(scenario())


@pytest.mark.parametrize("inputs", [(b"x",) * 9, (b"x" * 65,)], ids=["too many", "too long"])
def test_oversized_inputs_are_refused(
    runs: Runs, brokers: Brokers, fresh: Fresh, tmp_path: Path, inputs: tuple[bytes, ...]
) -> None:
    async def scenario() -> None:
        async with playing(brokers, fresh, tmp_path) as (_, _, room, player):
            watched = await player.join(room.room_id, TOKEN)
            with pytest.raises(errors.InvalidArgument, match="INPUTS_INVALID"):
                await player.send_input(watched.welcome.stream_token, 1, *inputs)
            assert room.inputs == []

    runs(scenario())


def test_inputs_cannot_smuggle_another_seat(
    runs: Runs, brokers: Brokers, fresh: Fresh, tmp_path: Path
) -> None:
    async def scenario() -> None:
        async with playing(brokers, fresh, tmp_path) as (_, _, room, player):
            watched = await player.join(room.room_id, TOKEN)
            request = room_pb2.SendInputRequest(
                stream_token=watched.welcome.stream_token, first_seq=1, inputs=[b"a"]
            ).SerializeToString()
            # Unknown fields, and field 1 as a message that would merge into ClientInput.seat.
            seat = b"\x10\x01\x18\x09"
            smuggled = b"\x0a" + bytes([len(seat)]) + seat + request + b"\x7a\x01x"
            await player.channel.unary(
                ROOM + "SendInput", smuggled, token=player.session.access_token
            )
            await until(lambda: room.inputs)
            (item,) = room.inputs
            assert (item.seat.room_id, item.seat.slot) == (room.room_id, 0)
            assert item.seat.generation == 1

    runs(scenario())


def test_forged_foreign_and_expired_stream_tokens_are_refused(
    runs: Runs, brokers: Brokers, fresh: Fresh, tmp_path: Path
) -> None:
    async def scenario() -> None:
        async with playing(brokers, fresh, tmp_path) as (running, _, room, player):
            watched = await player.join(room.room_id, TOKEN)
            genuine = watched.welcome.stream_token
            stranger = await Player(running.url, b"a strangers key!").open()
            claims = tokens.StreamClaims(room.room_id, 0, 1, player.session.player_id, 1)
            expired = tokens.seal(bytes.fromhex(CLUSTER_KEY), claims)
            forged = genuine[:-1] + bytes([genuine[-1] ^ 1])
            for caller, token in (
                (player, forged),
                (player, b""),
                (player, expired),
                (stranger, genuine),
            ):
                with pytest.raises(errors.PermissionDenied, match="STREAM_REFUSED"):
                    await caller.send_input(token, 1)
            # The stranger's attempt has filled no table that would let it in now.
            await player.send_input(genuine, 1)
            with pytest.raises(errors.PermissionDenied, match="STREAM_REFUSED"):
                await stranger.send_input(genuine, 2)
            await until(lambda: len(room.inputs) == 1)
            await stranger.channel.close()

    runs(scenario())


def test_commands_are_answered_or_refused_by_the_game(
    runs: Runs, brokers: Brokers, fresh: Fresh, tmp_path: Path
) -> None:
    async def scenario() -> None:
        async with playing(brokers, fresh, tmp_path) as (_, _, room, player):
            watched = await player.join(room.room_id, TOKEN)
            request = room_pb2.SendMessageRequest(
                stream_token=watched.welcome.stream_token, request_id=1, type=1, body=b"hello"
            )
            path = ROOM + "SendMessage"
            answer = await player.call(path, request, room_pb2.SendMessageResponse)
            assert answer.body == b"echo hello"
            request.type = 9
            with pytest.raises(errors.InvalidArgument, match="MOVE_ILLEGAL"):
                await player.call(path, request, room_pb2.SendMessageResponse)
            request.body = b"x" * 4097
            with pytest.raises(errors.InvalidArgument, match="MESSAGE_INVALID"):
                await player.call(path, request, room_pb2.SendMessageResponse)

    runs(scenario())


def test_leaving_gives_the_seat_up_and_ends_the_stream(
    runs: Runs, brokers: Brokers, fresh: Fresh, tmp_path: Path
) -> None:
    async def scenario() -> None:
        async with playing(brokers, fresh, tmp_path) as (_, _, room, player):
            watched = await player.join(room.room_id, TOKEN)
            request = room_pb2.LeaveRequest(stream_token=watched.welcome.stream_token)
            await player.call(ROOM + "Leave", request, room_pb2.LeaveResponse)
            await until(lambda: watched.ended)
            assert room.left == [0]
            assert watched.controls() == ["KICKED LEFT"]
            assert watched.error is None

    runs(scenario())


def test_newer_stream_replaces_the_older_one(
    runs: Runs, brokers: Brokers, fresh: Fresh, tmp_path: Path
) -> None:
    async def scenario() -> None:
        async with playing(brokers, fresh, tmp_path) as (_, peer, room, player):
            first = await player.join(room.room_id, TOKEN)
            peer.tick(room)
            second = await player.join(room.room_id, TOKEN)
            await until(lambda: first.ended)
            peer.tick(room)
            await until(lambda: second.frames())
            assert first.error is not None
            assert first.error.reason == "STREAM_REPLACED"
            assert second.frames()[0].base_tick == 0
            await player.send_input(first.welcome.stream_token, 1)
            await player.send_input(second.welcome.stream_token, 2)
            await until(lambda: room.inputs)
            assert [item.first_seq for item in room.inputs] == [2]

    runs(scenario())


def test_closed_room_ends_streams_after_its_last_word(
    runs: Runs, brokers: Brokers, fresh: Fresh, tmp_path: Path
) -> None:
    async def scenario() -> None:
        async with playing(brokers, fresh, tmp_path) as (_, peer, room, player):
            watched = await player.join(room.room_id, TOKEN)
            peer.tick(room)
            peer.close_room(room, "TIME_UP")
            await until(lambda: watched.ended)
            assert len(watched.frames()) == 1
            assert watched.controls() == ["CLOSED TIME_UP"]
            assert watched.error is None

    runs(scenario())


def test_frames_of_an_older_epoch_are_withheld(
    runs: Runs, brokers: Brokers, fresh: Fresh, tmp_path: Path
) -> None:
    async def scenario() -> None:
        async with playing(brokers, fresh, tmp_path) as (_, peer, room, player):
            watched = await player.join(room.room_id, TOKEN)
            peer.tick(room)
            room.epoch = 3
            peer.tick(room)  # a delta of a new epoch: void
            peer.tick(room)
            await until(lambda: peer.resyncs >= 1)  # asked for, since no keyframe came by itself
            peer.tick(room)
            await until(lambda: len(watched.frames()) == 2)
            room.epoch = 2
            for held in room.held.values():
                held.in_step = False
            peer.tick(room)
            heard = len(watched.messages)
            await until(lambda: len(watched.messages) > heard)  # a keep-alive
            assert [frame.epoch for frame in watched.frames()] == [1, 3]
            assert [frame.base_tick for frame in watched.frames()] == [0, 0]

    runs(scenario())
