"""Write the golden vectors of cells, slowly and without the product's code: see make.py.

A world says of each row its cell and its numbers. A step is a world, and which cells the client is
told of; what it is told is a difference to what it was told of that cell before.
"""

import json
from pathlib import Path
from typing import Any

from make import (
    CELL,
    I16,
    Q16,
    TEAM,
    U8,
    column,
    fnv,
    mask,
    meaning,
    number,
    packed,
    seats,
    table,
    write,
)  # fmt: skip

from rallypoint.v1 import room_pb2

HERE = Path(__file__).parent
DELTA, KEYFRAME, GONE = range(3)
Rows = dict[int, list[float]]

SHIPS = table(
    1, "ships", 140, [column("x", Q16, 0, 1000), column("alive", U8), column("dx", I16)], CELL
)
SCHEMA = {"tables": [seats(2), SHIPS], "input": []}


def varint(value: int) -> bytes:
    out = b""
    while value > 0x7F:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])


def ids(rows: list[int]) -> bytes:
    steps = [after - before for before, after in zip([0, *rows], rows, strict=False)]
    return varint(len(rows)) + b"".join(varint(step) for step in steps)


def change(old: Rows, new: Rows) -> bytes:
    out = ids(sorted(set(old) - set(new))) + ids(sorted(set(new) - set(old)))
    present, body = [], b""
    for index, item in enumerate(SHIPS["columns"]):
        values = [(old.get(row, [0, 0, 0])[index], new[row][index]) for row in sorted(new)]
        changed = [before != after for before, after in values]
        present.append(any(changed))
        if any(changed):
            body += mask(changed)
            body += b"".join(packed(item, after) for before, after in values if before != after)
    return out + mask(present) + body


class Client:
    """What the client is to hold, row by row."""

    def __init__(self) -> None:
        self.cells: dict[int, Rows] = {}
        self.shown: dict[int, tuple[int, list[float]]] = {}

    def told(self, cell: int, mode: int, world: dict[int, tuple[int, list[float]]]) -> bytes:
        old = self.cells.get(cell, {})
        new = {} if mode == GONE else {row: n for row, (at, n) in world.items() if at == cell}
        for row in old if mode != DELTA else set(old) - set(new):
            if self.shown.get(row, (None,))[0] == cell:
                del self.shown[row]
        self.cells[cell] = new
        self.shown |= {row: (cell, numbers) for row, numbers in new.items()}
        data = varint(cell) + bytes([mode])
        if mode == GONE:
            del self.cells[cell]
            return data
        return data + change({} if mode == KEYFRAME else old, new)

    def tables(self) -> dict[str, dict[str, list[Any]]]:
        zeros: list[float] = [0, 0, 0]
        rows = [self.shown.get(row, (0, zeros))[1] for row in range(SHIPS["rows"])]
        ships = {
            item["name"]: [meaning(item, numbers[index]) for numbers in rows]
            for index, item in enumerate(SHIPS["columns"])
        }
        return {"seats": {"ack": [0, 0], "state": [0, 0]}, "ships": ships}


def frames(steps: list[tuple[bool, dict[int, Any], list[tuple[int, int]]]]) -> list[Any]:
    client, out = Client(), []
    for tick, (key, world, cells) in enumerate(steps, start=7):
        if key:
            client = Client()
        stored = {
            row: (cell, [number(i, v) for i, v in zip(SHIPS["columns"], values, strict=True)])
            for row, (cell, *values) in world.items()
        }
        frame = room_pb2.Frame(epoch=3, tick=tick, base_tick=0 if key else tick - 1)
        for cell, mode in cells:
            frame.sections.add(table=1, visibility=CELL, data=client.told(cell, mode, stored))
        out.append({"hex": frame.SerializeToString().hex(), "tables": client.tables()})
    return out


def bad(reason: str, *sections: str) -> Any:
    frame = room_pb2.Frame(epoch=3, tick=9)
    for data in sections:
        frame.sections.add(table=1, visibility=CELL, data=bytes.fromhex(data))
    return {"hex": frame.SerializeToString().hex(), "reason": reason}


ERRORS = [
    bad("an empty section", ""),
    bad("no mode", "05"),
    bad("an unknown mode", "0503"),
    bad("a delta of a cell that is not held", "0500000000"),
    bad("a gone for a cell that is not held", "0502"),
    bad("a gone with a byte too many", "050200"),
    bad("a row beyond the last", "050100018c0100"),
    bad("more rows than the table has", "0501008d01"),
    bad("rows that do not ascend", "05010002010000"),
    bad("a row that left in a keyframe", "050101010000"),
    bad("a number that is too long", "05010080808080808000"),
    bad("no column mask", "0501000101"),
    bad("a column beyond the last", "050100010108"),
    bad("a row mask beyond the rows", "05010001010202" + "01"),
    bad("half a value", "0501000101010100"),
    bad("a byte too many", "050100010100" + "00"),
]

WORLDS: list[tuple[bool, dict[int, Any], list[tuple[int, int]]]] = [
    # Two cells, one with a row that needs two bytes.
    (True, {0: (5, 10, 1, 0), 1: (5, 20, 1, -3), 139: (6, 900, 1, 7)},
     [(5, KEYFRAME), (6, KEYFRAME)]),
    (False, {0: (5, 11, 1, 0), 1: (5, 20, 1, -3), 139: (6, 900, 1, 7)}, [(5, DELTA)]),
    # Row 1 moves from 5 to 6, row 130 comes from nowhere; the order of sections does not matter.
    (False, {0: (5, 11, 1, 0), 1: (6, 21, 1, -3), 130: (6, 0, 1, 0), 139: (6, 900, 1, 7)},
     [(6, DELTA), (5, DELTA)]),
    # Back again, seen first by 5 while 6 is late.
    (False, {0: (5, 11, 1, 0), 1: (5, 22, 1, -3), 130: (6, 0, 1, 0), 139: (6, 900, 1, 7)},
     [(5, DELTA)]),
    (False, {0: (5, 11, 1, 0), 1: (5, 22, 1, -3), 139: (6, 901, 1, 7)}, [(6, DELTA)]),
    # 6 is late for two steps in which row 0 came and went: to it nothing happened.
    (False, {0: (6, 12, 1, 0), 1: (5, 22, 1, -3), 139: (6, 901, 1, 7)}, [(5, DELTA)]),
    (False, {0: (5, 12, 1, 0), 1: (5, 22, 1, -3), 139: (6, 901, 1, 7)}, [(5, DELTA), (6, DELTA)]),
    # Out of sight, in sight again; an empty cell; a keyframe of a cell that is held.
    (False, {0: (5, 12, 1, 0), 1: (5, 22, 1, -3), 139: (6, 901, 1, 7)}, [(6, GONE)]),
    (False, {0: (5, 12, 1, 0), 1: (5, 22, 1, -3), 139: (6, 901, 1, 7)},
     [(6, KEYFRAME), (70000, KEYFRAME)]),
    (False, {0: (70000, 12, 1, 0), 139: (5, 901, 1, 7)}, [(70000, DELTA), (5, KEYFRAME)]),
    (False, {0: (70000, 12, 1, 0), 139: (5, 901, 0, 7)}, [(6, DELTA), (5, DELTA)]),
    # A keyframe frame holds nothing of before.
    (True, {0: (70000, 12, 1, 0)}, [(70000, KEYFRAME)]),
    (False, {0: (70000, 13, 1, 0)}, [(70000, DELTA)]),
]  # fmt: skip


def write_cells() -> None:
    vector = {
        "name": "cells",
        "schema": SCHEMA,
        "hash": fnv(SCHEMA),
        "frames": frames(WORLDS),
        "errors": ERRORS,
        "inputs": [],
    }
    (HERE / "cells.json").write_text(json.dumps(vector, allow_nan=False) + "\n")


def write_teams() -> None:
    """A client of the team of rows 0 and 2 never reads of the others."""
    orders = table(1, "orders", 4, [column("x", Q16, -5, 5), column("kind", U8)], TEAM)
    write(
        "team-rows", {"tables": [seats(4), orders]},
        [
            (True, {"orders": {"x": {0: 1, 2: -1}, "kind": {2: 3}}}),
            (False, {"orders": {"x": {2: 5}, "kind": {0: 9, 2: 0}}}),
        ],
    )  # fmt: skip


write_cells()
write_teams()
