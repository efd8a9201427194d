"""A table's task in virtual time: exact ticks, frames after them, messages between them."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import looptime
import pytest

from rallypoint.games.columns import Table, u32
from rallypoint.games.definition import define
from rallypoint.games.engine import Ended, RoomSpec
from rallypoint.games.game import GameInfo, RoomGame, message
from rallypoint.games.room import Seat
from rallypoint.internal.v1 import room_host_pb2 as host
from rallypoint.kit import errors
from rallypoint.room_state import seating
from rallypoint.room_state.domain.seats import SeatBook
from rallypoint.room_state.gateway_link import GatewayLink
from rallypoint.room_state.hosted import HostedRoom, RoomIdentity
from rallypoint.room_state.runner import TableRunner


class Count(Table, rows=1):
    ticks = u32()


class Counting(RoomGame):
    info = GameInfo(name="counting", max_players=2, tick_hz=20, send_hz=10, grace_s=5.0)
    tables = (Count,)

    @message(1)
    def echo(self, seat: int, body: bytes) -> bytes:
        if body == b"kick":
            self.room.kick(seat, "TOO_LOUD")
        return body

    def on_tick(self, dt_s: float) -> None:
        self.room.table(Count).ticks += 1
        if self.room.options.get("stop_at") == self.room.table(Count).ticks[0]:
            self.room.close("STOPPED")


class Quiet:
    """Hears of players and keeps nothing."""

    def joined(self, identity: RoomIdentity, player_id: str) -> None:
        return

    def left(self, identity: RoomIdentity, player_id: str, reason: str) -> None:
        return


class Bench:
    """A runner with rooms, and what its gateway was sent."""

    def __init__(self, tasks: asyncio.TaskGroup) -> None:
        self.closed: list[tuple[str, Ended]] = []
        self.runner = TableRunner(define(Counting), index=0, closed=self._on_closed)
        self.link = GatewayLink("g", limit_bytes=1 << 20)
        self._task = tasks.create_task(self.runner.run(), name="table")

    async def room(self, room_id: str = "r", **options: Any) -> tuple[HostedRoom, list[bytes]]:
        seats = [Seat(0, "p0", "P0"), Seat(1, "p1", "P1")]
        numbers = iter(range(100))
        book = SeatBook(
            seats,
            reserve_until=asyncio.get_running_loop().time() + 3.0,
            grace_s=5.0,
            new_token=lambda: b"%016d" % next(numbers),
        )
        identity = RoomIdentity(
            room_id=room_id, epoch=1, game="counting", queue="", set="", own_revision=0
        )
        spec = RoomSpec(id=room_id, seats=seats, options=options)
        room = await self.runner.call(lambda: self.runner.open(identity, spec, book, Quiet()))
        return room, [token for _, token in await self.runner.call(book.grants)]

    def join(self, room: HostedRoom, client: int, player: str, token: bytes) -> None:
        request = host.ClientJoin(client=client, player_id=player, seat_tokens=[token])
        self.runner.post(lambda: seating.join(self.runner.table, room, self.link, request))

    def sent(self) -> host.AttachResponse:
        data = b"".join(self.link._pending)
        self.link._pending.clear()
        return host.AttachResponse.FromString(data)

    def stop(self) -> None:
        self._task.cancel()

    def _on_closed(self, room: HostedRoom, ended: Ended) -> None:
        self.closed.append((room.identity.room_id, ended))


def virtually(play: Callable[[Bench], Coroutine[Any, Any, None]]) -> None:
    async def run() -> None:
        async with asyncio.TaskGroup() as tasks:
            bench = Bench(tasks)
            await play(bench)
            bench.stop()

    with asyncio.Runner(loop_factory=looptime.new_event_loop) as runner:
        runner.run(run())


def test_a_minute_has_exactly_its_ticks() -> None:
    async def play(bench: Bench) -> None:
        room, tokens = await bench.room()
        bench.join(room, 1, "p0", tokens[0])
        await asyncio.sleep(60)
        assert bench.runner.table.tick == pytest.approx(60 * 20, abs=1)
        assert bench.runner.rooms[room.slot] is room

    virtually(play)


def test_frames_go_out_at_the_send_rate() -> None:
    async def play(bench: Bench) -> None:
        room, tokens = await bench.room()
        bench.join(room, 7, "p0", tokens[0])
        await asyncio.sleep(1.02)
        response = bench.sent()
        assert response.joined[0].welcome.slot == 0
        assert len(response.frames) == pytest.approx(10, abs=1)
        bases = [b"\x18" in frame.parts[0][:8] for frame in response.frames]
        assert bases == [False] + [True] * (len(bases) - 1)
        assert all(list(frame.routes[0].clients) == [7] for frame in response.frames)

    virtually(play)


def test_idle_table_does_not_tick() -> None:
    async def play(bench: Bench) -> None:
        await bench.room(stop_at=4)
        await asyncio.sleep(30)
        assert [(name, ended.reason) for name, ended in bench.closed] == [("r", "STOPPED")]
        assert bench.runner.table.tick <= 6
        assert bench.runner.free == bench.runner.table.capacity

    virtually(play)


def test_message_is_answered_between_ticks() -> None:
    async def play(bench: Bench) -> None:
        room, tokens = await bench.room()
        bench.join(room, 1, "p0", tokens[0])
        await asyncio.sleep(0.5)
        tick = bench.runner.table.tick
        asked = host.ClientMessage(
            seat=host.SeatRef(slot=0, generation=1), call=5, request_id=1, type=1, body=b"hi"
        )
        for _ in range(2):
            bench.runner.post(lambda: seating.answer(bench.runner.table, room, bench.link, asked))
        await asyncio.sleep(0.001)
        assert [reply.body for reply in bench.sent().replies] == [b"hi", b"hi"]
        assert bench.runner.table.tick == tick

    virtually(play)


def test_no_show_and_grace_end_the_room() -> None:
    async def play(bench: Bench) -> None:
        room, tokens = await bench.room()
        bench.join(room, 1, "p0", tokens[0])
        await asyncio.sleep(2.0)
        stream = room.streams[0]
        now = asyncio.get_running_loop().time()
        bench.runner.post(lambda: seating.drop(bench.runner.table, room, stream, now))
        await asyncio.sleep(4.5)
        assert not bench.closed
        await asyncio.sleep(1.5)
        assert [ended.reason for _, ended in bench.closed] == ["ABANDONED"]

    virtually(play)


def test_game_can_kick() -> None:
    async def play(bench: Bench) -> None:
        room, tokens = await bench.room()
        bench.join(room, 1, "p0", tokens[0])
        kick = host.ClientMessage(
            seat=host.SeatRef(slot=0, generation=1), request_id=1, type=1, body=b"kick"
        )
        bench.runner.post(lambda: seating.answer(bench.runner.table, room, bench.link, kick))
        await asyncio.sleep(0.01)
        assert [(kick.client, kick.reason) for kick in bench.sent().kicks] == [(1, "TOO_LOUD")]

    virtually(play)


def test_slow_gateway_gets_keyframes_when_it_reads_again() -> None:
    async def play(bench: Bench) -> None:
        room, tokens = await bench.room()
        bench.join(room, 1, "p0", tokens[0])
        await asyncio.sleep(0.3)
        bench.sent()
        bench.link._limit = 0
        await asyncio.sleep(0.5)
        assert not bench.sent().frames
        bench.link._limit, bench.link._size = 1 << 20, 0
        await asyncio.sleep(0.3)
        first, *rest = bench.sent().frames
        assert b"\x18" not in first.parts[0][:6]
        assert rest

    virtually(play)


def test_failed_open_is_told_to_who_asked() -> None:
    async def play(bench: Bench) -> None:
        def fail() -> None:
            raise errors.InvalidArgument("OPTIONS_INVALID")

        with pytest.raises(errors.InvalidArgument):
            await bench.runner.call(fail)

    virtually(play)


def test_what_comes_after_frames_waits_for_them() -> None:
    async def play(bench: Bench) -> None:
        room, tokens = await bench.room()
        bench.join(room, 1, "p0", tokens[0])
        await asyncio.sleep(0.51)
        for _ in range(3):
            bench.sent()
            await asyncio.sleep(0.03)
            frames = await bench.runner.call(lambda: list(bench.sent().frames), after_frames=True)
            assert len(frames) == 1, "it came behind a frame and before the next"

    virtually(play)


def test_what_comes_after_frames_waits_for_no_table_that_stands_still() -> None:
    async def play(bench: Bench) -> None:
        async with asyncio.timeout(0.01):  # it has no room
            await bench.runner.call(lambda: None, after_frames=True)
        await bench.room(stop_at=4)
        await asyncio.sleep(0.1)
        bench.runner.freeze(frozen=True)
        async with asyncio.timeout(0.01):
            await bench.runner.call(lambda: None, after_frames=True)
        bench.runner.freeze(frozen=False)
        await asyncio.sleep(0.06)
        waiting = asyncio.create_task(bench.runner.call(lambda: None, after_frames=True))
        await asyncio.sleep(0)
        assert not waiting.done()
        async with asyncio.timeout(1.0):  # the room ends with the frame that is waited for
            await waiting
            await asyncio.sleep(0.5)
            await bench.runner.call(lambda: None, after_frames=True)
        assert bench.closed

    virtually(play)
