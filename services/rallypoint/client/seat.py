"""What a client knows of its seat: tokens, tables, inputs not yet acknowledged. No I/O, no clock.

Bytes of the stream go in, what happened comes out (docs/wire.md §2-5):

    receive(bytes) ▸ Welcomed | Stepped | Told | Ended | None (a keep-alive)
    Resync raised  ▸ something was lost: join again, a keyframe will follow

The same object lives through all streams of a seat: epochs, event ids and inputs survive a break.
"""

from __future__ import annotations

import collections
import secrets
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass

from google.protobuf.message import DecodeError

from rallypoint.games import codec, schema
from rallypoint.v1 import room_pb2

MAX_UNACKED = 8
KEPT_TOKENS = 2
SLOW_CONSUMER = "SLOW_CONSUMER"
"""Why a seat's stream, but not the seat, is taken from a client that reads too slowly."""
FULL_RATE = "FULL_RATE"
Glance = Callable[[bytes, int, int], tuple[int, int, int, int] | None]
"""From a message, the rows of `seats` and ours to epoch, tick, base tick and acknowledgement (-1:
unchanged), for plain frames; None for what must be decoded."""


class Resync(Exception):
    """The stream cannot be followed any more: join again."""


@dataclass(frozen=True, slots=True)
class Welcomed:
    """A stream began."""

    welcome: room_pb2.Welcome


@dataclass(frozen=True, slots=True)
class Stepped:
    """The tables are now those of `tick`; `events` are new ones only."""

    tick: int
    keyframe: bool
    ack: int
    events: tuple[room_pb2.Event, ...]


@dataclass(frozen=True, slots=True)
class Told:
    """A word about the stream that does not end it."""

    control: room_pb2.Control


@dataclass(frozen=True, slots=True)
class Ended:
    """The room closed (`result` may be empty) or the seat was taken away."""

    reason: str
    result: room_pb2.MatchResult
    kicked: bool = False


Happening = Welcomed | Stepped | Told | Ended


class Seat:
    """One seat in one room. `only` names the tables to decode; all when None.

    With a `glance` frames are followed but tables are not kept, nor `margin_ms`: for crowds.
    """

    def __init__(
        self, room_id: str, seat_token: bytes, *,
        only: Collection[str] | None = None, glance: Glance | None = None,
    ) -> None:  # fmt: skip
        self.room_id = room_id
        self.slot = 0
        self.stream_token = b""
        self.epoch = 0
        self.tick = 0
        self.tick_hz = 1
        self.ack = 0
        self.margin_ms: int | None = None
        """How long before they had to leave for their tick the newest inputs came; renewed about
        once a second, for a `SendClock`."""
        self.frames = 0
        self.frame_bytes = 0
        self.slow = False
        """Whether the server sends every other frame only, because this client lags."""
        self.schema: schema.Schema | None = None
        self._tokens = [seat_token]
        self._client_id = secrets.randbits(31) + 1
        self._attempt = 0
        self._only = only
        self._glance = glance
        self._decoder: codec.Decoder | None = None
        self._skipped: frozenset[int] = frozenset()
        self._needs_keyframe = True
        self._last_event = 0
        self._next_seq = 1
        self._unacked: collections.deque[tuple[int, bytes]] = collections.deque(maxlen=MAX_UNACKED)

    @property
    def tables(self) -> Mapping[str, Mapping[str, schema.Array]]:
        """The wire numbers of all tables, by table and column."""
        return {} if self._decoder is None else self._decoder.tables

    @property
    def tokens(self) -> tuple[bytes, ...]:
        """The seat tokens to offer, the newest first."""
        return tuple(self._tokens)

    def values(self, table: str) -> dict[str, schema.Array]:
        """A table's columns with their meaning, one value per row."""
        if self._decoder is None:
            raise Resync("no schema yet")
        return self._decoder.values(table)

    def join_request(self) -> bytes:
        """The JoinRequest that opens the next stream; one that arrives late takes no seat back."""
        self._attempt += 1
        return room_pb2.JoinRequest(
            room_id=self.room_id,
            seat_tokens=self._tokens,
            client_id=self._client_id,
            attempt=self._attempt,
        ).SerializeToString()

    # -- down

    def receive(self, message: bytes) -> Happening | None:
        """Take one message of the stream."""
        if self._glance is not None and (decoder := self._decoder) is not None:
            low = decoder.tables[schema.SEATS_TABLE]["ack"]
            seen = self._glance(message, len(low), self._row(low))
            if seen is not None:
                self.frames += 1
                self.frame_bytes += len(message)
                return self._skim(low, *seen)
        try:
            response = room_pb2.JoinResponse.FromString(message)
        except DecodeError as error:
            raise Resync("a message cannot be decoded") from error
        match response.WhichOneof("kind"):
            case "frame":
                self.frames += 1
                self.frame_bytes += len(message)
                return self._step(response.frame)
            case "welcome":
                return self._welcome(response.welcome)
            case "control":
                return self._control(response.control)
        return None

    def _welcome(self, welcome: room_pb2.Welcome) -> Welcomed:
        self.slow = False
        self.tick_hz = max(1, welcome.tick_hz)
        self.slot = welcome.slot
        self.stream_token = welcome.stream_token
        if welcome.seat_token and welcome.seat_token not in self._tokens:
            self._tokens = [welcome.seat_token, *self._tokens][:KEPT_TOKENS]
        self.epoch = max(self.epoch, welcome.epoch)
        self._next_seq = max(self._next_seq, welcome.input_seq + 1)
        self.ack = max(self.ack, welcome.input_seq)
        self._forget_acked()
        self.schema = schema_of(welcome.schema)
        self._decoder = codec.Decoder(self.schema)
        self._skipped = frozenset(
            table.id
            for table in self.schema.tables
            if self._only is not None and table.name not in self._only
        )
        self._needs_keyframe = True
        return Welcomed(welcome)

    def _step(self, frame: room_pb2.Frame) -> Stepped | None:
        decoder = self._decoder
        if decoder is None:
            raise Resync("a frame came before the welcome")
        if not self._follows(frame.epoch, frame.base_tick):
            return None
        self._apply(decoder, frame)
        self._needs_keyframe = False
        self.tick = frame.tick
        seats = decoder.tables[schema.SEATS_TABLE]
        row = self._row(seats["ack"])
        self._acknowledge(int(seats["ack"][row]))
        if "margin" in seats:
            self.margin_ms = int(seats["margin"][row]) - 1 if seats["margin"][row] else None
        return Stepped(frame.tick, frame.base_tick == 0, self.ack, self._new_events(frame.events))

    def _skim(
        self, low: schema.Array, epoch: int, tick: int, base_tick: int, ack: int
    ) -> Stepped | None:
        """What `_step` does, of a frame that was glanced at."""
        if not self._follows(epoch, base_tick):
            return None
        self._needs_keyframe = False
        self.tick = tick
        if ack >= 0 or base_tick == 0:  # kept for a frame that has to be decoded
            ack = low[self._row(low)] = max(ack, 0)
            self._acknowledge(ack)
        return Stepped(tick, base_tick == 0, self.ack, ())

    def _follows(self, epoch: int, base_tick: int) -> bool:
        """Whether a frame is of this epoch or a newer one; Resync unless it can be applied."""
        if epoch < self.epoch:
            return False
        if epoch > self.epoch:
            self.epoch = epoch
            self._needs_keyframe = True
        if base_tick and (self._needs_keyframe or base_tick != self.tick):
            raise Resync(f"a delta to tick {base_tick}, but here is {self.tick}")
        return True

    def _row(self, column: schema.Array) -> int:
        return self.slot if len(column) > 1 else 0

    def _apply(self, decoder: codec.Decoder, frame: room_pb2.Frame) -> None:
        try:
            if frame.base_tick == 0:
                decoder.clear()
            for section in frame.sections:
                if section.table not in self._skipped:
                    decoder.apply(section.table, section.data)
        except codec.WireError as error:
            raise Resync(str(error)) from error

    def _new_events(self, events: Iterable[room_pb2.Event]) -> tuple[room_pb2.Event, ...]:
        found = tuple(event for event in events if event.id > self._last_event)
        if found:
            self._last_event = found[-1].id
        return found

    def _control(self, control: room_pb2.Control) -> Told | Ended:
        match control.kind:
            case room_pb2.CONTROL_KIND_CLOSED:
                return Ended(control.reason, control.result)
            case room_pb2.CONTROL_KIND_KICKED if control.reason == SLOW_CONSUMER:
                raise Resync(SLOW_CONSUMER)  # the seat is kept
            case room_pb2.CONTROL_KIND_KICKED:
                return Ended(control.reason, control.result, kicked=True)
            case room_pb2.CONTROL_KIND_SLOW:
                self.slow = control.reason != FULL_RATE
            case room_pb2.CONTROL_KIND_RECONNECT:
                raise Resync(control.reason or "asked to join again")
        return Told(control)

    # -- up

    def push_input(self, packed: bytes) -> int:
        """Remember an input until it is acknowledged; its seq. The oldest of too many goes."""
        seq = self._next_seq
        self._next_seq += 1
        self._unacked.append((seq, packed))
        return seq

    def input_request(self, *, view_tick: float = 0) -> bytes | None:
        """The SendInputRequest with all unacknowledged inputs; None when there are none.

        `view_tick` is the moment drawn, a tick with its fraction, for games that judge by that.
        """
        if not self._unacked or not self.stream_token:
            return None
        return room_pb2.SendInputRequest(
            stream_token=self.stream_token,
            ack_tick=self.tick,
            first_seq=self._unacked[0][0],
            inputs=[packed for _, packed in self._unacked],
            view_ms=round(view_tick * 1000 / self.tick_hz),
        ).SerializeToString()

    def _acknowledge(self, low: int) -> None:
        """Widen the low 16 bits to the seq that lies nearest after the last known one."""
        ahead = (low - self.ack) & 0xFFFF
        if ahead < 0x8000:
            self.ack += ahead
            self._forget_acked()

    def _forget_acked(self) -> None:
        while self._unacked and self._unacked[0][0] <= self.ack:
            self._unacked.popleft()


def schema_of(message: room_pb2.Schema) -> schema.Schema:
    """The plain schema of a welcome; Resync when it names something unknown."""
    try:
        tables = tuple(
            schema.TableSpec(
                table.id,
                table.name,
                table.rows,
                _columns(table.columns),
                schema.Visibility(table.visibility),
            )
            for table in message.tables
        )
        return schema.Schema(tables, _columns(message.input))
    except ValueError as error:
        raise Resync(f"the schema cannot be read: {error}") from error


def _columns(columns: Iterable[room_pb2.Column]) -> tuple[schema.ColumnSpec, ...]:
    return tuple(
        schema.ColumnSpec(column.name, schema.Kind(column.kind), column.min, column.max)
        for column in columns
    )
