"""A room on this node: its seats, the streams that watch it, and the way its frames take."""

import asyncio
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from rallypoint.games.engine import Ended
from rallypoint.games.room import Room, Said
from rallypoint.games.views import View, Watch
from rallypoint.internal.v1 import room_host_pb2 as host
from rallypoint.room_state.domain import responses
from rallypoint.room_state.domain.replies import ReplyLog
from rallypoint.room_state.domain.seats import SeatBook
from rallypoint.room_state.gateway_link import GatewayLink
from rallypoint.room_state.recording import Recording, Tape
from rallypoint.room_state.still import Still
from rallypoint.v1 import room_pb2

if TYPE_CHECKING:
    from rallypoint.room_state.packed import Packed

INBOX_LIMIT = 256
"""Joins and messages waiting for one room; above it new ones are refused with ROOM_BUSY."""
SUPERSEDED: Final = "SUPERSEDED"
"""Why a room ends here that goes on elsewhere: nothing here counts any more."""


@dataclass(slots=True, eq=False)
class Stream:
    """One client's stream: a number on a gateway's Attach, in a seat, of a generation."""

    link: GatewayLink
    client: int
    slot: int
    generation: int
    offer: Callable[[int, Sequence[bytes]], None] = lambda first_seq, inputs: None
    """Takes the seat's inputs, the first of which has the given seq."""
    fresh: bool = True
    """Whether its next frame must be a keyframe."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RoomIdentity:
    """What never changes about a room."""

    room_id: str
    epoch: int
    game: str
    queue: str
    set: str
    own_revision: int
    code: str = ""
    """What players enter it by; empty for a room that is not open."""
    visibility: room_pb2.RoomVisibility.ValueType = room_pb2.ROOM_VISIBILITY_UNSPECIFIED
    created_s: int = 0
    """When it was made, unix time."""
    options: bytes = b""
    recording: Recording | None = None
    """How it is recorded, if it is."""
    trace: Mapping[str, str] = field(default_factory=dict)

    @property
    def shown(self) -> bool:
        """Whether gateways must know of it: players enter it by a code, or spectators may watch."""
        return self.open or (self.recording is not None and self.recording.spectators > 0)

    @property
    def open(self) -> bool:
        """Whether players enter it by a code."""
        return bool(self.code)


class RoomBytes(NamedTuple):
    """One room's part of a publish: encoded fields of a Frame, shared and seen apart.

    A tuple, as one is made for each room and tick and a frozen dataclass costs four times as much.
    """

    delta: bytes
    key: bytes
    view: View | None = None


class Door(Protocol):
    """Where inputs of plain requests come in without a look at streams; see `attach`."""

    def open(self, slot: int, generation: int, /) -> None:
        """Let the stream of this generation send for a seat."""

    def shut(self, slot: int, /) -> None:
        """Let nobody send for it."""


class Observer(Protocol):
    """Who is told what players did."""

    def joined(self, identity: RoomIdentity, player_id: str) -> None:
        """A player took a seat for the first time."""

    def left(self, identity: RoomIdentity, player_id: str, reason: str) -> None:
        """A player is gone for good."""


class Changes:
    """Counts what happens to rooms that decides who gets which frame."""

    __slots__ = ("count",)

    def __init__(self) -> None:
        self.count = 0


class HostedRoom:
    """Belongs to one table's task, which `post` reaches. `slot` is its place in the engine, `state`
    the room as its game sees it."""

    def __init__(
        self,
        identity: RoomIdentity,
        *,
        slot: int,
        state: Room,
        book: SeatBook,
        post: Callable[[Callable[[], None]], None],
        observer: Observer,
    ) -> None:
        self.identity = identity
        self.slot = slot
        self.state = state
        self.book = book
        self.post = post
        self.observer = observer
        self.door: Door | None = None
        self.tape: Tape | None = None
        """Records the room, if it is recorded."""
        self.replies: dict[int, ReplyLog] = {}
        self.streams: dict[int, Stream] = {}
        self.attempts: dict[int, tuple[int, int]] = {}
        """By slot, the client that took the seat last and the number of its join."""
        self.ended: Ended | None = None
        self.over = asyncio.Event()
        """Set when its end is stored."""
        self.still: Still | None = None
        """Set while the room has no place in a table: it moves to another node or comes here."""
        self.finishing: bool | None = None
        """Whether its match shall end here although the node drains; None: nobody has asked."""
        self.waiting = 0
        self.storing = asyncio.Lock()
        """Held by who writes the room's snapshot."""
        self.copies = 0
        self.stored: Packed | None = None
        self.stored_at = 0.0
        self.savable = True
        self.wished = False
        """Whether it has said that it wants players of its queue."""
        self.phase = zlib.crc32(identity.room_id.encode())
        """Spreads the snapshots of rooms over the second."""
        self.changes = Changes()
        self._by_link: dict[GatewayLink, list[Stream]] = {}
        self._routes: dict[GatewayLink, bytes] = {}
        self.head = responses.head(identity.room_id, identity.epoch)

    @property
    def fresh(self) -> bool:
        """Whether any stream needs a keyframe."""
        return len(self._routes) < len(self._by_link) and any(
            stream.fresh for stream in self.streams.values()
        )

    def current(self, slot: int, generation: int) -> bool:
        """Whether this is the newest stream of a seat, and it is there or about to come back."""
        stream = self.streams.get(slot)
        if stream is None:
            return self.book.awaits(slot, generation)
        return stream.generation == generation

    def enter_by(self, door: Door | None) -> None:
        """Let inputs in this way: of streams that are here or about to come back."""
        self.door = door
        if door is not None:
            for slot, generation in self.book.streams():
                door.open(slot, generation)

    def watch(self) -> Watch:
        """Who watches, and who of them needs a keyframe."""
        fresh = frozenset(slot for slot, stream in self.streams.items() if stream.fresh)
        return Watch(self.slot, tuple(self.streams), fresh)

    def seat(self, stream: Stream) -> Stream | None:
        """Let a stream watch; the one it replaces."""
        replaced = self.unseat(stream.slot)
        self.streams[stream.slot] = stream
        if self.door is not None:
            self.door.open(stream.slot, stream.generation)
        stream.link.streams[stream.client] = stream
        stream.link.rooms[stream.client] = self
        self._by_link.setdefault(stream.link, []).append(stream)
        self._routes.pop(stream.link, None)
        self.changes.count += 1
        return replaced

    def unseat(self, slot: int) -> Stream | None:
        """Stop sending to a seat's stream, and taking inputs for the seat."""
        if self.door is not None:
            self.door.shut(slot)
        stream = self.streams.pop(slot, None)
        if stream is None:
            return None
        stream.link.forget(stream.client)
        self._routes.pop(stream.link, None)
        self.changes.count += 1
        streams = self._by_link[stream.link]
        streams.remove(stream)
        if not streams:
            del self._by_link[stream.link]
        return stream

    def refresh(self, stream: Stream) -> None:
        """Send a keyframe next."""
        stream.fresh = True
        self._routes.pop(stream.link, None)
        self.changes.count += 1

    def refresh_all(self, link: GatewayLink) -> None:
        """Send keyframes to all streams of a gateway that took no frame."""
        for stream in self._by_link.get(link, ()):
            self.refresh(stream)

    def tell(self, control: room_pb2.Control) -> None:
        """Say a word to all clients."""
        if self.tape is not None:
            self.tape.say(control)
        self._tell(control, self.streams.values())

    def say(self, said: Said) -> None:
        """Send a game's message to those it is for who are there."""
        event = room_pb2.Event(type=said.kind, body=said.body)
        control = room_pb2.Control(kind=room_pb2.CONTROL_KIND_MESSAGE, message=event)
        if self.tape is not None and said.to is None:
            self.tape.say(control)
        wanted = self.streams if said.to is None else {said.to} & self.streams.keys()
        self._tell(control, (self.streams[slot] for slot in wanted if slot != said.but))

    def _tell(self, control: room_pb2.Control, streams: Iterable[Stream]) -> None:
        by_link: dict[GatewayLink, list[int]] = {}
        for stream in streams:
            by_link.setdefault(stream.link, []).append(stream.client)
        for link, clients in by_link.items():
            told = host.RoomControl(room_id=self.identity.room_id, clients=clients, control=control)
            link.say(host.AttachResponse(controls=[told]))

    def clients(self) -> Iterator[tuple[GatewayLink, list[int]]]:
        """Each gateway with the numbers of its clients here."""
        for link, streams in self._by_link.items():
            yield link, [stream.client for stream in streams]

    def routes(self) -> Iterable[tuple[GatewayLink, bytes]]:
        """Each gateway with the route to its clients here; complete when all are in step."""
        return self._routes.items()

    def frames(self, tick: bytes, data: RoomBytes) -> Iterator[tuple[GatewayLink, responses.Frame]]:
        """The room's frame for each gateway. All streams are in step afterwards."""
        for link, streams in self._by_link.items():
            route = self._routes.get(link)
            if route is not None:
                yield link, (self.head, tick, data.delta, route)
            elif data.view is not None:
                yield link, self._apart(tick, streams, data, data.view)
            else:
                yield link, self._mixed(tick, link, data)

    def _mixed(self, tick: bytes, link: GatewayLink, data: RoomBytes) -> bytes:
        """Some in step, some fresh."""
        streams = self._by_link[link]
        fields = [self.head, tick]
        routes: list[bytes] = []
        for fresh, frame in ((False, data.delta), (True, data.key)):
            clients = [stream.client for stream in streams if stream.fresh is fresh]
            if clients:
                fields.append(responses.part(frame))
                routes.append(responses.route(clients, [len(routes)]))
        for stream in streams:
            stream.fresh = False
        self._routes[link] = responses.route([stream.client for stream in streams], [0])
        return responses.frame(*fields, *routes)

    def _apart(self, tick: bytes, streams: Sequence[Stream], data: RoomBytes, view: View) -> bytes:
        """Each seat has a route of its own; parts 0 and 1 are the shared delta and keyframe."""
        fields = [self.head, tick, responses.part(data.delta), responses.part(data.key)]
        # The only gateway gets all parts as they are; one of several just those that it needs.
        places: Mapping[int, int] | None = None
        wanted: Iterable[int] = range(len(view.parts))
        if len(self._by_link) > 1:
            wanted = sorted({at for stream in streams for at in view.of[stream.slot]})
            places = {at: place for place, at in enumerate(wanted)}
        fields += [responses.part(view.parts[at]) for at in wanted]
        routes: list[bytes] = []
        for stream in streams:
            own = view.of[stream.slot]
            if places is not None:
                own = [places[at] for at in own]
            routes.append(responses.route_apart(stream.client, own, fresh=stream.fresh))
            stream.fresh = False
        return responses.frame(*fields, *routes)
