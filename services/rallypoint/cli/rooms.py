"""`rallypoint rooms ls|show|kick|close`: what an operator can do, from a terminal.

Finds the stack of `rallypoint up` by its data directory; another cluster by `--url` and the secret
in RALLYPOINT_ADMIN_TOKEN.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from rallypoint.cli import datadir

TOKEN = "RALLYPOINT_ADMIN_TOKEN"  # noqa: S105  # its name
SERVICE = "/rallypoint.v1.AdminService"
MOST_VALUES = 12


def run(arguments: list[str]) -> int:
    """Do what is asked; the result is the exit code."""
    parsed = parser().parse_args(arguments)
    return asyncio.run(_run(parsed, *gateway(parsed)))


def parser() -> argparse.ArgumentParser:
    """The commands and their options."""
    found = argparse.ArgumentParser(
        prog="rallypoint rooms", description="See the rooms that run, kick players, close rooms."
    )
    add_gateway(found)
    commands = found.add_subparsers(dest="command", required=True, metavar="ls|show|kick|close")
    shown_all = commands.add_parser("ls", help="all rooms, most players first")
    shown_all.add_argument("--game", default="", help="only of this game")
    shown_all.add_argument("--json", action="store_true", help="for machines")
    shown = commands.add_parser("show", help="one room: seats, and tables as they are")
    shown.add_argument("room")
    shown.add_argument("--json", action="store_true", help="for machines")
    kick = commands.add_parser("kick", help="take a seat away; the player is told the reason")
    kick.add_argument("room")
    kick.add_argument("player", help="the player's id, as `show` has it")
    kick.add_argument("--reason", default="KICKED", help="UPPER_SNAKE (%(default)s)")
    close = commands.add_parser("close", help="end a room; its players are told the reason")
    close.add_argument("room")
    close.add_argument("--reason", default="CLOSED_BY_OPERATOR", help="UPPER_SNAKE (%(default)s)")
    for command in (shown_all, shown, kick, close):
        add_gateway(command, again=True)
    return found


def add_gateway(found: argparse.ArgumentParser, *, again: bool = False) -> None:
    """The options that say which stack is meant; `again` in a subcommand, which keeps the first."""
    datadir.add_option(found, again=again)
    found.add_argument(
        "--url",
        default=argparse.SUPPRESS if again else "",
        help=f"a gateway elsewhere; its secret is in {TOKEN}",
    )


def gateway(parsed: argparse.Namespace) -> tuple[str, str]:
    """Where to ask, and what shows an operator there.

    The secret of a data directory is for the stack that runs on it: nobody else is shown it.
    """
    token = os.environ.get(TOKEN, "")
    if parsed.url:
        if not token:
            raise datadir.Refused(f"put the secret of {parsed.url} into {TOKEN}")
        return parsed.url, token
    directory: Path = parsed.data_dir.absolute()
    return datadir.fact(directory, "url"), token or datadir.admin_secret(directory)


async def _run(parsed: argparse.Namespace, url: str, token: str) -> int:
    from rallypoint.client import channel as channels

    channel = channels.open_channel(url)
    try:
        match parsed.command:
            case "ls":
                await _list(channel, token, parsed)
            case "show":
                await _show(channel, token, parsed)
            case "kick":
                slot = await _seat_of(channel, token, parsed)
                await call(
                    channel, token, "KickPlayer",
                    room_id=parsed.room, slot=slot, reason=parsed.reason, player_id=parsed.player,
                )  # fmt: skip
                print(f"{parsed.player} lost seat {slot} of {parsed.room}: {parsed.reason}")
            case "close":
                await call(channel, token, "CloseRoom", room_id=parsed.room, reason=parsed.reason)
                print(f"{parsed.room} is closed: {parsed.reason}")
    finally:
        await channel.close()
    return 0


async def call(channel: Any, token: str, method: str, **fields: Any) -> Any:
    """One call of AdminService, by the names of its request's fields."""
    from rallypoint.client import channel as channels
    from rallypoint.v1 import admin_pb2

    request = getattr(admin_pb2, f"{method}Request")(**fields)
    answer = getattr(admin_pb2, f"{method}Response")
    path = f"{SERVICE}/{method}"
    return await channels.call(channel, path, request, answer=answer, token=token)


async def _seat_of(channel: Any, token: str, parsed: argparse.Namespace) -> int:
    from rallypoint.kit import errors

    found = await call(channel, token, "GetLiveRoom", room_id=parsed.room)
    for seat in found.seats:
        if seat.seat.player_id == parsed.player:
            return int(seat.seat.slot)
    raise errors.NotFound("SEAT_UNKNOWN", f"{parsed.player} has no seat there")


async def _list(channel: Any, token: str, parsed: argparse.Namespace) -> None:
    found = await call(channel, token, "ListLiveRooms", game=parsed.game)
    if parsed.json:
        return print(as_json(found))
    head = ("room", "game", "node", "players", "age", "tick ms", "late ms", "B/s", "code")
    rows = [
        (
            room.room_id,
            room.game,
            room.node_id,
            f"{room.connected}/{room.max_players}",
            f"{room.age_s:.0f} s",
            f"{room.tick_ms:.2f}",
            f"{room.lag_ms:.1f}",
            f"{room.bytes_per_s:.0f}",
            room.code or "-",
        )
        for room in found.rooms
    ]
    print("\n".join(aligned([head, *rows])))
    if found.total_rooms > len(rows):
        print(f"and {found.total_rooms - len(rows)} more")
    for node in found.nodes:
        if not node.answers:
            print(f"{node.node_id} does not answer")


async def _show(channel: Any, token: str, parsed: argparse.Namespace) -> None:
    found = await call(channel, token, "GetLiveRoom", room_id=parsed.room)
    if parsed.json:
        return print(as_json(found))
    room = found.room
    print(f"{room.room_id}  {room.game}  on {room.node_id}, epoch {room.epoch}, tick {room.tick}")
    seats = [
        (str(seat.seat.slot), seat.state, seat.seat.display_name, seat.seat.player_id)
        for seat in found.seats
    ]
    print("\n".join(aligned([("seat", "state", "name", "player"), *seats])))
    for table in found.tables:
        print(f"\n{table.name}")
        rows = [(column.name, _shown(column.values)) for column in table.columns]
        print("\n".join(f"  {line}" for line in aligned(rows)))


def _shown(values: Sequence[float]) -> str:
    shown = " ".join(f"{value:g}" for value in values[:MOST_VALUES])
    return f"{shown} … ({len(values)})" if len(values) > MOST_VALUES else shown


def aligned(rows: Sequence[Sequence[str]]) -> Iterable[str]:
    """Lines with columns of equal width."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)


def as_json(message: Any) -> str:
    """A message for machines."""
    from google.protobuf import json_format

    return json.dumps(
        json_format.MessageToDict(
            message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
        ),
        indent=1,
    )
