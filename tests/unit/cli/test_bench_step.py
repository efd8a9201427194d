"""The bench of one tick plays every game."""

import pytest

from rallypoint.cli import bench_step


@pytest.mark.parametrize("game", ["skirmish", "tictactoe", "drift"])
def test_bench_step_plays_and_tells_figures(game: str) -> None:
    report = bench_step.measure(
        bench_step.Workload(
            game=game, rooms=3, players=2, per_table=2, input_hz=10, press=0.5, ticks=8, seed=1
        )
    )
    assert report["tick_us"]["median"] > 0
    assert report["ended"] == 0
    assert bench_step._text(report).startswith(f"{game}: 3 rooms of 2")
