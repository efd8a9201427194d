"""The guard: who may call, how often, and that refusals say when to come again."""

from __future__ import annotations

import time

import pytest

from rallypoint.gateway import calls, limits, tokens
from rallypoint.kit import errors
from rallypoint.v1 import matchmaking_pb2, room_pb2, session_pb2

PEER = "198.51.100.7"


class Clock:
    """A clock that a test sets. It starts at the true time, which PyJWT reads by itself."""

    def __init__(self) -> None:
        self.start = self.at = time.time()

    def now(self) -> float:
        return self.at

    def monotonic(self) -> float:
        return self.at - self.start


def _never(call: calls.Call, message: object) -> bytes:
    return b""


INPUT = calls.UnaryMethod(
    "/r/SendInput", room_pb2.SendInputRequest, room_pb2.SendInputResponse, _never, max_bytes=1024
)
LEAVE = calls.UnaryMethod("/r/Leave", room_pb2.LeaveRequest, room_pb2.LeaveResponse, _never)
OPEN = calls.UnaryMethod(
    "/s/Open",
    session_pb2.OpenSessionRequest,
    session_pb2.OpenSessionResponse,
    _never,
    public=True,
)

TICKET = calls.UnaryMethod(
    "/t",
    matchmaking_pb2.CreateTicketRequest,
    matchmaking_pb2.CreateTicketResponse,
    _never,
    rationed=True,
)


def make(
    clock: Clock, *, trusted: tuple[str, ...] = (), **rates: float
) -> tuple[limits.Guard, tokens.AccessTokens]:
    access = tokens.AccessTokens([b"s" * 32], clock, life_s=10_000)
    settings = limits.LimitSettings(**rates)
    guard = limits.Guard(access, settings, trusted=trusted, clock=clock.monotonic)
    return guard, access


def call(token: str = "", peer: str = PEER) -> calls.Call:
    metadata = {"authorization": f"Bearer {token}"} if token else {}
    return calls.Call(method="/x", metadata=metadata, peer=peer, deadline=0.0)


def session_token(access: tokens.AccessTokens, player_id: str = "g1") -> str:
    return access.issue(player_id=player_id, display_name="A", family="f")[0]


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_session_reaches_the_handler(clock: Clock) -> None:
    guard, access = make(clock)
    made = call(session_token(access))
    guard(made, LEAVE)
    assert made.session.player_id == "g1"


def test_call_without_token_is_refused(clock: Clock) -> None:
    guard, _ = make(clock)
    with pytest.raises(errors.Unauthenticated, match="TOKEN_MISSING"):
        guard(call(), LEAVE)


def test_player_over_the_rate_is_told_when_to_come(clock: Clock) -> None:
    guard, access = make(clock, unary_per_player_per_s=10, unary_per_player_burst=3)
    mine, other = session_token(access), session_token(access, "g2")
    for _ in range(3):
        guard(call(mine), LEAVE)
    with pytest.raises(errors.ResourceExhausted, match="PLAYER_RATE") as refusal:
        guard(call(mine), LEAVE)
    assert refusal.value.retry_after_s == pytest.approx(0.1)
    guard(call(other), LEAVE)
    clock.at += 0.11
    guard(call(mine), LEAVE)


def test_inputs_have_a_bucket_of_their_own(clock: Clock) -> None:
    guard, access = make(clock, unary_per_player_burst=1, inputs_per_player_burst=5)
    mine = session_token(access)
    guard(call(mine), LEAVE)
    for _ in range(5):
        guard(call(mine), INPUT)
    with pytest.raises(errors.ResourceExhausted):
        guard(call(mine), INPUT)


def test_tickets_are_rationed(clock: Clock) -> None:
    guard, access = make(clock, tickets_per_player_per_s=0.5, tickets_per_player_burst=2)
    mine = session_token(access)
    for _ in range(2):
        guard(call(mine), TICKET)
    with pytest.raises(errors.ResourceExhausted, match="TICKET_RATE") as refusal:
        guard(call(mine), TICKET)
    assert refusal.value.retry_after_s == pytest.approx(2.0)
    guard(call(mine), LEAVE)
    guard(call(session_token(access, "g2")), TICKET)


def test_guesser_is_blocked_but_not_its_neighbor(clock: Clock) -> None:
    guard, access = make(clock, failed_auth_per_ip_per_min=3)
    for number in range(4):
        with pytest.raises(errors.Unauthenticated):
            guard(call(f"guess-{number}"), LEAVE)
    with pytest.raises(errors.ResourceExhausted, match="AUTH_FAILURES"):
        guard(call("guess-5"), LEAVE)
    with pytest.raises(errors.ResourceExhausted, match="AUTH_FAILURES"):
        guard(call(), OPEN)
    known = session_token(access)
    access.verify(known)
    guard(call(known), LEAVE)
    guard(call(peer="198.51.100.8"), OPEN)


def test_guesser_costs_its_neighbors_no_express_lane(clock: Clock) -> None:
    guard, access = make(clock, failed_auth_per_ip_per_min=3)
    session = access.verify(session_token(access))
    told: list[str] = []
    guard.watch_blocks(told.append)
    for _ in range(40):
        with pytest.raises(errors.Unauthenticated):
            guard(call(), LEAVE)  # names no token, so nothing can be told of it before
    now = clock.monotonic()
    assert told == [PEER]
    assert not guard.again(session, INPUT, PEER, now)
    assert guard.again(session, INPUT, "198.51.100.8", now)
    clock.at += 60
    assert guard.again(session, INPUT, PEER, clock.monotonic())
    guard.failed(PEER)
    for _ in range(3):
        guard.failed(PEER)
    assert told == [PEER, PEER]


def test_expired_tokens_do_not_count_as_guesses(clock: Clock) -> None:
    guard, access = make(clock, failed_auth_per_ip_per_min=1)
    stale = session_token(access)
    access.verify(stale)
    clock.at += 20_000
    for _ in range(5):
        with pytest.raises(errors.Unauthenticated, match="TOKEN_EXPIRED"):
            guard(call(stale), LEAVE)


@pytest.mark.parametrize("peer", ["127.0.0.1", PEER])
def test_addresses_are_limited_unless_trusted(clock: Clock, peer: str) -> None:
    guard, _ = make(clock, public_per_ip_per_s=1, public_per_ip_burst=1)
    guard(call(peer=peer), OPEN)
    with pytest.raises(errors.ResourceExhausted, match="ADDRESS_RATE"):
        guard(call(peer=peer), OPEN)
    trusting, _ = make(clock, trusted=(peer,), public_per_ip_per_s=1, public_per_ip_burst=1)
    for _ in range(5):
        trusting(call(peer=peer), OPEN)


def test_streams_of_a_player_are_counted() -> None:
    streams = limits.StreamLimit(2)
    with streams.held("g1"), streams.held("g1"):
        with pytest.raises(errors.ResourceExhausted, match="STREAMS_EXCEEDED"), streams.held("g1"):
            pass
        with streams.held("g2"):
            assert streams.players() == 2
    assert streams.players() == 0


def test_known_session_passes_again_until_its_time_or_its_bucket_is_over() -> None:
    clock = Clock()
    guard, access = make(clock, inputs_per_player_per_s=1.0, inputs_per_player_burst=3.0)
    session = access.verify(access.issue(player_id="p", display_name="", family="f")[0])
    passes = [guard.again(session, INPUT, PEER, clock.monotonic()) for _ in range(4)]
    assert passes == [True] * 3 + [False]
    clock.at += 2
    assert guard.again(session, INPUT, PEER, clock.monotonic())
    assert not guard.again(session, TICKET, PEER, clock.monotonic())
    clock.at = session.expires_s + tokens.LEEWAY_S
    assert not guard.again(session, INPUT, PEER, clock.monotonic())
