"""Geometry of many things at once in C; only there where it could be compiled."""

from typing import Literal

from rallypoint.games.schema import Array

def push_out(x: Array, y: Array, circle_x: Array, circle_y: Array, reach: Array, /) -> bool: ...
def inside(
    x: Array, y: Array, circle_x: Array, circle_y: Array, reach: Array, out: Array, /
) -> bool: ...
def first_met(
    x: Array,
    y: Array,
    there: Array,
    room: Array,
    owner: Array,
    from_x: Array,
    from_y: Array,
    step_x: Array,
    step_y: Array,
    out: Array,
    rows: int,
    reach2: float,
    length2: float,
    /,
) -> bool: ...
def walk(
    bounds: Array,
    circle_x: Array,
    circle_y: Array,
    reach: Array,
    x: Array,
    y: Array,
    dx: Array,
    dy: Array,
    moving: Array,
    full: float,
    step: float,
    /,
) -> bool: ...
def fly(
    bounds: Array,
    circle_x: Array,
    circle_y: Array,
    reach: Array,
    x: Array,
    y: Array,
    step_x: Array,
    step_y: Array,
    left: Array,
    live: Array,
    flying: Array,
    target_x: Array,
    target_y: Array,
    there: Array,
    rows: int,
    targets: int,
    each: int,
    reach2: float,
    length2: float,
    /,
) -> list[tuple[int, int, int]] | Literal[False]: ...
def touching(
    x: Array,
    y: Array,
    other_x: Array,
    other_y: Array,
    rows: int,
    others: int,
    reach2: float,
    /,
) -> list[tuple[int, int, int]] | Literal[False]: ...
def put_rows(at: Array, columns: tuple[tuple[Array, Array], ...], /) -> bool: ...
