"""What the table and the lines of `up` show."""

from __future__ import annotations

from typing import Any

import pytest

from rallypoint.cli import stack, up_view


def row(**changes: Any) -> up_view.Row:
    known: dict[str, Any] = {
        "name": "room-state-1", "pid": 7, "ready": True, "restarts": 0,
        "rss_bytes": 50_000_000, "status": {},
    }  # fmt: skip
    return up_view.Row(**{**known, **changes})


def test_room_node_shows_rooms_players_and_tick() -> None:
    status = {"rooms": 3, "players": 24, "tick_p99_ms": 2.345}
    assert row(status=status).cells() == (
        "room-state-1", "7", "yes", "3", "24", "", "2.3 ms", "", "50 MB",
    )  # fmt: skip


def test_tickets_are_summed_over_queues() -> None:
    status = {"queues": {"a": {"tickets": 2}, "b": {"tickets": 5}}}
    assert row(name="matchmaking", status=status).cells()[5] == "7"


def test_gateway_shows_its_backend() -> None:
    assert row(name="gateway-1", status={"backend": "c"}).cells()[7] == "c"


def test_dead_child_shows_dashes_and_restarts() -> None:
    cells = row(pid=0, ready=False, restarts=2, rss_bytes=0).cells()
    assert cells[1:3] == ("-", "no (restarted 2x)")
    assert cells[-1] == "-"


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        (stack.Event("fleet", "ready", after_s=0.41), "  ready      fleet          0.41 s"),
        (stack.Event("fleet", "died", "exit code 1"), "  died       fleet          exit code 1"),
        (stack.Event("fleet", "starting"), "  starting   fleet"),
    ],
    ids=["time", "detail", "bare"],
)
def test_event_is_one_line(event: stack.Event, expected: str) -> None:
    assert up_view.line(event) == expected


def test_table_has_a_row_per_process_and_the_news() -> None:
    table = up_view.table([row(), row(name="nats")], heading="Rallypoint", news=["one", "two"])
    assert table.row_count == 2
    assert table.caption == "one\ntwo"
