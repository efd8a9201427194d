"""Stream tokens: what opens, and that nothing else does."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rallypoint.gateway.domain import tokens
from rallypoint.kit import errors

KEY = b"k" * 32
CLAIMS = tokens.StreamClaims("room-1", 3, 7, "gplayer", 1_000)


def test_sealed_claims_come_back() -> None:
    assert tokens.unseal(KEY, tokens.seal(KEY, CLAIMS), now_s=999.0) == CLAIMS


@given(
    room=st.text(st.characters(codec="ascii"), max_size=64),
    player=st.text(max_size=20),
    slot=st.integers(0, 0xFFFF),
    generation=st.integers(0, 0xFFFFFFFF),
)
def test_any_claims_come_back(room: str, player: str, slot: int, generation: int) -> None:
    claims = tokens.StreamClaims(room, slot, generation, player, 5)
    assert tokens.unseal(KEY, tokens.seal(KEY, claims), now_s=0.0) == claims


@pytest.mark.parametrize("now_s", [1_000.0, 5_000.0], ids=["at the end", "after it"])
def test_expired_token_is_refused(now_s: float) -> None:
    with pytest.raises(errors.PermissionDenied, match="STREAM_REFUSED"):
        tokens.unseal(KEY, tokens.seal(KEY, CLAIMS), now_s=now_s)


def test_every_changed_bit_is_refused() -> None:
    sealed = tokens.seal(KEY, CLAIMS)
    for bit in range(len(sealed) * 8):
        forged = bytearray(sealed)
        forged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(errors.PermissionDenied):
            tokens.unseal(KEY, bytes(forged), now_s=0.0)


@given(st.binary(max_size=300))
def test_random_bytes_are_refused(token: bytes) -> None:
    with pytest.raises(errors.PermissionDenied):
        tokens.unseal(KEY, token, now_s=0.0)


def test_another_clusters_token_is_refused() -> None:
    with pytest.raises(errors.PermissionDenied):
        tokens.unseal(KEY, tokens.seal(b"o" * 32, CLAIMS), now_s=0.0)
