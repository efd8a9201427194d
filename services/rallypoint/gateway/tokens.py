"""Access tokens: EdDSA JWTs of 15 minutes that every gateway makes and any gateway verifies.

Claims: iss, aud, sub (player), name, sid (refresh family), iat, exp; header: alg EdDSA (pinned),
typ `at+jwt` so that nothing else signed with the key can stand in, kid. A verified token is kept
in a bounded table until it expires, so the signature is checked once per token and gateway, not
once per call. PyJWT and cryptography are imported by the first token, not by the start.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rallypoint.gateway import tokens_keys
from rallypoint.kit import errors
from rallypoint.kit.clock import Clock

ISSUER = "rallypoint"
AUDIENCE = "rallypoint-gateway"
TYPE = "at+jwt"
MAX_TOKEN_CHARACTERS = 2048
LEEWAY_S = 5.0
_REQUIRED = ["exp", "iat", "sub", "aud", "iss", "sid"]


@dataclass(frozen=True, slots=True)
class Session:
    """Whom a verified access token stands for; `expires_s` is unix time."""

    player_id: str
    display_name: str
    family: str
    expires_s: float


class AccessTokens:
    """Signs with the first key, verifies with all of them."""

    def __init__(
        self, seeds: Sequence[bytes], clock: Clock, *, life_s: float, verified_max: int = 20_000
    ) -> None:
        self._seeds = tuple(seeds)
        self._clock = clock
        self._life_s = life_s
        self._verified_max = verified_max
        self._verified: dict[str, Session] = {}
        self._newest: dict[str, float] = {}
        self._keys: dict[str, Any] = {}
        self._signer: tuple[str, Any] | None = None

    def warm(self) -> None:
        """Load the cryptography now; safe to call from a thread, at most once."""
        self._load()

    def issue(self, *, player_id: str, display_name: str, family: str) -> tuple[str, float]:
        """A new token and its expiry, unix seconds."""
        import jwt

        kid, key = self._load()
        now = int(self._clock.now())
        expires = now + int(self._life_s)
        claims = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": player_id,
            "name": display_name,
            "sid": family,
            "iat": now,
            "exp": expires,
        }
        headers = {"typ": TYPE, "kid": kid}
        return jwt.encode(claims, key, algorithm="EdDSA", headers=headers), float(expires)

    def knows(self, token: str) -> bool:
        """Whether the token was verified before."""
        return token in self._verified

    def session_end_s(self, player_id: str) -> float:
        """When the newest access token of a player that was seen here ends, unix time."""
        return self._newest.get(player_id, 0.0)

    def verify(self, token: str) -> Session:
        """The session of a genuine, living token; Unauthenticated `TOKEN_INVALID` otherwise,
        `TOKEN_EXPIRED` when only its time is over."""
        session = self._verified.get(token)
        if session is None:
            session = self._remember(token, self._verify(token))
        if not self.lives(session):
            self._verified.pop(token, None)
            raise errors.Unauthenticated("TOKEN_EXPIRED", "the access token has expired")
        return session

    def lives(self, session: Session) -> bool:
        """Whether the time of a verified token is not over."""
        return self.until_s(session) > self._clock.now()

    def until_s(self, session: Session) -> float:
        """When the time of a session is over, unix time."""
        return session.expires_s + LEEWAY_S

    def _verify(self, token: str) -> Session:
        import jwt

        self._load()
        if len(token) > MAX_TOKEN_CHARACTERS:
            raise _invalid()
        try:
            claims = self._decode(token)
            return Session(
                player_id=str(claims["sub"]),
                display_name=str(claims.get("name", "")),
                family=str(claims["sid"]),
                expires_s=float(claims["exp"]),
            )
        except jwt.ExpiredSignatureError as problem:
            raise errors.Unauthenticated("TOKEN_EXPIRED", "the token has expired") from problem
        except (jwt.InvalidTokenError, ValueError, TypeError, UnicodeError) as problem:
            raise _invalid() from problem

    def _decode(self, token: str) -> dict[str, Any]:
        import jwt

        header = jwt.get_unverified_header(token)
        key = self._keys.get(str(header.get("kid", "")))
        if key is None or header.get("typ") != TYPE:
            raise _invalid()
        claims: dict[str, Any] = jwt.decode(
            token,
            key.public_key(),
            algorithms=["EdDSA"],
            audience=AUDIENCE,
            issuer=ISSUER,
            options={"require": _REQUIRED},
            leeway=LEEWAY_S,
        )
        return claims

    def _remember(self, token: str, session: Session) -> Session:
        # Insertion order is age order, and tokens live equally long: the first is the oldest.
        if len(self._verified) >= self._verified_max:
            del self._verified[next(iter(self._verified))]
        self._verified[token] = session
        if len(self._newest) >= self._verified_max:
            del self._newest[next(iter(self._newest))]
        expires_s = max(session.expires_s, self._newest.pop(session.player_id, 0.0))
        self._newest[session.player_id] = expires_s
        return session

    def _load(self) -> tuple[str, Any]:
        if self._signer is None:
            from cryptography.hazmat.primitives.asymmetric import ed25519

            for seed in self._seeds:
                key = ed25519.Ed25519PrivateKey.from_private_bytes(seed)
                self._keys[tokens_keys.key_id(key.public_key().public_bytes_raw())] = key
            kid = next(iter(self._keys))
            self._signer = (kid, self._keys[kid])
        return self._signer


def _invalid() -> errors.Unauthenticated:
    return errors.Unauthenticated("TOKEN_INVALID", "the access token is not valid")
