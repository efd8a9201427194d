"""The parts of frames with what seats see of CELL tables, within what a client may be sent.

A client has tokens in bytes: each frame adds some, everything it is sent takes some, and cells
wait while there are none. The shared part and what a seat or team sees alone always go.
"""

import math
from collections.abc import Sequence
from typing import Final

import numpy as np

from rallypoint.games import grid
from rallypoint.games.arena import Arena
from rallypoint.games.cell_encoder import CellEncoder
from rallypoint.games.definition import Definition
from rallypoint.games.interest import NOTHING, Interest, Sent
from rallypoint.games.schema import Array, Visibility
from rallypoint.games.views import View, Watch

CELL: Final = Visibility.CELL
BURST_FRAMES: Final = 4
"""How many frames' tokens can be saved."""
LEAST_SHARE: Final = 0.25
"""Of a frame's tokens, what is left to cells however much else there is."""
KINDS: Final = 16
"""More than there are ages of sections, `NOTHING` included."""
GONE: Final = KINDS - 1


def make(definition: Definition, arena: Arena) -> "CellViews | None":
    """What seats see of the game's CELL tables; None without any."""
    by_name = {layout.table.wire_name: layout.table for layout in definition.layouts}
    found = [(s, by_name[s.name]) for s in definition.schema.tables if s.visibility is CELL]
    if not found:
        return None
    encoders = [CellEncoder(spec, table, arena, grid.of(table)) for spec, table in found]
    where = next(table for _, table in found if table.rows is None)
    kbps = definition.info.max_kbps or math.inf
    return CellViews(
        encoders,
        grid.places(where, arena.bind(where, slice(None))),
        rooms=arena.rooms,
        seats=definition.seats,
        frame_bytes=kbps * 1000 / 8 / definition.send_hz,
    )


class CellViews:
    """All CELL tables of `rooms` rooms; `places` are the columns of where each seat is."""

    def __init__(
        self,
        encoders: Sequence[CellEncoder],
        places: tuple[Array, Array],
        *,
        rooms: int,
        seats: int,
        frame_bytes: float,
    ) -> None:
        self._encoders = encoders
        self._interests = [Interest(encoder, rooms, seats) for encoder in encoders]
        self._x, self._y = (column.reshape(-1) for column in places)
        self._seats = seats
        self._frame_bytes = frame_bytes
        self._tokens = np.zeros(rooms * seats)

    def publish(self, rooms: int) -> None:
        """Take the state of the first rooms as that of the next frame."""
        for encoder in self._encoders:
            encoder.publish(rooms)

    def forget(self, slot: int) -> None:
        """A room begins that nobody has seen."""
        for encoder in self._encoders:
            encoder.forget(slot)

    def add(self, watches: Sequence[Watch], views: Sequence[View]) -> None:
        """The cells with news, each encoded once, and those out of sight."""
        seats, fresh = self._watching(watches)
        self._earn(seats, watches, views)
        x, y = self._x[seats], self._y[seats]
        for encoder, interest in zip(self._encoders, self._interests, strict=True):
            out_of_sight = interest.look(seats, fresh, x, y)
            self._send(encoder, [out_of_sight, interest.choose(self._tokens)], watches, views)

    def _watching(self, watches: Sequence[Watch]) -> tuple[Array, Array]:
        """The seats' numbers, ascending, and which are fresh."""
        seats = [watch.slot * self._seats + seat for watch in watches for seat in watch.seats]
        fresh = [seat in watch.fresh for watch in watches for seat in watch.seats]
        order = np.argsort(np.array(seats, np.int64), kind="stable")
        return np.array(seats, np.int64)[order], np.array(fresh, np.bool_)[order]

    def _earn(self, seats: Array, watches: Sequence[Watch], views: Sequence[View]) -> None:
        """Add a frame's tokens, and take what the frame has already."""
        spent = np.zeros(len(self._tokens))
        for watch, view in zip(watches, views, strict=True):
            sizes = [len(part) for part in view.parts]
            own = [sum([sizes[at] for at in view.of[seat]]) for seat in watch.seats]
            here = watch.slot * self._seats + np.array(watch.seats, np.intp)
            spent[here] = np.array(own, np.int64) + view.shared
        saved = np.minimum(self._tokens[seats], self._frame_bytes * (BURST_FRAMES - 1))
        left = np.maximum(self._frame_bytes - spent[seats], self._frame_bytes * LEAST_SHARE)
        self._tokens[seats] = saved + left

    def _send(
        self,
        encoder: CellEncoder,
        sent: Sequence[Sent],
        watches: Sequence[Watch],
        views: Sequence[View],
    ) -> None:
        seats = np.concatenate([item.seats for item in sent])
        kinds = np.concatenate([np.where(s.ages == NOTHING, GONE, s.ages) for s in sent])
        codes = np.concatenate([item.keys for item in sent]) * KINDS + kinds
        wanted, which = np.unique(codes, return_inverse=True)
        sections = _encoded(encoder, wanted)
        sizes = np.array([len(section) for section in sections], np.int64)
        self._tokens -= np.bincount(seats, sizes[which], minlength=len(self._tokens))
        order = np.argsort(seats, kind="stable")
        seats, which = seats[order], which[order]
        for watch, view in zip(watches, views, strict=True):
            span = encoder.grid.cells * KINDS
            bounds = np.array([watch.slot, watch.slot + 1])
            low, high = np.searchsorted(wanted, bounds * span).tolist()
            mine = np.searchsorted(seats, bounds * self._seats)
            places = (which[slice(*mine)] + (len(view.parts) - low)).tolist()
            view.parts.extend(sections[low:high])
            owners, starts = np.unique(seats[slice(*mine)], return_index=True)
            ends = [*starts.tolist(), len(places)][1:]
            owners -= watch.slot * self._seats
            for seat, start, end in zip(owners.tolist(), starts.tolist(), ends, strict=True):
                view.of[seat].extend(places[start:end])


def _encoded(encoder: CellEncoder, wanted: Array) -> list[bytes]:
    """The sections of codes, which are a cell's key and a kind each; ascending."""
    keys, kinds = np.divmod(wanted, KINDS)
    out = [b""] * len(wanted)
    for kind in np.unique(kinds).tolist():
        at = np.flatnonzero(kinds == kind)
        some = keys[at]
        made = encoder.gone(some.tolist()) if kind == GONE else encoder.encode(some, kind)
        for place, section in zip(at.tolist(), made, strict=True):
            out[place] = section
    return out
