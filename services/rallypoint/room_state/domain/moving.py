"""A move as its two nodes go through it, and what the target makes of the room's owner.

Source, from the request to its end:

    PREPARING ──prepared──▶ STILL ──handed over──▶ COMMITTING ──committed──▶ GONE
        │                     │                      │  └─doubtful─▶ DOUBTFUL ──committed──▶ GONE
        └──────failed─────────┴──failed─▶ STAYS ◀────┘                └──kept──▶ STAYS
                     and from every phase after PREPARING  ──fenced──▶ LOST

Up to the commit a failure leaves the room where it is. After a commit whose outcome is not known
the source stands still until it knows: it writes the record it owns once more, which either shows
that the commit came through or makes sure that it never will.

Target: PREPARED ──transferred──▶ HELD ──started──▶ RUNS, and from both ──dropped──▶ DROPPED.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final, TypeVar


class Departing(Enum):
    """Where a move stands at its source."""

    PREPARING = auto()  # the room is played, the target makes ready
    STILL = auto()  # it stands still, its state is handed over
    COMMITTING = auto()  # the record of its owner is being changed
    DOUBTFUL = auto()  # nobody knows whether it was
    GONE = auto()  # it is the target's
    STAYS = auto()  # it goes on here
    LOST = auto()  # somebody else has it


class Leaving(Enum):
    """What happens to a move at its source."""

    PREPARED = auto()
    HANDED_OVER = auto()
    COMMITTED = auto()
    FAILED = auto()
    DOUBTFUL = auto()
    KEPT = auto()
    FENCED = auto()


class Arriving(Enum):
    """Where a move stands at its target."""

    PREPARED = auto()  # a place is kept
    HELD = auto()  # the room is here and stands still
    RUNS = auto()
    DROPPED = auto()


class Coming(Enum):
    """What happens to a move at its target."""

    TRANSFERRED = auto()
    STARTED = auto()
    DROPPED = auto()


class BadStep(Exception):
    """An event that makes no sense in this phase."""


DEPARTURE: Final[Mapping[tuple[Departing, Leaving], Departing]] = {
    (Departing.PREPARING, Leaving.PREPARED): Departing.STILL,
    (Departing.PREPARING, Leaving.FAILED): Departing.STAYS,
    (Departing.STILL, Leaving.HANDED_OVER): Departing.COMMITTING,
    (Departing.STILL, Leaving.FAILED): Departing.STAYS,
    (Departing.STILL, Leaving.FENCED): Departing.LOST,
    (Departing.COMMITTING, Leaving.COMMITTED): Departing.GONE,
    (Departing.COMMITTING, Leaving.FAILED): Departing.STAYS,
    (Departing.COMMITTING, Leaving.DOUBTFUL): Departing.DOUBTFUL,
    (Departing.COMMITTING, Leaving.FENCED): Departing.LOST,
    (Departing.DOUBTFUL, Leaving.COMMITTED): Departing.GONE,
    (Departing.DOUBTFUL, Leaving.KEPT): Departing.STAYS,
    (Departing.DOUBTFUL, Leaving.FENCED): Departing.LOST,
}
ARRIVAL: Final[Mapping[tuple[Arriving, Coming], Arriving]] = {
    (Arriving.PREPARED, Coming.TRANSFERRED): Arriving.HELD,
    (Arriving.PREPARED, Coming.DROPPED): Arriving.DROPPED,
    (Arriving.HELD, Coming.STARTED): Arriving.RUNS,
    (Arriving.HELD, Coming.DROPPED): Arriving.DROPPED,
}

P = TypeVar("P", Departing, Arriving)
E = TypeVar("E", Leaving, Coming)


def step(table: Mapping[tuple[P, E], P], phase: P, event: E) -> P:
    """The phase after the event; BadStep when there is none."""
    after = table.get((phase, event))
    if after is None:
        raise BadStep(f"{event.name} while {phase.name}")
    return after


@dataclass(frozen=True, slots=True)
class Owner:
    """What `own.<room>` says of a room."""

    place: str
    epoch: int
    transfer: str = ""


class Verdict(Enum):
    """What a target does with a room that it holds still."""

    WAIT = auto()
    START = auto()
    DROP = auto()


def verdict(own: Owner | None, mine: Owner, *, held_s: float, expires_s: float) -> Verdict:
    """What the record of the room's owner means for who holds the room as `mine`.

    Only a record that names this very transfer starts it: one that names this process for another
    reason belongs to a recovery from a snapshot, which may be newer than what is held here.
    """
    if own == mine:
        return Verdict.START
    if own is None or own.epoch >= mine.epoch or held_s >= expires_s:
        return Verdict.DROP
    return Verdict.WAIT
