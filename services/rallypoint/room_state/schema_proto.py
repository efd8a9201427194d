"""Schemas and seats as protobuf."""

from functools import lru_cache

from rallypoint.games.room import Seat
from rallypoint.games.schema import ColumnSpec, Schema
from rallypoint.v1 import room_pb2


@lru_cache(maxsize=64)
def of(schema: Schema) -> room_pb2.Schema:
    """The schema as clients get it, with its hash."""
    tables = [
        room_pb2.Table(
            id=table.id,
            name=table.name,
            rows=table.rows,
            columns=[_column(column) for column in table.columns],
            visibility=room_pb2.Visibility.ValueType(int(table.visibility)),
        )
        for table in schema.tables
    ]
    inputs = [_column(column) for column in schema.input]
    return room_pb2.Schema(tables=tables, input=inputs, hash=schema.hash())


def seat(item: Seat) -> room_pb2.SeatInfo:
    """Who sits where."""
    return room_pb2.SeatInfo(
        slot=item.slot, player_id=item.player_id, display_name=item.display_name, team=item.team
    )


def _column(column: ColumnSpec) -> room_pb2.Column:
    kind = room_pb2.ColumnKind.ValueType(int(column.kind))
    return room_pb2.Column(name=column.name, kind=kind, min=column.minimum, max=column.maximum)
