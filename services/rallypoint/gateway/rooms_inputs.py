"""Inputs on their way to a node: whose they are, and the express way of the plain ones.

A stream token met before is one dictionary look-up, its inputs one list append, and the answer is
empty. `rooms.RoomApi` refuses; what is here either passes inputs on or leaves them to it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from rallypoint.gateway import calls
from rallypoint.gateway.domain import frames, inputs
from rallypoint.gateway.domain.rhythm import margin_field
from rallypoint.gateway.rooms_board import Board
from rallypoint.gateway.rooms_node import Node
from rallypoint.gateway.rooms_stream import Room
from rallypoint.gateway.tokens import Session
from rallypoint.internal.v1.room_host_pb2 import SeatRef


@dataclass(slots=True)
class Grip:
    """A stream token, verified: whose it is and where its inputs go."""

    room: Room
    player_id: str
    expires_s: float
    seat: SeatRef
    seat_field: bytes
    """`seat` encoded as field 1 of a ClientInput."""

    def serves(self, session: Session, now_s: float) -> bool:
        """Whether it speaks for this session at unix time `now_s`."""
        return self.player_id == session.player_id and self.expires_s > now_s


class PlainInputs:
    """Passes inputs on. Implements `calls.Express` for SendInput."""

    def __init__(
        self, board: Board, grips: dict[bytes, Grip], *, now_s: Callable[[], float]
    ) -> None:
        self._counts = board.counts
        self._grips = grips
        self._now_s = now_s

    def recognize(self, session: Session, payload: bytes) -> tuple[Grip, bytes] | None:
        """Plain inputs of this session's player for a room whose node is known."""
        parts = inputs.split(payload)
        if parts is None:
            return None
        grip = self._grips.get(parts[0])
        if grip is None or grip.room.node is None or not grip.serves(session, self._now_s()):
            return None
        return grip, parts[1]

    def carry_out(self, asked: tuple[Grip, bytes], now: float) -> None:
        """Pass them on at loop time `now`."""
        self.forward(asked[0], asked[1], now=now)

    def standing(self, session: Session, payload: bytes) -> calls.Standing | None:
        """What takes more inputs with this stream token, while room and times allow."""
        parts = inputs.split(payload)
        grip = self._grips.get(parts[0]) if parts is not None else None
        if parts is None or grip is None or not grip.serves(session, self._now_s()):
            return None
        opening = payload[: len(payload) - len(parts[1])]
        return calls.Standing(opening, grip.seat_field, grip.room, grip.expires_s)

    def deliver(self, node: Node, data: bytes, *, count: int, now: float, wait_s: float) -> float:
        """Hand `count` encoded inputs to their rooms' node at loop time `now`; when they leave."""
        self._counts.inputs += count
        return node.link.inputs(data, count=count, now=now, wait_s=wait_s)

    def forward(self, grip: Grip, fields: bytes, *, now: float) -> None:
        """Hand `fields`, those of a ClientInput but its seat, to the room's node."""
        room = grip.room
        if room.node is not None:
            seat, link = grip.seat_field, room.node.link
            wait_s = room.rhythm.wait_s(now, lead_s=link.tick_lead_s)
            margin = margin_field(wait_s)
            size = frames.varint(len(seat) + len(fields) + len(margin))
            data = b"\x22%b%b%b%b" % (size, seat, fields, margin)
            if room.hold is None:
                link.inputs(data, count=1, now=now, wait_s=wait_s)
            else:
                room.hold.inputs.put(seat, data, now)
        room.used = True
        self._counts.inputs += 1
