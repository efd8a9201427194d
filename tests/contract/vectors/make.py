"""Write the golden vectors with a plain, slow encoder that shares no code with the product's.

Run from the repository root: `.venv/bin/python tests/contract/vectors/make.py`.
"""

import json
import math
import struct
from pathlib import Path
from typing import Any

from rallypoint.v1 import room_pb2

HERE = Path(__file__).parent
U8, U16, U32, I8, I16, I32, F32, Q8, Q16 = range(1, 10)
FORMATS = {U8: "B", U16: "H", U32: "I", I8: "b", I16: "h", I32: "i", F32: "f", Q8: "B", Q16: "H"}
TOPS = {Q8: 255, Q16: 65535}
SHARED, CELL, TEAM, OWNER = 1, 2, 3, 4
SPECIAL = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}

Column = dict[str, Any]
State = dict[str, dict[str, list[float]]]


def column(name: str, kind: int, low: float = 0, high: float = 0) -> Column:
    return {"name": name, "kind": kind, "min": low, "max": high}


def table(id: int, name: str, rows: int, columns: list[Column], visibility: int = SHARED) -> Any:
    return {"id": id, "name": name, "rows": rows, "visibility": visibility, "columns": columns}


def seats(rows: int) -> Any:
    return table(0, "seats", rows, [column("ack", U16), column("state", U8)])


def rows_of(spec: Any) -> int:
    return 1 if spec["visibility"] == OWNER else int(spec["rows"])


def number(spec: Column, value: Any) -> float:
    value = SPECIAL.get(value, value)
    if spec["kind"] not in TOPS:
        return value
    top = TOPS[spec["kind"]]
    if math.isnan(value):
        return 0
    scaled = (value - spec["min"]) * (top / (spec["max"] - spec["min"]))
    return round(min(max(scaled, 0), top))


def packed(spec: Column, value: float) -> bytes:
    return struct.pack("<" + FORMATS[spec["kind"]], value)


def meaning(spec: Column, value: float) -> Any:
    if spec["kind"] in TOPS:
        return spec["min"] + value * (spec["max"] - spec["min"]) / TOPS[spec["kind"]]
    if spec["kind"] == F32:
        single = struct.unpack("<f", struct.pack("<f", value))[0]
        return "NaN" if math.isnan(single) else single
    return value


def mask(bits: list[bool]) -> bytes:
    out = bytearray((len(bits) + 7) // 8)
    for index, bit in enumerate(bits):
        out[index // 8] |= bit << (index % 8)
    return bytes(out)


def section(spec: Any, old: dict[str, list[float]], new: dict[str, list[float]]) -> bytes:
    present, body = [], b""
    for item in spec["columns"]:
        before = [packed(item, value) for value in old[item["name"]]]
        after = [packed(item, value) for value in new[item["name"]]]
        changed = [a != b for a, b in zip(before, after, strict=True)]
        present.append(any(changed))
        if any(changed):
            body += mask(changed)
            body += b"".join(value for value, bit in zip(after, changed, strict=True) if bit)
    return mask(present) + body if any(present) else b""


def zeros(schema: Any) -> State:
    return {
        spec["name"]: {item["name"]: [0] * rows_of(spec) for item in spec["columns"]}
        for spec in schema["tables"]
    }


def frames(schema: Any, steps: list[tuple[bool, State]]) -> list[Any]:
    """One frame per step: whether it is a keyframe, and the cells that change."""
    now, out = zeros(schema), []
    for tick, (key, changes) in enumerate(steps, start=7):
        then = (
            zeros(schema)
            if key
            else {t: {c: list(v) for c, v in cs.items()} for t, cs in now.items()}
        )
        for spec in schema["tables"]:
            for item in spec["columns"]:
                for row, value in changes.get(spec["name"], {}).get(item["name"], {}).items():
                    now[spec["name"]][item["name"]][row] = number(item, value)
        frame = room_pb2.Frame(epoch=3, tick=tick, base_tick=0 if key else tick - 1)
        for spec in schema["tables"]:
            data = section(spec, then[spec["name"]], now[spec["name"]])
            if data:
                frame.sections.add(table=spec["id"], visibility=spec["visibility"], data=data)
        tables = {
            spec["name"]: {
                item["name"]: [meaning(item, value) for value in now[spec["name"]][item["name"]]]
                for item in spec["columns"]
            }
            for spec in schema["tables"]
        }
        out.append({"hex": frame.SerializeToString().hex(), "tables": tables})
    return out


def bad(table_id: int, data: str, reason: str) -> Any:
    frame = room_pb2.Frame(epoch=3, tick=9)
    frame.sections.add(table=table_id, visibility=SHARED, data=bytes.fromhex(data))
    return {"hex": frame.SerializeToString().hex(), "reason": reason}


def inputs(schema: Any, rows: list[dict[str, Any]]) -> list[Any]:
    return [
        {
            "values": values,
            "hex": b"".join(packed(c, number(c, values[c["name"]])) for c in schema["input"]).hex(),
        }
        for values in rows
    ]


def fnv(schema: Any) -> str:
    def shortest(value: float) -> str:
        return repr(float(value)).removesuffix(".0")

    def line(item: Column) -> str:
        return f"{item['name']} {item['kind']} {shortest(item['min'])} {shortest(item['max'])}\n"

    text = ""
    for spec in schema["tables"]:
        text += f"table {spec['id']} {spec['name']} {spec['rows']} {spec['visibility']}\n"
        text += "".join("column " + line(item) for item in spec["columns"])
    text += "".join("input " + line(item) for item in schema["input"])
    value = 0xCBF29CE484222325
    for octet in text.encode():
        value = (value ^ octet) * 0x100000001B3 % 2**64
    return str(value)


def write(name: str, schema: Any, steps: Any, errors: Any = (), packed_inputs: Any = ()) -> None:
    schema = {"tables": schema["tables"], "input": schema.get("input", [])}
    vector = {
        "name": name,
        "schema": schema,
        "hash": fnv(schema),
        "frames": frames(schema, steps),
        "errors": list(errors),
        "inputs": inputs(schema, list(packed_inputs)),
    }
    path = HERE / f"{name}.json"
    path.write_text(json.dumps(vector, indent=1, allow_nan=False) + "\n")


def arena_schema() -> Any:
    players = table(
        1,
        "players",
        3,
        [column("x", Q16, 0, 1000), column("aim", Q8, -1, 1), column("hp", U8), column("dx", I16)],
    )
    return {"tables": [seats(3), players]}


def write_arena() -> None:
    arena = arena_schema()
    write(
        "keyframe-and-deltas", arena,
        [
            (True, {"seats": {"state": {0: 2, 1: 2}},
                    "players": {"x": {0: 250, 1: 1000}, "aim": {1: -1}, "hp": {0: 100, 1: 100}}}),
            (False, {"seats": {"ack": {0: 1}}, "players": {"x": {0: 251.5}, "dx": {0: -7}}}),
            (False, {}),
            (False, {"seats": {"ack": {0: 2, 1: 1}}, 
                     "players": {"hp": {1: 0}, "aim": {0: 1, 2: 0.5}}}),
            (True, {}),
            (False, {"players": {"x": {2: 12.25}}}),
        ],
    )  # fmt: skip


def write_wide() -> None:
    wide = table(2, "shots", 19, [column(f"c{index}", U8) for index in range(11)])
    write(
        "multi-byte-masks", {"tables": [seats(9), wide]},
        [
            (True, {"seats": {"state": dict.fromkeys(range(9), 2)},
                    "shots": {f"c{i}": {i + 8: i + 1} for i in range(11)}}),
            (False, {"seats": {"ack": {8: 65535}}, "shots": {"c10": {0: 1, 8: 2, 18: 3}}}),
            (False, {"seats": {"ack": {8: 0}}, 
                     "shots": {"c0": {16: 9}, "c7": {7: 1}, "c8": {8: 1}}}),
        ],
    )  # fmt: skip


def write_kinds() -> None:
    kinds = table(
        1, "kinds", 2,
        [column("u8", U8), column("u16", U16), column("u32", U32), column("i8", I8),
         column("i16", I16), column("i32", I32), column("f32", F32), column("q8", Q8, -4, 4),
         column("q16", Q16, -0.5, 1.25)],
    )  # fmt: skip
    input_columns = [
        column("move", Q8, -1, 1), column("turn", I8), column("fire", U8),
        column("aim", Q16, -3.25, 3.25), column("power", F32),
    ]  # fmt: skip
    write(
        "every-kind", {"tables": [seats(2), kinds], "input": input_columns},
        [
            (True, {"kinds": {"u8": {0: 255}, "u16": {0: 65535}, "u32": {0: 4294967295},
                              "i8": {0: -128}, "i16": {0: -32768}, "i32": {0: -2147483648},
                              "f32": {0: 1.5}, "q8": {0: 4, 1: -4}, "q16": {0: 1.25, 1: 0}}}),
            (False, {"kinds": {"i8": {0: 127, 1: -1}, "f32": {0: "NaN", 1: 1e-9},
                               "q8": {0: "NaN", 1: 99}, "q16": {0: "-Infinity", 1: "Infinity"}}}),
            (False, {"kinds": {"f32": {0: -0.0, 1: 1e-45}, "u8": {0: 0}, "q8": {0: 0.01}}}),
        ],
        packed_inputs=[
            {"move": 0, "turn": 0, "fire": 0, "aim": 0, "power": 0},
            {"move": 1, "turn": -128, "fire": 1, "aim": 3.25, "power": 0.1},
            {"move": -1, "turn": 127, "fire": 0, "aim": -3.25, "power": -2.5},
            {"move": "NaN", "turn": 1, "fire": 0, "aim": "Infinity", "power": 1},
            {"move": 7, "turn": 1, "fire": 0, "aim": -99, "power": 1},
        ],
    )  # fmt: skip


def write_owner() -> None:
    hand = table(3, "hand", 4, [column("card", U16), column("count", U8)], OWNER)
    write(
        "owner-rows",
        {"tables": [seats(4), hand]},
        [(True, {"hand": {"card": {0: 513}}}), (False, {"hand": {"count": {0: 2}}})],
    )


def write_refused() -> None:
    arena = arena_schema()
    write(
        "refused", arena, [(True, {"players": {"hp": {0: 1}}})],
        errors=[
            bad(5, "010105", "a table that the schema lacks"),
            bad(1, "10", "a column beyond the last"),
            bad(0, "01080000", "a row beyond the last"),
            bad(1, "", "no column mask"),
            bad(1, "01", "no row mask"),
            bad(1, "010100", "half a value"),
            bad(1, "010301000200" + "00", "a byte too many"),
            bad(1, "0000", "an empty mask and a byte too many"),
            bad(0, "03010000", "the second column is missing"),
        ],
    )  # fmt: skip


write_arena()
write_wide()
write_kinds()
write_owner()
write_refused()
