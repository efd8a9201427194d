"""A page on a squeezed network gets fewer frames, holds nobody up, and heals."""

from __future__ import annotations

import statistics
import time

import pytest
from tests.e2e.conftest import Join
from tests.e2e.test_play import inward, moved
from tests.support.browser import Player
from tests.support.cable import Cable

SQUEEZED_BYTES_PER_S = {"": 1_500, "websocket": 400}
"""A skirmish for two who stand takes some 3,000 with answers to inputs, 650 without."""
STATISTICS = "window.rallypoint.match.connection.statistics()"
FRAMES = f"{STATISTICS}.framesPerSecond"
SLOW = f"{STATISTICS}.slow"


def rates(*players: Player, for_s: float = 6.0) -> list[float]:
    """Frames per second of each, the median over a while."""
    seen: list[list[float]] = [[] for _ in players]
    end = time.monotonic() + for_s
    while time.monotonic() < end:
        for player, found in zip(players, seen, strict=True):
            found.append(float(player.read(FRAMES)))
        time.sleep(0.2)
    return [statistics.median(found) for found in seen]


@pytest.mark.parametrize("transport", ["", "websocket"], ids=["grpc-web", "websocket"])
def test_slow_page_gets_fewer_frames_and_nobody_waits(
    join: Join, bos_cable: Cable, transport: str
) -> None:
    ada, bo = join("Ada"), join("Bo", url=bos_cable.url, transport=transport)
    for player in (ada, bo):
        player.play()
    for player in (ada, bo):
        player.wait_live()
    time.sleep(2.5)
    full, also_full = rates(ada, bo, for_s=2)
    assert also_full > 0.7 * full

    squeezed = bos_cable.bytes_per_s = SQUEEZED_BYTES_PER_S[transport]
    bo.wait(SLOW, "Bo is told that frames are fewer")
    bo.wait("document.querySelector('.hud').innerText.includes('SLOW')", "the figures say so")
    began, carried = time.monotonic(), bos_cable.carried
    quick, slow = rates(ada, bo)
    assert bos_cable.carried - carried < 1.2 * squeezed * (time.monotonic() - began)
    assert quick > 0.7 * full
    assert 0 < slow < 0.75 * full

    bos_cable.bytes_per_s = 0
    bo.wait(f"!{SLOW} && {FRAMES} > {0.7 * full}", "Bo gets every frame again", within_s=60)
    assert bo.read(f"{STATISTICS}.reconnects") == 0
    moved(ada, bo, inward(bo))
    moved(bo, ada, inward(ada))
