"""Leading by a lease: at no moment may two candidates write, whatever is lost or late."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rallypoint.kube.domain.election import Candidate, Terms
from rallypoint.kube.objects import Lease, LeaseSpec, ObjectMeta

TERMS = Terms(duration_s=15, renew_s=10, retry_s=2)


def lease(version: int, holder: str) -> Lease:
    spec = LeaseSpec(holder_identity=holder, lease_duration_seconds=15, lease_transitions=3)
    return Lease(metadata=ObjectMeta(name="l", resource_version=str(version)), spec=spec)


def test_without_a_lease_one_is_made() -> None:
    me = Candidate("me", TERMS)
    me.observe(None, 0)
    assert me.next_step(0) == "create"


def test_a_held_lease_is_taken_only_after_it_stood_still_for_its_duration() -> None:
    me = Candidate("me", TERMS)
    me.observe(lease(1, "other"), 100)
    assert me.next_step(114.9) == "wait"
    me.observe(lease(2, "other"), 114.9)
    assert me.next_step(129.8) == "wait"
    assert me.next_step(129.9) == "take"


def test_a_lease_given_back_is_taken_at_once() -> None:
    me = Candidate("me", TERMS)
    me.observe(lease(1, ""), 0)
    assert me.next_step(0) == "take"


def test_writing_ends_ten_seconds_after_the_renewal_was_sent() -> None:
    me = Candidate("me", TERMS)
    me.won(lease(1, "me"), sent_at=100, now=104)
    assert me.may_write_for(104) == 6
    assert me.next_step(109.9) == "renew"
    assert me.may_write_for(110) == 0
    assert me.next_step(110) == "stop"


def test_a_new_leader_counts_a_transition_and_a_renewal_does_not() -> None:
    me = Candidate("me", TERMS)
    me.observe(lease(1, ""), 0)
    assert me.record("now").lease_transitions == 4
    me.won(lease(2, "me"), sent_at=0, now=0)
    assert me.record("now").lease_transitions == 3


def test_terms_that_could_overlap_are_refused() -> None:
    with pytest.raises(ValueError, match="renew_s < duration_s"):
        Terms(duration_s=10, renew_s=10)


class World:
    """An API server with one lease, and candidates whose clocks have different origins."""

    def __init__(self) -> None:
        self.version = 0
        self.held: Lease | None = None
        self.now = 0.0
        self.origins = {"a": 0.0, "b": 5000.0}
        self.candidates = {name: Candidate(name, TERMS) for name in self.origins}

    def clock(self, name: str) -> float:
        return self.now + self.origins[name]

    def act(self, name: str, *, request_s: float, answer_s: float, lost: bool) -> None:
        """Look and write as `Leader` does; a lost answer leaves the write in place."""
        me = self.candidates[name]
        me.observe(self.held, self.clock(name))
        step = me.next_step(self.clock(name))
        if step == "stop":
            me.lost()
        if step not in ("create", "take", "renew"):
            return
        sent_at, expected = self.clock(name), me.seen
        self.now += request_s
        if (self.held is None) != (expected is None):
            return
        self.version += 1
        meta = ObjectMeta(name="l", resource_version=str(self.version))
        self.held = msgspec.structs.replace(Lease(metadata=meta), spec=me.record("t"))
        self.now += answer_s
        if not lost:
            me.won(self.held, sent_at=sent_at, now=self.clock(name))

    def writers(self) -> list[str]:
        return [n for n, c in self.candidates.items() if c.may_write_for(self.clock(n)) > 0]


STEP = st.tuples(
    st.sampled_from("ab"), st.floats(0, 4), st.floats(0, 4), st.booleans(), st.floats(0, 20)
)


@settings(max_examples=300)
@given(st.lists(STEP, max_size=40))
def test_two_never_write_at_once(steps: list[tuple[str, float, float, bool, float]]) -> None:
    world = World()
    for name, request_s, answer_s, lost, pause_s in steps:
        world.act(name, request_s=request_s, answer_s=answer_s, lost=lost)
        assert len(world.writers()) <= 1
        world.now += pause_s
        assert len(world.writers()) <= 1
