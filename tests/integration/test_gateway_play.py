"""Real clients play a real room through real gateways: inputs acked, results told, seats kept."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from tests.integration.conftest import Runs
from tests.integration.gateway_stack import gateway, settings
from tests.integration.rooms_stack import RunningNode, room_node
from tests.support.waiting import until

from rallypoint.cli.brokers import Brokers
from rallypoint.cli.ports import free_one
from rallypoint.client import RoomConnection, Session, WebChannel
from rallypoint.internal.v1 import allocation_pb2, events_pb2, room_host_pb2
from rallypoint.kit import subjects
from rallypoint.kit.names import RoomId

Fresh = Callable[[str], str]


async def a_room(
    node: RunningNode, room_id: str, players: list[str], *, game: str, time_limit_s: int = 60
) -> list[bytes]:
    """Make a room as fleet does; the seat tokens."""
    record = events_pb2.OwnRecord(node_id="local-1", epoch=1, address=node.address)
    kv = node.bus.kv(subjects.OWNERS.name)
    revision = await kv.put(subjects.own(RoomId(room_id)), record.SerializeToString())
    seats = [
        allocation_pb2.SeatRequest(player_id=player, display_name=player, team=team)
        for team, player in enumerate(players)
    ]
    options = {"time_limit_s": time_limit_s} if game == "skirmish" else {}
    request = room_host_pb2.CreateRoomRequest(
        room_id=room_id,
        epoch=1,
        game=game,
        set="local",
        own_revision=revision,
        players=seats,
        options=json.dumps(options).encode(),
    )
    made = await node.stub.CreateRoom(request)
    return [seat.seat_token for seat in made.seats]


async def guests(url: str, *, game: str) -> list[Session]:
    return [await Session.open(WebChannel(url), game=game) for _ in range(2)]


def test_match_is_played_to_its_result(
    runs: Runs, brokers: Brokers, fresh: Fresh, tmp_path: Path
) -> None:
    async def scenario() -> None:
        async with room_node(brokers) as node, gateway(brokers, settings(tmp_path)) as running:
            sessions = await guests(running.url, game="skirmish")
            room_id = fresh("room")
            tokens = await a_room(
                node, room_id, [s.player_id for s in sessions], game="skirmish", time_limit_s=3
            )
            async with (
                RoomConnection(sessions[0], room_id, tokens[0]) as one,
                RoomConnection(sessions[1], room_id, tokens[1]) as two,
            ):
                for player in (one, two):
                    await player.wait_joined()
                seq = 0
                while seq < 20:
                    seq = one.send_input({})
                    await asyncio.sleep(0.05)
                await until(lambda: one.seat.ack >= 15)
                ended = [await one.wait_ended(), await two.wait_ended()]
            assert [each.reason for each in ended] == [ended[0].reason] * 2
            assert len(ended[0].result.placements) == 2
            assert one.breaks == two.breaks == []
            assert one.input_errors == 0
            for session in sessions:
                await session.channel.close()

    runs(scenario())


def test_seats_survive_a_gateway_restart(
    runs: Runs, brokers: Brokers, fresh: Fresh, tmp_path: Path
) -> None:
    async def scenario() -> None:
        port = free_one()
        wanted = settings(tmp_path)
        async with room_node(brokers) as node:
            async with gateway(brokers, wanted, web_port=port) as running:
                sessions = await guests(running.url, game="skirmish")
                room_id = fresh("room")
                players = [session.player_id for session in sessions]
                tokens = await a_room(node, room_id, players, game="skirmish")
                one = RoomConnection(sessions[0], room_id, tokens[0])
                await one.__aenter__()
                await one.wait_joined()
            tick = one.seat.tick
            await until(lambda: len(one.breaks) > 2)  # nobody is there for a while
            async with gateway(brokers, wanted, instance="gateway-2", web_port=port):
                await until(lambda: one.seat.tick > tick + 5)
                seq = one.send_input({})
                await until(lambda: one.seat.ack >= seq)
                assert one.joins == 2
                await one.leave()
                assert (await one.wait_ended()).reason == "LEFT"
                await one.__aexit__(None, None, None)
            for session in sessions:
                await session.channel.close()

    runs(scenario())


def test_players_at_two_gateways_meet(
    runs: Runs, brokers: Brokers, fresh: Fresh, tmp_path: Path
) -> None:
    async def scenario() -> None:
        wanted = replace(settings(tmp_path))
        async with (
            room_node(brokers) as node,
            gateway(brokers, wanted, instance="gateway-1") as first,
            gateway(brokers, wanted, instance="gateway-2") as second,
        ):
            sessions = [
                (await guests(first.url, game="tictactoe"))[0],
                (await guests(second.url, game="tictactoe"))[1],
            ]
            room_id = fresh("room")
            players = [session.player_id for session in sessions]
            tokens = await a_room(node, room_id, players, game="tictactoe")
            async with (
                RoomConnection(sessions[0], room_id, tokens[0]) as one,
                RoomConnection(sessions[1], room_id, tokens[1]) as two,
            ):
                welcomes = [await one.wait_joined(), await two.wait_joined()]
                assert [welcome.slot for welcome in welcomes] == [0, 1]
                await until(lambda: list(two.seat.values("seats")["state"]) == [2, 2])
                await one.leave()
                reasons = {(await each.wait_ended()).reason for each in (one, two)}
                assert "LEFT" in reasons
            for session in sessions:
                await session.channel.close()

    runs(scenario())
