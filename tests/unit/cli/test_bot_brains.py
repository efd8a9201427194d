"""What bots see."""

from __future__ import annotations

import pytest

from rallypoint.cli import bot_brains


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
