"""What clients of one room see apart from each other: parts of frames, and who gets which.

Every client of a room gets the shared part of a frame. A source adds more: the rows of a seat, of a
team, of the cells that a seat can see. A part is encoded once, however many get it.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

from rallypoint.games.sections import SectionEncoder


class Watch(NamedTuple):
    """The seats of a room whose clients get a frame; the fresh ones hold nothing yet."""

    slot: int
    seats: Sequence[int]
    fresh: frozenset[int]


class View(NamedTuple):
    """Encoded fields of a Frame, and for each seat the places of those it gets.

    `shared` is the size of what everybody gets.
    """

    parts: list[bytes]
    of: Mapping[int, list[int]]
    shared: int = 0


class Source(Protocol):
    """Adds parts to the views of rooms."""

    def publish(self, rooms: int) -> None:
        """Take the state of the first rooms as that of the next frames."""

    def add(self, watches: Sequence[Watch], views: Sequence[View]) -> None:
        """Add what the watching seats get of it, to the view of each watch."""

    def forget(self, slot: int) -> None:
        """A room begins that nobody has seen."""


class OwnerRows:
    """Each seat's own row of the OWNER tables: a lane per seat."""

    def __init__(self, encoder: SectionEncoder, seats: int) -> None:
        self._encoder = encoder
        self._seats = seats
        self._deltas: list[bytes] = []

    def publish(self, rooms: int) -> None:
        """Encode every seat's delta."""
        self._deltas = self._encoder.deltas(rooms * self._seats)

    def add(self, watches: Sequence[Watch], views: Sequence[View]) -> None:
        """One part for each seat that has something to read."""
        for watch, view in zip(watches, views, strict=True):
            first = watch.slot * self._seats
            fresh = sorted(watch.fresh)
            keyframes = self._encoder.keyframes([first + seat for seat in fresh]) if fresh else []
            keys = dict(zip(fresh, keyframes, strict=True))
            for seat in watch.seats:
                data = keys[seat] if seat in keys else self._deltas[first + seat]
                if data:
                    view.of[seat].append(len(view.parts))
                    view.parts.append(data)

    def forget(self, slot: int) -> None:
        """The room's seats have seen nothing."""
        self._encoder.forget(slice(slot * self._seats, (slot + 1) * self._seats))
