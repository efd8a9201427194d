"""Run rooms without sockets or clock: what a game's tests use.

room = RoomHarness(MyGame, players=2, options={"time_limit_s": 5})
room.join(0)
room.send(0, dx=100)               # one input
room.run(seconds=1.0)
assert room.seen("players")["x"][0] > 0    # what clients see, through the real wire format
room.seen("hand", seat=1)["card"]          # an OWNER table: what the client of seat 1 sees
assert room.reply(0, PLACE, b"\\x04") == b""
room.reload()                      # as after a crash: saved, and restored in another process
room.outcome, room.closed, room.error, room.events
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from rallypoint.games import codec
from rallypoint.games.columns import Table
from rallypoint.games.definition import define
from rallypoint.games.engine import Ended, RoomSpec, RoomTable
from rallypoint.games.game import Game
from rallypoint.games.room import Outcome, Room, Said, Seat
from rallypoint.games.schema import Array
from rallypoint.games.views import Watch

T = TypeVar("T", bound=Table)
SECTIONS = 4
EVENTS = 5


@dataclass(frozen=True, slots=True)
class SeenEvent:
    """An event as a client gets it."""

    id: int
    kind: int
    body: bytes


class RoomHarness:
    """One room of a game, stepped by hand. Every player has joined unless `join=False`; each is a
    team of their own unless `teams` says of each seat which it is."""

    def __init__(
        self,
        game: type[Game],
        *,
        players: int = 2,
        teams: Sequence[int] = (),
        options: Mapping[str, Any] | None = None,
        seed: int = 1,
        join: bool = True,
    ) -> None:
        self.definition = define(game)
        self._engine = RoomTable(self.definition, capacity=1)
        teams = teams or range(players)
        seats = [
            Seat(slot, f"player-{slot}", f"Player {slot}", teams[slot]) for slot in range(players)
        ]
        self._spec = RoomSpec(id="harness", seats=seats, options=options or {}, seed=seed)
        self._slot = self._engine.open(self._spec)
        self._decoders = [codec.Decoder(self.definition.schema) for _ in range(max(1, players))]
        self._seqs = [0] * players
        self._ago: dict[int, float] = {}
        self._ended: Ended | None = None
        self.events: list[SeenEvent] = []
        self.kicks: list[tuple[int, str]] = []
        self.said: list[Said] = []
        for seat in range(players if join else 0):
            self.join(seat)

    @property
    def room(self) -> Room:
        """The room as the game sees it."""
        return self._engine.room(self._slot)

    @property
    def outcome(self) -> Outcome | None:
        """The result, once the game has finished the match."""
        return self._ended.outcome if self._ended else None

    @property
    def closed(self) -> str:
        """The reason the room ended without a result; empty while it runs."""
        return self._ended.reason if self._ended else ""

    @property
    def error(self) -> Exception | None:
        """What a hook raised."""
        return self._ended.error if self._ended else None

    def join(self, seat: int) -> None:
        """The player takes the seat, or comes back."""
        self._engine.join(self._slot, seat)
        self._collect()

    def add_player(self, player_id: str = "") -> int:
        """Hold the next seat for a player who comes later; `join` it then. Raises Refused."""
        slot = len(self._seqs)
        seat = Seat(slot, player_id or f"player-{slot}", f"Player {slot}", slot)
        self._engine.add_seat(self._slot, self._engine.admits(self._slot, seat))
        self._seqs.append(0)
        self._spec = replace(self._spec, seats=[*self._spec.seats, seat])
        self._decoders.append(codec.Decoder(self.definition.schema))
        self._deliver(b"", fresh=[slot])
        return slot

    def drop(self, seat: int) -> None:
        """The player's stream breaks."""
        self._engine.drop(self._slot, seat)
        self._collect()

    def leave(self, seat: int, reason: str = "LEFT") -> None:
        """The player is gone for good."""
        self._engine.leave(self._slot, seat, reason)
        self._collect()

    def send(self, seat: int, **values: float) -> None:
        """One input, columns that are not named being 0."""
        self._seqs[seat] += 1
        data = codec.pack_input(self.definition.schema.input, values)
        self._engine.offer(self._slot, seat, self._seqs[seat], [data])
        if (ago := self._ago.get(seat)) is not None:
            now = self._engine.tick_of(self._slot)
            view_ms = max(1, round((now + 1 - ago) * 1000 / self.definition.info.tick_hz))
            heard = self._engine.rings.heard
            heard.hear(
                self._slot * self.definition.seats + seat,
                ack_tick=now,
                view_ms=view_ms,
                margin_ms=0,
            )

    def look_back(self, seat: int, ticks: float) -> None:
        """From now on the seat's client draws what was so many ticks ago when it sends an input."""
        self._ago[seat] = ticks

    def reply(self, seat: int, kind: int, body: bytes = b"") -> bytes:
        """The game's answer to a message; raises what it raises."""
        try:
            return self._engine.answer(self._slot, seat, kind, body)
        finally:
            self._collect()

    def step(self, ticks: int = 1) -> None:
        """Some steps of the simulation, until the room ends."""
        for _ in range(ticks):
            if self._ended is None:
                self._engine.step()
                self._deliver(self._engine.deltas()[self._slot])
                self._collect()

    def reload(self) -> None:
        """Go on from a snapshot in an engine of its own, as on another node."""
        saved = self._engine.snapshot(self._slot)
        self._engine = RoomTable(self.definition, capacity=1)
        self._slot = self._engine.restore(self._spec, saved, event_gap=0)
        self._engine.deltas()
        self._deliver(b"", fresh=range(len(self._decoders)))

    def run(self, seconds: float) -> None:
        """As many steps as take `seconds` of play."""
        self.step(round(seconds * self.definition.info.tick_hz))

    def table(self, table: type[T]) -> T:
        """The server's columns, arrays of shape (rows,)."""
        return self.room.table(table)

    def seen(self, table: str, *, seat: int = 0) -> dict[str, Array]:
        """A table's columns as the client of `seat` has decoded them from its frames.

        A table of visibility OWNER has one row there, the seat's own; of TEAM and CELL tables the
        rows that the seat cannot see are zero.
        """
        return self._decoders[seat].values(table)

    def _deliver(self, delta: bytes, *, fresh: Sequence[int] = ()) -> None:
        """Give each client its frame; the fresh ones get keyframes."""
        writer = self._engine.writer
        key = writer.keyframes([self._slot])[0] if fresh else b""
        watch = Watch(self._slot, range(len(self._decoders)), frozenset(fresh))
        view = writer.views([watch])[0]
        for seat, decoder in enumerate(self._decoders):
            if seat in fresh:
                decoder.clear()
            parts = [key if seat in fresh else delta, *(view.parts[at] for at in view.of[seat])]
            self._see(decoder, b"".join(parts))

    def _see(self, decoder: codec.Decoder, frame: bytes) -> None:
        for number, data in fields(frame):
            if number == SECTIONS:
                _apply(decoder, data)
            elif number == EVENTS:
                event = dict(fields(data))
                if not self.events or event[1] > self.events[-1].id:  # keyframes repeat some
                    self.events.append(SeenEvent(event[1], event[2], event.get(3, b"")))

    def _collect(self) -> None:
        for ended in self._engine.take_ended():
            self._ended = ended
        self.said += [said for _, said in self._engine.take_said()]
        self.kicks += [(seat, reason) for _, seat, reason in self._engine.take_kicks()]


def _apply(decoder: codec.Decoder, data: bytes) -> None:
    section = dict(fields(data))
    decoder.apply(int(section[1]), bytes(section[3]))


def fields(data: bytes) -> Iterator[tuple[int, Any]]:
    """The fields of an encoded protobuf message: varints as int, the rest as bytes."""
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        value, at = _varint(data, at)
        if tag & 7 == 2:
            yield tag >> 3, data[at : at + value]
            at += value
        else:
            yield tag >> 3, value


def _varint(data: Sequence[int], at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        octet = data[at]
        value |= (octet & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if octet < 0x80:
            return value, at
