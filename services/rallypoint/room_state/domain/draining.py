"""When a node that shall end may leave rooms behind: values in, a decision out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

FLEET_SILENT_S: Final = 3.5
"""Fleet calls every node each second; without it nobody moves rooms."""
FINISH_MARGIN_S: Final = 2.0
"""What is left of the time when matches that are not over have to move all the same."""


@dataclass(frozen=True, slots=True)
class Leave:
    """What a node that shall end knows."""

    rooms: int
    """Rooms it still has, those included whose end is not stored yet."""
    finishing: int
    """Of those, how many end their match here."""
    somewhere: bool
    """Whether another node of the set takes rooms of these games."""
    fleet_silent_s: float
    """Since fleet last called."""
    left_s: float
    """Until the deadline."""


def may_go(state: Leave) -> bool:
    """Whether to end now; rooms that are left go on from their last snapshot elsewhere."""
    if state.rooms == 0 or state.left_s <= 0:
        return True
    if state.finishing and state.left_s > FINISH_MARGIN_S:
        return False
    return not state.somewhere or state.fleet_silent_s > FLEET_SILENT_S
