"""The fan-out: the same bytes for many, and what becomes of those who read slowly."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from tests.support.backends import backends

from rallypoint.gateway import fanout
from rallypoint.gateway.domain import grpcweb

LIMITS = fanout.FanOutLimits(behind_bytes=100, cut_after_s=10)


@dataclass
class Pipe:
    """A transport that keeps what it gets."""

    pending: int = 0
    sent: list[bytes] = field(default_factory=list)
    aborted: bool = False

    def write(self, data: bytes) -> None:
        self.sent.append(data)

    def get_write_buffer_size(self) -> int:
        return self.pending

    def abort(self) -> None:
        self.aborted = True


@dataclass
class Time:
    """A clock set by hand."""

    now: float = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture(params=backends())
def fan_out(request: pytest.FixtureRequest, time: Time) -> fanout.FanOut:
    return fanout.make(request.param, LIMITS, clock=time)


def test_each_client_gets_its_framing(fan_out: fanout.FanOut) -> None:
    web, text, native = Pipe(), Pipe(), Pipe()
    slots = [
        fan_out.add(web, grpcweb.web),
        fan_out.add(text, grpcweb.web_text),
        fan_out.add(native, grpcweb.native),
    ]
    assert fan_out.push(slots, [b"m"] * 3) == []
    assert web.sent == [grpcweb.web(b"m")]
    assert text.sent == [grpcweb.web_text(b"m")]
    assert native.sent == [b"m"]


def test_one_message_is_framed_once_for_all(fan_out: fanout.FanOut) -> None:
    pipes = [Pipe() for _ in range(5)]
    message = b"same"
    fan_out.push([fan_out.add(pipe, grpcweb.web) for pipe in pipes], [message] * 5)
    assert all(pipe.sent[0] is pipes[0].sent[0] for pipe in pipes)


def test_different_messages_in_one_push_reach_their_clients(fan_out: fanout.FanOut) -> None:
    pipes = [Pipe() for _ in range(4)]
    slots = [fan_out.add(pipe, grpcweb.native) for pipe in pipes]
    fan_out.push(slots, [b"a", b"a", b"b", b"a"])
    assert [pipe.sent for pipe in pipes] == [[b"a"], [b"a"], [b"b"], [b"a"]]


def test_slow_client_is_skipped_then_cut(fan_out: fanout.FanOut, time: Time) -> None:
    slow, good = Pipe(pending=101), Pipe()
    slots = [fan_out.add(slow, grpcweb.web), fan_out.add(good, grpcweb.web)]
    assert fan_out.push(slots, [b"m"] * 2) == [(slots[0], fanout.Problem.BEHIND)]
    assert [fan_out.skipped(slots[0]) for _ in range(2)] == [b"m", b""]
    time.now = 9.9
    assert fan_out.push(slots, [b"m"] * 2) == [(slots[0], fanout.Problem.BEHIND)]
    time.now = 10.0
    assert fan_out.push(slots, [b"m"] * 2) == [(slots[0], fanout.Problem.CUT)]
    assert slow.aborted
    assert not slow.sent
    assert len(good.sent) == 3
    assert fan_out.push(slots, [b"m"] * 2) == [(slots[0], fanout.Problem.GONE)]


def test_client_that_caught_up_starts_afresh(fan_out: fanout.FanOut, time: Time) -> None:
    pipe = Pipe(pending=101)
    slot = fan_out.add(pipe, grpcweb.web)
    fan_out.push([slot], [b"m"])
    pipe.pending, time.now = 0, 8.0
    assert fan_out.push([slot], [b"m"]) == []
    pipe.pending, time.now = 101, 12.0
    assert fan_out.push([slot], [b"m"]) == [(slot, fanout.Problem.BEHIND)]


def test_removed_slot_is_gone_and_reused(fan_out: fanout.FanOut) -> None:
    slot = fan_out.add(Pipe(), grpcweb.web)
    fan_out.remove(slot)
    fan_out.remove(slot)
    assert fan_out.push([slot], [b"m"]) == [(slot, fanout.Problem.GONE)]
    assert fan_out.add(Pipe(), grpcweb.web) == slot
    assert fan_out.add(Pipe(), grpcweb.web) != slot


def test_slot_of_a_cut_client_is_its_own_until_removed(fan_out: fanout.FanOut, time: Time) -> None:
    stuck, next_one = Pipe(pending=101), Pipe()
    cut = fan_out.add(stuck, grpcweb.web)
    fan_out.push([cut], [b"m"])
    time.now = 11
    assert fan_out.push([cut], [b"m"]) == [(cut, fanout.Problem.CUT)]
    other = fan_out.add(next_one, grpcweb.web)
    assert other != cut
    fan_out.remove(cut)
    assert fan_out.push([other], [b"m"]) == []
    assert fan_out.add(Pipe(), grpcweb.web) == cut


def test_transport_that_just_broke_does_not_stop_the_others(fan_out: fanout.FanOut) -> None:
    class Broken(Pipe):
        def write(self, data: bytes) -> None:
            raise RuntimeError("the handler is closed")

    broken, good = Broken(), Pipe()
    slots = [fan_out.add(broken, grpcweb.web), fan_out.add(good, grpcweb.web)]
    assert fan_out.push(slots, [b"m"] * 2) == [(slots[0], fanout.Problem.GONE)]
    assert broken.aborted
    assert len(good.sent) == 1


def test_statistics_count_what_happened(fan_out: fanout.FanOut) -> None:
    slots = [fan_out.add(Pipe(), grpcweb.native), fan_out.add(Pipe(pending=500), grpcweb.native)]
    fan_out.push(slots, [b"four"] * 2)
    expected = fanout.FanOutStatistics(clients=2, messages=1, bytes=4, behind=1, cut=0)
    assert fan_out.statistics() == expected


def test_unknown_backend_is_an_error() -> None:
    with pytest.raises(KeyError):
        fanout.make("telepathy", LIMITS, clock=Time())
