"""Arithmetic on sorted columns: sliding extremes and choosing disjoint windows.

A window is `size` neighbors in sorted order, named by its first index. All functions are linear in
the column; `choose` equals the greedy choice by score (lowest first, then lowest index) up to ties
and always leaves no candidate that could still be taken.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from rallypoint.matchmaking.domain.columns import FloatColumn, IntColumn

LOCAL_MINIMA_ROUNDS = 3
"""Vectorized rounds before the greedy sweep: they settle nearly all windows when scores differ."""


def sliding_min(column: npt.NDArray[Any], width: int) -> npt.NDArray[Any]:
    """Minimum of each `width` neighbors; length n - width + 1. By doubling: O(n log width)."""
    result, span = column, 1
    while span < width:
        step = min(span, width - span)
        result = np.minimum(result[:-step], result[step:])
        span += step
    return result


def sliding_max(column: npt.NDArray[Any], width: int) -> npt.NDArray[Any]:
    """Maximum of each `width` neighbors; length n - width + 1."""
    return -sliding_min(-column, width)


def sliding_mean(column: FloatColumn, width: int) -> FloatColumn:
    """Mean of each `width` neighbors; length n - width + 1."""
    sums = np.concatenate(([0.0], np.cumsum(column)))
    return (sums[width:] - sums[:-width]) / width


def choose(score: FloatColumn, size: int) -> IntColumn:
    """Disjoint windows with low scores; `score` is inf where a window must not be taken."""
    score = score.copy()
    chosen: list[IntColumn] = []
    for _ in range(LOCAL_MINIMA_ROUNDS):
        winners = _local_minima(score, size)
        if not len(winners):
            return _joined(chosen)
        chosen.append(winners)
        _block(score, winners, size)
    chosen.append(_greedy(score, size))
    return _joined(chosen)


def _joined(parts: list[IntColumn]) -> IntColumn:
    return np.concatenate(parts) if parts else np.empty(0, np.int64)


def _local_minima(score: FloatColumn, size: int) -> IntColumn:
    """Windows no overlapping window beats; of equal ones that touch, the first."""
    reach = size - 1
    padded = np.pad(score, reach, constant_values=np.inf)
    lowest = sliding_min(padded, 2 * reach + 1)
    winners = np.flatnonzero((score == lowest) & (score < np.inf))
    if len(winners) > 1:
        apart = np.diff(winners, prepend=winners[0] - size) >= size
        winners = winners[apart]
    return winners


def _block(score: FloatColumn, winners: IntColumn, size: int) -> None:
    """Make every window that shares a row with a winner untakeable.

    Equal widths: an overlap always covers one end of the other.
    """
    taken = np.zeros(len(score) + size - 1, np.bool_)
    taken[winners[:, None] + np.arange(size)] = True
    score[taken[: len(score)] | taken[size - 1 :]] = np.inf


def _greedy(score: FloatColumn, size: int) -> IntColumn:
    """Take windows by score, one after the other."""
    open_windows = np.flatnonzero(score < np.inf)
    order = open_windows[np.argsort(score[open_windows], kind="stable")]
    taken = bytearray(len(score) + size)
    mark = b"\x01" * size
    starts: list[int] = []
    for start in order.tolist():
        if not (taken[start] or taken[start + size - 1]):
            taken[start : start + size] = mark
            starts.append(start)
    return np.asarray(starts, np.int64)
