"""The rooms and nodes this gateway knows: looked up when first asked for, forgotten when idle.

`find` reads `rooms/own.<room>` and opens the link to its node; what it finds stays as long as the
room has streams here or calls keep coming. Nothing is cached beyond that, and nothing about rooms
that do not exist: guessing is limited by the guard.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass

from rallypoint.gateway.rooms_board import Board
from rallypoint.gateway.rooms_node import Node
from rallypoint.gateway.rooms_stream import Room, release
from rallypoint.kit import errors

NODE_IDLE_S = 60.0


@dataclass(frozen=True, slots=True)
class Place:
    """Where a room runs, as its ownership record says."""

    address: str
    epoch: int

    def differs(self, address: str, epoch: int) -> bool:
        """Whether this is news for someone who holds these; an older record never is."""
        return self.epoch > epoch or (self.epoch == epoch and self.address != address)


Locate = Callable[[str], Awaitable[Place | None]]
"""Reads the ownership record of a room; None when there is none; Unavailable without NATS."""
OpenNode = Callable[[str], Node]
"""Makes the node of an address and runs its link."""


class Registry:
    """Rooms by id, nodes by address."""

    def __init__(self, board: Board, locate: Locate, open_node: OpenNode) -> None:
        self._board = board
        self._locate = locate
        self._open_node = open_node
        self._rooms: dict[str, Room] = {}
        self._nodes: dict[str, Node] = {}

    @property
    def rooms(self) -> Iterable[Room]:
        """All rooms known."""
        return self._rooms.values()

    @property
    def nodes(self) -> Iterable[Node]:
        """All nodes known."""
        return self._nodes.values()

    async def place(self, room_id: str) -> Place | None:
        """The room's present place, read anew."""
        return await self._locate(room_id)

    async def find(self, room_id: str, *, fresh: bool = False) -> Room:
        """The room with its node; NotFound `ROOM_UNKNOWN`. `fresh` reads the record in any case."""
        room = self._rooms.get(room_id)
        if room is not None and room.node is not None and not fresh:
            room.used = True
            return room
        place = await self._locate(room_id)
        if place is None:
            raise errors.NotFound("ROOM_UNKNOWN", "there is no such room, or it has ended")
        room = self._rooms.get(room_id)
        if room is None:
            room = self._rooms[room_id] = Room(room_id, place.epoch)
        room.used = True
        if room.node is None or place.differs(room.node.address, room.placed_epoch):
            self.move(room, place)
        return room

    def move(self, room: Room, place: Place) -> None:
        """Carry the room over the link to its (next) node."""
        if room.node is not None:
            room.node.give_up(room)
        room.placed_epoch = place.epoch
        node = self._node(place.address)
        node.take(room)
        if node.link.attached:
            release(room, self._board.clock())
        # Else the node's next greeting releases it: what is held must come after the joins.

    def warm(self, address: str) -> None:
        """Open the link to a node that a room is about to move to."""
        self._node(address)

    def forget(self, room: Room) -> None:
        """Know a room no more; tokens for it lead to a look-up."""
        if room.node is not None:
            room.node.give_up(room)
        self._board.found(room)
        if self._rooms.get(room.room_id) is room:
            del self._rooms[room.room_id]

    def sweep(self, now: float) -> None:
        """Forget rooms nobody used since the last sweep and nodes without rooms."""
        for room in list(self._rooms.values()):
            if not room.streams and not room.used:
                self.forget(room)
            room.used = False
        for node in list(self._nodes.values()):
            if node.rooms:
                node.idle_since = None
            elif node.idle_since is None:
                node.idle_since = now
            elif now - node.idle_since > NODE_IDLE_S:
                node.link.close()
                del self._nodes[node.address]

    def _node(self, address: str) -> Node:
        node = self._nodes.get(address)
        if node is None:
            node = self._nodes[address] = self._open_node(address)
        node.idle_since = None
        return node
