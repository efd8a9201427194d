"""What a claim in Redis says, as text and as a value.

    (none) ──claim──▶ C ──confirm──▶ R ──release──▶ (none)
                      └──its time is over──▶ X ──room closed, own purged──▶ (none)
    R ──its node died──▶ M ──restored, confirm──▶ R
                         └──its time is over──▶ M, taken up again

C counts as used until it has expired and been cleaned up; X makes sure that no retry takes the slot
while the room that may have been made is being closed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

State = Literal["C", "M", "R", "X"]


@dataclass(frozen=True, slots=True)
class Claim:
    """A slot held for a room on one process of a node."""

    state: State
    node_id: str
    incarnation: str
    epoch: int

    @property
    def place(self) -> str:
        """Return `<node>|<incarnation>`."""
        return f"{self.node_id}|{self.incarnation}"

    @property
    def text(self) -> str:
        """Return the value stored in Redis."""
        return f"{self.state}|{self.place}|{self.epoch}"


def parse(text: str) -> Claim:
    """Return the claim of a stored value; ValueError when it is none."""
    state, node_id, incarnation, epoch = text.split("|")
    if state not in ("C", "M", "R", "X"):
        raise ValueError(f"no claim: {text!r}")
    return Claim(state, node_id, incarnation, int(epoch))  # type: ignore[arg-type]  # checked
