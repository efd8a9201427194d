"""Many players in one asyncio process, told what to do by a Locust worker (locust_swarm).

    python -m loadtest.swarm '{"url": "http://127.0.0.1:8080", "queue": "skirmish", …}'

Commands come as JSON lines on standard input, reports go out as JSON lines on standard output:

    {"do": "start", "player": 7}      ▸ the player begins to live
    {"do": "stop", "player": 7}       ▸ it leaves its queue or seat and is gone
    {"do": "reconnect", "share": 0.5} ▸ that share of all drops its stream and comes back
    {"do": "rest"}                    ▸ everybody stops; then {"event": "rested"}
    {"event": "report", …}            twice a second: see tally, and how busy the swarm itself is

The end of standard input ends everything. Inputs go out in slices of 5 ms, so the load is even.
"""

from __future__ import annotations

import asyncio
import gc
import json
import random
import resource
import sys
import time
from dataclasses import dataclass
from typing import Any

from loadtest import addresses
from loadtest.players import Habits, Player
from loadtest.tally import Tally

SLICE_S = 0.005
SKIP_S = 0.25
"""What is later than this is not sent but told: the swarm is too slow for its players."""
PACE = "input pace"
REPORT_S = 0.5
WHEEL_S = 0.25
"""How often is looked who plays."""
REST_WITHIN_S = 8.0
DEFAULT_HZ = 20
GARBAGE = 50_000


@dataclass(frozen=True, slots=True)
class Spec:
    """Whom to play against; see locustfile's options."""

    url: str
    queue: str
    game: str
    native: str = ""
    native_share: float = 0.0
    leave_share: float = 0.0
    input_hz: int = 0
    """0: as often as the room asks for."""


class Swarm:
    """The players by number."""

    def __init__(self, spec: Spec) -> None:
        self._spec = spec
        self._tally = Tally()
        self._living: dict[int, tuple[Player, asyncio.Task[None]]] = {}
        self._leaving: set[asyncio.Task[None]] = set()
        self._cpu_s, self._seen_s = cpu_s(), time.monotonic()
        self._hz = DEFAULT_HZ
        self._web = habits(spec, spec.url)
        self._native = habits(spec, spec.native or spec.url)

    def start(self, number: int) -> None:
        """Let a player live; numbers are the caller's."""
        if number in self._living:
            return
        player = Player(number, self._habits_of(number), self._tally)
        task = asyncio.ensure_future(player.live())
        self._living[number] = player, task

    def stop(self, number: int) -> None:
        """Let a player go; it is gone when `rest` returns, or before."""
        found = self._living.pop(number, None)
        if found is not None:
            task = found[1]
            task.cancel()
            self._leaving.add(task)
            task.add_done_callback(self._leaving.discard)

    def reconnect(self, share: float) -> None:
        """Have some of the players come back over new streams."""
        for player, _ in self._living.values():
            if random.random() < share:
                player.reconnect()

    async def rest(self) -> None:
        """Stop everybody and wait until they have left, but not for ever."""
        for number in list(self._living):
            self.stop(number)
        if self._leaving:
            await asyncio.wait(self._leaving, timeout=REST_WITHIN_S)

    async def send(self) -> None:
        """Send everybody's inputs, a slice of the players every 5 ms, at absolute times."""
        due_s, number = time.monotonic(), 0
        wheel, period_s, seen_s = self._wheel(), 1.0, 0.0
        while True:
            now_s = time.monotonic()
            if now_s - seen_s >= WHEEL_S:
                wheel, seen_s = self._wheel(), now_s
                period_s = 1 / (self._hz * len(wheel))
            late_s = now_s - due_s
            if late_s > SKIP_S:  # go on from now, else we should never catch up
                missed = int(late_s / period_s)
                self._missed(missed * sum(map(len, wheel)) // len(wheel))
                number, due_s = number + missed, due_s + missed * period_s
            while due_s <= (now_s := time.monotonic()):
                group = wheel[number % len(wheel)]
                for player in group:
                    player.send()
                self._pace(now_s - due_s, len(group))
                number, due_s = number + 1, due_s + period_s
            await asyncio.sleep(due_s - now_s)

    def _wheel(self) -> list[list[Player]]:
        """Who sends in which slice."""
        playing = [player for player, _ in self._living.values() if player.input_hz]
        self._hz = self._spec.input_hz or (playing[0].input_hz if playing else DEFAULT_HZ)
        slices = max(1, round(1 / (self._hz * SLICE_S)))
        wheel: list[list[Player]] = [[] for _ in range(slices)]
        for player in playing:
            wheel[player.number % slices].append(player)
        return wheel

    def _missed(self, inputs: int) -> None:
        if inputs:
            self._tally.failed("swarm", PACE, "NOT_SENT", times=inputs)

    def _pace(self, late_s: float, inputs: int) -> None:
        if inputs:
            self._tally.took("swarm", PACE, late_s, times=inputs)

    def report(self) -> dict[str, Any]:
        """What happened since the last one."""
        for player, _ in self._living.values():
            player.look()
        used_s, now_s = cpu_s(), time.monotonic()
        busy = (used_s - self._cpu_s) / max(1e-3, now_s - self._seen_s)
        self._cpu_s, self._seen_s = used_s, now_s
        return {
            **self._tally.drain(),
            "players": len(self._living),
            "busy": round(busy, 3),
        }

    def raise_broken(self) -> None:
        """Raise what ended a player: players end only when told, so it is a mistake of ours."""
        for _, task in self._living.values():
            if task.done():
                task.result()

    def _habits_of(self, number: int) -> Habits:
        share = self._spec.native_share if self._spec.native else 0.0
        return self._native if (number * 0.618034) % 1.0 < share else self._web


def habits(spec: Spec, url: str) -> Habits:
    """The habits of players at one address; its scheme is how they speak."""
    return Habits(
        url=url,
        queue=spec.queue,
        game=spec.game,
        transport=addresses.transport(url),
        leave_share=spec.leave_share,
    )


def cpu_s() -> float:
    """CPU seconds of this process."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def tell(event: str, **fields: object) -> None:
    """One line for whoever started us."""
    print(json.dumps({"event": event, **fields}), flush=True)


async def obey(swarm: Swarm) -> None:
    """Follow commands until there are no more."""
    lines = asyncio.StreamReader(limit=1 << 16)
    protocol = asyncio.StreamReaderProtocol(lines)
    await asyncio.get_running_loop().connect_read_pipe(lambda: protocol, sys.stdin)
    while line := await lines.readline():
        match json.loads(line):
            case {"do": "start", "player": int(number)}:
                swarm.start(number)
            case {"do": "stop", "player": int(number)}:
                swarm.stop(number)
            case {"do": "reconnect", "share": share}:
                swarm.reconnect(float(share))
            case {"do": "rest"}:
                await swarm.rest()
                tell("report", **swarm.report())
                tell("rested")
    await swarm.rest()


async def report_always(swarm: Swarm) -> None:
    """Tell what happened, twice a second."""
    while True:
        await asyncio.sleep(REPORT_S)
        swarm.raise_broken()
        tell("report", **swarm.report())


async def main(spec: Spec) -> None:
    """Play until the end of standard input."""
    swarm = Swarm(spec)
    async with asyncio.TaskGroup() as tasks:
        always = [
            tasks.create_task(swarm.send(), name="send"),
            tasks.create_task(report_always(swarm), name="report"),
        ]
        await obey(swarm)
        for task in always:
            task.cancel()


if __name__ == "__main__":
    import uvloop

    gc.freeze()
    gc.set_threshold(GARBAGE, 20, 20)  # a look at everything stops all players
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main(Spec(**json.loads(sys.argv[1]))))
