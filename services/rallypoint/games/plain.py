"""Plain Python values as bytes and back: what a `RoomGame` keeps in its attributes.

JSON with the kinds it lacks marked by name. No pickle: bytes from a store must never run code.
Numbers, strings, bytes, tuples, lists, sets and dicts of such, and numpy arrays and numbers.
"""

import base64
import json
from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np


class NotPlain(Exception):
    """A value that is none of the kinds above."""


def pack(values: Mapping[str, Any]) -> bytes:
    """The values by name; NotPlain for one that cannot be packed."""
    marked = {name: _mark(value) for name, value in values.items()}
    return json.dumps(marked, separators=(",", ":")).encode() if marked else b""


def unpack(data: bytes) -> dict[str, Any]:
    """What was packed; ValueError for bytes that are nothing packed."""
    if not data:
        return {}
    try:
        return {name: _plain(value) for name, value in json.loads(data).items()}
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError("no packed values") from error


def _mark(value: Any) -> Any:
    match value:
        case None | bool() | int() | float() | str():
            return value
        case list():
            return [_mark(item) for item in value]
        case tuple():
            return {"tuple": [_mark(item) for item in value]}
        case set() | frozenset():
            kind = "set" if isinstance(value, set) else "frozenset"
            return {kind: sorted((_mark(item) for item in value), key=json.dumps)}
        case dict():
            return {"dict": [[_mark(key), _mark(item)] for key, item in value.items()]}
        case bytes() | bytearray():
            return {"bytes": base64.b64encode(value).decode()}
        case np.ndarray() | np.generic() if value.dtype.kind in "biuf":
            kind = "array" if isinstance(value, np.ndarray) else "number"
            return {kind: [value.dtype.str, list(value.shape), _mark(value.tobytes())["bytes"]]}
    raise NotPlain(f"a {type(value).__name__} is no plain value")


def _array(item: Any) -> Any:
    dtype, shape, data = item
    return np.frombuffer(base64.b64decode(data), dtype).reshape(shape).copy()


_MARKED: Final[Mapping[str, Callable[[Any], Any]]] = {
    "tuple": lambda items: tuple(map(_plain, items)),
    "set": lambda items: set(map(_plain, items)),
    "frozenset": lambda items: frozenset(map(_plain, items)),
    "dict": lambda pairs: {_plain(key): _plain(item) for key, item in pairs},
    "bytes": base64.b64decode,
    "array": _array,
    "number": lambda item: _array(item)[()],
}


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        ((kind, item),) = value.items()
        return _MARKED[kind](item)
    return value
