"""The faults of `rallypoint bench chaos`, as values: what is done to whom, in which round.

A plan follows from its seed alone, so that a failed run can be played again. Every kind of fault
comes before any comes a second time.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal

Action = Literal["kill", "freeze", "drain", "cut"]


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of fault: what is done to a process of some kind."""

    action: Action
    process: str
    """The kind of process, as `cli.plan` names it."""
    resume_promise_s: float
    """Within which everybody plays on (architecture.md §7)."""
    hold_s: tuple[float, float] = (0.0, 0.0)
    """The shortest and the longest time it stays frozen, or cut off."""
    from_brokers_only: bool = False
    """Of a cut: whether the process still reaches everybody else."""

    @property
    def name(self) -> str:
        """How reports call it."""
        return f"{self.action} {self.process}{' from brokers' if self.from_brokers_only else ''}"


@dataclass(frozen=True, slots=True)
class Fault:
    """What happens in one round."""

    kind: Kind
    target: str
    """The process, as the stack names it."""
    hold_s: float


KINDS: Final = (
    Kind("kill", "room-state", resume_promise_s=6.0),
    Kind("freeze", "room-state", resume_promise_s=6.0, hold_s=(1.0, 9.0)),
    Kind("drain", "room-state", resume_promise_s=0.15),
    Kind("cut", "room-state", resume_promise_s=6.0, hold_s=(1.0, 14.0)),
    Kind("cut", "room-state", resume_promise_s=1.0, hold_s=(1.0, 9.0), from_brokers_only=True),
    Kind("kill", "gateway", resume_promise_s=6.0),
    Kind("freeze", "gateway", resume_promise_s=8.0, hold_s=(0.5, 4.0)),
    Kind("kill", "nats", resume_promise_s=1.0),
    Kind("freeze", "nats", resume_promise_s=1.0, hold_s=(0.5, 4.0)),
    Kind("kill", "redis", resume_promise_s=1.0),
    Kind("freeze", "redis", resume_promise_s=1.0, hold_s=(0.5, 4.0)),
    Kind("kill", "fleet", resume_promise_s=1.0),
    Kind("freeze", "fleet", resume_promise_s=1.0, hold_s=(0.5, 4.0)),
    Kind("kill", "matchmaking", resume_promise_s=1.0),
)
BY_NAME: Final = {kind.name: kind for kind in KINDS}


def faults(
    seed: int, rounds: int, *, kinds: Sequence[Kind], processes: Sequence[str]
) -> Iterator[Fault]:
    """The faults of all rounds; `processes` are those of the stack, by name."""
    rng = random.Random(seed)
    waiting: list[Kind] = []
    for _ in range(rounds):
        if not waiting:
            waiting = list(kinds)
            rng.shuffle(waiting)
        kind = waiting.pop()
        targets = [name for name in processes if name.rstrip("0123456789-") == kind.process]
        yield Fault(kind, rng.choice(targets), round(rng.uniform(*kind.hold_s), 2))
