"""The image for development: a service in it is started again by a change of its source."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from tests.support import images
from tests.support.waiting import wait_until

from rallypoint.cli import bench_image, container, plan

AGAIN = "source changed: starts again"
CHANGED = "this line is new"
END_S = 30.0
LIMIT_S = 300
LIVE = "tmp/live/rallypoint/__main__.py"


@pytest.mark.timeout(LIMIT_S, func_only=True)
def test_changed_source_runs_without_a_new_image(
    built: Path, processes: dict[str, plan.Process]
) -> None:
    """What Tilt does: it writes into the copy of the sources that runs."""
    process = processes["matchmaking"]
    with images.mounted_dev() as image, bench_image.started(image, process) as running:
        bench_image.until_ready(process, running)
        assert running.status()["Uid"].split()[0] == "65532"
        live = Path(f"/proc/{running.pid}/root", LIVE)
        live.write_text(
            live.read_text().replace("\nif ", f"\nprint({CHANGED!r}, flush=True)\nif ", 1)
        )

        wait_until(lambda: CHANGED in said(running), CHANGED, within_s=END_S)
        assert AGAIN in said(running)
        bench_image.until_ready(process, running)

        running.signal(signal.SIGTERM)
        assert running.wait(END_S) == 0, said(running)


def said(running: container.Running) -> str:
    """What the service printed."""
    return running.output.read_text(errors="replace")
