"""The states of a client stream: no delta after a gap, whatever happens."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rallypoint.gateway.domain import sync
from rallypoint.gateway.domain.sync import Event, Phase


@pytest.mark.parametrize(
    ("phase", "event", "after"),
    [
        (Phase.JOINING, Event.WELCOMED, Phase.FRESH),
        (Phase.FRESH, Event.KEYFRAME, Phase.IN_STEP),
        (Phase.IN_STEP, Event.SKIPPED, Phase.BEHIND),
        (Phase.IN_STEP, Event.SLOWED, Phase.HALVED),
        (Phase.HALVED, Event.CAUGHT_UP, Phase.IN_STEP),
        (Phase.HALVED, Event.KEYFRAME, Phase.HALVED),
        (Phase.HALVED, Event.SKIPPED, Phase.BEHIND),
        (Phase.BEHIND, Event.SKIPPED, Phase.BEHIND),
        (Phase.BEHIND, Event.KEYFRAME, Phase.IN_STEP),
        (Phase.IN_STEP, Event.EPOCH_RAISED, Phase.FRESH),
        (Phase.IN_STEP, Event.DETACHED, Phase.AWAY),
        (Phase.AWAY, Event.REJOINED, Phase.FRESH),
        (Phase.AWAY, Event.SKIPPED, Phase.AWAY),
        (Phase.JOINING, Event.DETACHED, Phase.JOINING),
    ],
)
def test_streams_move_as_drawn(phase: Phase, event: Event, after: Phase) -> None:
    assert sync.step(phase, event) is after


@pytest.mark.parametrize(
    ("phase", "event"),
    [
        (Phase.JOINING, Event.KEYFRAME),
        (Phase.AWAY, Event.KEYFRAME),
        (Phase.IN_STEP, Event.WELCOMED),
        (Phase.IN_STEP, Event.REJOINED),
        (Phase.BEHIND, Event.CAUGHT_UP),
        (Phase.ENDED, Event.KEYFRAME),
    ],
)
def test_impossible_events_raise(phase: Phase, event: Event) -> None:
    with pytest.raises(sync.BadTransition):
        sync.step(phase, event)


@given(st.lists(st.sampled_from([*Event, "keyframe", "delta"]), max_size=60))
def test_delta_is_never_taken_after_a_gap(happenings: list[Event | str]) -> None:
    phase, whole = Phase.JOINING, False
    for what in happenings:
        if isinstance(what, str):
            keyframe = what == "keyframe"
            if sync.takes(phase, keyframe=keyframe):
                assert keyframe or whole
                phase, whole = _taken(phase, keyframe=keyframe), True
            continue
        try:
            phase = sync.step(phase, what)
        except sync.BadTransition:
            continue
        if what in (Event.SKIPPED, Event.DETACHED, Event.EPOCH_RAISED):
            whole = False
        whole = whole or what is Event.KEYFRAME


def _taken(phase: Phase, *, keyframe: bool) -> Phase:
    return sync.step(phase, Event.KEYFRAME) if keyframe else phase
