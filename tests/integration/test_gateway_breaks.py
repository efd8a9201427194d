"""What breaks around a gateway: nodes, brokers, readers, sessions, other gateways."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from tests.integration.conftest import Runs
from tests.integration.gateway_peer import OTHER, TOKEN, Peer, PeerRoom, a_room, seated, ticked
from tests.integration.gateway_stack import (
    ROOM,
    Player,
    gateway,
    settings,
)
from tests.integration.slow_reader import SlowReader
from tests.support.waiting import until

from rallypoint.cli.brokers import Brokers
from rallypoint.internal.v1 import events_pb2
from rallypoint.kit import errors, names, subjects
from rallypoint.v1 import room_pb2

pytestmark = pytest.mark.usefixtures("each_backend")

Fresh = Callable[[str], str]


def test_any_gateway_takes_inputs_and_seats(
    runs: Runs, brokers: Brokers, fresh: Fresh, tmp_path: Path
) -> None:
    async def scenario() -> None:
        wanted = settings(tmp_path)
        async with (
            Peer() as peer,
            gateway(brokers, wanted, instance="gateway-1") as one,
            gateway(brokers, wanted, instance="gateway-2") as two,
        ):
            room = await a_room(peer, one, fresh("room"))
            player = await Player(one.url, b"two gateways ply").open()
            elsewhere = player.at(two.url)
            watched = await player.join(room.room_id, TOKEN)
            for seq in range(1, 7):
                sender = player if seq % 2 else elsewhere
                await sender.send_input(watched.welcome.stream_token, seq)
            await until(lambda: len(room.inputs) == 6)
            assert len(peer.attaches) == 2
            # The seat itself moves as well: the newest stream wins, wherever it is.
            newer = await elsewhere.join(room.room_id, TOKEN)
            await until(lambda: watched.ended)
            assert watched.error is not None
            assert watched.error.reason == "STREAM_REPLACED"
            await ticked(peer, room, newer)
            request = room_pb2.LeaveRequest(stream_token=newer.welcome.stream_token)
            await player.call(ROOM + "Leave", request, room_pb2.LeaveResponse)
            await until(lambda: newer.ended)
            assert room.left == [0]
            for each in (player, elsewhere):
                await each.channel.close()

    runs(scenario())


def test_broken_attach_is_made_anew_and_streams_stay(
    runs: Runs, brokers: Brokers, fresh: Fresh, tmp_path: Path
) -> None:
    async def scenario() -> None:
        async with (
            Peer() as peer,
            gateway(brokers, settings(tmp_path)) as running,
            seated(peer, running, fresh("room")) as (room, player, watched),
        ):
            await ticked(peer, room, watched)
            token = watched.welcome.stream_token
            await peer.stop()
            await player.send_input(token, 1)  # taken, and lost: the client will repeat it
            request = room_pb2.SendMessageRequest(stream_token=token, request_id=1)
            with pytest.raises(errors.Unavailable, match="ROOM_AWAY"):
                await player.call(ROOM + "SendMessage", request, room_pb2.SendMessageResponse)
            room.held.clear()
            await peer.start(peer.port)
            await until(lambda: room.held)
            await ticked(peer, room, watched)
            assert room.generations == {0: 1}
            assert watched.frames()[-1].base_tick == 0
            await player.send_input(token, 1)
            await until(lambda: room.inputs)
            assert not watched.ended

    runs(scenario())


def test_room_that_moved_goes_on_over_the_same_stream(
    runs: Runs, brokers: Brokers, fresh: Fresh, tmp_path: Path
) -> None:
    async def scenario() -> None:
        async with (
            Peer() as old,
            Peer() as new,
            gateway(brokers, settings(tmp_path)) as running,
            seated(old, running, fresh("room")) as (room, player, watched),
        ):
            await ticked(old, room, watched)
            await old.stop()
            moved = PeerRoom(room.room_id, epoch=2, generations={0: 1})
            await new.own(running.runtime.bus, moved)
            await until(lambda: moved.held)
            await ticked(new, moved, watched)
            await player.send_input(watched.welcome.stream_token, 1)
            await until(lambda: moved.inputs)
            assert watched.frames()[-1].epoch == 2
            assert watched.frames()[-1].base_tick == 0
            assert not watched.ended

    runs(scenario())


def test_gateway_without_a_stream_follows_a_room_too(
    runs: Runs, brokers: Brokers, fresh: Fresh, tmp_path: Path
) -> None:
    """The room's node is there but has it no more, as one that stood still for a while."""

    async def scenario() -> None:
        wanted = settings(tmp_path)
        async with (
            Peer() as old,
            Peer() as new,
            gateway(brokers, wanted, instance="gateway-1") as one,
            gateway(brokers, wanted, instance="gateway-2") as two,
        ):
            room = await a_room(old, one, fresh("room"))
            here = await Player(one.url, b"follows the room").open()
            there = here.at(two.url)
            watched = await here.join(room.room_id, TOKEN)
            token = watched.welcome.stream_token
            asked = room_pb2.SendMessageRequest(stream_token=token, request_id=1, body=b"to")

            async def echoed() -> bool:
                asked.request_id += 1
                path = ROOM + "SendMessage"
                try:
                    answer = await there.call(path, asked, room_pb2.SendMessageResponse)
                except errors.Unavailable:  # the way to the next node is being opened
                    return False
                return bool(answer.body == b"echo to")

            await there.send_input(token, 1)
            await until(echoed)
            held = old.rooms.pop(room.room_id).held[0]
            moved = PeerRoom(room.room_id, epoch=2, generations={0: 1})
            await new.own(one.runtime.bus, moved)
            old.tell_moved(held.attach, room.room_id, held.client)
            await until(lambda: moved.held)
            await until(echoed)

            async def heard() -> bool:
                await there.send_input(token, 2)
                return bool(moved.inputs)

            await until(heard)
            await here.channel.close()
            await there.channel.close()

    runs(scenario())


def test_streams_of_a_lost_room_are_told(
    runs: Runs, brokers: Brokers, fresh: Fresh, tmp_path: Path
) -> None:
    async def scenario() -> None:
        async with (
            Peer() as peer,
            gateway(brokers, settings(tmp_path)) as running,
            seated(peer, running, fresh("room")) as (room, player, watched),
        ):
            await peer.stop()
            key = subjects.own(names.RoomId(room.room_id))
            await running.runtime.bus.kv(subjects.OWNERS.name).purge(key)
            await until(lambda: watched.ended)
            assert watched.controls() == ["CLOSED ROOM_LOST"]
            assert watched.error is None
            again = await player.join(room.room_id, TOKEN)
            assert again.error is not None
            assert again.error.reason == "ROOM_UNKNOWN"

    runs(scenario())


def test_players_are_told_the_result_of_a_match_whose_node_died_with_it(
    runs: Runs, brokers: Brokers, fresh: Fresh, tmp_path: Path
) -> None:
    async def scenario() -> None:
        async with (
            Peer() as peer,
            gateway(brokers, settings(tmp_path)) as running,
            seated(peer, running, fresh("room")) as (room, _, watched),
        ):
            await peer.stop()
            room_id, kv = names.RoomId(room.room_id), running.runtime.bus.kv(subjects.OWNERS.name)
            result = room_pb2.MatchResult(match_id=room_id, rated=True)
            fact = events_pb2.ResultFact(result=result, queue="q", epoch=1)
            await kv.put(subjects.result_key(room_id), fact.SerializeToString())
            await kv.purge(subjects.own(room_id))
            await until(lambda: watched.ended)
            assert watched.controls() == ["CLOSED FINISHED"]
            assert watched.messages[-1].control.result == result

    runs(scenario())


def test_node_that_forgot_the_room_is_given_up_in_time(
    runs: Runs, brokers: Brokers, fresh: Fresh, tmp_path: Path
) -> None:
    async def scenario() -> None:
        wanted = replace(settings(tmp_path), room_lost_after_s=1.5)
        async with (
            Peer() as peer,
            gateway(brokers, wanted) as running,
            seated(peer, running, fresh("room")) as (_, _, watched),
        ):
            await peer.stop()
            peer.rooms.clear()
            await peer.start(peer.port)
            await until(lambda: watched.ended)
            assert watched.controls() == ["CLOSED ROOM_LOST"]

    runs(scenario())


def frames(slow: SlowReader) -> list[room_pb2.Frame]:
    return [m.frame for m in slow.messages(room_pb2.JoinResponse) if m.HasField("frame")]


def test_slow_reader_is_skipped_then_gets_a_keyframe(
    runs: Runs, brokers: Brokers, fresh: Fresh, tmp_path: Path
) -> None:
    async def scenario() -> None:
        async with (
            Peer() as peer,
            gateway(brokers, settings(tmp_path)) as running,
            seated(peer, running, fresh("room")) as (room, player, quick),
        ):
            join = room_pb2.JoinRequest(room_id=room.room_id, seat_tokens=[OTHER])
            port = running.settings.web_port
            slow = SlowReader(port, player.session.access_token, ROOM + "Join", join)
            await until(lambda: len(room.held) == 2)
            sent = 0
            while not running.runtime.health.statistics()["slow"]:
                peer.tick(room, data=b"x" * 10_000)
                sent += 1
                await until(lambda: quick.frames() and quick.frames()[-1].tick == room.tick)
                assert sent < 500
            for _ in range(2):  # what cannot be made one frame is missed
                peer.tick(room, data=b"x" * 10_000)
            resyncs = peer.resyncs
            async with asyncio.timeout(30):
                while peer.resyncs == resyncs:
                    slow.read()
                    await asyncio.sleep(0.01)
            for _ in range(3):
                peer.tick(room)
            async with asyncio.timeout(30):
                while not frames(slow) or frames(slow)[-1].tick != room.tick:
                    slow.read()
                    await asyncio.sleep(0.01)
            _assert_unbroken(frames(slow))
            _assert_unbroken(quick.frames())
            assert len(frames(slow)) < len(quick.frames())
            slow.socket.close()

    runs(scenario())


def _assert_unbroken(frames: list[room_pb2.Frame]) -> None:
    """Each frame builds on the one before it, or on nothing."""
    before = 0
    for frame in frames:
        assert frame.base_tick in (0, before)
        before = frame.tick


def test_stream_ends_with_the_session_unless_renewed(
    runs: Runs, brokers: Brokers, fresh: Fresh, tmp_path: Path
) -> None:
    async def scenario() -> None:
        base = settings(tmp_path)
        wanted = replace(base, sessions=replace(base.sessions, access_life_s=2.0))
        async with Peer() as peer, gateway(brokers, wanted) as running:
            room = await a_room(peer, running, fresh("room"))
            forgetful = await Player(running.url, b"forgets to renew!").open()
            careful = await Player(running.url, b"renews the session").open()
            ends = await forgetful.join(room.room_id, TOKEN)
            stays = await careful.join(room.room_id, OTHER)
            async with asyncio.timeout(15):
                while not ends.ended:
                    await careful.refresh()
                    await careful.send_input(stays.welcome.stream_token, 1)
                    await asyncio.sleep(0.2)
            assert ends.controls() == ["RECONNECT TOKEN_EXPIRED"]
            assert ends.error is not None
            assert ends.error.reason == "TOKEN_EXPIRED"
            assert not stays.ended
            for each in (forgetful, careful):
                await each.channel.close()

    runs(scenario())


def test_drain_asks_streams_to_come_again(
    runs: Runs, brokers: Brokers, fresh: Fresh, tmp_path: Path
) -> None:
    async def scenario() -> None:
        async with Peer() as peer:
            async with gateway(brokers, settings(tmp_path)) as running:
                room = await a_room(peer, running, fresh("room"))
                player = await Player(running.url, b"a gateway drains!").open()
                watched = await player.join(room.room_id, TOKEN)
            await until(lambda: watched.ended)
            assert watched.controls() == ["RECONNECT GATEWAY"]
            assert room.generations == {0: 1}
            assert room.left == []
            await player.channel.close()

    runs(scenario())


def test_nats_restart_costs_playing_nothing(
    runs: Runs, own_brokers: Brokers, fresh: Fresh, tmp_path: Path
) -> None:
    async def scenario() -> None:
        async with (
            Peer() as peer,
            gateway(own_brokers, settings(tmp_path)) as running,
            seated(peer, running, fresh("room")) as (room, player, watched),
        ):
            own_brokers.nats.kill()
            await ticked(peer, room, watched)
            await player.send_input(watched.welcome.stream_token, 1)
            await until(lambda: room.inputs)
            unknown = await player.join(fresh("room"), TOKEN)
            assert unknown.error is not None
            assert unknown.error.code == errors.Code.UNAVAILABLE
            own_brokers.nats.start()
            await until(lambda: running.runtime.bus.is_connected)
            other = await a_room(peer, running, fresh("room"))
            joined = await player.join(other.room_id, TOKEN)
            assert joined.welcome.room_id == other.room_id
            assert not watched.ended

    runs(scenario())


def test_redis_restart_costs_playing_nothing(
    runs: Runs, own_brokers: Brokers, fresh: Fresh, tmp_path: Path
) -> None:
    async def scenario() -> None:
        async with (
            Peer() as peer,
            gateway(own_brokers, settings(tmp_path)) as running,
            seated(peer, running, fresh("room")) as (room, player, watched),
        ):
            await asyncio.sleep(1.2)  # what Redis has promised to keep: the disk syncs each second
            own_brokers.redis.kill()
            await ticked(peer, room, watched)
            await player.send_input(watched.welcome.stream_token, 1)
            with pytest.raises(errors.Unavailable) as refusal:
                await player.refresh()
            assert refusal.value.retry_after_s
            own_brokers.redis.start()
            await player.refresh()
            assert not watched.ended

    runs(scenario())
