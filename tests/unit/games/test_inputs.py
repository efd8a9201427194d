"""Rings of inputs: order, duplicates, overflow, idle policies and what a game may see."""

from collections.abc import Callable

import numpy as np
import pytest

from rallypoint.games import codec
from rallypoint.games.columns import Input, f32, flag, i8, q8
from rallypoint.games.inputs import RING, InputRings
from rallypoint.games.rings import COMPILED, CompiledRings


class Keys(Input, idle="repeat"):
    dx = i8(-100, 100)
    fire = flag()


class Once(Input, idle="zero"):
    power = f32(0, 10)
    aim = q8(-1, 1)


def pack(kind: type[Input], **values: float) -> bytes:
    return codec.pack_input([column.spec() for column in kind.sent()], values)


needs_compiler = pytest.mark.skipif(not COMPILED, reason="no rings in C here")
Rings = Callable[..., InputRings]


@pytest.fixture(params=["python", pytest.param("compiled", marks=needs_compiler)])
def rings(request: pytest.FixtureRequest) -> Rings:
    made = CompiledRings if request.param == "compiled" else InputRings
    return lambda kind=Keys: made(kind, rooms=2, seats=2)


def current(ring: InputRings, name: str, seat: int = 1) -> object:
    return ring.bind(slice(0, 2)).arrays[name].reshape(-1)[seat].item()


def test_newest_input_is_applied_and_acknowledged(rings: Rings) -> None:
    ring = rings()
    ring.offer(1, 1, [pack(Keys, dx=5)])
    ring.take()
    assert current(ring, "dx") == 5
    assert ring.applied.tolist() == [0, 1, 0, 0]


def test_repeated_inputs_are_ignored(rings: Rings) -> None:
    ring = rings()
    ring.offer(1, 1, [pack(Keys, dx=1), pack(Keys, dx=2)])
    ring.offer(1, 1, [pack(Keys, dx=7), pack(Keys, dx=8), pack(Keys, dx=3)])
    seen = []
    for _ in range(4):
        ring.take()
        seen.append((current(ring, "dx"), int(ring.applied[1])))
    assert seen == [(3, 3)] * 4


def test_late_request_does_not_go_back(rings: Rings) -> None:
    ring = rings()
    ring.offer(1, 5, [pack(Keys, dx=5)])
    ring.take()
    ring.offer(1, 4, [pack(Keys, dx=4)])
    ring.take()
    assert (current(ring, "dx"), int(ring.applied[1])) == (5, 5)


def test_backlog_is_worked_off_three_at_a_time(rings: Rings) -> None:
    ring = rings()
    ring.offer(1, 1, [pack(Keys, dx=number) for number in range(1, 9)])
    acks = []
    for _ in range(6):
        ring.take()
        acks.append(int(ring.applied[1]))
    assert acks == [3, 6, 8, 8, 8, 8]


def test_short_press_is_never_lost(rings: Rings) -> None:
    ring = rings()
    ring.offer(1, 1, [pack(Keys), pack(Keys, fire=1), pack(Keys), pack(Keys)])
    ring.take()
    assert current(ring, "fire") is True
    ring.take()
    assert current(ring, "fire") is False


@pytest.mark.parametrize(("kind", "name", "after"), [(Keys, "dx", 3), (Once, "power", 0)])
def test_idle_policy_decides_without_input(
    rings: Rings, kind: type[Input], name: str, after: float
) -> None:
    ring = rings(kind)
    ring.offer(1, 1, [pack(kind, **{name: 3})])
    ring.take()
    ring.take()
    assert current(ring, name) == after


def test_full_ring_gives_up_the_oldest(rings: Rings) -> None:
    ring = rings()
    ring.offer(1, 1, [pack(Keys, dx=1)] * (RING + 10))
    ring.take()
    assert ring.applied[1] == 10 + 3
    for _ in range(RING):
        ring.take()
    assert ring.applied[1] == RING + 10


def test_game_never_sees_what_is_out_of_bounds(rings: Rings) -> None:
    ring = rings(Once)
    ring.offer(1, 1, [pack(Once, power=float("nan"), aim=9)])
    ring.take()
    assert (current(ring, "power"), current(ring, "aim")) == (0, 1)
    ring.offer(1, 2, [pack(Once, power=99, aim=-9)])
    ring.take()
    assert (current(ring, "power"), current(ring, "aim")) == (10, -1)
    keys = rings()
    keys.offer(1, 1, [np.array([-128, 0], np.int8).tobytes()])
    keys.take()
    assert current(keys, "dx") == -100


def test_wrong_size_is_counted_and_ignored(rings: Rings) -> None:
    ring = rings()
    ring.offer(1, 1, [b"", pack(Keys, dx=4)])
    ring.take()
    assert (ring.refused, current(ring, "dx"), int(ring.applied[1])) == (1, 4, 2)


def test_reset_goes_on_after_the_applied_input(rings: Rings) -> None:
    ring = rings()
    ring.offer(1, 1, [pack(Keys, dx=9)] * 4)
    ring.take()
    ring.reset(1)
    assert current(ring, "dx") == 0
    ring.offer(1, int(ring.applied[1]) + 1, [pack(Keys, dx=2)])
    ring.take()
    assert current(ring, "dx") == 2


def test_seats_do_not_mix(rings: Rings) -> None:
    ring = rings()
    for seat in (3, 0, 3, 2):
        ring.offer(seat, int(ring._newest[seat]) + 1, [pack(Keys, dx=seat + 1)])
    ring.take()
    assert [current(ring, "dx", seat) for seat in range(4)] == [1, 0, 3, 4]


def test_seq_from_far_ahead_does_not_lock_the_seat(rings: Rings) -> None:
    ring = rings()
    ring.offer(1, 2**31, [pack(Keys, dx=9)])
    ring.offer(1, 1, [pack(Keys, dx=4)])
    ring.take()
    assert (ring.refused, current(ring, "dx"), int(ring.applied[1])) == (1, 4, 1)


def test_game_without_inputs_refuses_all(rings: Rings) -> None:
    class Nothing(Input):
        pass

    ring = rings(Nothing)
    ring.offer(1, 1, [b"", b"x"])
    ring.take()
    assert (ring.refused, ring.applied.tolist()) == (2, [0] * 4)
