"""The load in C, a process of its own: `_load` plays, this brings players to the rooms.

Reads a Spec (JSON, first argument), then commands, one JSON line each, from standard input:

    {"do": "grow", "players": n}     n players in rooms, playing           ▸ {"event": "grown"}
    {"do": "sit", "seats": […]}      the same with seats of a peer, each [process, room, session]
    {"do": "measure", "seconds": s}  count                     ▸ "playing", "measured", "result"

and ends at the end of its input. Session, ticket and assignment come from the ordinary client, over
a few shared connections; the sockets of the game are opened and served by C (docs/wire.md).
"""

from __future__ import annotations

import asyncio
import base64
import json
import random
import resource
import secrets
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from rallypoint.cli import bench_histogram
from rallypoint.client import channel, grpcweb, matchmaking, rooms, seat, session, websocket_frames
from rallypoint.games import codec, schema, swarm
from rallypoint.kit import errors
from rallypoint.v1 import matchmaking_pb2, room_pb2

if TYPE_CHECKING:
    from rallypoint.cli import _load

JOINING = 64
COMING = 24
PLAYING_WITHIN_S = 30.0
PATTERN = 4096
ROOM_SERVICE = "/rallypoint.v1.RoomService"
SEND_INPUT = f"{ROOM_SERVICE}/SendInput"
SETTLED = ("frames", "frame_bytes", "keyframes", "inputs", "input_calls", "answers", "echoes")
WIRE = ("bytes_down", "bytes_up", "bytes_answers", "late_slots", "slots")


@dataclass(frozen=True, slots=True)
class Spec:
    """Whom to play against, and what."""

    url: str
    game: str
    transport: str = "grpc-web"
    input_hz: int = 10


Seated = matchmaking_pb2.Assignment | room_pb2.CreateRoomResponse | room_pb2.JoinByCodeResponse


class Swarm:
    """Players in rooms."""

    def __init__(self, spec: Spec, load: _load.Load) -> None:
        self._spec = spec
        self._load = load
        self._host = urlsplit(spec.url).netloc
        self._shared = channel.open_channel(spec.url)
        self._players = 0
        self._room: asyncio.Future[str] | None = None
        self.wrong: Counter[str] = Counter()

    async def grow(self, players: int) -> None:
        """Have `players` players in rooms, playing; errors are counted."""
        joining = asyncio.Semaphore(JOINING)
        self._load.hush()
        async with asyncio.TaskGroup() as tasks:
            for number in range(self._players, players):
                tasks.create_task(self._join(number, joining), name=f"join-{number}")
        self._players = max(self._players, players)
        await self._wait_coming(at_most=0)
        self._load.speak()

    async def sit(self, seats: Sequence[tuple[str, str, str]]) -> None:
        """Take seats that a Colyseus server has reserved."""
        for process, room, session_id in seats:
            path = f"/{process}/{room}?sessionId={session_id}"
            self._load.add(websocket_frames.handshake(self._host, _key(), path=path))
            await self._wait_coming(at_most=COMING)
        self._players += len(seats)
        await self._wait_coming(at_most=0)

    async def measure(self, seconds: float) -> dict[str, Any]:
        """What happens in `seconds`."""
        before, cpu_s, began_s = self._load.counts(), _cpu_s(), time.monotonic()
        tell("playing")
        await asyncio.sleep(seconds)
        after = self._load.counts()
        lasted_s = time.monotonic() - began_s
        tell("measured")
        found = report(before, after, seconds=lasted_s, players=self._players, wrong=self.wrong)
        return {**found, "load_cpu_fraction": round((_cpu_s() - cpu_s) / lasted_s, 3)}

    async def close(self) -> None:
        """Drop the shared connections."""
        await self._shared.close()

    async def _join(self, number: int, joining: asyncio.Semaphore) -> None:
        try:
            async with joining:
                player = await session.Session.open(
                    self._shared, game=self._spec.game, name=f"load-{number}"
                )
                if self._spec.game == swarm.NAME:
                    found = await self._enter_room(player)
                else:
                    found = await matchmaking.Matchmaking(player).find(self._spec.game)
                await self._enter(player, found)
        except errors.RallypointError as error:
            self.wrong[str(error)] += 1

    async def _enter_room(self, player: session.Session) -> Seated:
        """A seat in the one room of all: the first player makes it, the others come by its code."""
        if self._room is not None:
            return await rooms.Rooms(player).join(await asyncio.shield(self._room))
        self._room = asyncio.get_running_loop().create_future()
        made = await rooms.Rooms(player).create(self._spec.game)
        self._room.set_result(made.code)
        return made

    async def _enter(self, player: session.Session, found: Seated) -> None:
        """Leave the seat to C; wait when it has many that are not yet playing."""
        request = seat.Seat(found.room_id, found.seat_token).join_request()
        opening = OPENINGS[self._spec.transport](self._host, player.access_token, request)
        self._load.add(*opening)
        await self._wait_coming(at_most=COMING)

    async def _wait_coming(self, *, at_most: int) -> None:
        """Wait until few of those who have joined are not yet playing, but not for ever."""
        ends_s = time.monotonic() + PLAYING_WITHIN_S
        while self._load.coming() > at_most and time.monotonic() < ends_s:  # noqa: ASYNC110  # C
            await asyncio.sleep(0.01)


def _over_web(host: str, token: str, request: bytes) -> tuple[bytes, bytes]:
    """The Join call, and the head of each input call."""
    join = grpcweb.head(host, f"{ROOM_SERVICE}/Join", token=token)
    return grpcweb.request(join, request), grpcweb.head(host, SEND_INPUT, token=token)


def _over_websocket(host: str, token: str, request: bytes) -> tuple[bytes, bytes, bytes]:
    """The handshake, the head of the inputs' lane, and the Join call."""
    join = websocket_frames.head(f"{ROOM_SERVICE}/Join", token=token)
    lane = websocket_frames.head(SEND_INPUT, token=token, lane=True)
    return websocket_frames.handshake(host, _key()), lane, websocket_frames.call(1, join, request)


def _key() -> str:
    return base64.b64encode(secrets.token_bytes(16)).decode()


OPENINGS: Mapping[str, Callable[[str, str, bytes], Sequence[bytes]]] = {
    "grpc-web": _over_web,
    "websocket": _over_websocket,
}
"""What C is given to open a player's sockets with."""


def report(
    before: Mapping[str, Any],
    after: Mapping[str, Any],
    *,
    seconds: float,
    players: int,
    wrong: Mapping[str, int],
) -> dict[str, Any]:
    """The figures of one measurement from two looks at the totals."""
    did = {name: after[name] - before[name] for name in (*SETTLED, *WIRE)}
    of = bench_histogram.Histogram.of
    echo = of(after["echo"]) - of(before["echo"])
    reasons = {name: n for name, n in {**after["faults"], **wrong}.items() if n}
    if missing := players - after["playing"]:
        reasons.setdefault("NOT_PLAYING", missing)
    return {
        "players": players,
        "seconds": round(seconds, 3),
        "echo_ms": {f"p{p}": echo.percentile_ms(p) for p in (50, 95, 99)},
        "frames_per_s": round(did["frames"] / seconds, 1),
        "delivered": round(did["frames"] / (players * (after["send_hz"] or 20) * seconds), 4),
        "keyframes": did["keyframes"],
        "bytes_per_frame": _each(did["frame_bytes"], did["frames"]),
        "inputs_per_s": round(did["inputs"] / seconds, 1),
        "inputs_echoed": round(did["echoes"] / max(1, did["inputs"]), 4),
        "wire_bytes": {
            "frame": _each(did["bytes_down"], did["frames"]),
            "input": _each(did["bytes_up"], did["input_calls"]),
            "answer": _each(did["bytes_answers"], did["answers"]),
        },
        "errors": sum(reasons.values()),
        "errors_by_reason": reasons,
        "first_refusal": after["words"],
        "load": "c",
        "load_late": round(did["late_slots"] / max(1, did["slots"]), 4),
    }


def packed_inputs(game: str, columns: tuple[schema.ColumnSpec, ...]) -> list[bytes]:
    """Inputs to send in turn: of drift always another wish, of skirmish ten steady ones."""
    rng = random.Random(1)
    made: list[bytes] = []
    while len(made) < PATTERN:
        if game == swarm.NAME:
            heading = {"vx": rng.randint(-100, 100), "vy": rng.randint(-100, 100)}
            made += [codec.pack_input(columns, heading)] * 10
            continue
        if game == "drift":
            wish = {"vx": rng.uniform(-200, 200), "vy": rng.uniform(-200, 200)}
            made.append(codec.pack_input(columns, wish))
            continue
        steady = {
            "dx": rng.randint(-100, 100),
            "dy": rng.randint(-100, 100),
            "aim": rng.randrange(1 << 16),
        }
        made += [
            codec.pack_input(columns, {**steady, "fire": rng.random() < 0.2}) for _ in range(10)
        ]
    return made


def colyseus_input(packed: bytes) -> bytes:
    """An input of drift as Colyseus's SDK sends it: ROOM_INPUT_RELIABLE, both fields set."""
    return b"\x13\x80%b\x81%b" % (packed[:4], packed[4:])


def tell(event: str, **fields: object) -> None:
    """One line for whoever started us."""
    print(json.dumps({"event": event, **fields}), flush=True)


def _each(total: int, count: int) -> float:
    return round(total / max(1, count), 1)


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _made(spec: Spec) -> _load.Load:
    from rallypoint.cli import _load
    from rallypoint.games import drift
    from rallypoint.room_state import catalog

    columns = catalog.load((), (drift.EXTRA, swarm.EXTRA))[spec.game].schema.input
    inputs = packed_inputs(spec.game, columns)
    if spec.transport == "colyseus":
        inputs = [colyseus_input(packed) for packed in inputs]
    where = urlsplit(spec.url)
    return _load.Load(
        host=where.hostname or "",
        port=where.port or 80,
        transport=spec.transport,
        input_hz=spec.input_hz,
        inputs=b"".join(inputs),
        input_size=len(inputs[0]),
    )


async def _obey(swarm: Swarm) -> None:
    while line := await asyncio.to_thread(sys.stdin.readline):
        match json.loads(line):
            case {"do": "grow", "players": int(players)}:
                await swarm.grow(players)
                tell("grown")
            case {"do": "sit", "seats": list(seats)}:
                await swarm.sit(seats)
                tell("grown")
            case {"do": "measure", "seconds": seconds}:
                tell("result", result=await swarm.measure(seconds))


async def main(spec: Spec) -> None:
    """Play until there are no more commands."""
    load = _made(spec)
    playing = threading.Thread(target=load.run, name="play")
    playing.start()
    swarm = Swarm(spec, load)
    try:
        await _obey(swarm)
    finally:
        load.stop()
        await asyncio.to_thread(playing.join)
        await swarm.close()


if __name__ == "__main__":
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main(Spec(**json.loads(sys.argv[1]))))
