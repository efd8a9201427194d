"""Players on a WebSocket: matches, resumed seats, two gateways, sessions that end, drains."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from tests.integration.conftest import Runs
from tests.integration.gateway_peer import Peer, PeerRoom
from tests.integration.gateway_stack import ROOM, Player, gateway, settings
from tests.integration.rooms_stack import room_node
from tests.integration.test_gateway_play import a_room
from tests.support import cable
from tests.support.waiting import until

from rallypoint.cli.brokers import Brokers
from rallypoint.cli.ports import free_one
from rallypoint.client import RoomConnection, Session, open_channel
from rallypoint.client.channel import address
from rallypoint.client.websocket import WebSocketChannel
from rallypoint.kit import errors
from rallypoint.v1 import room_pb2

pytestmark = pytest.mark.usefixtures("each_backend")

Fresh = Callable[[str], str]
TOKEN = b"seat-token-of-slot-0"
OTHER = b"seat-token-of-slot-1"


async def guest(url: str, *, game: str = "skirmish") -> Session:
    """A session whose calls all go over a WebSocket."""
    return await Session.open(open_channel(address(url, "websocket")), game=game)


def over_websocket(player: Player, url: str) -> Player:
    """The same player on a WebSocket."""
    other = player.at(url)
    other.channel = open_channel(address(url, "websocket"))
    return other


def test_websocket_and_plain_clients_play_one_match(
    runs: Runs, brokers: Brokers, fresh: Fresh, tmp_path: Path
) -> None:
    async def scenario() -> None:
        async with room_node(brokers) as node, gateway(brokers, settings(tmp_path)) as running:
            sessions = [
                await guest(running.url),
                await Session.open(open_channel(running.url), game="skirmish"),
            ]
            room_id = fresh("room")
            players = [session.player_id for session in sessions]
            tokens = await a_room(node, room_id, players, game="skirmish", time_limit_s=8)
            async with (
                RoomConnection(sessions[0], room_id, tokens[0]) as one,
                RoomConnection(sessions[1], room_id, tokens[1]) as two,
            ):
                for player in (one, two):
                    await player.wait_joined()
                for _ in range(20):
                    seqs = [player.send_input({}) for player in (one, two)]
                    await asyncio.sleep(0.05)
                await until(lambda: min(one.seat.ack, two.seat.ack) >= max(seqs) - 5)
                ended = [await one.wait_ended(), await two.wait_ended()]
            assert [each.reason for each in ended] == [ended[0].reason] * 2
            assert len(ended[0].result.placements) == 2
            assert one.breaks == two.breaks == []
            assert one.input_errors == two.input_errors == 0
            for session in sessions:
                await session.channel.close()

    runs(scenario())


def test_inputs_and_commands_go_over_the_same_socket(
    runs: Runs, brokers: Brokers, fresh: Fresh, tmp_path: Path
) -> None:
    async def scenario() -> None:
        async with Peer() as peer, gateway(brokers, settings(tmp_path)) as running:
            room = PeerRoom(fresh("room"), tokens={TOKEN: 0})
            await peer.own(running.runtime.bus, room)
            session = await guest(running.url)
            async with RoomConnection(session, room.room_id, TOKEN) as player:
                await until(lambda: room.held)
                peer.tick(room, data=b"\0")
                await player.wait_joined()
                player.send_packed(b"\1", view_tick=1.5)
                await until(lambda: room.inputs)
                assert room.inputs[0].view_ms == round(1500 / player.seat.tick_hz)
                assert await player.send_message(1, b"hello") == b"echo hello"
                with pytest.raises(errors.InvalidArgument) as refused:
                    await player.send_message(9, b"cheat")
                assert refused.value.reason == "MOVE_ILLEGAL"
                await player.leave()
                await until(lambda: room.left == [0])
            assert running.runtime.health.statistics()["connections"] == 1
            await session.channel.close()

    runs(scenario())


def test_seat_is_resumed_after_a_dead_network(
    runs: Runs, brokers: Brokers, fresh: Fresh, tmp_path: Path
) -> None:
    async def scenario() -> None:
        async with room_node(brokers) as node, gateway(brokers, settings(tmp_path)) as running:
            with cable.laid(running.url) as laid:
                session = await guest(laid.url)
                room_id = fresh("room")
                tokens = await a_room(
                    node, room_id, [session.player_id, "somebody"], game="skirmish"
                )
                async with RoomConnection(session, room_id, tokens[0]) as player:
                    await player.wait_joined()
                    seq = player.send_input({})
                    await until(lambda: player.seat.ack >= seq)
                    laid.pull()
                    tick = player.seat.tick
                    await until(lambda: player.breaks, within_s=15)
                    laid.plug()
                    await until(lambda: player.seat.tick > tick + 3, within_s=20)
                    seq = player.send_input({})
                    await until(lambda: player.seat.ack >= seq)
                    assert player.ended is None
                    await player.leave()
                await session.channel.close()

    runs(scenario())


def test_any_gateway_takes_inputs_and_seats_of_a_websocket(
    runs: Runs, brokers: Brokers, fresh: Fresh, tmp_path: Path
) -> None:
    async def scenario() -> None:
        wanted = settings(tmp_path)
        async with (
            Peer() as peer,
            gateway(brokers, wanted, instance="gateway-1") as one,
            gateway(brokers, wanted, instance="gateway-2") as two,
        ):
            room = PeerRoom(fresh("room"), tokens={TOKEN: 0})
            await peer.own(one.runtime.bus, room)
            plain = await Player(one.url, b"two gateways, ws").open()
            here, there = over_websocket(plain, one.url), over_websocket(plain, two.url)
            watched = await here.join(room.room_id, TOKEN)
            for seq in range(1, 7):
                await (here if seq % 2 else there).send_input(watched.welcome.stream_token, seq)
            await until(lambda: len(room.inputs) == 6)
            newer = await there.join(room.room_id, TOKEN)
            await until(lambda: watched.ended)
            assert watched.error is not None
            assert watched.error.reason == "STREAM_REPLACED"
            assert newer.welcome.slot == 0
            for each in (plain, here, there):
                await each.channel.close()

    runs(scenario())


def test_stream_ends_with_the_session_and_the_lane_goes_on(
    runs: Runs, brokers: Brokers, fresh: Fresh, tmp_path: Path
) -> None:
    async def scenario() -> None:
        base = settings(tmp_path)
        wanted = replace(base, sessions=replace(base.sessions, access_life_s=2.0))
        async with Peer() as peer, gateway(brokers, wanted) as running:
            room = PeerRoom(fresh("room"), tokens={TOKEN: 0})
            await peer.own(running.runtime.bus, room)
            player = over_websocket(
                await Player(running.url, b"ends and renews!").open(), running.url
            )
            watched = await player.join(room.room_id, TOKEN)
            channel = player.channel
            assert isinstance(channel, WebSocketChannel)
            refused: list[errors.RallypointError] = []

            def say(seq: int, *, token: str = "") -> None:
                request = room_pb2.SendInputRequest(
                    stream_token=watched.welcome.stream_token, first_seq=seq, inputs=[b"abc"]
                )
                channel.say(
                    ROOM + "SendInput",
                    request.SerializeToString(),
                    token=token or player.session.access_token,
                    failed=refused.append,
                )

            for seq in range(1, 6):
                say(seq)
            await until(lambda: len(room.inputs) == 5)
            await until(lambda: watched.ended)
            assert watched.controls() == ["RECONNECT TOKEN_EXPIRED"]
            for seq in (6, 7):
                say(seq, token="not.a.token")
            await until(lambda: len(refused) == 2)
            assert isinstance(refused[0], errors.Unauthenticated)
            await player.refresh()
            say(8)
            await until(lambda: len(room.inputs) == 6)
            assert len(refused) == 2
            await player.channel.close()

    runs(scenario())


def test_seats_on_websockets_survive_a_gateway_restart(
    runs: Runs, brokers: Brokers, fresh: Fresh, tmp_path: Path
) -> None:
    async def scenario() -> None:
        port, wanted = free_one(), settings(tmp_path)
        controls: list[room_pb2.Control] = []
        async with room_node(brokers) as node:
            async with gateway(brokers, wanted, web_port=port) as running:
                session = await guest(running.url)
                room_id = fresh("room")
                tokens = await a_room(
                    node, room_id, [session.player_id, "somebody"], game="skirmish"
                )
                player = RoomConnection(session, room_id, tokens[0], on_control=controls.append)
                await player.__aenter__()
                await player.wait_joined()
            tick = player.seat.tick
            async with gateway(brokers, wanted, instance="gateway-2", web_port=port):
                await until(lambda: player.seat.tick > tick + 5)
                seq = player.send_input({})
                await until(lambda: player.seat.ack >= seq)
                await player.leave()
                assert (await player.wait_ended()).reason == "LEFT"
                await player.__aexit__(None, None, None)
            assert player.breaks[0].startswith("RESYNC: GATEWAY")
            await session.channel.close()

    runs(scenario())
