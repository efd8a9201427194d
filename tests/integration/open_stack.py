"""Gateway, fleet and a room node in this process, on real brokers: for rooms that players make."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tests.integration import fleet_stack, gateway_stack, rooms_stack

from rallypoint.cli.brokers import Brokers
from rallypoint.gateway.admin_access import AdminSettings
from rallypoint.gateway.replays import ReplaySettings
from rallypoint.gateway.rooms_open import OpenRoomSettings
from rallypoint.v1 import room_pb2


@dataclass
class OpenStack:
    """What a test holds."""

    gateway: gateway_stack.Running
    fleet: fleet_stack.Stack
    node: rooms_stack.RunningNode
    players: list[gateway_stack.Player] = field(default_factory=list)

    async def player(self, name: str) -> gateway_stack.Player:
        """A guest with a session."""
        player = gateway_stack.Player(self.gateway.url, name.ljust(16, "-").encode())
        self.players.append(player)
        return await player.open()


@asynccontextmanager
async def open_stack(
    brokers: Brokers,
    set_name: str,
    data_dir: Path,
    *,
    games: Any = None,
    admin: AdminSettings | None = None,
    replays: ReplaySettings | None = None,
    **settings: Any,
) -> AsyncIterator[OpenStack]:
    """Run it until the block ends; `settings` are those of open rooms."""
    async with (
        fleet_stack.fleet_stack(brokers, set_name) as fleet,
        rooms_stack.room_node(
            brokers, node_id=f"{set_name[-20:]}-1", set_name=set_name, games=games
        ) as node,
        gateway_stack.gateway(
            brokers,
            replace(
                gateway_stack.settings(data_dir),
                fleet_address=fleet.address,
                open_rooms=OpenRoomSettings(open_rooms_set=set_name, **settings),
                admin=admin or AdminSettings(),
                replays=replays or ReplaySettings(),
            ),
        ) as gateway,
    ):
        await fleet_stack.until(fleet.nodes)
        stack = OpenStack(gateway, fleet, node)
        try:
            yield stack
        finally:
            for player in stack.players:
                await player.channel.close()


async def create(
    player: gateway_stack.Player, request_id: str, game: str = "skirmish", **fields: Any
) -> room_pb2.CreateRoomResponse:
    """Make a room."""
    request = room_pb2.CreateRoomRequest(request_id=request_id, game=game, **fields)
    path = gateway_stack.ROOM + "CreateRoom"
    return await player.call(path, request, room_pb2.CreateRoomResponse)


async def enter(player: gateway_stack.Player, code: str) -> room_pb2.JoinByCodeResponse:
    """Enter a room by its code."""
    request = room_pb2.JoinByCodeRequest(code=code)
    path = gateway_stack.ROOM + "JoinByCode"
    return await player.call(path, request, room_pb2.JoinByCodeResponse)


async def listed(player: gateway_stack.Player, **wish: Any) -> list[room_pb2.RoomListing]:
    """The first page of the list."""
    request = room_pb2.ListRoomsRequest(**wish)
    path = gateway_stack.ROOM + "ListRooms"
    return list((await player.call(path, request, room_pb2.ListRoomsResponse)).rooms)
