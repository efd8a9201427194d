"""`rallypoint bench step`: one tick of all rooms in a loop, no sockets: simulate, then encode.

Every player holds a direction for ten inputs and presses each flag in one input of twenty
(`--press`); inputs come at `--input-hz`. Rooms are in tables of `--per-table`, which is 64 in a
room node; the default is all in one. Times are CPU time of the process, medians over the ticks.

    step_us     inputs to columns, the game's tick, events and endings into the rooms
    encode_us   the frames of all rooms
"""

from __future__ import annotations

import argparse
import gc
import itertools
import json
import random
import statistics
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rallypoint.cli import machine
from rallypoint.games import codec, drift, sections
from rallypoint.games.definition import Definition
from rallypoint.games.engine import RoomSpec, RoomTable
from rallypoint.games.room import Seat
from rallypoint.games.schema import ColumnSpec, Kind
from rallypoint.room_state import catalog

HELD = 10
INPUTS = 50
WARM_UP = 60


@dataclass(frozen=True, slots=True)
class Workload:
    """What to play."""

    game: str
    rooms: int
    players: int
    per_table: int
    input_hz: int
    press: float
    ticks: int
    seed: int


class Player:
    """One player's inputs, made before the measuring and then played again and again."""

    def __init__(self, columns: Sequence[ColumnSpec], *, press: float, seed: int) -> None:
        rng = random.Random(seed)
        made: list[bytes] = []
        for _ in range(INPUTS // HELD):
            held = {column.name: _any(column, rng) for column in columns}
            for _ in range(HELD):
                pressed = {c.name: rng.random() < press for c in columns if _flag(c)}
                made.append(codec.pack_input(columns, {**held, **pressed}))
        self._inputs = itertools.cycle(made)
        self.seq = 0

    def input(self) -> bytes:
        """The next one."""
        self.seq += 1
        return next(self._inputs)


def _any(column: ColumnSpec, rng: random.Random) -> float:
    if column.kind.quantized:
        return rng.uniform(column.minimum, column.maximum)
    if column.kind is Kind.F32:
        return rng.uniform(-200.0, 200.0)
    if column.kind in (Kind.I8, Kind.I16, Kind.I32):
        return rng.randint(-100, 100)
    return rng.randrange(1 << (8 * column.kind.width))


def _flag(column: ColumnSpec) -> bool:
    return column.kind is Kind.U8


@dataclass(slots=True)
class Shard:
    """One table with its players; a seat of a room is (slot, seat)."""

    table: RoomTable
    players: dict[tuple[int, int], Player]


def run(arguments: list[str]) -> int:
    """Measure and print; 0, or 1 when rooms ended on the way."""
    parsed = _parser().parse_args(arguments)
    workload = Workload(
        game=parsed.game,
        rooms=parsed.rooms,
        players=parsed.players,
        per_table=parsed.per_table or parsed.rooms,
        input_hz=parsed.input_hz,
        press=parsed.press,
        ticks=parsed.ticks,
        seed=parsed.seed,
    )
    report = measure(workload)
    print(json.dumps(report) if parsed.json else _text(report))
    return 1 if report["ended"] else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="rallypoint bench step",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--game", default="skirmish", help="an installed one, or drift (%(default)s)"
    )
    parser.add_argument("--rooms", type=int, default=200, help="(%(default)s)")
    parser.add_argument("--players", type=int, default=8, help="per room (%(default)s)")
    parser.add_argument("--per-table", type=int, default=0, help="rooms (all)")
    parser.add_argument("--input-hz", type=int, default=10, help="per player (%(default)s)")
    parser.add_argument("--press", type=float, default=0.05, help="share of inputs (%(default)s)")
    parser.add_argument("--ticks", type=int, default=600, help="measured (%(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="(%(default)s)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    return parser


def measure(workload: Workload) -> dict[str, Any]:
    """Play, and time every tick."""
    definition = catalog.load(extra=[drift.EXTRA])[workload.game]
    shards = _shards(definition, workload)
    each = max(1, round(definition.info.tick_hz / workload.input_hz))
    steps: list[int] = []
    encodes: list[int] = []
    sizes: list[int] = []
    gc.collect()
    gc.freeze()
    for tick in range(WARM_UP + workload.ticks):
        for shard in shards if definition.input else ():
            _send(shard, tick, each)
        began = time.process_time_ns()
        for shard in shards:
            shard.table.step()
        stepped = time.process_time_ns()
        frames = [shard.table.deltas() for shard in shards]
        encoded = time.process_time_ns()
        steps.append(stepped - began)
        encodes.append(encoded - stepped)
        sizes.append(sum(len(frame) for table in frames for frame in table))
    steps, encodes, sizes = steps[WARM_UP:], encodes[WARM_UP:], sizes[WARM_UP:]
    both = [step + encode for step, encode in zip(steps, encodes, strict=True)]
    return {
        "workload": asdict(workload),
        "step_us": _figures(steps),
        "encode_us": _figures(encodes),
        "tick_us": _figures(both),
        "bytes_per_frame": round(statistics.mean(sizes) / workload.rooms, 1),
        "ended": sum(len(shard.table.take_ended()) for shard in shards),
        "compiled": sections.COMPILED,
        "machine": machine.description(),
    }


def _shards(definition: Definition, workload: Workload) -> list[Shard]:
    shards = []
    for first in range(0, workload.rooms, workload.per_table):
        count = min(workload.per_table, workload.rooms - first)
        table = RoomTable(definition, capacity=count)
        shard = Shard(table, {})
        for number in range(first, first + count):
            _open(shard, number, workload)
        shards.append(shard)
    return shards


def _open(shard: Shard, number: int, workload: Workload) -> None:
    table = shard.table
    seats = [Seat(seat, f"p{seat}", f"P{seat}", seat) for seat in range(workload.players)]
    options = {"time_limit_s": 3600}
    slot = table.open(RoomSpec(id=f"r{number}", seats=seats, options=options, seed=number))
    for seat in seats:
        table.join(slot, seat.slot)
        seed = hash((workload.seed, number, seat.slot))
        columns = table.definition.schema.input
        shard.players[slot, seat.slot] = Player(columns, press=workload.press, seed=seed)


def _send(shard: Shard, tick: int, each: int) -> None:
    """The inputs of those whose turn it is."""
    for number, ((slot, seat), player) in enumerate(shard.players.items()):
        if (number + tick) % each == 0:
            data = player.input()
            shard.table.offer(slot, seat, player.seq, [data])


def _figures(times_ns: Sequence[int]) -> dict[str, float]:
    cuts = statistics.quantiles(times_ns, n=100)
    return {
        "median": round(cuts[49] / 1e3, 1),
        "p90": round(cuts[89] / 1e3, 1),
        "p99": round(cuts[98] / 1e3, 1),
    }


def _text(report: dict[str, Any]) -> str:
    work = report["workload"]
    lines = [
        f"{work['game']}: {work['rooms']} rooms of {work['players']}, {work['per_table']} in a "
        f"table, {work['ticks']} ticks, {'C' if report['compiled'] else 'numpy'}"
    ]
    for part in ("step", "encode", "tick"):
        times = report[f"{part}_us"]
        lines.append(f"{part:8}{times['median']} µs (p90 {times['p90']}, p99 {times['p99']})")
    lines.append(f"frames  {report['bytes_per_frame']} bytes each")
    return "\n".join(lines)
