"""Randomness that belongs to a room: reproducible, rolled back and saved with its state.

SplitMix64 (Steele, Lea, Flood 2014): one 64-bit counter per room, in a hidden column. Drawing for
all rooms at once gives each the numbers it would have drawn alone.
"""

from collections.abc import Sequence
from typing import Final, TypeVar

import numpy as np

from rallypoint.games.schema import Array

T = TypeVar("T")
GAMMA: Final = np.uint64(0x9E3779B97F4A7C15)
UNIT: Final = 2.0**-53


class Dice:
    """Draws from the counters in `state`, uint64 of shape (rooms,), and moves them on."""

    def __init__(self, state: Array) -> None:
        self._state = state

    def uniforms(self, count: int) -> Array:
        """Numbers in [0, 1), shape (rooms, count)."""
        steps = np.arange(1, count + 1, dtype=np.uint64) * GAMMA
        mixed = _mix(self._state[:, None] + steps)
        self._state += steps[-1:]
        return (mixed >> np.uint64(11)) * UNIT

    def random(self) -> float:
        """One number in [0, 1), for a single room."""
        return float(self.uniforms(1)[0, 0])

    def below(self, limit: int) -> int:
        """One whole number from 0 to `limit` - 1, for a single room."""
        return int(self.random() * limit)

    def pick(self, choices: Sequence[T]) -> T:
        """One of `choices`, for a single room."""
        return choices[self.below(len(choices))]

    def shuffled(self, items: Sequence[T]) -> list[T]:
        """The items in random order, for a single room."""
        keys = self.uniforms(max(1, len(items)))[0].tolist()
        return [
            item for _, item in sorted(zip(keys, items, strict=False), key=lambda pair: pair[0])
        ]


def _mix(value: Array) -> Array:
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(value ^ (value >> np.uint64(31)))
