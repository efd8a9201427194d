"""Two people in real browsers: they meet, fight, come back after every loss, and are rated."""

from __future__ import annotations

from tests.e2e.conftest import Join
from tests.support.browser import Player
from tests.support.cable import Cable
from tests.support.stack_process import StackProcess
from tests.support.waiting import wait_until

Pair = tuple[Player, Player]
SHOT_RANGE = 650
"""A shot flies a little farther."""


def moved(watcher: Player, walker: Player, direction: tuple[int, int]) -> None:
    """The walker walks a little; the watcher's page must see it."""
    slot = walker.slot
    before = float(watcher.seen(slot)["x"])
    walker.walk(direction, axis="x", until=before + 60 * direction[0])
    wait_until(
        lambda: direction[0] * (float(watcher.seen(slot)["x"]) - before) > 40,
        f"{watcher.name} sees {walker.name} move",
    )


def inward(player: Player) -> tuple[int, int]:
    """Away from the wall one stands at."""
    return (1, 0) if float(player.seen(player.slot)["x"]) < 800 else (-1, 0)


def resumed(player: Player, room_id: str, slot: int) -> None:
    """The same seat of the same room, playing."""
    player.wait_live()
    assert player.room_id == room_id
    assert player.slot == slot


def test_players_see_each_other_move(pair: Pair) -> None:
    ada, bo = pair
    assert {ada.slot, bo.slot} == {0, 1}
    moved(bo, ada, inward(ada))
    moved(ada, bo, inward(bo))
    assert ada.page.locator(".scores li").count() == 2
    assert "Bo" in ada.page.locator(".scores").inner_text()


def test_players_shoot_and_score(pair: Pair) -> None:
    ada, bo = pair
    for player in (ada, bo):
        player.shot("skirmish")
    # Ada goes to the wall on Bo's side and along it, where nothing stands in her way: a machine
    # that lets go of a key late makes her walk on, but neither past the wall nor out of range.
    down = float(ada.seen(bo.slot)["y"]) > 450
    ada.walk((0, 1) if down else (0, -1), axis="y", until=860 if down else 40)
    direction = inward(ada)
    ada.walk(direction, axis="x", until=800 + 150 * direction[0])
    wait_until(lambda: ada.distance(bo.slot) < SHOT_RANGE, "in range")
    ada.page.keyboard.down("Space")
    for _ in range(3):
        ada.aim_at(bo.slot)
        ada.page.wait_for_timeout(120)
        ada.shot("skirmish-shot")
    wait_until(lambda: aimed(ada, bo) and bo.seen(bo.slot)["health"] < 100, "Bo is hit")
    bo.shot("skirmish-hit")
    wait_until(lambda: aimed(ada, bo) and "took down" in feed_of(ada), "Ada reads that she scored")
    wait_until(lambda: int(bo.seen(ada.slot)["score"]) >= 1, "Bo sees that Ada scored")
    bo.page.wait_for_timeout(250)
    bo.shot("skirmish-down")
    ada.shot("skirmish-score")
    ada.page.keyboard.up("Space")


def feed_of(player: Player) -> str:
    """What happened lately, as the page tells it."""
    return player.page.locator(".feed").inner_text()


def test_phone_plays_by_touch(pair: Pair) -> None:
    ada, bo = pair
    slot, before = bo.slot, float(ada.seen(bo.slot)["x"])
    way = inward(bo)[0]
    with bo.touching(90, 740, pull=(50.0 * way, 0)):
        wait_until(
            lambda: way * (float(ada.seen(slot)["x"]) - before) > 60, "Ada sees Bo's thumb move him"
        )
        bo.shot("touch")
    with bo.touching(300, 740):
        wait_until(lambda: shots_of(ada, slot) > 0, "Ada sees Bo fire")


def shots_of(watcher: Player, slot: int) -> int:
    """Shots of a player in the air, as somebody sees them."""
    return sum(shot["owner"] == slot for shot in watcher.facts()["world"]["shots"])


def aimed(shooter: Player, target: Player) -> bool:
    """Follow the target with the mouse; always true."""
    shooter.aim_at(target.slot)
    return True


def test_reload_resumes_the_same_seat(pair: Pair) -> None:
    ada, bo = pair
    room_id, slot = ada.room_id, ada.slot
    moved(bo, ada, inward(ada))
    where = float(bo.seen(slot)["x"])
    ada.page.reload()
    resumed(ada, room_id, slot)
    assert abs(float(ada.seen(slot)["x"]) - where) < 200
    moved(bo, ada, inward(ada))


def test_lost_network_resumes_the_same_seat(pair: Pair, bos_cable: Cable) -> None:
    ada, bo = pair
    room_id, slot = bo.room_id, bo.slot
    # Chromium's offline mode lets open streams live on, so the cable is pulled as well.
    bos_cable.pull()
    bo.page.context.set_offline(True)
    bo.page.wait_for_selector(".banner:not([hidden])", timeout=20_000)
    bo.shot("reconnecting")
    bos_cable.plug()
    bo.page.context.set_offline(False)
    resumed(bo, room_id, slot)
    assert bo.page.locator(".banner").is_hidden()
    moved(ada, bo, inward(bo))
    assert bo.read("window.rallypoint.match.connection.statistics().reconnects") >= 1


def test_player_who_left_the_page_is_away_until_back(pair: Pair) -> None:
    ada, bo = pair
    room_id, slot, address = bo.room_id, bo.slot, bo.page.url
    bo.page.goto("about:blank")
    away = f"window.rallypoint.match.view.facts().world.players[{slot}].away"
    ada.wait(away, "Ada sees that Bo is away")
    ada.shot("away")
    bo.page.goto(address)
    resumed(bo, room_id, slot)
    ada.wait(f"!{away}", "Ada sees that Bo is back")


def test_killed_gateway_is_survived(pair: Pair, stack: StackProcess) -> None:
    ada, bo = pair
    seats = [(player, player.room_id, player.slot) for player in pair]
    dead = stack.kill("gateway-1")
    ada.page.wait_for_selector(".banner:not([hidden])", timeout=20_000)
    wait_until(lambda: stack.pid("gateway-1") not in (0, dead), "a new gateway")
    for player, room_id, slot in seats:
        resumed(player, room_id, slot)
    moved(bo, ada, inward(ada))
    moved(ada, bo, inward(bo))


def test_play_goes_on_after_the_room_s_node_was_killed(pair: Pair, stack: StackProcess) -> None:
    ada, bo = pair
    moved(bo, ada, inward(ada))
    ada.page.wait_for_timeout(1500)
    where = float(bo.seen(ada.slot)["x"])
    connection = "window.rallypoint.match.connection"
    stack.kill(stack.room_node(ada.room_id))
    for player in pair:
        player.wait(f"{connection}.epoch > 1n", "the room goes on", within_s=60)
    assert abs(float(bo.seen(ada.slot)["x"]) - where) < 300
    moved(bo, ada, inward(ada))
    moved(ada, bo, inward(bo))
    for player in pair:
        assert player.read(f"{connection}.statistics().reconnects") == 0
        assert player.page.locator(".banner").is_hidden()


def test_match_ends_and_ratings_change(pair: Pair) -> None:
    ada, bo = pair
    bo.page.get_by_role("button", name="Leave", exact=True).click()
    bo.shot("leave")
    bo.page.locator("dialog").get_by_role("button", name="Leave", exact=True).click()
    for player in (ada, bo):
        player.wait_screen("result")
    ada.wait("window.rallypoint.lastRating?.matches === 1", "Ada's rating counts the match")
    assert ada.read("window.rallypoint.lastRating.lastChange") > 0
    assert "You won" in ada.page.locator("h1").inner_text()
    ada.shot("result-won")
    bo.shot("result-left")
    ada.page.get_by_role("button", name="Home").click()
    ada.wait("document.querySelector('.offer .rating')?.textContent !== ''", "home shows a rating")
    ada.shot("home-rated")


def test_time_limit_ends_the_match_and_they_play_again(join: Join) -> None:
    pair = join("Ada", queue="sprint"), join("Bo", size="phone", queue="sprint")
    for player in pair:
        player.play()
    for player in pair:
        player.wait_screen("result")
        player.wait("window.rallypoint.lastRating?.matches === 1", "the rating counts the match")
        player.shot("result-draw")
    for player in pair:
        player.page.get_by_role("button", name="Play again").click()
    for player in pair:
        player.wait_live()
