"""Events: the first is told at once, repetitions rarely, and memory of them is bounded."""

from __future__ import annotations

from rallypoint.kube.domain.happenings import Happening, Series
from rallypoint.kube.objects import ObjectReference


def happening(note: str = "no room") -> Happening:
    return Happening(ObjectReference(name="a", uid="1"), "Warning", "Full", "Place", note)


def test_repetitions_become_a_count_written_now_and_then() -> None:
    series = Series(window_s=100, quiet_s=10)
    writes = [series.note(happening(), name=f"n{i}", now=i) for i in range(25)]
    told = [(w.name, w.count) for w in writes if w is not None]
    assert told == [("n0", 1), ("n0", 11), ("n0", 21)]


def test_something_else_or_much_later_is_a_series_of_its_own() -> None:
    series = Series(window_s=100, quiet_s=10)
    names = [("x", "no room", 0), ("y", "no node", 1), ("z", "no room", 200)]
    writes = [series.note(happening(note), name=name, now=at) for name, note, at in names]
    assert [(w.name, w.count) for w in writes if w] == [("x", 1), ("y", 1), ("z", 1)]


def test_only_so_many_are_remembered() -> None:
    series = Series(most=2)
    for note in ("a", "b", "c"):
        series.note(happening(note), name=note, now=0)
    again = series.note(happening("a"), name="again", now=1)
    assert again is not None
    assert again.count == 1
