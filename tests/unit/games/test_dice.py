"""Randomness of rooms: known numbers, and the same alone as together."""

import numpy as np

from rallypoint.games.dice import Dice


def test_numbers_are_those_of_splitmix64() -> None:
    state = np.array([1234567], np.uint64)
    values = Dice(state).uniforms(3)[0] * 2.0**53
    expected = [6457827717110365317, 3203168211198807973, 9817491932198370423]
    assert [int(value) for value in values] == [number >> 11 for number in expected]


def test_rooms_draw_alike_together_and_alone() -> None:
    both = Dice(np.array([7, 9], np.uint64)).uniforms(4)
    alone = Dice(np.array([9], np.uint64))
    assert both[1].tolist() == [alone.random() for _ in range(4)]


def test_shuffled_keeps_all_items() -> None:
    dice = Dice(np.array([3], np.uint64))
    assert sorted(dice.shuffled([1, 2, 3, 4])) == [1, 2, 3, 4]
    assert dice.pick(["only"]) == "only"
    assert all(0 <= dice.below(6) < 6 for _ in range(50))
