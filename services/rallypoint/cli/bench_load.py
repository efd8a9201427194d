"""The load of `bench rooms`, a process of its own: hundreds of players on one core.

Reads a Spec (JSON, first argument); prints one JSON line per event: `playing` when everybody is in
a room and warm, `measured` when the time is over, then `result`. Inputs go out in slices of 5 ms,
so that the load is even; every client decodes the seats table of every frame, one in fifty decodes
everything.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import random
import resource
import sys
import time
from array import array
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from rallypoint.client import channel, matchmaking, room, seat, session
from rallypoint.games import codec, schema
from rallypoint.kit import errors

SLICE_S = 0.005
OPENING = 24
FULL_DECODE_EACH = 50
MATCH_WITHIN_S = 120.0


@dataclass(frozen=True, slots=True)
class Spec:
    """What to play."""

    url: str
    rooms: int
    players: int
    seconds: float
    input_hz: int
    warm_up_s: float
    transport: str = "grpc-web"


class Client:
    """One player: counts frames, and times its inputs from sending to acknowledgement."""

    def __init__(self, number: int, recorder: Recorder) -> None:
        self.number = number
        self._recorder = recorder
        self._rng = random.Random(number)
        self._sent: dict[int, float] = {}
        self._acked = 0
        self._packed: list[bytes] = []
        self.connection: room.RoomConnection | None = None

    @property
    def full(self) -> bool:
        """Whether this one decodes everything."""
        return self.number % FULL_DECODE_EACH == 0

    def on_step(self, connection: room.RoomConnection, stepped: seat.Stepped) -> None:
        """A frame came."""
        recorder = self._recorder
        if recorder.on:
            recorder.frames += 1
        if stepped.ack == self._acked:
            return
        now = time.monotonic()
        for seq in range(self._acked + 1, stepped.ack + 1):
            sent_s = self._sent.pop(seq, None)
            if recorder.on and sent_s is not None:
                recorder.echoes.append(now - sent_s)
        self._acked = stepped.ack

    def send(self) -> None:
        """Send the next input: somewhere else about every second, firing now and then."""
        connection = self.connection
        if connection is None or connection.ended is not None:
            return
        if not self._packed:
            self._packed = walk(connection, self._rng)
        seq = connection.send_packed(self._packed.pop())
        self._sent[seq] = time.monotonic()
        if self._recorder.on:
            self._recorder.inputs += 1


@dataclass(slots=True)
class Recorder:
    """What was counted while `on`."""

    on: bool = False
    frames: int = 0
    inputs: int = 0
    echoes: array[float] = field(default_factory=lambda: array("d"))


def walk(connection: room.RoomConnection, rng: random.Random) -> list[bytes]:
    """Ten packed inputs of skirmish: on in one direction, aiming somewhere, firing now and then."""
    known = connection.seat.schema
    assert known is not None
    steady = {
        "dx": rng.randint(-100, 100),
        "dy": rng.randint(-100, 100),
        "aim": rng.randrange(1 << 16),
    }
    return [
        codec.pack_input(known.input, {**steady, "fire": rng.random() < 0.2}) for _ in range(10)
    ]


async def main(spec: Spec) -> None:
    """Bring everybody into a room, play, tell."""
    recorder = Recorder()
    wrong: Counter[str] = Counter()
    clients = [Client(number, recorder) for number in range(spec.rooms * spec.players)]
    arrived: asyncio.Queue[Client] = asyncio.Queue()
    over = asyncio.Event()
    opening = asyncio.Semaphore(OPENING)
    async with asyncio.TaskGroup() as tasks:
        players = [
            tasks.create_task(
                _player(client, spec, opening=opening, arrived=arrived, over=over, wrong=wrong),
                name=f"player-{client.number}",
            )
            for client in clients
        ]
        await _wait_all_in(arrived, len(clients), wrong)
        sending = tasks.create_task(_send(clients, spec.input_hz), name="send")
        await asyncio.sleep(spec.warm_up_s)
        report = await _record(spec, recorder, clients=clients, wrong=wrong)
        sending.cancel()
        over.set()
        await asyncio.wait(players)
    _tell("result", result=report)


async def _player(
    client: Client,
    spec: Spec,
    *,
    opening: asyncio.Semaphore,
    arrived: asyncio.Queue[Client],
    over: asyncio.Event,
    wrong: Counter[str],
) -> None:
    """One player: session, ticket, seat; stays until the measuring is over."""
    try:
        async with contextlib.AsyncExitStack() as open_things:
            async with opening:
                name = f"load-{client.number}"
                player = await open_things.enter_async_context(
                    session.connect(
                        channel.address(spec.url, spec.transport), name=name, game="skirmish"
                    )
                )
            assignment = await matchmaking.Matchmaking(player).find("skirmish")
            connection = await open_things.enter_async_context(
                room.RoomConnection(
                    player,
                    assignment.room_id,
                    assignment.seat_token,
                    on_step=client.on_step,
                    only=None if client.full else {schema.SEATS_TABLE},
                )
            )
            await connection.wait_joined(within_s=30.0)
            if isinstance(player.channel, channel.WebChannel):
                await player.channel.prepare()
            client.connection = connection
            arrived.put_nowait(client)
            await over.wait()
    except errors.RallypointError as error:
        wrong[f"{error}"] += 1
        arrived.put_nowait(client)  # nobody waits for it; the report has the error


async def _wait_all_in(arrived: asyncio.Queue[Client], count: int, wrong: Counter[str]) -> None:
    """Wait until everybody has a keyframe or an error; SystemExit when that is too slow."""
    try:
        async with asyncio.timeout(MATCH_WITHIN_S):
            for _ in range(count):
                await arrived.get()
    except TimeoutError:
        text = f"not everybody was matched in {MATCH_WITHIN_S:g} s, errors {dict(wrong)}"
        raise SystemExit(text) from None


async def _send(clients: list[Client], input_hz: int) -> None:
    """Send everybody's inputs, a slice of the players every 5 ms, at absolute times."""
    slices = max(1, round(1 / (input_hz * SLICE_S)))
    groups = [clients[number::slices] for number in range(slices)]
    period_s = 1 / (input_hz * slices)
    due_s = time.monotonic()
    while True:
        for group in groups:
            for client in group:
                client.send()
            due_s += period_s
            await asyncio.sleep(max(0.0, due_s - time.monotonic()))


async def _record(
    spec: Spec, recorder: Recorder, *, clients: list[Client], wrong: Counter[str]
) -> dict[str, object]:
    gc.collect()
    gc.freeze()
    before = _counts(clients)
    cpu_before_s = _cpu_s()
    _tell("playing")
    recorder.on = True
    began_s = time.monotonic()
    await asyncio.sleep(spec.seconds)
    seconds = time.monotonic() - began_s
    recorder.on = False
    _tell("measured")
    cpu_s = _cpu_s() - cpu_before_s
    after = _counts(clients)
    wrong.update({reason: n for reason, n in after.items() if reason != "BYTES"})
    return _report(recorder, clients, seconds=seconds, cpu_s=cpu_s) | {
        "bytes_per_frame": round((after["BYTES"] - before["BYTES"]) / max(1, recorder.frames), 1),
        "errors": sum(wrong.values()),
        "errors_by_reason": {reason: n for reason, n in wrong.items() if n},
    }


def _counts(clients: list[Client]) -> Counter[str]:
    found: Counter[str] = Counter()
    for connection in (client.connection for client in clients):
        if connection is not None:
            found.update(f"REJOIN {why}" for why in connection.breaks)
            found["INPUT_FAILED"] += connection.input_errors
            found["ENDED_EARLY"] += connection.ended is not None
            found["BYTES"] += connection.seat.frame_bytes
    return found


def _report(
    recorder: Recorder, clients: list[Client], *, seconds: float, cpu_s: float
) -> dict[str, object]:
    echoes = sorted(recorder.echoes)
    welcome = clients[0].connection.welcome if clients[0].connection else None
    send_hz = welcome.send_hz if welcome is not None else 20
    return {
        "players": len(clients),
        "seconds": round(seconds, 3),
        "echo_ms": {f"p{p}": _percentile_ms(echoes, p) for p in (50, 95, 99)},
        "frames_per_s": round(recorder.frames / seconds, 1),
        "delivered": round(recorder.frames / (len(clients) * send_hz * seconds), 4),
        "inputs_per_s": round(recorder.inputs / seconds, 1),
        "inputs_echoed": round(len(echoes) / max(1, recorder.inputs), 4),
        "load_cpu_fraction": round(cpu_s / seconds, 3),
    }


def _percentile_ms(ordered: Sequence[float], percent: int) -> float | None:
    if not ordered:
        return None
    return round(ordered[min(len(ordered) - 1, len(ordered) * percent // 100)] * 1e3, 1)


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _tell(event: str, **fields: object) -> None:
    print(json.dumps({"event": event, **fields}), flush=True)


if __name__ == "__main__":
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main(Spec(**json.loads(sys.argv[1]))))
