"""Sessions through a real gateway on a real Redis: credentials, renewal, revocation, limits."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from tests.integration.conftest import Runs
from tests.integration.gateway_stack import SESSION, Player, gateway, settings

from rallypoint.cli.brokers import Brokers
from rallypoint.gateway import config
from rallypoint.kit import errors
from rallypoint.v1 import session_pb2

Fresh = Callable[[str], str]


def guest(secret: bytes, **fields: Any) -> session_pb2.OpenSessionRequest:
    credential = session_pb2.GuestCredential(device_secret=secret)
    wanted = {"display_name": "Ada", "game": "skirmish", "protocol": 1} | fields
    return session_pb2.OpenSessionRequest(guest=credential, **wanted)


async def opened(player: Player, request: session_pb2.OpenSessionRequest) -> session_pb2.Session:
    path = SESSION + "OpenSession"
    return (await player.call(path, request, session_pb2.OpenSessionResponse)).session


async def refreshed(player: Player, token: str) -> session_pb2.Session:
    request = session_pb2.RefreshSessionRequest(refresh_token=token)
    path = SESSION + "RefreshSession"
    return (await player.call(path, request, session_pb2.RefreshSessionResponse)).session


def test_guest_is_the_same_player_at_every_gateway(
    runs: Runs, brokers: Brokers, fresh: Fresh, tmp_path: Path
) -> None:
    async def scenario() -> None:
        wanted = settings(tmp_path)
        async with gateway(brokers, wanted) as one, gateway(brokers, wanted) as two:
            first, again = Player(one.url, b""), Player(two.url, b"")
            ada = await opened(first, guest(b"d" * 16, display_name="  Ada\u202e "))
            same = await opened(again, guest(b"d" * 16, display_name=""))
            assert ada.player_id == same.player_id
            assert ada.display_name == "Ada"
            assert same.display_name
            assert ada.access_expire_time.seconds > time.time()
            # A token of one gateway is good at the other: they share the key file.
            again.session = ada
            request = session_pb2.CloseSessionRequest(refresh_token=ada.refresh_token)
            path = SESSION + "CloseSession"
            await again.call(path, request, session_pb2.CloseSessionResponse)
            for each in (first, again):
                await each.channel.close()

    runs(scenario())


@pytest.mark.parametrize(
    ("fields", "code", "reason"),
    [
        ({"game": "No Game"}, errors.Code.INVALID_ARGUMENT, "NAME_INVALID"),
        ({"protocol": 0}, errors.Code.FAILED_PRECONDITION, "CLIENT_OUTDATED"),
        ({"build": "0.9"}, errors.Code.FAILED_PRECONDITION, "CLIENT_OUTDATED"),
        ({}, errors.Code.INVALID_ARGUMENT, "CREDENTIAL_MISSING"),
    ],
    ids=["game", "protocol", "build", "no credential"],
)
def test_opening_is_refused_with_a_reason(
    runs: Runs,
    brokers: Brokers,
    tmp_path: Path,
    fields: dict[str, Any],
    code: errors.Code,
    reason: str,
) -> None:
    async def scenario() -> None:
        base = settings(tmp_path)
        oldest = replace(base.sessions, oldest_builds=("skirmish=1.0",))
        async with gateway(brokers, replace(base, sessions=oldest)) as running:
            player = Player(running.url, b"")
            request = guest(b"d" * 16, **{"build": "1.0"} | fields)
            if reason == "CREDENTIAL_MISSING":
                request.ClearField("credential")
            with pytest.raises(errors.RallypointError) as refusal:
                await opened(player, request)
            assert (refusal.value.code, refusal.value.reason) == (code, reason)
            await player.channel.close()

    runs(scenario())


def test_refresh_token_works_once_and_reuse_revokes_the_family(
    runs: Runs, brokers: Brokers, fresh: Fresh, tmp_path: Path
) -> None:
    async def scenario() -> None:
        async with gateway(brokers, settings(tmp_path)) as running:
            player = Player(running.url, b"")
            first = await opened(player, guest(b"r" * 16))
            second = await refreshed(player, first.refresh_token)
            assert (second.player_id, second.display_name) == (first.player_id, "Ada")
            assert second.refresh_token != first.refresh_token
            with pytest.raises(errors.Unauthenticated, match="REFRESH_REUSED"):
                await refreshed(player, first.refresh_token)
            with pytest.raises(errors.Unauthenticated, match="REFRESH_REUSED"):
                await refreshed(player, second.refresh_token)
            other = await opened(player, guest(b"r" * 16))
            assert (await refreshed(player, other.refresh_token)).player_id == first.player_id
            await player.channel.close()

    runs(scenario())


def test_only_one_of_two_racing_refreshes_wins(
    runs: Runs, brokers: Brokers, tmp_path: Path
) -> None:
    async def scenario() -> None:
        async with gateway(brokers, settings(tmp_path)) as running:
            player = Player(running.url, b"")
            session = await opened(player, guest(b"q" * 16))
            outcomes = await asyncio.gather(
                *(refreshed(player, session.refresh_token) for _ in range(4)),
                return_exceptions=True,
            )
            won = [each for each in outcomes if isinstance(each, session_pb2.Session)]
            lost = [each for each in outcomes if isinstance(each, errors.Unauthenticated)]
            assert (len(won), len(lost)) == (1, 3)
            await player.channel.close()

    runs(scenario())


def test_closed_session_cannot_be_refreshed_nor_closed_by_others(
    runs: Runs, brokers: Brokers, tmp_path: Path
) -> None:
    async def scenario() -> None:
        async with gateway(brokers, settings(tmp_path)) as running:
            mine, other = Player(running.url, b"c" * 16), Player(running.url, b"o" * 16)
            await mine.open()
            await other.open()
            request = session_pb2.CloseSessionRequest(refresh_token=mine.session.refresh_token)
            path = SESSION + "CloseSession"
            with pytest.raises(errors.PermissionDenied, match="SESSION_FOREIGN"):
                await other.call(path, request, session_pb2.CloseSessionResponse)
            for _ in range(2):  # retry-safe
                await mine.call(path, request, session_pb2.CloseSessionResponse)
            with pytest.raises(errors.Unauthenticated, match="REFRESH_UNKNOWN"):
                await refreshed(mine, mine.session.refresh_token)
            for each in (mine, other):
                await each.channel.close()

    runs(scenario())


@pytest.mark.parametrize("token", ["", "x", "no.such", ".", "a b.c", "x" * 200, "*.y"])
def test_made_up_refresh_tokens_are_refused(
    runs: Runs, brokers: Brokers, tmp_path: Path, token: str
) -> None:
    async def scenario() -> None:
        async with gateway(brokers, settings(tmp_path)) as running:
            player = Player(running.url, b"")
            with pytest.raises(errors.Unauthenticated, match="REFRESH_UNKNOWN"):
                await refreshed(player, token)
            await player.channel.close()

    runs(scenario())


def test_addresses_that_are_not_trusted_are_limited(
    runs: Runs, brokers: Brokers, tmp_path: Path
) -> None:
    async def scenario() -> None:
        base = settings(tmp_path)
        wanted = replace(
            base,
            edge=replace(base.edge, trusted_ranges=()),
            limits=replace(base.limits, public_per_ip_burst=3.0, public_per_ip_per_s=0.5),
        )
        async with gateway(brokers, wanted) as running:
            player = Player(running.url, b"")
            for _ in range(3):
                await opened(player, guest(b"l" * 16))
            with pytest.raises(errors.ResourceExhausted, match="ADDRESS_RATE") as refusal:
                await opened(player, guest(b"l" * 16))
            assert refusal.value.retry_after_s is not None
            assert 0 < refusal.value.retry_after_s <= 2
            await player.channel.close()

    runs(scenario())


class Studio:
    """An identity provider with a JWKS file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.keys: dict[str, Ed25519PrivateKey] = {}

    def add(self, kid: str) -> None:
        """Make a key and publish it."""
        self.keys[kid] = Ed25519PrivateKey.generate()
        entries = [
            json.loads(jwt.algorithms.OKPAlgorithm.to_jwk(key.public_key())) | {"kid": name}
            for name, key in self.keys.items()
        ]
        self.path.write_text(json.dumps({"keys": entries}))

    def sign(self, kid: str, **changes: Any) -> str:
        """A token of the studio."""
        now = int(time.time())
        claims = {
            "iss": "https://id.studio.example",
            "aud": "skirmish",
            "sub": "user-7",
            "name": "Grace",
            "iat": now,
            "exp": now + 60,
        } | changes
        return jwt.encode(claims, self.keys[kid], algorithm="EdDSA", headers={"kid": kid})

    def settings(self, base: config.Settings) -> config.Settings:
        """A gateway's settings that trust this studio."""
        issuer = f"https://id.studio.example skirmish EdDSA {self.path}"
        return replace(base, jwks_issuers=(issuer,))


def _studio_request(token: str) -> session_pb2.OpenSessionRequest:
    credential = session_pb2.TokenCredential(jwt=token)
    return session_pb2.OpenSessionRequest(token=credential, game="skirmish", protocol=1)


def test_studio_tokens_open_sessions(runs: Runs, brokers: Brokers, tmp_path: Path) -> None:
    async def scenario() -> None:
        studio = Studio(tmp_path / "jwks.json")
        studio.add("one")
        async with gateway(brokers, studio.settings(settings(tmp_path))) as running:
            player = Player(running.url, b"")
            session = await opened(player, _studio_request(studio.sign("one")))
            again = await opened(player, _studio_request(studio.sign("one", name="G")))
            assert session.player_id == again.player_id
            assert (session.display_name, again.display_name) == ("Grace", "G")
            await player.channel.close()

    runs(scenario())


@pytest.mark.parametrize(
    "changes",
    [{"aud": "other"}, {"iss": "https://evil.example"}, {"exp": 1}, {"sub": 5}],
    ids=["audience", "issuer", "expired", "subject"],
)
def test_studio_tokens_for_others_are_refused(
    runs: Runs, brokers: Brokers, tmp_path: Path, changes: dict[str, Any]
) -> None:
    async def scenario() -> None:
        studio = Studio(tmp_path / "jwks.json")
        studio.add("one")
        async with gateway(brokers, studio.settings(settings(tmp_path))) as running:
            player = Player(running.url, b"")
            with pytest.raises(errors.Unauthenticated, match="CREDENTIAL_INVALID"):
                await opened(player, _studio_request(studio.sign("one", **changes)))
            await player.channel.close()

    runs(scenario())
