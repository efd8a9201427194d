"""Seats of a real node: the newest stream wins, drops have a grace time, gateways come back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import grpc
import pytest
from tests.integration.conftest import Runs
from tests.integration.rooms_stack import attached, host, room_node, with_info
from tests.support.waiting import until

from rallypoint.cli.brokers import Brokers
from rallypoint.games import skirmish, tictactoe
from rallypoint.games.definition import define
from rallypoint.games.room import SeatState
from rallypoint.kit.errors import Code

SKIRMISH = define(skirmish.Skirmish)
SHORT = with_info(SKIRMISH, name="short", grace_s=0.4)
TICTACTOE = define(tictactoe.TicTacToe)
Fresh = Callable[[str], str]
REPLACED = "STREAM_REPLACED"


def test_newest_stream_wins_over_another_gateway(
    brokers: Brokers, runs: Runs, fresh: Fresh
) -> None:
    async def play() -> None:
        async with (
            room_node(brokers) as node,
            attached(node, SKIRMISH) as first,
            attached(node, SKIRMISH) as second,
        ):
            room_id = fresh("room")
            seats = await node.create(room_id)
            old = await first.join(room_id, "p0", seats[0].seat_token)
            new = await second.join(room_id, "p0", old.welcome.seat_token)
            await until(lambda: old.kicked == REPLACED)
            await until(lambda: len(new.frames) > 2)
            await first.inputs(old, 1, {"dx": 100})
            await second.inputs(new, 1, {"dx": -100})
            await until(lambda: new.value("seats", "ack")[0] == 1)
            assert (old.seat.generation, new.seat.generation) == (1, 2)

    runs(play())


def test_join_that_was_held_up_takes_no_seat_back(
    brokers: Brokers, runs: Runs, fresh: Fresh
) -> None:
    async def play() -> None:
        async with (
            room_node(brokers) as node,
            attached(node, SKIRMISH) as slow,
            attached(node, SKIRMISH) as quick,
        ):
            room_id = fresh("room")
            token = (await node.create(room_id))[0].seat_token
            new = await quick.join(room_id, "p0", token, client_id=7, attempt=2)
            late = await slow.join(room_id, "p0", token, client_id=7, attempt=1)
            assert (late.joined.code, late.joined.reason) == (Code.ABORTED, REPLACED)
            await slow.send(leaves=[host.ClientLeave(client=late.client)])
            seen = len(new.frames)
            await until(lambda: len(new.frames) > seen + 2)
            assert (new.kicked, new.value("seats", "state")[0]) == ("", SeatState.CONNECTED)
            # Another client is another matter, and so is a later try.
            other = await slow.join(room_id, "p0", token, client_id=8, attempt=1)
            await until(lambda: new.kicked == REPLACED)
            back = await quick.join(room_id, "p0", token, client_id=7, attempt=3)
            await until(lambda: other.kicked == REPLACED)
            assert back.joined.code == 0

    runs(play())


def test_dropped_seat_is_kept_and_taken_again(brokers: Brokers, runs: Runs, fresh: Fresh) -> None:
    async def play() -> None:
        async with room_node(brokers) as node, attached(node, SKIRMISH) as gateway:
            room_id = fresh("room")
            seats = await node.create(room_id)
            gone = await gateway.join(room_id, "p0", seats[0].seat_token)
            watcher = await gateway.join(room_id, "p1", seats[1].seat_token)
            await gateway.inputs(gone, 1, {"dx": 50}, {"dx": 50})
            await until(lambda: watcher.frames != [] and watcher.value("seats", "ack")[0] == 2)
            await gateway.send(leaves=[host.ClientLeave(client=gone.client)])
            await until(lambda: watcher.value("seats", "state")[0] == SeatState.DROPPED)
            back = await gateway.join(room_id, "p0", gone.welcome.seat_token)
            await until(lambda: watcher.value("seats", "state")[0] == SeatState.CONNECTED)
            assert (back.welcome.slot, back.welcome.input_seq) == (0, 2)
            await gateway.inputs(back, 3, {"dx": 0})
            await until(lambda: watcher.value("seats", "ack")[0] == 3)

    runs(play())


def test_seat_is_lost_after_the_grace_time(brokers: Brokers, runs: Runs, fresh: Fresh) -> None:
    async def play() -> None:
        async with (
            room_node(brokers, games={"short": SHORT}) as node,
            attached(node, SHORT) as gateway,
        ):
            room_id = fresh("room")
            seats = await node.create(room_id, game="short", players=3)
            players = [
                await gateway.join(room_id, seat.player_id, seat.seat_token) for seat in seats
            ]
            await gateway.send(leaves=[host.ClientLeave(client=players[0].client)])
            await until(lambda: players[1].frames != [])
            await until(lambda: players[1].value("seats", "state")[0] == SeatState.LEFT)
            late = await gateway.join(room_id, "p0", players[0].welcome.seat_token)
            assert late.joined is not None
            assert (late.joined.code, late.joined.reason) == (
                Code.PERMISSION_DENIED,
                "SEAT_REFUSED",
            )

    runs(play())


def test_broken_attach_is_made_anew(brokers: Brokers, runs: Runs, fresh: Fresh) -> None:
    async def play() -> None:
        async with room_node(brokers) as node:
            room_id = fresh("room")
            seats = await node.create(room_id)
            async with attached(node, SKIRMISH) as gateway:
                player = await gateway.join(room_id, "p0", seats[0].seat_token)
                await until(lambda: len(player.frames) > 2)
            async with attached(node, SKIRMISH) as gateway:
                again = await gateway.join(
                    room_id, "p0", generation=player.seat.generation, slot=player.seat.slot
                )
                await until(lambda: len(again.frames) > 2)
                assert again.seat.generation == player.seat.generation
                assert again.frames[0].base_tick == 0
                assert again.frames[0].tick > player.frames[-1].tick
                stale = await gateway.join(room_id, "p1", generation=1, slot=0)
                assert stale.joined is not None
                assert stale.joined.reason == "SEAT_REFUSED"

    runs(play())


def test_resync_gives_a_keyframe(brokers: Brokers, runs: Runs, fresh: Fresh) -> None:
    async def play() -> None:
        async with room_node(brokers) as node, attached(node, SKIRMISH) as gateway:
            room_id = fresh("room")
            seats = await node.create(room_id)
            player = await gateway.join(room_id, "p0", seats[0].seat_token)
            await until(lambda: len(player.frames) > 2)
            await gateway.send(resyncs=[player.client])
            await until(lambda: [f.base_tick for f in player.frames].count(0) == 2)
            events = [[event.id for event in f.events] for f in player.frames if f.events]
            assert events[0] == events[-1] == [1]

    runs(play())


def test_leave_over_another_gateway_ends_the_match(
    brokers: Brokers, runs: Runs, fresh: Fresh
) -> None:
    async def play() -> None:
        async with (
            room_node(brokers) as node,
            attached(node, TICTACTOE) as first,
            attached(node, TICTACTOE) as second,
        ):
            room_id = fresh("room")
            seats = await node.create(room_id, game="tictactoe")
            one = await first.join(room_id, "p0", seats[0].seat_token)
            two = await first.join(room_id, "p1", seats[1].seat_token)
            await second.send(leaves=[host.ClientLeave(seat=one.seat, for_good=True)])
            await until(lambda: one.kicked == "LEFT")
            await until(lambda: two.control is not None)
            assert two.control is not None
            places = {place.player_id: place for place in two.control.result.placements}
            assert places["p0"].left_early
            assert (places["p1"].rank, places["p0"].rank) == (1, 2)

    runs(play())


def test_seat_is_given_up_after_its_stream_has_ended(
    brokers: Brokers, runs: Runs, fresh: Fresh
) -> None:
    async def play() -> None:
        async with room_node(brokers) as node, attached(node, TICTACTOE) as gateway:
            room_id = fresh("room")
            seats = await node.create(room_id, game="tictactoe")
            one = await gateway.join(room_id, "p0", seats[0].seat_token)
            two = await gateway.join(room_id, "p1", seats[1].seat_token)
            stale = host.SeatRef(room_id=room_id, slot=1, generation=two.seat.generation - 1)
            await gateway.send(
                leaves=[
                    host.ClientLeave(client=one.client),
                    host.ClientLeave(seat=stale, for_good=True),
                    host.ClientLeave(seat=one.seat, for_good=True),
                ]
            )
            await until(lambda: two.control is not None)
            assert two.control is not None
            left = {place.player_id: place.left_early for place in two.control.result.placements}
            assert left == {"p0": True, "p1": False}

    runs(play())


def test_messages_are_refused_and_repeated(brokers: Brokers, runs: Runs, fresh: Fresh) -> None:
    async def play() -> None:
        async with room_node(brokers) as node, attached(node, TICTACTOE) as gateway:
            room_id = fresh("room")
            seats = await node.create(room_id, game="tictactoe")
            one = await gateway.join(room_id, "p0", seats[0].seat_token)
            await gateway.join(room_id, "p1", seats[1].seat_token)
            place = tictactoe.PLACE
            wrong = await gateway.message(one, place, b"\x09", 1)
            assert (wrong.code, wrong.reason) == (Code.INVALID_ARGUMENT, "CELL_INVALID")
            assert (await gateway.message(one, place, b"\x04", 2)).code == 0
            assert (await gateway.message(one, place, b"\x04", 2)).code == 0
            turn = await gateway.message(one, place, b"\x05", 3)
            assert turn.reason == "NOT_YOUR_TURN"
            large = await gateway.message(one, place, b"x" * 5000, 4)
            assert large.reason == "MESSAGE_TOO_LARGE"
            await until(lambda: one.value("board", "mark")[4] == 1)

    runs(play())


def test_unknown_room_and_seat_are_refused(brokers: Brokers, runs: Runs, fresh: Fresh) -> None:
    async def play() -> None:
        async with room_node(brokers) as node, attached(node, SKIRMISH) as gateway:
            room_id = fresh("room")
            seats = await node.create(room_id)
            nowhere = await gateway.join(fresh("room"), "p0", seats[0].seat_token)
            thief = await gateway.join(room_id, "p1", seats[0].seat_token)
            assert nowhere.joined is not None
            assert thief.joined is not None
            assert (nowhere.joined.code, nowhere.joined.reason) == (Code.NOT_FOUND, "ROOM_UNKNOWN")
            assert thief.joined.reason == "SEAT_REFUSED"
            await gateway.send(
                inputs=[host.ClientInput(seat=host.SeatRef(room_id=room_id, slot=99), inputs=[b""])]
            )
            assert (await node.stub.Ping(host.PingRequest())).incarnation == "local-1-a"
            assert gateway.sought == []
            gone = host.SeatRef(room_id=fresh("room"), slot=0, generation=1)
            await gateway.send(inputs=[host.ClientInput(seat=gone, inputs=[b""])] * 3)
            await until(lambda: gateway.sought == [gone.room_id])

    runs(play())


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"game": "chess"}, grpc.StatusCode.NOT_FOUND),
        ({"players": 9}, grpc.StatusCode.INVALID_ARGUMENT),
        ({"options": {"time_limit_s": -1}}, grpc.StatusCode.INVALID_ARGUMENT),
        ({"room_id": "no room"}, grpc.StatusCode.INVALID_ARGUMENT),
    ],
    ids=["game", "players", "options", "name"],
)
def test_senseless_room_is_refused(
    brokers: Brokers, runs: Runs, fresh: Fresh, change: dict[str, object], code: grpc.StatusCode
) -> None:
    async def play() -> None:
        async with room_node(brokers) as node:
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await node.create(**{"room_id": fresh("room"), **change})  # type: ignore[arg-type]
            assert refused.value.code() == code

    runs(play())


def test_create_is_idempotent_by_epoch(brokers: Brokers, runs: Runs, fresh: Fresh) -> None:
    async def play() -> None:
        async with room_node(brokers) as node, attached(node, SKIRMISH) as gateway:
            room_id = fresh("room")
            first, again = await asyncio.gather(
                node.create(room_id, epoch=2), node.create(room_id, epoch=2)
            )
            player = await gateway.join(room_id, "p0", first[0].seat_token)
            other = await gateway.join(room_id, "p1", again[1].seat_token)
            await until(lambda: len(player.frames) > 0 and len(other.frames) > 0)
            with pytest.raises(grpc.aio.AioRpcError) as stale:
                await node.create(room_id, epoch=1)
            assert stale.value.code() == grpc.StatusCode.ABORTED
            newer = await node.create(room_id, epoch=3)
            await until(lambda: player.control is not None)
            moved = await gateway.join(room_id, "p0", newer[0].seat_token)
            await until(lambda: moved.frames != [])
            assert moved.frames[0].epoch == 3

    runs(play())
