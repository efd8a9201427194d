"""`rallypoint bench huge`: one room of a thousand players who see those around them, no sockets.

Each tick is what a room node does between inputs and a gateway's Attach: the game's step, the
cells and everybody's own section, the routes. Afterwards, and told apart, everybody's frame is put
together as a gateway without C does it. Times are CPU time of the process; a tick at 20 Hz has
50 ms. Players hold a direction for ten inputs; `--crowd` of them start within one view.

    step_ms     inputs to columns, the game's tick
    publish_ms  who sees what, all sections that somebody gets, the encoded AttachResponse
    tick_ms     both
    join_ms     the gateway's share: one frame for each player
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from rallypoint.cli import machine
from rallypoint.cli.bench_step import Player
from rallypoint.games import codec, sections, swarm
from rallypoint.games.definition import Definition, define
from rallypoint.games.engine import RoomSpec, RoomTable
from rallypoint.games.game import GameInfo
from rallypoint.games.harness import fields
from rallypoint.games.room import Seat
from rallypoint.gateway.domain.frames import as_message
from rallypoint.internal.v1 import room_host_pb2 as host
from rallypoint.room_state import catalog
from rallypoint.room_state.domain.seats import SeatBook
from rallypoint.room_state.gateway_link import GatewayLink
from rallypoint.room_state.hosted import HostedRoom, RoomIdentity, Stream
from rallypoint.room_state.publishing import Publisher, RoomsBySlot

WARM_UP = 40
SAMPLED = 8
"""Players whose frames are decoded, to tell how many others they see."""


@dataclass(frozen=True, slots=True)
class Workload:
    """What to play."""

    players: int
    crowd: int
    kbps: float
    input_hz: int
    ticks: int
    seed: int


def run(arguments: list[str]) -> int:
    """Measure and print; 0."""
    parsed = _parser().parse_args(arguments)
    workload = Workload(
        players=parsed.players,
        crowd=parsed.crowd,
        kbps=parsed.kbps,
        input_hz=parsed.input_hz,
        ticks=parsed.ticks,
        seed=parsed.seed,
    )
    report = measure(workload)
    print(json.dumps(report) if parsed.json else _text(report))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="rallypoint bench huge",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--players", type=int, default=1000, help="in the room (%(default)s)")
    parser.add_argument("--crowd", type=int, default=0, help="who start together (%(default)s)")
    parser.add_argument("--kbps", type=float, default=64, help="per player (%(default)s; 0: any)")
    parser.add_argument("--input-hz", type=int, default=10, help="per player (%(default)s)")
    parser.add_argument("--ticks", type=int, default=400, help="measured (%(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="(%(default)s)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    return parser


class Gateway(GatewayLink):
    """Keeps what it was sent last."""

    def __init__(self) -> None:
        super().__init__("bench", limit_bytes=0)
        self.sent = b""

    def frames(self, data: bytes) -> bool:
        """Take everything."""
        self.sent = data
        return True


class Crowd:
    """The room, its players, and the gateway that all of them are at."""

    def __init__(self, definition: Definition, workload: Workload) -> None:
        self.table = RoomTable(definition, capacity=1)
        seats = [Seat(slot, f"p{slot}", f"P{slot}") for slot in range(workload.players)]
        slot = self.table.open(RoomSpec(id="huge", seats=seats, seed=workload.seed))
        self.slot = slot
        self.gateway = Gateway()
        self.players = []
        room = _hosted(self.table, slot, seats)
        rooms = RoomsBySlot()
        rooms[slot] = room
        self.publisher = Publisher(self.table, rooms, refused=lambda: None)
        for seat in seats:
            self.table.join(slot, seat.slot)
            room.seat(Stream(self.gateway, seat.slot + 1, seat.slot, 1))
            seed = hash((workload.seed, seat.slot))
            self.players.append(Player(definition.schema.input, press=0.0, seed=seed))
        swarmers = self.table.room(slot).table(swarm.Swarmers)
        rng = np.random.default_rng(workload.seed)
        swarmers.x[: workload.crowd] = swarm.SIZE / 2 + rng.uniform(0, swarm.VIEW, workload.crowd)
        swarmers.y[: workload.crowd] = swarm.SIZE / 2 + rng.uniform(0, swarm.VIEW, workload.crowd)

    def send(self, tick: int, each: int) -> None:
        """The inputs of those whose turn it is."""
        for seat, player in enumerate(self.players):
            if (seat + tick) % each == 0:
                data = player.input()
                self.table.offer(self.slot, seat, player.seq, [data])


def measure(workload: Workload) -> dict[str, Any]:
    """Play, and time every tick."""
    definition = catalog.load(["skirmish"], [swarm.EXTRA])["swarm"]
    info = replace(definition.info, max_players=workload.players, max_kbps=workload.kbps)
    definition = _with_info(info)
    crowd = Crowd(definition, workload)
    each = max(1, round(info.tick_hz / workload.input_hz))
    times: dict[str, list[int]] = {name: [] for name in ("step", "publish", "join")}
    sizes: list[int] = []
    received = np.zeros(workload.players)
    sampled = {client: codec.Decoder(definition.schema) for client in range(1, SAMPLED + 1)}
    gc.collect()
    gc.freeze()
    for tick in range(WARM_UP + workload.ticks):
        crowd.send(tick, each)
        began = time.process_time_ns()
        crowd.table.step()
        stepped = time.process_time_ns()
        crowd.publisher.publish(time.perf_counter())
        published = time.process_time_ns()
        bodies = _bodies(crowd.gateway.sent)
        joined = time.process_time_ns()
        for client, decoder in sampled.items():
            _decode(decoder, bodies[client])
        if tick >= WARM_UP:
            ends = (began, stepped, published, joined)
            for name, start, end in zip(times, ends, ends[1:], strict=False):
                times[name].append(end - start)
            sizes.append(len(crowd.gateway.sent))
            received += [len(bodies[client]) for client in range(1, workload.players + 1)]
    ticks = [sum(parts) for parts in zip(times["step"], times["publish"], strict=True)]
    kbps = received / workload.ticks * info.tick_hz * 8 / 1000
    return {
        "workload": asdict(workload),
        **{f"{name}_ms": _figures(taken) for name, taken in times.items()},
        "tick_ms": _figures(ticks),
        "attach_bytes_per_tick": round(statistics.mean(sizes)),
        "kbps_per_player": {
            "mean": round(float(kbps.mean()), 1),
            "p99": round(float(np.percentile(kbps, 99)), 1),
        },
        "others_seen": round(float(np.mean([_seen(d) for d in sampled.values()])) - 1, 1),
        "compiled": sections.COMPILED,
        "machine": machine.description(),
    }


def _with_info(info: GameInfo) -> Definition:
    return define(type("Swarm", (swarm.Swarm,), {"info": info}))


def _hosted(table: RoomTable, slot: int, seats: Sequence[Seat]) -> HostedRoom:
    identity = RoomIdentity(room_id="huge", epoch=1, game="swarm", queue="", set="", own_revision=0)
    book = SeatBook(seats, reserve_until=0.0, grace_s=0.0, new_token=lambda: b"")
    return HostedRoom(
        identity,
        slot=slot,
        state=table.room(slot),
        book=book,
        post=lambda command: command(),
        observer=_Nobody(),
    )


class _Nobody:
    def joined(self, identity: RoomIdentity, player_id: str) -> None:
        return

    def left(self, identity: RoomIdentity, player_id: str, reason: str) -> None:
        return


def _bodies(response: bytes) -> dict[int, bytes]:
    """Each client's frame, as the gateway puts it together."""
    bodies = {}
    for frame in host.AttachResponse.FromString(response).frames:
        parts = frame.parts[:]
        for route in frame.routes:
            body = as_message(b"".join(map(parts.__getitem__, route.parts[:])))
            for client in route.clients[:]:
                bodies[client] = body
    return bodies


def _decode(decoder: codec.Decoder, message: bytes) -> None:
    frame = dict(fields(message))[2]
    found = list(fields(frame))
    if not any(number == 3 for number, _ in found):
        decoder.clear()
    for number, data in found:
        if number == 4:
            section = dict(fields(data))
            decoder.apply(section[1], section[3])


def _seen(decoder: codec.Decoder) -> int:
    return int((decoder.tables["swarmers"]["alive"] != 0).sum())


def _figures(times_ns: Sequence[int]) -> dict[str, float]:
    cuts = statistics.quantiles(times_ns, n=100)
    return {
        "p50": round(cuts[49] / 1e6, 2),
        "p99": round(cuts[98] / 1e6, 2),
    }


def _text(report: dict[str, Any]) -> str:
    work = report["workload"]
    lines = [f"one room of {work['players']}, {work['ticks']} ticks, {work['kbps']} kbit/s each"]
    for part in ("step", "publish", "tick", "join"):
        times = report[f"{part}_ms"]
        lines.append(f"{part:8}{times['p50']} ms (p99 {times['p99']})")
    rates = report["kbps_per_player"]
    lines.append(f"a player gets {rates['mean']} kbit/s (p99 {rates['p99']}) and sees")
    lines.append(f"{report['others_seen']} others; {report['attach_bytes_per_tick']} bytes a tick")
    return "\n".join(lines)
