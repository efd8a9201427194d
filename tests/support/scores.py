"""The scores of a sorted set: services read them in their own scripts, tests from outside."""

from __future__ import annotations

from rallypoint.kit.store import Key, Script, Store

_TEXT = "return redis.call('ZRANGE', KEYS[1], 0, -1, 'WITHSCORES')"


async def scores(store: Store, key: Key) -> dict[bytes, float]:
    """Every member with its score."""
    flat = await Script.of("scores", _TEXT, store)(keys=[key])
    return {member: float(score) for member, score in zip(flat[::2], flat[1::2], strict=True)}
