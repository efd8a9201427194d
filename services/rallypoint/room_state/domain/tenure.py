"""How long a node is to be there: until it has agreed, while empty, to the end a leader asked for.

The fence in Redis comes before, but a Redis that fails over may forget a claim. So the node has the
last word, and what it agreed to it keeps to: no room is made until a leader takes it back.
"""

from __future__ import annotations

from dataclasses import dataclass

from rallypoint.kit import errors


@dataclass(slots=True)
class Tenure:
    """What was agreed, and in which leader's name; 0 when nothing was."""

    agreed_to: int = 0
    _newest: int = 0

    def agree(self, epoch: int, *, occupied: bool) -> None:
        """Agree to go, in the name of the newest leader heard of."""
        self._check(epoch)
        if occupied:
            raise errors.FailedPrecondition("NODE_OCCUPIED", "the node has rooms")
        self.agreed_to = epoch

    def lift(self, epoch: int) -> None:
        """Stay after all."""
        self._check(epoch)
        self.agreed_to = 0

    def _check(self, epoch: int) -> None:
        if epoch < 1:
            raise errors.InvalidArgument("EPOCH_INVALID", "a leader's epoch is at least 1")
        if epoch < self._newest:
            raise errors.Aborted("EPOCH_STALE", "another leader has asked since")
        self._newest = epoch


@dataclass(slots=True)
class Edges:
    """Tells when a node comes to be empty, full or neither."""

    capacity: int
    _was: tuple[bool, bool] = (True, False)

    def crossed(self, rooms: int) -> bool:
        """Take the present number of rooms; True when that is news."""
        now = (rooms == 0, rooms >= self.capacity)
        before, self._was = self._was, now
        return now != before
