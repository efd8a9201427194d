"""An address has as many connections as it may; those that came last are too many."""

from rallypoint.gateway.domain.crowding import Crowd


def test_newest_of_an_address_are_too_many_until_older_ones_leave() -> None:
    crowd = Crowd(most=2)
    assert crowd.look({7: "a", 9: "b", 8: "a"}) == set()
    assert crowd.look({3: "a", 2: "b", 7: "a", 8: "a", 9: "b"}) == {3}
    assert crowd.look({3: "a", 1: "a", 8: "a"}) == {1}
    assert crowd.look({}) == set()
    assert crowd.look({1: "a", 7: "a"}) == set()
