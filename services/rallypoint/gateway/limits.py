"""What stands before every handler: who calls, and how often they may.

The guard reads `authorization: Bearer`, verifies it (a table look-up for a token seen before) and
takes from the caller's buckets. Limits are in process: with n gateways a caller gets up to n times
as much, which is what they are for (one process's health), and they cost no round trip.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from rallypoint.gateway import calls
from rallypoint.gateway.domain import buckets
from rallypoint.gateway.tokens import AccessTokens, Session
from rallypoint.kit import errors, metrics

_BEARER = "Bearer "


@dataclass(frozen=True, slots=True)
class LimitSettings:
    """Rates per player and address. Numbers: a page sends 10 to 20 inputs a second."""

    unary_per_player_per_s: float = 30.0
    """Calls of one player but inputs, in the long run."""
    unary_per_player_burst: float = 60.0
    """Calls of one player at once."""
    inputs_per_player_per_s: float = 60.0
    """SendInput calls of one player in the long run."""
    inputs_per_player_burst: float = 120.0
    """SendInput calls of one player at once."""
    tickets_per_player_per_s: float = 0.5
    """Tickets of one player in the long run. Each can become a room that waits for its players for
    half a minute: two players who never come must not fill a fleet."""
    tickets_per_player_burst: float = 10.0
    """Tickets of one player at once."""
    public_per_ip_per_s: float = 5.0
    """OpenSession and RefreshSession calls of one address in the long run."""
    public_per_ip_burst: float = 30.0
    """OpenSession and RefreshSession calls of one address at once."""
    failed_auth_per_ip_per_min: float = 10.0
    """Refused credentials and tokens of one address; above it the address waits."""


@dataclass(slots=True)
class StreamLimit:
    """How many streams a player has open at this gateway."""

    most: int
    _open: dict[str, int] = field(default_factory=dict)

    @contextlib.contextmanager
    def held(self, player_id: str) -> Iterator[None]:
        """Count one stream while inside; ResourceExhausted `STREAMS_EXCEEDED` above the limit."""
        held = self._open.get(player_id, 0)
        if held >= self.most:
            raise errors.ResourceExhausted(
                "STREAMS_EXCEEDED", "too many open streams", retry_after_s=1.0
            )
        self._open[player_id] = held + 1
        try:
            yield
        finally:
            left = self._open[player_id] - 1
            if left:
                self._open[player_id] = left
            else:
                del self._open[player_id]

    def players(self) -> int:
        """Players with a stream here."""
        return len(self._open)


class Guard:
    """Runs before every handler of both edges; sets `call.session`. Never waits.

    `trusted` are CIDR ranges without limits by address; nothing is trusted unless named there, not
    even loopback.
    """

    def __init__(
        self,
        access: AccessTokens,
        settings: LimitSettings,
        *,
        trusted: Iterable[str],
        clock: Callable[[], float],
    ) -> None:
        self._access = access
        self._clock = clock
        self._trusted = buckets.Ranges(trusted)
        self._unary = buckets.Buckets(
            buckets.Rate(settings.unary_per_player_per_s, settings.unary_per_player_burst)
        )
        self.inputs = buckets.Buckets(
            buckets.Rate(settings.inputs_per_player_per_s, settings.inputs_per_player_burst)
        )
        """SendInput calls, by player."""
        self._tickets = buckets.Buckets(
            buckets.Rate(settings.tickets_per_player_per_s, settings.tickets_per_player_burst)
        )
        self._public = buckets.Buckets(
            buckets.Rate(settings.public_per_ip_per_s, settings.public_per_ip_burst)
        )
        failures = settings.failed_auth_per_ip_per_min
        self._failures = buckets.Buckets(buckets.Rate(failures / 60, failures))
        self._blocked: dict[str, float] = {}
        self._blocked_until = 0.0
        self._on_block: list[Callable[[str], None]] = []

    def __call__(self, call: calls.Call, method: calls.Method) -> None:
        """Let the call pass or raise Unauthenticated or ResourceExhausted."""
        if method.public:
            self._pass_public(call)
            return
        session = call.session = self._authenticate(call)
        small = method.max_bytes == calls.INPUT_MAX_BYTES
        wait_s = (self.inputs if small else self._unary).take(session.player_id, self._clock())
        if wait_s:
            raise exhausted("PLAYER_RATE", wait_s)
        if isinstance(method, calls.UnaryMethod) and method.rationed:
            self._ration(session.player_id)

    def again(self, session: Session, method: calls.UnaryMethod, peer: str, now: float) -> bool:
        """Whether a session that passed before passes at `now`, on the clock of this guard.

        False takes nothing: the guard itself has to be asked, and says why. Implements `Again`.
        """
        if self._blocked and self._is_blocked(peer, now):
            return False
        if method.rationed or not self._access.lives(session):
            return False
        small = method.max_bytes == calls.INPUT_MAX_BYTES
        return not (self.inputs if small else self._unary).take(session.player_id, now)

    def until_s(self, session: Session) -> float:
        """When a session ends, unix time."""
        return self._access.until_s(session)

    def watch_blocks(self, blocked: Callable[[str], None]) -> None:
        """Tell of every address (its key) that is refused from then on."""
        self._on_block.append(blocked)

    def failed(self, peer: str) -> None:
        """Count a refused credential of an address; above the limit it has to wait."""
        if peer in self._trusted:
            return
        now = self._clock()
        key = buckets.address_key(peer)
        wait_s = self._failures.take(key, now)
        if wait_s:
            self._block(key, now, now + wait_s)

    def _authenticate(self, call: calls.Call) -> Session:
        header = call.metadata.get("authorization", "")
        try:
            if not header.startswith(_BEARER):
                raise errors.Unauthenticated("TOKEN_MISSING", "send authorization: Bearer …")
            token = header[len(_BEARER) :]
            if self._blocked and not self._access.knows(token):
                # Signatures cost a hundred microseconds: no guesser gets them for nothing.
                self._refuse_blocked(call.peer)
            return self._access.verify(token)
        except errors.Unauthenticated as refusal:
            if refusal.reason != "TOKEN_EXPIRED":
                # An expired token is an honest client's; only the others look like guessing.
                self.failed(call.peer)
            metrics.GATEWAY_GUARD_REFUSALS.labels(refusal.reason).inc()
            raise

    def _ration(self, player_id: str) -> None:
        wait_s = self._tickets.take(player_id, self._clock())
        if wait_s:
            raise exhausted("TICKET_RATE", wait_s)

    def _pass_public(self, call: calls.Call) -> None:
        if call.peer in self._trusted:
            return
        self._refuse_blocked(call.peer)
        wait_s = self._public.take(buckets.address_key(call.peer), self._clock())
        if wait_s:
            raise exhausted("ADDRESS_RATE", wait_s)

    def _refuse_blocked(self, peer: str) -> None:
        if not self._blocked:
            return
        key = buckets.address_key(peer)
        until = self._blocked.get(key)
        if until is None:
            return
        wait_s = until - self._clock()
        if wait_s > 0:
            raise exhausted("AUTH_FAILURES", wait_s)
        del self._blocked[key]

    def _is_blocked(self, peer: str, now: float) -> bool:
        if now > self._blocked_until:
            self._blocked.clear()
        return self._blocked.get(buckets.address_key(peer), now) > now

    def _block(self, key: str, now: float, until: float) -> None:
        known_until = self._blocked.get(key)
        if known_until is None and len(self._blocked) >= 10_000:
            del self._blocked[next(iter(self._blocked))]
        self._blocked[key] = until
        self._blocked_until = max(self._blocked_until, until)
        if known_until is not None and known_until > now:
            return  # told already: who hears of it looks through all connections
        for blocked in self._on_block:
            blocked(key)


def exhausted(reason: str, wait_s: float) -> errors.ResourceExhausted:
    """The refusal of a rate limit, with the time to wait."""
    metrics.GATEWAY_GUARD_REFUSALS.labels(reason).inc()
    return errors.ResourceExhausted(reason, "too many calls", retry_after_s=wait_s)
