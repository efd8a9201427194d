"""A match is played, and watched again from the result: what is shown is what was seen."""

from __future__ import annotations

from typing import Any

from playwright.sync_api import Page
from tests.e2e.conftest import Join
from tests.e2e.test_operator import secret_of, shot
from tests.support.browser import Player
from tests.support.stack_process import StackProcess
from tests.support.waiting import wait_until

SCREEN_MS = 30_000
MATCH_MS = 60_000


def sight(player: Player) -> dict[str, Any]:
    """The tick that a page shows, and where everybody is."""
    return dict(
        player.read(
            """(() => { const world = window.rallypoint.match.view.facts().world;
            return { tick: world.tick, places: world.players.slice(0, 2).map((p) => [p.x, p.y]) };
            })()"""
        )
    )


def wait_recorded(page: Page) -> None:
    """Wait until all of a recording is there."""
    page.wait_for_function("window.replayed?.player && window.replayed.timeline.ended")


def sought(page: Page, tick: int) -> list[list[float]]:
    """Where everybody is at a tick of the replay."""
    found: list[list[float]] = page.evaluate(
        """(tick) => { const { player, timeline } = window.replayed;
        player.playing = false;
        player.seek(timeline.frames.find((frame) => frame.tick === tick).atMs);
        player.pass(0, performance.now());
        return window.replayed.facts().world.players.slice(0, 2).map((p) => [p.x, p.y]); }""",
        tick,
    )
    return found


def test_match_is_watched_again_from_its_result(join: Join, stack: StackProcess) -> None:
    ada, bo = join("Ada", queue="filmed"), join("Bo", size="phone", queue="filmed")
    for player in (ada, bo):
        player.play()
    for player in (ada, bo):
        player.wait_live()
    ada.page.keyboard.down("d")
    sights = [sight(ada)]
    while len(sights) < 3:
        wait_until(lambda: sight(ada)["tick"] > sights[-1]["tick"] + 10, "play goes on")
        sights.append(sight(ada))
    room_id = ada.room_id
    ada.page.keyboard.up("d")
    for player in (ada, bo):
        player.page.wait_for_selector("body[data-screen=result]", timeout=MATCH_MS)

    for player in (ada, bo):
        page = player.page
        page.get_by_role("link", name="Watch the replay").click()
        wait_recorded(page)
        page.wait_for_function("window.replayed.player.atMs > 1500")
        player.shot("replay")
        for seen in reversed(sights):
            assert sought(page, seen["tick"]) == seen["places"]
        assert page.get_by_role("list", name="Players").inner_text().split()[0] in ("Ada", "Bo")

    page = ada.page
    page.get_by_role("button", name="Play", exact=True).click()
    page.keyboard.press("ArrowRight")
    page.wait_for_function("window.replayed.player.atMs > 6000")
    page.keyboard.press("Space")
    assert page.evaluate("window.replayed.player.playing") is False
    page.get_by_label("Place in the match").fill("1000")
    assert page.evaluate("window.replayed.player.atMs") == 1000
    bo.page.get_by_role("button", name="Ada").tap()
    assert bo.page.evaluate("window.replayed.facts().followed") is not None
    bo.shot("replay-follow")

    eve = join("Eve", size="phone")
    eve.page.goto(f"{stack.url}/replay?room={room_id}")
    eve.page.get_by_role("alert").wait_for(timeout=SCREEN_MS)
    eve.shot("replay-refused")

    operators = eve.page.context.new_page()
    operators.goto(f"{stack.url}/operator#{secret_of(stack)}")
    operators.locator(f"a[data-replay='{room_id}']").click(timeout=SCREEN_MS)
    wait_recorded(operators)
    shot(operators, "replay-operator", "phone")


def test_spectator_watches_a_match_some_seconds_late(join: Join, stack: StackProcess) -> None:
    ada, bo = join("Ada", queue="filmed"), join("Bo", queue="filmed")
    for player in (ada, bo):
        player.play()
    for player in (ada, bo):
        player.wait_live()
    room_id, live_tick = ada.room_id, sight(ada)["tick"]
    eve = join("Eve", size="phone")
    eve.page.goto(f"{stack.url}/replay?room={room_id}&as=spectator")
    eve.page.wait_for_function("window.replayed?.facts().world?.tick > 0", timeout=MATCH_MS)
    assert eve.page.evaluate("window.replayed.facts().world.tick") >= live_tick - 200
    eve.shot("spectate")
    eve.page.wait_for_function("window.replayed.timeline.ended", timeout=MATCH_MS)
