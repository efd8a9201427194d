"""A studio's own identity: JWTs of the issuers named in the settings.

Each issuer pins its algorithm and audience; the token's header is never believed about either.
Keys come from a JWKS file or URL, read by one background task every five minutes; an unknown key
id asks for a read at once, at most every 30 s, so that made-up ids cannot flood the issuer. When
an issuer is away the keys at hand go on serving, and a key that vanished from the set verifies for
twenty minutes more.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from rallypoint.kit import errors, waiting
from rallypoint.kit.clock import Clock

log = logging.getLogger(__name__)

ALGORITHMS = frozenset({"EdDSA", "ES256", "ES384", "RS256", "PS256"})
REFRESH_S = 300.0
REFETCH_S = 30.0
KEPT_S = 1200.0
FETCH_TIMEOUT_S = 5.0
MAX_JWKS_BYTES = 256 * 1024
LEEWAY_S = 5.0


@dataclass(frozen=True, slots=True)
class Issuer:
    """One identity provider: exact `iss`, our `aud` there, its algorithm, where its keys are."""

    issuer: str
    audience: str
    algorithm: str
    source: str


def parse_issuer(text: str) -> Issuer:
    """Read `issuer audience algorithm source`; FailedPrecondition says what is wrong."""
    parts = text.split()
    if len(parts) != 4:
        raise _invalid(f"an issuer is «iss aud algorithm file-or-url», not {text!r}")
    if parts[2] not in ALGORITHMS:
        raise _invalid(f"algorithm {parts[2]!r} is not one of {', '.join(sorted(ALGORITHMS))}")
    return Issuer(*parts)


def _invalid(message: str) -> errors.FailedPrecondition:
    return errors.FailedPrecondition("SETTING_INVALID", f"RALLYPOINT_JWKS_ISSUERS: {message}")


@dataclass(slots=True)
class _KeySet:
    """The keys of an issuer: the key object and until when it may be used, by key id."""

    keys: dict[str, tuple[Any, float]] = field(default_factory=dict)
    fetched_at: float = float("-inf")


class StudioTokens:
    """Verifies studio tokens; `run` keeps the keys fresh."""

    def __init__(self, issuers: Sequence[Issuer], clock: Clock) -> None:
        self._issuers = {issuer.issuer: issuer for issuer in issuers}
        self._sets = {issuer.issuer: _KeySet() for issuer in issuers}
        self._clock = clock
        self._wanted = asyncio.Event()
        self._read = asyncio.Condition()

    async def run(self) -> None:
        """Read all key sets now, every five minutes, and when somebody wants one."""
        while self._issuers:
            await asyncio.gather(*(self._refresh(issuer) for issuer in self._issuers.values()))
            async with self._read:
                self._read.notify_all()
            self._wanted.clear()
            await waiting.happens(self._wanted, REFRESH_S)

    async def verify(self, token: str) -> tuple[str, str, str]:
        """Issuer, subject and name of a genuine token; Unauthenticated `CREDENTIAL_INVALID`."""
        claims = await self.claims(token)
        return str(claims["iss"]), str(claims["sub"]), str(claims.get("name", ""))

    async def claims(self, token: str) -> dict[str, Any]:
        """All that a genuine token says; Unauthenticated `CREDENTIAL_INVALID`."""
        import jwt

        try:
            header = jwt.get_unverified_header(token)
            claims = jwt.decode(token, options={"verify_signature": False})
            issuer = self._issuers[str(claims["iss"])]
            key = await self._key(issuer, str(header.get("kid", "")))
            return self._verify(token, issuer, key)
        except (jwt.InvalidTokenError, KeyError, ValueError, TypeError) as problem:
            raise errors.Unauthenticated("CREDENTIAL_INVALID", "refused") from problem

    def _verify(self, token: str, issuer: Issuer, key: Any) -> dict[str, Any]:
        import jwt

        claims: dict[str, Any] = jwt.decode(
            token,
            key,
            algorithms=[issuer.algorithm],
            audience=issuer.audience,
            issuer=issuer.issuer,
            options={"require": ["exp", "iat", "sub", "aud", "iss"]},
            leeway=LEEWAY_S,
        )
        return claims

    async def _key(self, issuer: Issuer, kid: str) -> Any:
        """The key; waits for one read of the set when the id is unknown. KeyError if none."""
        found = self._sets[issuer.issuer].keys.get(kid)
        if found is None and self._may_refetch(issuer):
            async with self._read:
                self._wanted.set()
                try:
                    async with asyncio.timeout(FETCH_TIMEOUT_S):
                        await self._read.wait()
                except TimeoutError:
                    pass
            found = self._sets[issuer.issuer].keys.get(kid)
        if found is None or found[1] <= self._clock.now():
            raise KeyError(kid)
        return found[0]

    def _may_refetch(self, issuer: Issuer) -> bool:
        return self._clock.monotonic() - self._sets[issuer.issuer].fetched_at >= REFETCH_S

    async def _refresh(self, issuer: Issuer) -> None:
        known = self._sets[issuer.issuer]
        if not self._may_refetch(issuer):
            return
        known.fetched_at = self._clock.monotonic()
        try:
            keys = await asyncio.to_thread(_fetch_keys, issuer)
        except Exception as problem:  # a broken issuer must not take ours down
            log.warning("jwks_unreadable", extra={"issuer": issuer.issuer, "error": str(problem)})
            return
        now = self._clock.now()
        living = {kid: kept for kid, kept in known.keys.items() if kept[1] > now}
        known.keys = living | {kid: (key, now + REFRESH_S + KEPT_S) for kid, key in keys.items()}


def _fetch_keys(issuer: Issuer) -> dict[str, Any]:
    """The signing keys of a JWKS document by key id. Blocking: runs in a thread."""
    import jwt

    document = json.loads(_read_source(issuer.source))
    keys: dict[str, Any] = {}
    for entry in document["keys"]:
        if entry.get("use", "sig") == "sig":
            keys[str(entry.get("kid", ""))] = jwt.PyJWK(entry, issuer.algorithm).key
    return keys


def _read_source(source: str) -> bytes:
    if not source.startswith(("https://", "http://")):
        with open(source.removeprefix("file://"), "rb") as file:
            return file.read(MAX_JWKS_BYTES)
    import urllib.request  # most gateways have no such issuer

    with urllib.request.urlopen(source, timeout=FETCH_TIMEOUT_S) as response:  # noqa: S310  # as above
        body: bytes = response.read(MAX_JWKS_BYTES)
        return body
