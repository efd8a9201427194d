"""The pool's rows, the ticket table, waits and notices."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rallypoint.kit.names import PlayerId
from rallypoint.matchmaking.domain import columns, hub, tickets, waits
from rallypoint.matchmaking.domain.entry import Entry
from rallypoint.matchmaking.domain.tickets import Event, Row, State


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 20))))
def test_a_pool_is_a_set_of_tickets(steps: list[tuple[bool, int]]) -> None:
    pool, model = columns.Pool(2), set()
    for add, number in steps:
        name = str(number)
        if add:
            assert pool.add(Entry(name, float(number), 0.0)) == (name not in model)
            model.add(name)
        else:
            assert pool.remove(name) == (name in model)
            model.discard(name)
    view, rows = pool.view()
    assert {pool.ticket_id(int(row)) for row in rows} == model
    assert sorted(view.skill.tolist()) == sorted(float(name) for name in model)
    assert len(pool) == len(view) == len(model)


def test_positions_are_oldest_first() -> None:
    pool = columns.Pool()
    for name, start, priority in [("b", 20.0, 0.0), ("a", 10.0, 0.0), ("back", 30.0, 25.0)]:
        pool.add(Entry(name, 1500.0, start, priority=priority))
    assert pool.positions() == {"back": 1, "a": 2, "b": 3}


def test_only_queued_tickets_can_be_left_or_matched() -> None:
    for event in (Event.CANCEL, Event.COMMIT, Event.EXPIRE):
        sources = {state for state, what in tickets.TRANSITIONS if what is event}
        assert sources == {State.QUEUED}


def test_a_row_is_read_as_it_was_written() -> None:
    row = tickets.parse_row("Q|3|1|player-1||ROOM_UNAVAILABLE")
    assert row == Row(State.QUEUED, 3, 1, PlayerId("player-1"), "", "ROOM_UNAVAILABLE")
    assert not row.ended
    assert tickets.parse_row("A|4|1|player-1|m1|").ended


@pytest.mark.parametrize("other", [("q2", "p", "r"), ("q", "p2", "r"), ("q", "p", "r2")])
def test_a_request_names_its_own_ticket(other: tuple[str, str, str]) -> None:
    assert tickets.ticket_id("q", "p", "r") == tickets.ticket_id("q", "p", "r")
    assert tickets.ticket_id("q", "p", "r") != tickets.ticket_id(*other)


def test_estimates_come_from_longer_waits() -> None:
    record = waits.WaitRecord()
    assert record.typical_s() is None
    for waited in (2.0, 4.0, 6.0, 40.0):
        record.add(waited)
    assert record.typical_s() == 5.0
    assert record.left_s(0.0) == 5.0
    assert record.left_s(5.0) == 18.0
    assert record.left_s(50.0) is None


def test_notices_reach_the_watchers_of_the_ticket() -> None:
    woken: list[str] = []
    room = hub.Hub()
    first = room.open("t1", lambda: woken.append("first"))
    other = room.open("t2", lambda: woken.append("other"))
    notice = hub.Notice("t1", tickets.parse_row("P|2|0|p|m|"))
    room.post(notice)
    assert (woken, first.take(), first.take(), other.take()) == (["first"], notice, None, None)
    room.close(first)
    room.close(other)
    assert len(room) == 0
