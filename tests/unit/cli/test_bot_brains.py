"""What bots see."""

from __future__ import annotations

import pytest

from rallypoint.cli import bot_brains
from rallypoint.games import schema


@pytest.mark.parametrize(
    ("here", "there", "expected"),
    [
        (complex(100, 100), complex(300, 100), True),
        (complex(300, 250), complex(500, 250), False),
        (complex(500, 250), complex(600, 250), True),
        (complex(100, 100), complex(100, 100), True),
    ],
    ids=["open", "obstacle-between", "obstacle-behind", "same-place"],
)
def test_obstacles_block_the_view(here: complex, there: complex, expected: bool) -> None:
    assert bot_brains.clear(here, there) is expected


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (schema.Kind.U8, (0, 0, 255)),
        (schema.Kind.I16, (-32768, 0, 32767)),
        (schema.Kind.F32, (-1, 0, 1)),
        (schema.Kind.Q16, (10, 15, 20)),
    ],
)
def test_bots_of_unknown_games_hold_extremes(
    kind: schema.Kind, expected: tuple[float, float, float]
) -> None:
    column = schema.ColumnSpec("x", kind, minimum=10, maximum=20)
    assert bot_brains.extremes(column) == expected
