"""Where one client stream stands between its welcome and its end.

    JOINING ──welcomed──▶ FRESH ──keyframe──▶ IN_STEP ──skipped──▶ BEHIND
                            ▲ ▲                  │                   │
                            │ └──epoch_raised────┴───────────────────┤
                            └──rejoined── AWAY ◀──detached───────────┘

    IN_STEP ──slowed──▶ HALVED ──caught_up──▶ IN_STEP        HALVED ──skipped──▶ BEHIND

IN_STEP streams get every delta, HALVED ones two as one. FRESH and BEHIND get nothing but a
keyframe, AWAY only the empty keep-alive. A delta is therefore never dropped silently: the next
thing a stream sees after a gap is a whole state. An unknown pair of phase and event raises and
changes nothing.
"""

from __future__ import annotations

from enum import Enum, auto


class Phase(Enum):
    """Where a stream stands."""

    JOINING = auto()  # its node has not answered yet
    FRESH = auto()  # welcomed, or back after a break; waits for its keyframe
    IN_STEP = auto()  # has the state every delta builds on
    HALVED = auto()  # reads slowly: gets every other frame, made of two
    BEHIND = auto()  # read too slowly and missed a frame
    AWAY = auto()  # its node is out of reach
    ENDED = auto()


class Event(Enum):
    """What happens to a stream."""

    WELCOMED = auto()
    KEYFRAME = auto()  # a keyframe was written to it
    SLOWED = auto()  # it reads slowly
    CAUGHT_UP = auto()  # it has read everything for a while
    SKIPPED = auto()  # a frame could not be written
    DETACHED = auto()  # the Attach that carried it broke
    REJOINED = auto()  # the node, or the next one, took it back
    EPOCH_RAISED = auto()  # the room goes on elsewhere, deltas of before are void
    ENDED = auto()


class BadTransition(Exception):
    """An event that makes no sense in this phase; carries both."""

    def __init__(self, phase: Phase, event: Event) -> None:
        super().__init__(f"{event.name} while {phase.name}")
        self.phase = phase
        self.event = event


_LIVE = (Phase.FRESH, Phase.IN_STEP, Phase.HALVED, Phase.BEHIND)

TRANSITIONS: dict[tuple[Phase, Event], Phase] = {
    (Phase.JOINING, Event.WELCOMED): Phase.FRESH,
    # An unanswered join is simply asked again.
    (Phase.JOINING, Event.DETACHED): Phase.JOINING,
    (Phase.FRESH, Event.KEYFRAME): Phase.IN_STEP,
    (Phase.IN_STEP, Event.KEYFRAME): Phase.IN_STEP,
    (Phase.HALVED, Event.KEYFRAME): Phase.HALVED,
    (Phase.BEHIND, Event.KEYFRAME): Phase.IN_STEP,
    (Phase.IN_STEP, Event.SLOWED): Phase.HALVED,
    (Phase.HALVED, Event.CAUGHT_UP): Phase.IN_STEP,
    **{(phase, Event.SKIPPED): Phase.BEHIND for phase in _LIVE},
    **{(phase, Event.EPOCH_RAISED): Phase.FRESH for phase in _LIVE},
    **{(phase, Event.DETACHED): Phase.AWAY for phase in _LIVE},
    (Phase.AWAY, Event.DETACHED): Phase.AWAY,
    # A keep-alive that its client did not read; a keyframe comes with the seat anyway.
    (Phase.AWAY, Event.SKIPPED): Phase.AWAY,
    (Phase.AWAY, Event.EPOCH_RAISED): Phase.AWAY,
    (Phase.AWAY, Event.REJOINED): Phase.FRESH,
    **{(phase, Event.ENDED): Phase.ENDED for phase in Phase},
}


def step(phase: Phase, event: Event) -> Phase:
    """The phase after the event; BadTransition when there is none."""
    after = TRANSITIONS.get((phase, event))
    if after is None:
        raise BadTransition(phase, event)
    return after


def takes(phase: Phase, *, keyframe: bool) -> bool:
    """Whether a frame may be written to a stream in this phase."""
    if phase in (Phase.IN_STEP, Phase.HALVED):
        return True
    return keyframe and phase in _LIVE
