"""Ports of a stack's processes."""

from __future__ import annotations

import socket

import pytest

from rallypoint.cli import ports


def test_no_port_is_given_twice_or_where_somebody_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    names = [f"listener-{number}" for number in range(6)]
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        there: int = taken.getsockname()[1]
        near = range(there - 4, there + 5)  # so few that chance alone would give one twice
        monkeypatch.setattr(ports, "_RANGE", near)
        for _ in range(50):
            given = set(ports.free(names, besides=there - 1).by_name.values())
            assert len(given) == len(names)
            assert not given & {there, there - 1}
