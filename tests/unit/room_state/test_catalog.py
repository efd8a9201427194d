"""Installed games are found by their entry points."""

import pytest

from rallypoint.games import drift
from rallypoint.kit import errors
from rallypoint.room_state import catalog, schema_proto
from rallypoint.v1 import room_pb2


def test_both_example_games_are_installed() -> None:
    assert {"skirmish", "tictactoe"} <= catalog.load().keys()
    assert catalog.load(("skirmish",)).keys() == {"skirmish"}


def test_missing_game_is_named() -> None:
    with pytest.raises(errors.NotFound, match="chess"):
        catalog.load(("chess", "skirmish"))


def test_extra_games_are_run_without_being_installed() -> None:
    assert "drift" not in catalog.load()
    assert catalog.load(("skirmish",), (drift.EXTRA,)).keys() == {"drift", "skirmish"}


@pytest.mark.parametrize("text", ["drift", "drift=", "=rallypoint.games.drift:Drift", "drift=no:X"])
def test_extra_game_that_cannot_be_loaded_is_refused(text: str) -> None:
    with pytest.raises(errors.FailedPrecondition, match="drift"):
        catalog.load((), (text,))


@pytest.mark.parametrize("name", ["skirmish", "tictactoe"])
def test_schema_reads_the_same_as_protobuf(name: str) -> None:
    schema = catalog.load((name,))[name].schema
    sent = schema_proto.of(schema)
    assert sent.hash == schema.hash()
    assert [(table.id, table.name, table.rows) for table in sent.tables] == [
        (table.id, table.name, table.rows) for table in schema.tables
    ]
    assert sent.tables[0].name == "seats"
    kinds = [column.kind for table in sent.tables for column in table.columns]
    assert room_pb2.COLUMN_KIND_UNSPECIFIED not in kinds
    assert [column.name for column in sent.tables[0].columns] == ["ack", "state", "margin"]
