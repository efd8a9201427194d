"""Operators: refused without their secret; they see what runs, look inside, kick and close."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest
from google.protobuf.message import Message
from tests.integration.conftest import Runs
from tests.integration.gateway_stack import ROOM, Player
from tests.integration.open_stack import create, enter, open_stack
from tests.support.waiting import until

from rallypoint.cli.brokers import Brokers
from rallypoint.gateway.admin_access import AdminSettings
from rallypoint.kit import errors
from rallypoint.v1 import admin_pb2, room_pb2

Fresh = Callable[[str], str]
Answer = TypeVar("Answer", bound=Message)
SECRET = "an operator's secret"
ADMIN = AdminSettings(admin_token=SECRET)


async def ask(
    player: Player, method: str, request: Message, answer: type[Answer], token: str = SECRET
) -> Answer:
    path = f"/rallypoint.v1.AdminService/{method}"
    return answer.FromString(
        await player.channel.unary(path, request.SerializeToString(), token=token)
    )


async def rooms(player: Player, token: str = SECRET) -> admin_pb2.ListLiveRoomsResponse:
    request = admin_pb2.ListLiveRoomsRequest(game="skirmish")
    return await ask(player, "ListLiveRooms", request, admin_pb2.ListLiveRoomsResponse, token)


def test_nobody_is_let_in_without_the_secret(
    runs: Runs, brokers: Brokers, fresh: Fresh, tmp_path: Path
) -> None:
    async def scenario() -> None:
        async with open_stack(brokers, fresh("set"), tmp_path, admin=ADMIN) as stack:
            eve = await stack.player(fresh("eve"))
            made = await create(eve, "one")
            for token in ("", "wrong", eve.session.access_token, SECRET[:-1], "a.b.c"):
                for method, request, answer in (
                    (
                        "ListLiveRooms",
                        admin_pb2.ListLiveRoomsRequest,
                        admin_pb2.ListLiveRoomsResponse,
                    ),
                    ("GetLiveRoom", admin_pb2.GetLiveRoomRequest, admin_pb2.GetLiveRoomResponse),
                    ("KickPlayer", admin_pb2.KickPlayerRequest, admin_pb2.KickPlayerResponse),
                    ("CloseRoom", admin_pb2.CloseRoomRequest, admin_pb2.CloseRoomResponse),
                ):
                    with pytest.raises(errors.Unauthenticated, match="ADMIN_ONLY"):
                        await ask(eve, method, request(), answer, token)  # type: ignore[arg-type]
            assert made.room_id in {room.room_id for room in (await rooms(eve)).rooms}

    runs(scenario())


def test_service_is_closed_unless_the_settings_open_it(
    runs: Runs, brokers: Brokers, fresh: Fresh, tmp_path: Path
) -> None:
    async def scenario() -> None:
        async with open_stack(brokers, fresh("set"), tmp_path) as stack:
            eve = await stack.player(fresh("eve"))
            for token in ("", SECRET, eve.session.access_token):
                with pytest.raises(errors.Unimplemented):
                    await rooms(eve, token)

    runs(scenario())


def test_operator_sees_a_room_from_inside(
    runs: Runs, brokers: Brokers, fresh: Fresh, tmp_path: Path
) -> None:
    async def scenario() -> None:
        async with open_stack(brokers, fresh("set"), tmp_path, admin=ADMIN) as stack:
            ada, bob = await stack.player(fresh("ada")), await stack.player(fresh("bob"))
            made = await create(ada, "one", metadata={"map": "ice"})
            hers = await ada.join(made.room_id, made.seat_token)
            seat = await enter(bob, made.code)
            await until(lambda: len(hers.frames()) > 5)
            await rooms(ada)
            await until(lambda: len(hers.frames()) > 15)
            listed = await rooms(ada)
            (room,) = [room for room in listed.rooms if room.room_id == made.room_id]
            assert (room.connected, room.players, room.max_players) == (1, 2, 8)
            assert (room.code, dict(room.metadata)) == (made.code, {"map": "ice"})
            assert room.tick_ms > 0
            assert room.bytes_per_s > 0
            assert [n.answers for n in listed.nodes if n.node_id == room.node_id] == [True]

            request = admin_pb2.GetLiveRoomRequest(room_id=made.room_id)
            shown = await ask(ada, "GetLiveRoom", request, admin_pb2.GetLiveRoomResponse)
            assert [seat.state for seat in shown.seats] == ["CONNECTED", "RESERVED"]
            columns = {
                f"{table.name}.{column.name}": list(column.values)
                for table in shown.tables
                for column in table.columns
            }
            assert columns["seats.state"][:3] == [2, 1, 0]
            assert columns["players.health"][0] == 100
            assert seat.seat_token

    runs(scenario())


def test_kick_and_close_reach_the_players_with_the_reason(
    runs: Runs, brokers: Brokers, fresh: Fresh, tmp_path: Path
) -> None:
    async def scenario() -> None:
        async with open_stack(brokers, fresh("set"), tmp_path, admin=ADMIN) as stack:
            ada, bob = await stack.player(fresh("ada")), await stack.player(fresh("bob"))
            made = await create(ada, "one")
            hers = await ada.join(made.room_id, made.seat_token)
            his = await bob.join(made.room_id, (await enter(bob, made.code)).seat_token)
            cyd = await stack.player(fresh("cyd"))  # or ada were left alone, and the match over
            await enter(cyd, made.code)

            kick = admin_pb2.KickPlayerRequest(room_id=made.room_id, slot=1, reason="CHEATING")
            kick.player_id = ada.session.player_id
            with pytest.raises(errors.Aborted, match="SEAT_CHANGED"):
                await ask(ada, "KickPlayer", kick, admin_pb2.KickPlayerResponse)
            kick.player_id = bob.session.player_id
            for _ in range(2):
                await ask(ada, "KickPlayer", kick, admin_pb2.KickPlayerResponse)
            await until(lambda: his.ended)
            assert his.controls()[-1] == "KICKED CHEATING"
            with pytest.raises(errors.ClientFault):
                await enter(bob, made.code)
            kick.slot = 7
            with pytest.raises(errors.NotFound, match="SEAT_UNKNOWN"):
                await ask(ada, "KickPlayer", kick, admin_pb2.KickPlayerResponse)

            close = admin_pb2.CloseRoomRequest(room_id=made.room_id, reason="MAINTENANCE")
            await ask(ada, "CloseRoom", close, admin_pb2.CloseRoomResponse)
            await until(lambda: hers.ended)
            assert hers.controls()[-1] == "CLOSED MAINTENANCE"
            await until(lambda: hers.ended)
            close.reason = "not so"
            with pytest.raises(errors.InvalidArgument, match="REASON_INVALID"):
                await ask(ada, "CloseRoom", close, admin_pb2.CloseRoomResponse)
            request = room_pb2.JoinByCodeRequest(code=made.code)
            with pytest.raises(errors.NotFound):
                await ada.call(ROOM + "JoinByCode", request, room_pb2.JoinByCodeResponse)

    runs(scenario())
