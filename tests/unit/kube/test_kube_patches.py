"""Patches: a difference applied gives the new value; pointers escape what labels hold."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from rallypoint.kube.domain import patches

SCALARS = st.one_of(st.booleans(), st.integers(-3, 3), st.sampled_from(["", "x", "~/"]))
VALUES: st.SearchStrategy[Any] = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.sampled_from("abc"), inner, max_size=3)
    ),
    max_leaves=8,
)
OBJECTS = st.dictionaries(st.sampled_from("abcd"), VALUES, max_size=4)


@given(OBJECTS, OBJECTS)
def test_a_difference_applied_gives_the_new_value(old: dict[str, Any], new: dict[str, Any]) -> None:
    assert patches.merge_apply(old, patches.merge_diff(old, new)) == new


@given(OBJECTS)
def test_no_difference_is_an_empty_patch(value: dict[str, Any]) -> None:
    assert patches.merge_diff(value, value) == {}


def test_a_difference_names_only_what_changed() -> None:
    old = {"spec": {"a": 1, "b": [1, 2], "c": 3}}
    new = {"spec": {"a": 1, "b": [2]}}
    assert patches.merge_diff(old, new) == {"spec": {"b": [2], "c": None}}


def test_a_pointer_escapes_slashes_and_tildes() -> None:
    assert patches.pointer("metadata", "labels", "a.b/c~d", 0) == "/metadata/labels/a.b~1c~0d/0"
