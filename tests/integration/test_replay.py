"""Recordings played to those who may see them, and rooms that are watched, some seconds late."""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import REGISTRY
from tests.integration.conftest import Runs
from tests.integration.gateway_stack import ROOM, Player
from tests.integration.moves_stack import moving_world
from tests.integration.open_stack import OpenStack, create, enter, listed, open_stack
from tests.integration.slow_reader import SlowReader
from tests.support.waiting import until

from rallypoint.cli import datadir
from rallypoint.cli.brokers import Brokers
from rallypoint.client import RoomConnection, Session, WebChannel, replay
from rallypoint.client.replay import Mark, Marked, Playback, Step, Word
from rallypoint.client.seat import Stepped
from rallypoint.games import ColumnGame, GameInfo, Rooms, Table, u32
from rallypoint.games.definition import define
from rallypoint.gateway.admin_access import AdminSettings
from rallypoint.gateway.replays import ReplaySettings
from rallypoint.internal.v1 import allocation_pb2, events_pb2
from rallypoint.kit import errors, subjects
from rallypoint.kit.clock import SystemClock
from rallypoint.kit.names import RoomId
from rallypoint.v1 import replay_pb2, room_pb2

Fresh = Callable[[str], str]
SPECTATE = "/rallypoint.v1.ReplayService/SpectateRoom"
SECRET = "an operator's secret"
ADMIN = AdminSettings(admin_token=SECRET)
RECORDING = allocation_pb2.Recording(max_bytes=1 << 24)
States = dict[tuple[int, int], bytes]
Chunks = list[replay_pb2.ReplayChunk]


def state_of(tables: object) -> bytes:
    assert hasattr(tables, "values")
    return b"".join(column.tobytes() for table in tables.values() for column in table.values())


def played_back(chunks: Chunks) -> tuple[States, list[Mark], list[Word]]:
    """The states by epoch and tick, what is marked, and what was said."""
    playback, states, others = Playback(), {}, []
    for chunk in chunks:
        for moment in playback.take(chunk):
            if isinstance(moment, Step):
                states[playback.epoch, moment.tick] = state_of(playback.tables)
            else:
                others.append(moment)
    marks = [moment for moment in others if isinstance(moment, Mark)]
    return states, marks, [moment for moment in others if isinstance(moment, Word)]


@dataclass
class Match:
    """A player in a room, and the states that the player sees."""

    session: Session
    room_id: str
    connection: RoomConnection
    seen: States

    async def chunks(self, **wish: float) -> Chunks:
        """The recording as its player gets it, once the room has ended."""
        async with asyncio.timeout(20):
            while True:
                with contextlib.suppress(errors.NotFound):
                    found = [
                        chunk
                        async for chunk in replay.play(self.session, self.room_id, **wish)  # type: ignore[arg-type]
                    ]
                    if any(chunk.last for chunk in found):
                        return found
                await asyncio.sleep(0.1)


async def guest(stack: OpenStack) -> Session:
    return await Session.open(WebChannel(stack.gateway.url), game="skirmish")


async def seat_by_code(session: Session, code: str) -> bytes:
    """Enter a player's room; the seat token."""
    entered = room_pb2.JoinByCodeRequest(code=code)
    answer = await session.channel.unary(
        ROOM + "JoinByCode", entered.SerializeToString(), token=await session.token()
    )
    return room_pb2.JoinByCodeResponse.FromString(answer).seat_token


@asynccontextmanager
async def seated(session: Session, room_id: str, token: bytes) -> AsyncIterator[Match]:
    """Play a room; what is seen is noted."""
    seen: States = {}

    def note(room: RoomConnection, stepped: Stepped) -> None:
        seen[room.seat.epoch, stepped.tick] = state_of(room.seat.tables)

    async with RoomConnection(session, room_id, token, on_step=note) as connection:
        await connection.wait_joined()
        yield Match(session, room_id, connection, seen)


@asynccontextmanager
async def match(stack: OpenStack, fresh: Fresh, **fields: Any) -> AsyncIterator[Match]:
    """A player in a recorded room."""
    host = await stack.player(fresh("host"))
    made = await create(host, "one", record=True, **fields)
    session = await guest(stack)
    seat_token = await seat_by_code(session, made.code)
    async with seated(session, made.room_id, seat_token) as playing:
        yield playing
    await session.channel.close()


async def store_again(stack: OpenStack, room_id: str, chunk: replay_pb2.ReplayChunk) -> None:
    """What an owner writes late that has lost the room."""
    record = events_pb2.ReplayRecord(chunk=chunk).SerializeToString()
    subject = subjects.replay(RoomId(room_id))
    await stack.gateway.runtime.bus.publish_fact(subject, record, msg_id=f"again-{room_id}")


async def until_listed(player: Player) -> list[room_pb2.RoomListing]:
    """The rooms to watch, once there is one."""
    rooms: list[room_pb2.RoomListing] = []
    async with asyncio.timeout(30):
        while not rooms:
            await asyncio.sleep(0.1)
            rooms = await listed(player, spectate=True)
    return rooms


async def refusal(session: Session, room_id: str) -> str:
    """Why somebody may not see a replay now."""
    with pytest.raises(errors.RallypointError) as refused:
        await anext(replay.play(session, room_id))
    return refused.value.reason


async def close(stack: OpenStack, room_id: str) -> None:
    from rallypoint.internal.v1 import room_host_pb2 as host

    await stack.node.stub.CloseRoom(host.CloseRoomRequest(room_id=room_id, reason="TEST"))


def test_players_and_operators_see_what_was_played_and_strangers_do_not(
    runs: Runs, brokers: Brokers, fresh: Fresh, tmp_path: Path
) -> None:
    async def scenario() -> None:
        async with (
            open_stack(
                brokers, fresh("set"), tmp_path, admin=ADMIN, replays=ReplaySettings(replays_max=1)
            ) as stack,
            match(stack, fresh) as playing,
        ):
            await until(lambda: len(playing.seen) > 100)
            await close(stack, playing.room_id)
            chunks = await playing.chunks()
            states, marks, words = played_back(chunks)
            assert playing.seen.items() <= states.items()
            assert marks == []
            assert words[-1].control.reason == "TEST"

            channel = playing.session.channel
            later = [c async for c in replay.watch(channel, SECRET, playing.room_id, from_tick=60)]
            assert later[0].last_tick >= 60
            assert later == chunks[-len(later) :]
            assert len(later) < len(chunks)

            with pytest.raises(errors.InvalidArgument, match="SPEED_INVALID"):
                await anext(replay.play(playing.session, playing.room_id, speed=0.06))

            stranger = await guest(stack)
            slow = replay.play(playing.session, playing.room_id, speed=1 / 16)
            await anext(slow)
            with pytest.raises(errors.ResourceExhausted, match="REPLAYS_EXCEEDED"):
                await anext(replay.play(stranger, playing.room_id))
            watched = [c async for c in replay.watch(channel, SECRET, playing.room_id)]
            assert watched == chunks  # operators have places of their own
            await slow.aclose()
            async with asyncio.timeout(30):
                while (why := await refusal(stranger, playing.room_id)) != "REPLAY_REFUSED":
                    assert why == "REPLAYS_EXCEEDED"
            with pytest.raises(errors.NotFound, match="REPLAY_UNKNOWN"):
                await anext(replay.play(stranger, fresh("room")))
            for secret in ("", "wrong", await stranger.token()):
                with pytest.raises(errors.Unauthenticated, match="ADMIN_ONLY"):
                    await anext(replay.watch(stranger.channel, secret, playing.room_id))
            await stranger.channel.close()

    runs(scenario())


def test_moved_match_is_one_replay(
    runs: Runs, brokers: Brokers, fresh: Fresh, tmp_path: Path
) -> None:
    async def scenario() -> None:
        async with (
            moving_world(brokers, fresh("moves"), tmp_path) as world,
            world.node("a"),
            world.node("b"),
        ):
            session = await Session.open(WebChannel(world.url), game="counting")
            other = await Session.open(WebChannel(world.url), game="counting")
            room_id, players = fresh("room"), [session.player_id, other.player_id]
            tokens = await world.allocate(room_id, players, recording=RECORDING)
            async with seated(session, room_id, tokens[0]) as playing:
                await until(lambda: len(playing.seen) > 60)
                await world.move(room_id, await world.other(room_id))
                before = len(playing.seen)
                await until(lambda: len(playing.seen) > before + 60)
                await playing.connection.leave()
                closer = RoomConnection(other, room_id, tokens[1])
                async with closer:
                    await closer.wait_joined()
                    await closer.leave()
                states, marks, _ = played_back(await playing.chunks())
            await session.channel.close()
            await other.channel.close()
        assert playing.seen.items() <= states.items()
        assert {epoch for epoch, _ in states} == {1, 2}
        assert [mark.kind for mark in marks] == [Marked.MOVED]
        assert marks[0].lost_s < 1.0

    runs(scenario())


def test_spectator_sees_the_room_late_and_can_send_nothing(
    runs: Runs, brokers: Brokers, fresh: Fresh, tmp_path: Path
) -> None:
    async def scenario() -> None:
        delay_s = 3.0
        async with (
            open_stack(brokers, fresh("set"), tmp_path, spectate_delay_s=delay_s) as stack,
            match(
                stack, fresh, max_spectators=1, visibility=room_pb2.ROOM_VISIBILITY_LISTED
            ) as playing,
        ):
            host = stack.players[0]
            rooms = await until_listed(host)
            assert [room.room_id for room in rooms] == [playing.room_id]
            assert (rooms[0].spectate, rooms[0].spectate_delay_ms) == (True, 3000)
            spectator, second = await guest(stack), await guest(stack)
            watching = replay.spectate(spectator, playing.room_id)
            clock = SystemClock()
            chunks: Chunks = []
            async for chunk in watching:
                ticks = (chunk.last_tick - chunk.first_tick) / chunk.head.tick_hz
                ended = chunk.begin_time.ToNanoseconds() / 1e9 + ticks
                assert clock.now() - ended >= delay_s - 0.01
                chunks.append(chunk)
                if len(chunks) == 1:
                    with pytest.raises(errors.ResourceExhausted, match="SPECTATORS_EXCEEDED"):
                        await anext(replay.spectate(second, playing.room_id))
                if len(chunks) == 2:
                    await store_again(stack, playing.room_id, chunks[0])
                if len(chunks) == 3:
                    await close(stack, playing.room_id)
            assert chunks[-1].last
            numbers = [(chunk.epoch, chunk.number) for chunk in chunks]
            assert numbers == sorted(set(numbers)), "what came again was not passed on"
            states, _, words = played_back(chunks)
            assert len(states) > 60
            assert all(
                playing.seen[at] == state for at, state in states.items() if at in playing.seen
            )
            assert words[-1].control.reason == "TEST"
            names = {seat.player_id for chunk in chunks for seat in chunk.head.seats}
            assert names == {""}
            with pytest.raises(errors.RallypointError) as refused:
                await spectator.channel.unary(
                    ROOM + "SendInput",
                    room_pb2.SendInputRequest(first_seq=1, inputs=[b"abc"]).SerializeToString(),
                    token=await spectator.token(),
                )
            assert isinstance(refused.value, errors.ClientFault)
            with pytest.raises(errors.NotFound, match="ROOM_UNKNOWN"):
                await anext(replay.spectate(second, playing.room_id))
            for session in (spectator, second):
                await session.channel.close()

    runs(scenario())


class Crowd(Table, rows=1024):
    """Much that changes at every tick."""

    one = u32()
    two = u32()
    three = u32()
    four = u32()


class Bulky(ColumnGame):
    """A chunk every second or so is full, and more than a connection holds unread."""

    info = GameInfo(name="bulky", max_players=2, tick_hz=20, late_join=True)
    tables = (Crowd,)

    def on_tick(self, rooms: Rooms) -> None:
        crowd = rooms.table(Crowd)
        for column in (crowd.one, crowd.two, crowd.three, crowd.four):
            column += 1


def watch_slowly(stack: OpenStack, token: str, room_id: str) -> SlowReader:
    request = replay_pb2.SpectateRoomRequest(room_id=room_id)
    return SlowReader(stack.gateway.settings.web_port, token, SPECTATE, request)


def spectators() -> float | None:
    """How many watch now, as the gateway tells Prometheus."""
    return REGISTRY.get_sample_value("rallypoint_gateway_spectators_count")


def numbers(chunks: Chunks) -> list[int]:
    return [chunk.number for chunk in chunks]


def test_slow_spectator_misses_chunks_is_sent_away_and_slows_nobody(
    runs: Runs, brokers: Brokers, fresh: Fresh, tmp_path: Path
) -> None:
    def seen_by(reader: SlowReader) -> Chunks:
        said = reader.messages(replay_pb2.SpectateRoomResponse)
        return [answer.chunk for answer in said if answer.HasField("chunk")]

    async def scenario() -> None:
        async with (
            open_stack(
                brokers,
                fresh("set"),
                tmp_path,
                games={"bulky": define(Bulky)},
                replays=ReplaySettings(spectator_behind_max_s=4.0),
                spectate_delay_s=3.0,
            ) as stack,
            match(
                stack,
                fresh,
                game="bulky",
                max_spectators=3,
                visibility=room_pb2.ROOM_VISIBILITY_LISTED,
            ) as playing,
        ):
            await until_listed(stack.players[0])
            session = await guest(stack)
            token, quick = await session.token(), []
            late = watch_slowly(stack, token, playing.room_id)
            stuck = watch_slowly(stack, token, playing.room_id)
            async with asyncio.timeout(40):
                async for chunk in replay.spectate(session, playing.room_id):
                    quick.append(chunk)
                    if len(quick) == 3:
                        reading = asyncio.create_task(late.keep_reading())
                    if spectators() == 2:
                        break
                await stuck.keep_reading()
                reading.cancel()
            assert b"chunks were read too slowly" in stuck.received[-1000:]
            whole = seen_by(late)
            assert set(numbers(whole)) < set(numbers(quick))
            assert whole[-1] in quick[3:]
            played_back(whole)
            assert numbers(quick) == list(range(quick[0].number, quick[0].number + len(quick)))
            assert max(playing.seen)[1] > quick[-1].last_tick
            assert (playing.connection.joins, playing.connection.breaks) == (1, [])
            for reader in (late, stuck):
                reader.socket.close()
            await session.channel.close()

    runs(scenario())


def test_room_lets_nobody_watch_unless_its_maker_said_so(
    runs: Runs, brokers: Brokers, fresh: Fresh, tmp_path: Path
) -> None:
    async def scenario() -> None:
        async with open_stack(brokers, fresh("set"), tmp_path) as stack:
            ada = await stack.player(fresh("ada"))
            made = await create(ada, "one", record=True)
            await enter(ada, made.code)
            session = await guest(stack)
            with pytest.raises(errors.PermissionDenied, match="SPECTATE_OFF"):
                await anext(replay.spectate(session, made.room_id))
            for spectators, record in ((5, False), (51, True)):
                with pytest.raises(errors.InvalidArgument, match="SPECTATORS_INVALID"):
                    await create(ada, "two", max_spectators=spectators, record=record)
            await session.channel.close()

    runs(scenario())


async def command(data_dir: Path, *words: str) -> str:
    line = [sys.executable, "-m", "rallypoint", "replay", "--data-dir", str(data_dir), *words]
    done = await asyncio.to_thread(
        subprocess.run, line, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_replays_are_listed_played_and_saved_from_a_terminal(
    runs: Runs, brokers: Brokers, fresh: Fresh, tmp_path: Path
) -> None:
    async def scenario() -> None:
        keys = datadir.keys(tmp_path)
        admin = AdminSettings(admin_token_file=keys.admin_token_file)
        async with (
            open_stack(brokers, fresh("set"), tmp_path, admin=admin) as stack,
            match(stack, fresh) as playing,
        ):
            datadir.write_state(tmp_path, {}, facts={"url": stack.gateway.url})
            await until(lambda: len(playing.seen) > 60)
            await close(stack, playing.room_id)
            await playing.chunks()
            (line,) = [
                line
                for line in (await command(tmp_path, "--list")).splitlines()
                if playing.room_id in line
            ]
            assert line.split()[1] == "skirmish"
            assert line.endswith("yes")
            found = json.loads(await command(tmp_path, "--list", "--json"))
            assert playing.room_id in {item["room_id"] for item in found["replays"]}

            live = await command(tmp_path, playing.room_id, "--json")
            steps = [json.loads(line) for line in live.splitlines()]
            ticks = [(step["epoch"], step["tick"]) for step in steps if "tick" in step]
            assert playing.seen.keys() <= set(ticks)
            saved = tmp_path / "match.replay"
            await command(tmp_path, playing.room_id, "--out", str(saved))
            assert await command(tmp_path, str(saved), "--json") == live
            assert "closed TEST" in await command(tmp_path, str(saved))

    runs(scenario())
