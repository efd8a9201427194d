"""Which nodes are alive: the registry is a pure function of what was heard and when."""

from __future__ import annotations

import dataclasses

import pytest

from rallypoint.fleet.domain import claims, placement
from rallypoint.fleet.domain.claims import Claim
from rallypoint.fleet.domain.nodes import Node, Registry

NODE = Node("local-1", "one", "127.0.0.1:1", "local", frozenset({"skirmish"}), capacity=2)
AGAIN = dataclasses.replace(NODE, incarnation="two")


def _registry() -> Registry:
    registry = Registry()
    assert registry.registered(NODE, 0.0) == []
    return registry


def test_registered_node_is_usable_for_its_games_and_set() -> None:
    registry = _registry()
    assert registry.usable("local", "skirmish", 0.0) == [NODE]
    assert registry.usable("local", "chess", 0.0) == []
    assert registry.usable("other", "skirmish", 0.0) == []


def test_draining_or_withdrawn_node_gets_no_rooms_but_lives() -> None:
    registry = _registry()
    draining = dataclasses.replace(NODE, draining=True)
    registry.registered(draining, 1.0)
    assert registry.usable("local", "skirmish", 1.0) == []
    registry.registered(NODE, 1.0)
    registry.withdrawn("local-1")
    assert registry.usable("local", "skirmish", 1.0) == []
    assert registry.alive() == [NODE]


def test_silent_node_with_a_failed_ping_is_dead_once() -> None:
    registry = _registry()
    assert registry.not_answered("local-1", "one", 3.0) == []
    assert registry.not_answered("local-1", "one", 3.5) == [NODE]
    assert registry.not_answered("local-1", "one", 4.5) == []
    assert registry.alive() == []
    assert registry.is_dead(NODE.place)


def test_silent_node_that_answers_pings_lives() -> None:
    registry = _registry()
    for second in range(1, 60):
        assert registry.answered("local-1", "one", float(second)) == []
    assert registry.usable("local", "skirmish", 60.0) == [NODE]


def test_heard_node_whose_ping_fails_lives_but_gets_no_rooms_until_heard_again() -> None:
    registry = _registry()
    registry.heard("local-1", "one", 10.0)
    assert registry.not_answered("local-1", "one", 10.5) == []
    assert registry.usable("local", "skirmish", 10.6) == []
    registry.heard("local-1", "one", 11.0)
    assert registry.usable("local", "skirmish", 11.1) == [NODE]


@pytest.mark.parametrize("sign", ["registered", "heard", "answered"])
def test_new_incarnation_is_the_death_of_the_old(sign: str) -> None:
    registry = _registry()
    dead = {
        "registered": lambda: registry.registered(AGAIN, 1.0),
        "heard": lambda: registry.heard("local-1", "two", 1.0),
        "answered": lambda: registry.answered("local-1", "two", 1.0),
    }[sign]()
    assert dead == [NODE]
    assert registry.registered(AGAIN, 1.1) == []
    assert registry.find_place(AGAIN.place) == AGAIN
    assert registry.find_place(NODE.place) is None


def test_last_registration_of_a_dead_process_does_not_revive_it() -> None:
    registry = _registry()
    registry.not_answered("local-1", "one", 5.0)
    assert registry.registered(NODE, 6.0) == []
    assert registry.alive() == []


def test_frozen_process_may_register_again_once_it_beats() -> None:
    registry = _registry()
    registry.not_answered("local-1", "one", 5.0)
    registry.heard("local-1", "one", 5.1)
    assert registry.registered(NODE, 5.2) == []
    assert registry.alive() == []
    registry.heard("local-1", "one", 9.0)
    registry.registered(NODE, 9.1)
    assert registry.usable("local", "skirmish", 9.2) == [NODE]


def test_suspect_gets_no_rooms_until_it_is_heard() -> None:
    registry = _registry()
    registry.suspect(NODE, 1.0)
    assert registry.usable("local", "skirmish", 1.0) == []
    registry.answered("local-1", "one", 1.5)
    assert registry.usable("local", "skirmish", 1.6) == [NODE]


def test_rooms_go_to_the_fullest_node_with_room_ties_by_id() -> None:
    nodes = [dataclasses.replace(NODE, node_id=f"local-{n}", capacity=4) for n in (3, 1, 2, 4)]
    used = {"local-2|one": 3, "local-3|one": 4, "local-4|one": 1}
    ranked = placement.rank(nodes, used, exclude={"local-4|one"})
    assert [node.node_id for node in ranked] == ["local-2", "local-1", "local-3"]


def test_claim_reads_back_as_it_was_written() -> None:
    claim = Claim("C", "local-1", "one", 7)
    assert claims.parse(claim.text) == claim
    with pytest.raises(ValueError, match="no claim"):
        claims.parse("Z|local-1|one|7")
