"""Two players in a match, what each saw, and whether play went on when something broke.

Promises (docs/recovery.md): 6 s until play resumes, 1 s of play lost. The caps are ten times that.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

from rallypoint import client
from rallypoint.client import room as rooms
from rallypoint.client import seat as seats
from rallypoint.v1 import room_pb2
from tests.support import waiting

RESUME_CAP_S = 60.0

until = functools.partial(waiting.until, within_s=RESUME_CAP_S)
LOST_CAP_S = 10.0
TICK_S = 1 / 20


@dataclass
class Seen:
    """What one client saw."""

    steps: list[tuple[float, int, int, bool]] = field(default_factory=list)
    """Loop time, epoch, tick, whether it was a keyframe."""
    controls: list[room_pb2.Control] = field(default_factory=list)

    def on_step(self, room: rooms.RoomConnection, step: seats.Stepped) -> None:
        """Note a step of the room."""
        now = asyncio.get_running_loop().time()
        self.steps.append((now, room.seat.epoch, step.tick, step.keyframe))

    @property
    def epoch(self) -> int:
        """The room's, as last seen."""
        return self.steps[-1][1] if self.steps else 0

    def next(self, after: int = 1) -> tuple[float, int]:
        """When, and at which tick, the epoch after that one began."""
        return next((at, tick) for at, epoch, tick, _ in self.steps if epoch > after)

    def last(self, epoch: int) -> tuple[float, int]:
        """When, and at which tick, an epoch was seen last."""
        return next((at, tick) for at, seen, tick, _ in reversed(self.steps) if seen == epoch)

    def check(self) -> None:
        """No epoch ever goes back, each begins with a keyframe, ticks grow within one."""
        for before, after in zip(self.steps, self.steps[1:], strict=False):
            assert after[1] >= before[1]
            if after[1] > before[1]:
                assert after[3]
            else:
                assert after[2] >= before[2]


@dataclass
class Player:
    """One client with its seat."""

    room: rooms.RoomConnection
    seen: Seen


@contextlib.asynccontextmanager
async def playing(url: str, queue: str, game: str) -> AsyncIterator[tuple[Player, Player]]:
    """Two players in one match."""
    async with contextlib.AsyncExitStack() as open_:
        sessions = [
            await open_.enter_async_context(client.connect(url, name=name, game=game))
            for name in ("Ada", "Bob")
        ]
        found = await asyncio.gather(
            *(client.Matchmaking(session).find(queue) for session in sessions)
        )
        players = []
        for session, seat in zip(sessions, found, strict=True):
            seen = Seen()
            connection = client.RoomConnection(
                session, seat.room_id, seat.seat_token, on_step=seen.on_step,
                on_control=seen.controls.append,
            )  # fmt: skip
            room = await open_.enter_async_context(connection)
            await room.wait_joined(within_s=RESUME_CAP_S)
            players.append(Player(room, seen))
        yield players[0], players[1]


async def send_inputs(player: Player) -> None:
    """Keep pushing to the right, for ever."""
    while True:
        if player.room.seat.schema is not None:
            player.room.send_input({"dx": 100})
        await asyncio.sleep(TICK_S)


def resumed(players: tuple[Player, Player], epoch: int) -> Callable[[], bool]:
    """Whether both have played for a second in an epoch, or a later one."""
    return lambda: all(
        player.seen.epoch >= epoch and len([1 for s in player.seen.steps if s[1] >= epoch]) > 20
        for player in players
    )


def assert_resumed(players: tuple[Player, Player], after: int = 1) -> None:
    """Play went on within the caps, on the streams of before, in the seats of before."""
    for slot, player in enumerate(players):
        player.seen.check()
        assert player.room.joins == 1, player.room.breaks
        assert player.room.ended is None
        (left_at, left_tick), (back_at, back_tick) = (
            player.seen.last(after),
            player.seen.next(after),
        )
        assert back_at - left_at < RESUME_CAP_S
        assert (left_tick - back_tick) * TICK_S < LOST_CAP_S
        assert back_tick > 1
        print(
            f"slot {slot}: resume_s {back_at - left_at:.2f}, "
            f"lost_ms {(left_tick - back_tick) * TICK_S * 1000:.0f}"
        )
    states = [player.room.seat.values("seats")["state"].tolist()[:2] for player in players]
    assert states == [[2, 2], [2, 2]]
