"""What a game says and whom it lets in, through gateway, fleet and a room node."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.integration.conftest import Runs
from tests.integration.gateway_stack import ROOM, Player, Watched
from tests.integration.open_stack import create, enter, open_stack
from tests.support.waiting import until

from rallypoint.cli.brokers import Brokers
from rallypoint.games import CHAT, Chat
from rallypoint.games.definition import define
from rallypoint.games.game import GameInfo, Refused, RoomGame, message
from rallypoint.games.room import Seat
from rallypoint.kit import errors
from rallypoint.v1 import room_pb2

Fresh = Callable[[str], str]
SHOUT, LOCK, KICK, STALL, HEARD = 1, 2, 3, 4, 7


class Hall(RoomGame):
    info = GameInfo(name="hall", max_players=4, tick_hz=20, late_join=True, tick_budget_ms=10)
    plugins = (Chat(),)
    stalling = False

    def on_admit(self, player: Seat) -> int | None:
        if len(self.room.seats) == 3:
            raise Refused("CROWDED")
        return None

    @message(SHOUT, rate="2/s")
    def shout(self, seat: int, body: bytes) -> bytes:
        self.room.broadcast(HEARD, body, but=seat)
        return b"said"

    @message(LOCK)
    def lock(self, seat: int, body: bytes) -> bytes:
        self.room.lock()
        return b""

    @message(KICK)
    def kick(self, seat: int, body: bytes) -> bytes:
        self.room.kick(body[0], "TOO_LOUD")
        return b""

    @message(STALL)
    def stall(self, seat: int, body: bytes) -> bytes:
        self.stalling = True
        return b""

    def on_tick(self, dt_s: float) -> None:
        end = asyncio.get_running_loop().time() + 0.02
        while self.stalling and asyncio.get_running_loop().time() < end:
            pass


HALL = {"hall": define(Hall)}


async def say(player: Player, seen: Watched, kind: int, body: bytes, request_id: int) -> bytes:
    request = room_pb2.SendMessageRequest(
        stream_token=seen.welcome.stream_token, request_id=request_id, type=kind, body=body
    )
    return (await player.call(ROOM + "SendMessage", request, room_pb2.SendMessageResponse)).body


def words(seen: Watched) -> list[tuple[int, bytes]]:
    """What the game said to those who were there."""
    said = [m.control.message for m in seen.messages if m.control.HasField("message")]
    return [(word.type, word.body) for word in said]


def test_players_talk_at_a_rate_and_are_locked_out_and_thrown_out(
    runs: Runs, brokers: Brokers, fresh: Fresh, tmp_path: Path
) -> None:
    async def scenario() -> None:
        async with open_stack(brokers, fresh("set"), tmp_path, games=HALL) as stack:
            ada, bob = await stack.player(fresh("ada")), await stack.player(fresh("bob"))
            made = await create(ada, "one", "hall")
            hers = await ada.join(made.room_id, made.seat_token)
            seat = await enter(bob, made.code)
            his = await bob.join(made.room_id, seat.seat_token)

            assert await say(ada, hers, SHOUT, b"hey", 1) == b"said"
            await until(lambda: words(his) == [(HEARD, b"hey")])
            assert await say(ada, hers, SHOUT, b"hey", 1) == b"said"  # told before, done once
            await say(ada, hers, SHOUT, b"ho", 2)
            with pytest.raises(errors.ResourceExhausted, match="MESSAGE_RATE") as refused:
                await say(ada, hers, SHOUT, b"hu", 3)
            await asyncio.sleep((refused.value.retry_after_s or 0) + 0.1)
            assert await say(ada, hers, SHOUT, b"hu", 3) == b"said"
            await until(lambda: [body for _, body in words(his)] == [b"hey", b"ho", b"hu"])
            assert words(hers) == []

            await say(bob, his, CHAT, b"hello  there", 1)
            await until(lambda: (CHAT, b"\x01hello there") in events(hers))

            await enter(await stack.player(fresh("cleo")), made.code)
            with pytest.raises(errors.InvalidArgument, match="CROWDED"):
                await enter(await stack.player(fresh("dave")), made.code)
            await say(ada, hers, LOCK, b"", 4)
            with pytest.raises(errors.FailedPrecondition, match="ROOM_LOCKED"):
                await enter(await stack.player(fresh("eve")), made.code)
            await say(ada, hers, KICK, b"\x01", 5)
            await until(lambda: his.ended)
            assert his.controls()[-1] == "KICKED TOO_LOUD"
            with pytest.raises(errors.ClientFault, match=r"KICKED|ROOM_LOCKED"):
                await enter(bob, made.code)
            assert not hers.ended

    runs(scenario())


def events(seen: Watched) -> list[tuple[int, bytes]]:
    """What happened, as the frames tell."""
    return [(event.type, event.body) for frame in seen.frames() for event in frame.events]


def test_room_that_takes_too_long_is_closed_and_the_other_goes_on(
    runs: Runs, brokers: Brokers, fresh: Fresh, tmp_path: Path
) -> None:
    async def scenario() -> None:
        async with open_stack(brokers, fresh("set"), tmp_path, games=HALL) as stack:
            ada, bob = await stack.player(fresh("ada")), await stack.player(fresh("bob"))
            slow, fine = await create(ada, "slow", "hall"), await create(bob, "fine", "hall")
            hers = await ada.join(slow.room_id, slow.seat_token)
            his = await bob.join(fine.room_id, fine.seat_token)
            await say(ada, hers, STALL, b"", 1)
            await until(lambda: hers.ended)
            assert hers.controls()[-1] == "CLOSED TICK_BUDGET"
            seen = len(his.frames())
            await until(lambda: len(his.frames()) > seen + 5)

    runs(scenario())
