"""Access tokens and the key file: what verifies, and what an attacker may try."""

from __future__ import annotations

import base64
import json
import os
import stat
import threading
import time
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from rallypoint.gateway import tokens, tokens_keys
from rallypoint.kit import errors

SEED = b"s" * 32


class Clock:
    """A clock that a test sets. It starts at the true time, which PyJWT reads by itself."""

    def __init__(self) -> None:
        self.at = time.time()

    def now(self) -> float:
        return self.at

    def monotonic(self) -> float:
        return self.at


def access(clock: Clock, *seeds: bytes, verified_max: int = 100) -> tokens.AccessTokens:
    return tokens.AccessTokens(seeds or (SEED,), clock, life_s=900, verified_max=verified_max)


def issue(of: tokens.AccessTokens, player_id: str = "gplayer") -> str:
    return of.issue(player_id=player_id, display_name="Ada", family="f1")[0]


def forged(**changes: Any) -> str:
    """A token signed with the right key, with other claims or headers."""
    now = int(time.time())
    claims = {
        "iss": tokens.ISSUER,
        "aud": tokens.AUDIENCE,
        "sub": "gplayer",
        "sid": "f",
        "iat": now,
        "exp": now + 60,
    }
    key = Ed25519PrivateKey.from_private_bytes(SEED)
    kid = tokens_keys.key_id(key.public_key().public_bytes_raw())
    headers = {"typ": tokens.TYPE, "kid": kid} | changes.pop("headers", {})
    claims |= changes
    return jwt.encode(
        {name: value for name, value in claims.items() if value is not None},
        key,
        algorithm="EdDSA",
        headers=headers,
    )


def test_issued_token_verifies_at_another_gateway() -> None:
    clock = Clock()
    session = access(clock).verify(issue(access(clock)))
    assert (session.player_id, session.display_name, session.family) == ("gplayer", "Ada", "f1")
    assert session.expires_s == int(clock.at) + 900


def test_well_formed_forgery_helper_is_accepted() -> None:
    assert access(Clock()).verify(forged()).player_id == "gplayer"


@pytest.mark.parametrize(
    "changes",
    [
        {"iss": "someone"},
        {"aud": "another-service"},
        {"sub": None},
        {"exp": None},
        {"sid": None},
        {"headers": {"typ": "JWT"}},
        {"headers": {"kid": "unknown"}},
    ],
    ids=["iss", "aud", "no sub", "no exp", "no sid", "typ", "kid"],
)
def test_token_for_something_else_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(errors.Unauthenticated, match="TOKEN_INVALID"):
        access(Clock()).verify(forged(**changes))


def _part(value: dict[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


def test_unsigned_and_symmetric_tokens_are_refused() -> None:
    clock = Clock()
    head, body, _ = forged().split(".")
    kid = json.loads(base64.urlsafe_b64decode(head + "=="))["kid"]
    none = f"{_part({'alg': 'none', 'typ': tokens.TYPE, 'kid': kid})}.{body}."
    public = Ed25519PrivateKey.from_private_bytes(SEED).public_key().public_bytes_raw()
    symmetric = jwt.encode({"sub": "x"}, public, algorithm="HS256", headers={"kid": kid})
    for token in (none, symmetric, "", "a.b.c", "x" * 5000, "é.é.é"):
        with pytest.raises(errors.Unauthenticated, match="TOKEN_INVALID"):
            access(clock).verify(token)


def test_other_key_is_refused_and_second_key_verifies() -> None:
    clock = Clock()
    old = issue(access(clock, b"o" * 32))
    with pytest.raises(errors.Unauthenticated, match="TOKEN_INVALID"):
        access(clock).verify(old)
    assert access(clock, SEED, b"o" * 32).verify(old).player_id == "gplayer"


def test_token_verified_before_still_expires() -> None:
    clock = Clock()
    mine = access(clock)
    token = issue(mine)
    mine.verify(token)
    clock.at += 906
    with pytest.raises(errors.Unauthenticated, match="TOKEN_EXPIRED"):
        mine.verify(token)


def test_table_of_verified_tokens_is_bounded() -> None:
    clock = Clock()
    mine = access(clock, verified_max=3)
    issued = [issue(mine, f"g{number}") for number in range(5)]
    for token in issued:
        mine.verify(token)
    assert [mine.knows(token) for token in issued] == [False, False, True, True, True]


def test_newest_session_of_a_player_is_remembered() -> None:
    clock = Clock()
    mine = access(clock)
    later = mine.verify(issue(mine))
    clock.at -= 100
    first = issue(mine)
    mine.verify(first)
    assert mine.session_end_s("gplayer") == later.expires_s
    assert mine.session_end_s("gnobody") == 0.0


def test_key_file_is_made_once_and_private(tmp_path: Path) -> None:
    path = tmp_path / "keys" / "signing.pem"
    results: list[tuple[bytes, ...]] = []
    makers = [
        threading.Thread(target=lambda: results.append(tokens_keys.load_or_create(path)))
        for _ in range(8)
    ]
    for maker in makers:
        maker.start()
    for maker in makers:
        maker.join()
    assert len(set(results)) == 1
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    assert [entry.name for entry in path.parent.iterdir()] == ["signing.pem"]


def test_key_file_is_one_that_openssl_reads(tmp_path: Path) -> None:
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    (seed,) = tokens_keys.load_or_create(tmp_path / "key.pem")
    key = load_pem_private_key((tmp_path / "key.pem").read_bytes(), None)
    assert isinstance(key, Ed25519PrivateKey)
    assert key.private_bytes_raw() == seed


@pytest.mark.parametrize(
    "text", ["", "nonsense", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"]
)
def test_unusable_key_file_names_itself(tmp_path: Path, text: str) -> None:
    path = tmp_path / "key.pem"
    path.write_text(text)
    with pytest.raises(errors.FailedPrecondition, match=r"key\.pem"):
        tokens_keys.load_or_create(path)
