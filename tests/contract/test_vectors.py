"""The golden vectors judge the codec: decoding, refusing, packing and the schema's hash."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rallypoint.games import codec
from rallypoint.games.schema import ColumnSpec, Kind, Schema, TableSpec, Visibility
from rallypoint.v1 import room_pb2

PATHS = sorted((Path(__file__).parent / "vectors").glob("*.json"))
VECTORS = [json.loads(path.read_text()) for path in PATHS]
every_vector = pytest.mark.parametrize("vector", VECTORS, ids=[path.stem for path in PATHS])


def columns_of(items: list[Any]) -> tuple[ColumnSpec, ...]:
    return tuple(
        ColumnSpec(item["name"], Kind(item["kind"]), item["min"], item["max"]) for item in items
    )


def schema_of(vector: Any) -> Schema:
    tables = tuple(
        TableSpec(
            item["id"],
            item["name"],
            item["rows"],
            columns_of(item["columns"]),
            Visibility(item["visibility"]),
        )
        for item in vector["schema"]["tables"]
    )
    return Schema(tables, columns_of(vector["schema"]["input"]))


def apply(decoder: codec.Decoder, data: str) -> None:
    frame = room_pb2.Frame.FromString(bytes.fromhex(data))
    if frame.base_tick == 0:
        decoder.clear()
    for section in frame.sections:
        decoder.apply(section.table, section.data)


def numbers(values: list[Any]) -> list[float]:
    return [float(value) for value in values]


@every_vector
def test_frames_decode_to_the_recorded_values(vector: Any) -> None:
    decoder = codec.Decoder(schema_of(vector))
    for frame in vector["frames"]:
        apply(decoder, frame["hex"])
        for name, columns in frame["tables"].items():
            values = decoder.values(name)
            for column, expected in columns.items():
                np.testing.assert_allclose(values[column], numbers(expected), rtol=1e-9)


@every_vector
def test_broken_frames_are_refused(vector: Any) -> None:
    for error in vector["errors"]:
        with pytest.raises(codec.WireError):
            apply(codec.Decoder(schema_of(vector)), error["hex"])


@every_vector
def test_inputs_pack_to_the_recorded_bytes(vector: Any) -> None:
    columns = schema_of(vector).input
    for item in vector["inputs"]:
        values = {name: float(value) for name, value in item["values"].items()}
        assert codec.pack_input(columns, values).hex() == item["hex"]


@every_vector
def test_inputs_unpack_to_what_fits_the_kind(vector: Any) -> None:
    columns = schema_of(vector).input
    for item in vector["inputs"]:
        unpacked = codec.unpack_input(columns, bytes.fromhex(item["hex"]))
        assert all(math.isfinite(value) for value in unpacked.values())
        assert codec.pack_input(columns, unpacked).hex() == item["hex"]


@every_vector
def test_schema_hash_is_the_recorded_one(vector: Any) -> None:
    assert schema_of(vector).hash() == int(vector["hash"])


def test_vectors_cover_all_that_is_promised() -> None:
    assert {path.stem for path in PATHS} >= {"keyframe-and-deltas", "refused", "every-kind"}
    assert any(vector["errors"] for vector in VECTORS)
    assert any(vector["inputs"] for vector in VECTORS)
