"""Ratings in Redis: read plainly, written by one Lua call per match under the leader's epoch.

The call writes all ratings of a match, the mark that it was applied and the position in the
RESULTS stream together, so each result counts exactly once whatever is killed in between. Marks
are kept for nine days, longer than the stream keeps results.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rallypoint.kit import keys
from rallypoint.kit.names import PlayerId, QueueName
from rallypoint.kit.store import Store
from rallypoint.matchmaking import ticket_store
from rallypoint.matchmaking.domain.ratings import START_MU, START_SIGMA, Skill

MARK_S = 9 * 86_400


def _skill(fields: Mapping[Any, Any]) -> Skill:
    values = {_text(name): _text(value) for name, value in fields.items()}
    return Skill(
        mu=float(values.get("mu", START_MU)),
        sigma=float(values.get("sigma", START_SIGMA)),
        matches=int(values.get("matches", 0)),
        last_match_id=values.get("last_match_id", ""),
        last_change=int(values.get("last_change", 0)),
    )


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


class RatingStore:
    """One queue's ratings."""

    def __init__(self, store: Store, queue: str) -> None:
        self._store = store
        self._name = QueueName(queue)
        self._apply = store.load(ticket_store.PACKAGE, "ratings_apply.lua")

    def _key(self, player_id: str) -> str:
        return keys.mm_rating(self._name, PlayerId(player_id))

    async def read(self, player_id: str) -> Skill:
        """A player's rating; the start value before the first match."""
        return _skill(await self._store.hgetall(self._key(player_id)))

    async def read_many(self, player_ids: Sequence[str]) -> dict[str, Skill]:
        """The ratings of several players."""
        return {player_id: await self.read(player_id) for player_id in player_ids}

    async def position(self) -> int:
        """The stream sequence of the last result handled; 0 before the first."""
        value = await self._store.get(keys.mm_position(self._name))
        return int(_text(value)) if value is not None else 0

    async def apply(
        self, epoch: int, match_id: str, after: Mapping[str, Skill], *, seq: int, now_s: float
    ) -> bool:
        """Write a match's ratings; False when it was applied before (only the position moves).

        An empty `match_id` moves the position alone. Raises `ticket_store.Fenced`.
        """
        values: list[str | int | float] = []
        for skill in after.values():
            values += [repr(skill.mu), repr(skill.sigma), skill.matches, skill.last_change]
        reply = await self._apply(
            keys=[
                keys.mm_epoch(self._name),
                keys.mm_applied(self._name),
                keys.mm_position(self._name),
                *(self._key(player_id) for player_id in after),
            ],
            args=[epoch, match_id, seq, int(now_s), int(now_s) - MARK_S, *values],
        )
        outcome = _text(reply[0])
        if outcome == "FENCED":
            raise ticket_store.Fenced(_text(reply[1]))
        return outcome == "APPLIED"
