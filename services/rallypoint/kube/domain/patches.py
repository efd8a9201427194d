"""Patches: what changed between two JSON values, said in the two standard ways.

A merge patch (RFC 7386) names new values, with null for what goes; lists are replaced whole. A JSON
patch (RFC 6902) names operations on paths; its `test` makes a write conditional on one field.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

JsonPatch = Sequence[Mapping[str, Any]]


def merge_diff(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """Return the merge patch that makes `new` of `old`; empty when they are equal.

    A null in `new` cannot be told from absence, as the format has it.
    """
    patch: dict[str, Any] = {key: None for key in old if key not in new}
    for key, value in new.items():
        before = old.get(key)
        if isinstance(value, Mapping) and isinstance(before, Mapping):
            if inner := merge_diff(before, value):
                patch[key] = inner
        elif key not in old or before != value:
            patch[key] = value
    return patch


def merge_apply(target: Any, patch: Any) -> Any:
    """Return what a server makes of `target` with a merge patch."""
    if not isinstance(patch, Mapping):
        return patch
    result = dict(target) if isinstance(target, Mapping) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merge_apply(result.get(key), value)
    return result


def pointer(*parts: str | int) -> str:
    """Return a JSON pointer; label keys hold slashes, which are escaped."""
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in parts)


def test(path: str, value: Any) -> dict[str, Any]:
    """Have the whole patch refused unless the value at `path` is this."""
    return {"op": "test", "path": path, "value": value}


def add(path: str, value: Any) -> dict[str, Any]:
    """Set a member, or insert before an index (`-` appends)."""
    return {"op": "add", "path": path, "value": value}


def replace(path: str, value: Any) -> dict[str, Any]:
    """Set a member that must be there."""
    return {"op": "replace", "path": path, "value": value}


def remove(path: str) -> dict[str, Any]:
    """Drop a member that must be there."""
    return {"op": "remove", "path": path}
