"""Who plays on an installed chart, and whether play goes on."""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from rallypoint import client
from rallypoint.kit import errors
from rallypoint.v1 import matchmaking_pb2 as mm
from rallypoint.v1 import room_pb2
from tests.kube import chart_stack
from tests.kube.chart_stack import Release
from tests.support.players import Player, Seen, playing, send_inputs, until

T = TypeVar("T")

READY_S: Final = 180
PAUSE_S: Final = 1.0
PAIRS: Final = "pairs"


def queue(players: int, time_limit_s: int) -> str:
    """A queue of so many, as JSON."""
    document = {
        "game": "skirmish",
        "team_count": 8,
        "team_size": 1,
        "min_players": players,
        "max_players": players,
        "min_after_s": 0,
        "tolerance": [[0, 5000]],
        "ticket_ttl_s": 600,
        "options": {"time_limit_s": time_limit_s},
    }
    return json.dumps(document)


@contextmanager
def bots(url: str, queue: str, *, count: int, matches: int = 0) -> Iterator[subprocess.Popen[str]]:
    """Players without people, as anybody would start them."""
    words = ["-m", "rallypoint", "bots", "--game", "skirmish", "--queue", queue, "--json"]
    words += ["--count", str(count), "--matches", str(matches), "--url", url]
    process = subprocess.Popen([sys.executable, *words], stdout=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def scored(process: subprocess.Popen[str]) -> dict[str, Any]:
    """What they say in the end."""
    said, _ = process.communicate(timeout=READY_S)
    score: dict[str, Any] = json.loads(said)
    return score


@asynccontextmanager
async def pushing(players: Sequence[Player]) -> AsyncIterator[None]:
    """Have all of them never stop."""
    tasks = [asyncio.create_task(send_inputs(player)) for player in players]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()


@asynccontextmanager
async def duel(url: str, queue: str = "duel") -> AsyncIterator[tuple[Player, Player]]:
    """Two players in a match, who leave in the end: their server is free at once."""
    async with playing(url, queue, "skirmish") as players:
        yield players
        for player in players:
            with contextlib.suppress(errors.RallypointError):  # the first may have ended it
                await player.room.leave()


async def played(url: str) -> None:
    """Two players in a match, for two seconds of it."""
    async with duel(url, "skirmish") as players:
        await until(lambda: all(len(player.seen.steps) > 40 for player in players))


async def frames(players: Sequence[Player]) -> None:
    """All go on for two seconds of play, in the match and the seat that they had."""
    before = [len(player.seen.steps) for player in players]
    try:
        await until(
            lambda: all(
                len(player.seen.steps) > count + 40
                for player, count in zip(players, before, strict=True)
            )
        )
    except AssertionError as error:
        raise AssertionError(f"play stands still: {[told(each) for each in players]}") from error
    for player in players:
        player.seen.check()
        assert player.room.ended is None
        kinds = {control.kind for control in player.seen.controls}
        assert room_pb2.CONTROL_KIND_KICKED not in kinds


def told(player: Player) -> str:
    """What a player knows of its room."""
    room, steps = player.room, player.seen.steps
    since_s = asyncio.get_running_loop().time() - steps[-1][0] if steps else -1.0
    return (
        f"epoch {player.seen.epoch}, {len(steps)} frames, the last {since_s:.1f} s ago,"
        f" ended {room.ended}, gave up {room._failure!r}, joins {room.joins}, breaks {room.breaks},"
        f" controls {player.seen.controls[-5:]}"
    )


def occupied(release: Release) -> list[str]:
    """The servers where somebody plays."""
    servers = release.items("gameservers")
    return [one["metadata"]["name"] for one in servers if phase(one) == "Active"]


def phase(server: dict[str, Any]) -> str:
    """A server's phase; a new one has none."""
    found: str = server.get("status", {}).get("phase", "")
    return found


def some_occupied(release: Release) -> tuple[str, str]:
    """A server where somebody plays, and which pod it is; pairs may all be between two matches."""
    found: list[tuple[str, str]] = []

    def is_there() -> bool:
        pods = release.uids()
        found[:] = [(name, pods[name]) for name in occupied(release) if name in pods]
        return found != []

    assert chart_stack.within(is_there, READY_S), release.told()
    return found[0]


@dataclass
class Career:
    """Somebody who plays match after match, whatever breaks."""

    url: str
    heard: int = 0
    """Results of matches."""
    doubts: int = 0
    """Matches of which nobody told how they ended."""
    rated: int = 0

    async def play(self, enough: asyncio.Event) -> None:
        """Play until it is enough; then ask what the ratings know of."""
        async with client.connect(self.url, name="Eve", game="skirmish") as session:
            calls = client.Matchmaking(session)
            while not enough.is_set():
                try:
                    if seat := await _found(calls, enough):
                        await self._match(session, seat)
                except errors.RallypointError:
                    self.doubts += 1
                    await asyncio.sleep(PAUSE_S)
            async with asyncio.timeout(READY_S):
                while self.rated < self.heard:
                    await asyncio.sleep(PAUSE_S)
                    self.rated = (await answered(lambda: calls.rating(PAIRS))).matches

    async def _match(self, session: client.Session, seat: mm.Assignment) -> None:
        async with client.RoomConnection(session, seat.room_id, seat.seat_token) as room:
            await room.wait_joined(within_s=READY_S)
            async with pushing([Player(room, Seen())]):
                ended = await room.wait_ended()
        if ended.result.placements:
            self.heard += 1
        else:
            self.doubts += 1


async def answered(call: Callable[[], Awaitable[T]]) -> T:
    """What a call is answered; UNAVAILABLE is tried again, as any client does."""
    async with asyncio.timeout(READY_S):
        while True:
            try:
                return await call()
            except (errors.Unavailable, errors.DeadlineExceeded):
                await asyncio.sleep(PAUSE_S)


async def _found(calls: client.Matchmaking, enough: asyncio.Event) -> mm.Assignment | None:
    """Where to play; None when it is enough before the others come."""
    finding = asyncio.ensure_future(calls.find(PAIRS))
    stop = asyncio.ensure_future(enough.wait())
    try:
        await asyncio.wait({finding, stop}, return_when=asyncio.FIRST_COMPLETED)
        return finding.result() if finding.done() else None
    finally:
        finding.cancel()
        stop.cancel()


@asynccontextmanager
async def careers(url: str, *, count: int) -> AsyncIterator[None]:
    """So many play one match after the other; in the end, each that was told of is rated, once."""
    enough, players = asyncio.Event(), [Career(url) for _ in range(count)]
    async with asyncio.TaskGroup() as tasks:
        for player in players:
            tasks.create_task(player.play(enough))
        yield
        enough.set()
    print(players)
    for player in players:
        assert player.heard, players
        # Of a doubted match, and of one that began as the last search ended, nobody can say.
        assert player.rated <= player.heard + player.doubts + 1, players
