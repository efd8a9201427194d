"""The matcher: columns and `now` in, disjoint groups of rows out. Pure; owns no clock and no store.

How: sort by home region and skill once; every window of `size` neighbors whose spread is within the
smallest tolerance inside it is a candidate (mutual: nobody meets anybody farther away than they
accept); disjoint candidates are taken by score, the rest is compacted and looked at again until
nothing fits. Three things follow for what is left:

* **tolerance tiers** — a ticket that accepts little blocks every window it lies in, so the search
  is repeated without the most particular 15 %, 30 % … of what is left;
* **smaller sizes** — windows in which somebody has waited `min_after_s`;
* **other regions** — tickets that allow more than their home region, region by region.

Score = spread / tolerance - waiting * WAIT_WEIGHT; among equal skills the oldest come first.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from rallypoint.matchmaking.domain import teams, windows
from rallypoint.matchmaking.domain.columns import Columns, FloatColumn, IntColumn
from rallypoint.matchmaking.domain.queues import QueueConfig

WAIT_WEIGHT = 0.02
"""Score per second: 50 s of waiting outweigh a window as wide as its tolerance."""
TIERS = (0.15, 0.3, 0.45, 0.6, 0.75, 0.9)
"""Shares of the most particular tickets left out, one pass each."""
ROUNDS = 12
"""Upper bound of choose-and-compact rounds per pass; 3 to 5 settle it in practice."""
REGIONS = 64


@dataclass(frozen=True, slots=True)
class Rules:
    """What the matcher needs of a queue."""

    sizes: tuple[int, ...]
    """Allowed match sizes, largest first."""
    team_count: int
    """Teams of a match; 0 means everybody plays alone."""
    min_after_s: float
    """Waiting after which a size below the largest will do."""
    waits: tuple[float, ...]
    """Tolerance steps: seconds waited …"""
    reaches: tuple[float, ...]
    """… and the distance accepted then, linear between."""


@functools.lru_cache(maxsize=64)
def rules(config: QueueConfig) -> Rules:
    """Compile a queue's configuration."""
    return Rules(
        sizes=config.sizes,
        team_count=0 if config.team_size == 1 else config.team_count,
        min_after_s=config.min_after_s,
        waits=tuple(wait for wait, _ in config.tolerance),
        reaches=tuple(reach for _, reach in config.tolerance),
    )


@dataclass(frozen=True, slots=True)
class Group:
    """Matches of one size, all arrays of shape (matches, size)."""

    rows: IntColumn
    """Rows of the columns given; no row twice over all groups."""
    teams: npt.NDArray[np.uint8]
    """Team of each row, from 0."""
    spread: FloatColumn
    """Largest distance of skill in the match, shape (matches,)."""


@dataclass(slots=True)
class _Sorted:
    """Columns in sorted order, with what the search adds to them."""

    order: IntColumn
    zone: npt.NDArray[np.int64]
    skill: FloatColumn
    tolerance: FloatColumn
    waited: FloatColumn
    credit: FloatColumn
    found: list[IntColumn] = field(default_factory=list)


def find(columns: Columns, search: Rules, now: float) -> list[Group]:
    """All matches of one cycle. Every ticket counts as one player until parties come."""
    waited = np.maximum(now - columns.search_start, 0.0)
    tolerance = np.interp(waited, search.waits, search.reaches)
    groups: list[Group] = []
    left = np.arange(len(columns))
    for zone in _zones(columns):
        if len(left) < search.sizes[-1]:
            break
        taking_part = zone[left] >= 0
        inside, outside = left[taking_part], left[~taking_part]
        table = _sort(columns, inside, zone=zone, tolerance=tolerance, waited=waited)
        remaining = np.arange(len(inside))
        for size in search.sizes:
            due = 0.0 if size == search.sizes[0] else search.min_after_s
            if len(remaining) < size or (due and not (table.waited[remaining] >= due).any()):
                continue
            remaining = _search(table, remaining, size=size, due=due)
            groups.extend(_groups(columns, table, search))
        left = np.concatenate((outside, table.order[remaining]))
    return groups


def _zones(columns: Columns) -> Iterator[npt.NDArray[np.int64]]:
    """Who may meet whom, pass by pass: equal numbers meet, negative ones sit the pass out."""
    partition = columns.partition.astype(np.int64) * REGIONS
    yield partition + columns.region
    home = np.left_shift(np.uint64(1), columns.region.astype(np.uint64))
    flexible = columns.regions & ~home
    if not flexible.any():
        return
    for region in range(REGIONS):
        bit = np.uint64(1 << region)
        if (flexible & bit).any():
            yield np.where(columns.regions & bit, partition + region, -1)


def _sort(
    columns: Columns,
    rows: IntColumn,
    *,
    zone: npt.NDArray[np.int64],
    tolerance: FloatColumn,
    waited: FloatColumn,
) -> _Sorted:
    """By zone, skill, age. The fast sort first; the exact one only if equal skills meet."""
    skill, own_zone = columns.skill[rows], zone[rows]
    width = float(np.ptp(skill)) + 1.0 if len(rows) else 1.0
    by_axis = np.argsort(own_zone * width + skill)
    axis_skill, axis_zone = skill[by_axis], own_zone[by_axis]
    differ = (axis_zone[1:] > axis_zone[:-1]) | (axis_skill[1:] > axis_skill[:-1])
    if not differ.all():
        age = waited[rows] + columns.priority[rows]
        by_axis = np.lexsort((-age, skill, own_zone))
    order = rows[by_axis]
    return _Sorted(
        order=order,
        zone=zone[order],
        skill=columns.skill[order],
        tolerance=tolerance[order],
        waited=waited[order],
        credit=(waited[order] + columns.priority[order]) * WAIT_WEIGHT,
    )


def _search(table: _Sorted, remaining: IntColumn, *, size: int, due: float) -> IntColumn:
    """Take matches of one size out of `remaining` (indices into the table), tiers included."""
    remaining = _rounds(table, remaining, size=size, due=due)
    for share in TIERS:
        if len(remaining) < size:
            break
        tolerance = table.tolerance[remaining]
        cut = np.partition(tolerance, int(share * (len(tolerance) - 1)))[
            int(share * (len(tolerance) - 1))
        ]
        wide = tolerance > cut
        if wide.all() or wide.sum() < size:
            break
        rest = _rounds(table, remaining[wide], size=size, due=due)
        if len(rest) < wide.sum():
            remaining = np.sort(np.concatenate((remaining[~wide], rest)))
    return remaining


def _rounds(table: _Sorted, index: IntColumn, *, size: int, due: float) -> IntColumn:
    """Choose, compact and look again until nothing fits; the indices that stay."""
    for _ in range(ROUNDS):
        if len(index) < size:
            break
        starts = windows.choose(_scores(table, index, size=size, due=due), size)
        if not len(starts):
            break
        places = starts[:, None] + np.arange(size)
        table.found.append(index[places])
        keep = np.ones(len(index), np.bool_)
        keep[places] = False
        index = index[keep]
    return index


def _scores(table: _Sorted, index: IntColumn, *, size: int, due: float) -> FloatColumn:
    """Score of each window of neighbors; inf where the rules forbid it."""
    skill, zone = table.skill[index], table.zone[index]
    reach = size - 1
    spread = skill[reach:] - skill[:-reach]
    limit = windows.sliding_min(table.tolerance[index], size)
    fits = (spread <= limit) & (zone[reach:] == zone[:-reach])
    if due:
        fits &= windows.sliding_max(table.waited[index], size) >= due
    score = spread / (limit + 1e-9) - windows.sliding_mean(table.credit[index], size)
    return np.where(fits, score, np.inf)


def _groups(columns: Columns, table: _Sorted, search: Rules) -> Iterator[Group]:
    """Turn what was found into rows of the view, with teams."""
    found, table.found = table.found, []
    if not found:
        return
    rows = table.order[np.concatenate(found)]
    skill = columns.skill[rows]
    yield Group(
        rows=rows,
        teams=teams.split(skill, search.team_count),
        spread=skill.max(axis=1) - skill.min(axis=1),
    )
