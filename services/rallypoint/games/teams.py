"""The rows of TEAM tables that a team sees: a lane per team of a room, encoded once.

The encoder reads copies of the columns in which the rows of other teams are zero, so what a team
must not see is never near its bytes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from rallypoint.games import sections
from rallypoint.games.arena import Arena, Run
from rallypoint.games.columns import Table
from rallypoint.games.schema import Array, TableSpec
from rallypoint.games.views import View, Watch

MAX_TEAMS: Final = 16
"""Teams of a room that can see rows of their own."""
NOBODY: Final = -1


@dataclass(frozen=True, slots=True)
class _Copy:
    """A run of columns, and its copy with a room for each lane."""

    source: Array
    target: Array
    nothing: float

    def fill(self, rooms: int, seen: Array) -> None:
        """Copy what each lane sees; zero on the wire for the rest."""
        target = self.target[:, :rooms]
        target.fill(self.nothing)
        np.copyto(target, self.source[:, :rooms, None], where=seen)


class TeamRows:
    """Each team's rows of the TEAM tables of `rooms` rooms."""

    def __init__(
        self, tables: Sequence[tuple[TableSpec, type[Table]]], arena: Arena, seats: int
    ) -> None:
        self.lanes = min(seats, MAX_TEAMS)
        self._teams = np.full((arena.rooms, seats), NOBODY, np.int64)
        self._lane_team = np.full((arena.rooms, self.lanes), NOBODY, np.int64)
        self._deltas: list[bytes] = []
        self._copies: list[tuple[Array | None, list[_Copy]]] = []
        encoded = []
        for spec, table in tables:
            runs = [run for run in arena.runs[table] if run.kind is not None]
            copies = [self._copy(run) for run in runs]
            arrays = arena.bind(table, slice(None)).arrays
            self._copies.append((arrays[table.team] if table.team else None, copies))
            shape = (arena.rooms * self.lanes, spec.rows)
            copied = [
                Run(run.columns, copy.target.reshape(-1, *shape))
                for run, copy in zip(runs, copies, strict=True)
            ]
            encoded.append((spec, copied))
        self._encoder = sections.make(encoded, arena.rooms * self.lanes)

    def _copy(self, run: Run) -> _Copy:
        columns, rooms, rows = run.values.shape
        target = np.zeros((columns, rooms, self.lanes, rows), run.values.dtype)
        quantized = run.kind is not None and run.kind.quantized
        return _Copy(run.values, target, np.nan if quantized else 0)  # NaN is 0 on the wire

    def seat(self, slot: int, seat: int, team: int) -> None:
        """Somebody of a team has the seat from now on."""
        self._teams[slot, seat] = team
        lanes = self._lane_team[slot]
        if team not in lanes:
            unused = np.flatnonzero(~np.isin(lanes, self._teams[slot]) | (lanes == NOBODY))
            lanes[unused[:1]] = team

    def publish(self, rooms: int) -> None:
        """Encode every team's delta."""
        lanes = self._lane_team[:rooms, :, None]
        for column, copies in self._copies:
            teams = self._teams if column is None else column
            seen = (teams[:rooms, None, :] == lanes) & (lanes != NOBODY)
            for copy in copies:
                copy.fill(rooms, seen)
        self._deltas = self._encoder.deltas(rooms * self.lanes)

    def add(self, watches: Sequence[Watch], views: Sequence[View]) -> None:
        """One part for each team that has something to read, and one for its fresh seats."""
        for watch, view in zip(watches, views, strict=True):
            places: dict[tuple[int, bool], int | None] = {}
            lanes, teams = self._lane_team[watch.slot].tolist(), self._teams[watch.slot].tolist()
            for seat in watch.seats:
                if teams[seat] not in lanes:
                    continue
                lane, fresh = lanes.index(teams[seat]), seat in watch.fresh
                if (lane, fresh) not in places:
                    lane_at = watch.slot * self.lanes + lane
                    places[lane, fresh] = self._part(lane_at, view, fresh=fresh)
                place = places[lane, fresh]
                if place is not None:
                    view.of[seat].append(place)

    def _part(self, lane: int, view: View, *, fresh: bool) -> int | None:
        data = self._encoder.keyframes([lane])[0] if fresh else self._deltas[lane]
        if not data:
            return None
        view.parts.append(data)
        return len(view.parts) - 1

    def forget(self, slot: int) -> None:
        """The room has no teams yet, and they have seen nothing."""
        self._teams[slot] = self._lane_team[slot] = NOBODY
        self._encoder.forget(slice(slot * self.lanes, (slot + 1) * self.lanes))
