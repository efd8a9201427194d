"""Who is an operator, and what settings make nobody one by mistake."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from rallypoint.gateway.admin_access import AdminSettings, Operators
from rallypoint.gateway.calls import Call
from rallypoint.gateway.tokens_studio import StudioTokens, parse_issuer
from rallypoint.kit import errors
from rallypoint.kit.clock import SystemClock

KEY = Ed25519PrivateKey.generate()


def signed(**claims: object) -> str:
    now = int(time.time())
    whole = {"iss": "https://id", "aud": "ops", "sub": "7", "iat": now, "exp": now + 60} | claims
    return jwt.encode(whole, KEY, algorithm="EdDSA", headers={"kid": "one"})


def judged(tmp_path: Path, settings: AdminSettings, shown: str) -> tuple[bool, list[str]]:
    """Whether the bearer of a token is an operator, and which addresses were refused."""
    entry = json.loads(jwt.algorithms.OKPAlgorithm.to_jwk(KEY.public_key())) | {"kid": "one"}
    source = tmp_path / "jwks.json"
    source.write_text(json.dumps({"keys": [entry]}))
    refused: list[str] = []

    async def judge() -> bool:
        issuer = parse_issuer(f"https://id ops EdDSA {source}")
        studio = StudioTokens([issuer], SystemClock())
        operators = Operators(settings, studio, refused=refused.append)
        reading = asyncio.create_task(studio.run())
        metadata = {"authorization": f"Bearer {shown}"} if shown else {}
        try:
            await operators.check(Call("/x", metadata, "10.0.0.1", 0.0))
        except errors.Unauthenticated:
            return False
        finally:
            reading.cancel()
        return True

    return asyncio.run(judge()), refused


def test_the_token_opens_and_nothing_else_does(tmp_path: Path) -> None:
    settings = AdminSettings(admin_token="0123456789abcdef")
    assert judged(tmp_path, settings, "0123456789abcdef") == (True, [])
    for shown in ("", "0123456789abcde", "0123456789abcdef ", "\u00e9", signed(role="op")):
        assert judged(tmp_path, settings, shown) == (False, ["10.0.0.1"])


@pytest.mark.parametrize(
    ("claims", "lets_in"),
    [
        ({"role": "op"}, True),
        ({"role": ["player", "op"]}, True),
        ({"role": "player"}, False),
        ({"role": ["oper"]}, False),
        ({}, False),
        ({"role": "op", "aud": "game"}, False),
        ({"role": "op", "exp": 1}, False),
    ],
    ids=["one", "list", "other", "part", "none", "audience", "expired"],
)
def test_the_claim_of_a_studios_token_opens(
    tmp_path: Path, claims: dict[str, object], lets_in: bool
) -> None:
    settings = AdminSettings(admin_claim="role=op")
    assert judged(tmp_path, settings, signed(**claims))[0] is lets_in


def test_without_settings_there_are_no_operators(tmp_path: Path) -> None:
    assert judged(tmp_path, AdminSettings(), "")[0] is False
    assert judged(tmp_path, AdminSettings(), signed(role="op"))[0] is False
    assert not Operators(AdminSettings(), StudioTokens([], SystemClock()), refused=print).exist


@pytest.mark.parametrize(
    "settings",
    [
        AdminSettings(admin_token="short"),
        AdminSettings(admin_token_file=Path("/nowhere")),
        AdminSettings(admin_claim="role"),
        AdminSettings(admin_claim="=op"),
    ],
)
def test_senseless_settings_are_refused_at_start(settings: AdminSettings) -> None:
    with pytest.raises(errors.FailedPrecondition, match="SETTING_INVALID"):
        Operators(settings, StudioTokens([], SystemClock()), refused=print)


def test_the_token_is_in_no_repr() -> None:
    assert "0123456789abcdef" not in repr(AdminSettings(admin_token="0123456789abcdef"))
