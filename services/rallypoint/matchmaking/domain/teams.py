"""Split matches into equal teams whose mean skills are as close as possible.

Two teams of up to six: every split is tried at once, as one matrix product with all sign vectors
(C(2T, T) / 2 of them). More or larger teams: dealt out strongest first,
turning at each end (snake draft). `team_count` 0: everybody alone.
"""

from __future__ import annotations

import functools
import itertools

import numpy as np
import numpy.typing as npt

from rallypoint.matchmaking.domain.columns import FloatColumn

EXACT_TEAM_SIZE = 6
BLOCK = 128
"""Matches per matrix product: too few for BLAS to wake threads, whose spinning costs more."""


def split(skill: FloatColumn, team_count: int) -> npt.NDArray[np.uint8]:
    """Team of each player; `skill` and result of shape (matches, players)."""
    matches, players = skill.shape
    if team_count in (0, players):
        return np.broadcast_to(np.arange(players, dtype=np.uint8), (matches, players))
    if team_count == 2 and players // 2 <= EXACT_TEAM_SIZE:
        return _exact(skill)
    return _snake(skill, team_count)


@functools.cache
def _signs(players: int) -> npt.NDArray[np.int8]:
    """Each way to split `players` in two halves, as a row of +1 (team 0) and -1 (team 1)."""
    halves = [(0, *rest) for rest in itertools.combinations(range(1, players), players // 2 - 1)]
    signs = np.full((len(halves), players), -1, np.int8)
    for row, half in enumerate(halves):
        signs[row, list(half)] = 1
    return signs


def _exact(skill: FloatColumn) -> npt.NDArray[np.uint8]:
    signs = _signs(skill.shape[1])
    centered = skill - skill.mean(axis=1, keepdims=True)
    weights = signs.T.astype(np.float64)
    best = [
        np.abs(centered[start : start + BLOCK] @ weights).argmin(axis=1)
        for start in range(0, len(centered), BLOCK)
    ]
    team_1: npt.NDArray[np.uint8] = (signs[np.concatenate(best)] < 0).astype(np.uint8)
    return team_1


def _snake(skill: FloatColumn, team_count: int) -> npt.NDArray[np.uint8]:
    players = skill.shape[1]
    turns = np.arange(players)
    lap, seat = np.divmod(turns, team_count)
    deal = np.where(lap % 2, team_count - 1 - seat, seat).astype(np.uint8)
    strongest_first = np.argsort(-skill, axis=1, kind="stable")
    result = np.empty(skill.shape, np.uint8)
    np.put_along_axis(result, strongest_first, np.broadcast_to(deal, skill.shape), axis=1)
    return result
