"""`rallypoint replay`: the matches that were recorded, listed, played and saved, from a terminal.

    rallypoint replay --list
    rallypoint replay <room> [--json] [--speed 4] [--from-tick 200] [--out FILE]
    rallypoint replay FILE

Finds the stack of `rallypoint up` by its data directory, as an operator; another cluster by `--url`
and the secret in RALLYPOINT_ADMIN_TOKEN.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rallypoint.cli import rooms

if TYPE_CHECKING:
    from rallypoint.client.replay import Moment, Playback
    from rallypoint.v1.replay_pb2 import ReplayChunk


def run(arguments: list[str]) -> int:
    """Do what is asked; the result is the exit code."""
    parsed = parser().parse_args(arguments)
    if not parsed.list and not parsed.what:
        parser().error("name a room or a file, or say --list")
    saved = Path(parsed.what)
    return asyncio.run(_run(parsed, saved if parsed.what and saved.is_file() else None))


def parser() -> argparse.ArgumentParser:
    """The options."""
    found = argparse.ArgumentParser(
        prog="rallypoint replay", description="List, play and save matches that were recorded."
    )
    found.add_argument("what", nargs="?", default="", help="a room, or a file saved with --out")
    rooms.add_gateway(found)
    found.add_argument("--list", action="store_true", help="the recordings, the newest first")
    found.add_argument("--game", default="", help="with --list: only of this game")
    found.add_argument("--json", action="store_true", help="for machines: one object per frame")
    found.add_argument("--out", type=Path, help="save it to a file instead of playing it")
    found.add_argument("--from-tick", type=int, default=0, help="begin at about this tick")
    found.add_argument("--speed", type=float, default=0.0, help="1: as it was played; 0: at once")
    return found


async def _run(parsed: argparse.Namespace, saved: Path | None) -> int:
    from rallypoint.client import replay

    if saved is not None:
        chunks = list(replay.read_file(saved))
        await _show(_again(chunks, parsed.from_tick, parsed.speed), parsed)
        return 0
    from rallypoint.client import channel as channels

    url, secret = rooms.gateway(parsed)
    channel = channels.open_channel(url)
    try:
        if parsed.list:
            await _list(channel, secret, parsed)
        else:
            played = replay.watch(
                channel, secret, parsed.what, from_tick=parsed.from_tick, speed=parsed.speed
            )
            await (_save(played, parsed.out) if parsed.out else _show(played, parsed))
    finally:
        await channel.close()
    return 0


async def _again(
    chunks: list[ReplayChunk], from_tick: int, speed: float
) -> AsyncIterator[ReplayChunk]:
    """The chunks of a file, as a gateway would send them."""
    places = (at for at, chunk in enumerate(chunks) if chunk.last_tick >= from_tick)
    before_s = 0.0
    for chunk in chunks[next(places, 0) :]:
        at_s = chunk.begin_time.ToNanoseconds() / 1e9
        if speed and before_s:
            await asyncio.sleep(min(10.0, max(0.0, at_s - before_s)) / speed)
        before_s = at_s
        yield chunk


async def _save(chunks: AsyncIterator[ReplayChunk], path: Path) -> None:
    from rallypoint.client import replay

    kept = [chunk async for chunk in chunks]
    size = await asyncio.to_thread(replay.write_file, path, kept)
    print(f"{path}: {len(kept)} chunks, {size} bytes")


async def _show(chunks: AsyncIterator[ReplayChunk], parsed: argparse.Namespace) -> None:
    from rallypoint.client import replay

    playback = replay.Playback()
    told = _Json(playback) if parsed.json else _Text(playback)
    async for chunk in chunks:
        for moment in playback.take(chunk):
            told.tell(moment)


class _Json:
    """One line of JSON per moment: marks, words, and frames with all tables."""

    def __init__(self, playback: Playback) -> None:
        self._playback = playback

    def tell(self, moment: Moment) -> None:
        """Print it."""
        from google.protobuf import json_format

        from rallypoint.client import replay

        line: dict[str, Any] = {"at_s": round(moment.at_s, 3), "epoch": self._playback.epoch}
        match moment:
            case replay.Mark(kind, _, lost_s):
                line |= {"mark": kind.value, "lost_s": round(lost_s, 3)}
            case replay.Word(control):
                line["control"] = json_format.MessageToDict(control)
            case replay.Step(tick, _, events):
                line |= {
                    "tick": tick,
                    "events": [json_format.MessageToDict(event) for event in events],
                    "tables": {
                        name: {
                            column: values.tolist()
                            for column, values in self._playback.values(name).items()
                        }
                        for name in self._playback.tables
                    },
                }
        print(json.dumps(line))


class _Text:
    """A line per second of play and per mark, for people."""

    def __init__(self, playback: Playback) -> None:
        self._playback = playback
        self._second = -1
        self._events = 0

    def tell(self, moment: Moment) -> None:
        """Print it, unless this second was told."""
        from rallypoint.client import replay
        from rallypoint.v1 import room_pb2

        if self._second < 0:
            self._begin()
        clock = f"{int(moment.at_s) // 60}:{int(moment.at_s) % 60:02}"
        match moment:
            case replay.Mark(kind, _, lost_s):
                print(f"{clock}  -- {kind.value}" + (f", {lost_s:.1f} s missing" if lost_s else ""))
            case replay.Word(control):
                name = room_pb2.ControlKind.Name(control.kind).removeprefix("CONTROL_KIND_")
                print(f"{clock}  {name.lower()} {control.reason}".rstrip())
            case replay.Step(tick, at_s, events):
                self._events += len(events)
                if int(at_s) > self._second:
                    self._second = int(at_s)
                    print(f"{clock}  tick {tick}, {self._there()} there, {self._events} events")
                    self._events = 0

    def _begin(self) -> None:
        head = self._playback.head
        self._second = 0
        if head is not None:
            names = ", ".join(seat.display_name or seat.player_id for seat in head.seats)
            print(f"{head.game} {head.queue}".rstrip() + f": {names}")

    def _there(self) -> int:
        states = self._playback.tables.get("seats", {}).get("state")
        return 0 if states is None else int((states == 2).sum())


async def _list(channel: Any, secret: str, parsed: argparse.Namespace) -> None:
    found = await rooms.call(channel, secret, "ListReplays", game=parsed.game)
    if parsed.json:
        return print(rooms.as_json(found))
    rows = [
        (
            item.room_id,
            item.game,
            item.queue or "-",
            time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(item.create_time.seconds)),
            f"{item.length_s:.0f} s",
            str(item.players),
            "yes" if item.ended else "no",
        )
        for item in found.replays
    ]
    head = ("room", "game", "queue", "made", "length", "players", "ended")
    print("\n".join(rooms.aligned([head, *rows])))
