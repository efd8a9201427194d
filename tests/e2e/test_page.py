"""The page around the match: home, queue, reload while queued, errors, two tabs, tic-tac-toe."""

from __future__ import annotations

import pytest
from tests.e2e.conftest import Join
from tests.support.browser import Player
from tests.support.waiting import wait_until


@pytest.mark.parametrize("size", ["desktop", "phone"])
def test_home_offers_games_and_fits(join: Join, size: str) -> None:
    player = join("Ada", size=size)
    player.shot("home")
    assert player.page.locator(".offer").count() == 2
    assert player.read("document.documentElement.scrollWidth <= innerWidth")
    player.page.get_by_label("Your name").press("Enter")
    player.wait_screen("queue")
    player.page.get_by_role("button", name="Leave the queue").click()
    player.wait_screen("home")


@pytest.mark.parametrize("size", ["desktop", "phone"])
def test_queue_tells_place_and_range(join: Join, size: str) -> None:
    player = join("Ada", size=size, queue="lonely")
    player.play()
    player.wait_screen("queue")
    player.wait("document.querySelector('.figures dd').textContent === '1'", "place 1")
    player.page.wait_for_timeout(300)
    player.shot("queue")
    assert "One more player" in player.page.locator(".queue .lead").inner_text()
    player.page.get_by_role("button", name="Leave the queue").click()
    player.wait_screen("home")


def test_reload_while_queued_keeps_the_ticket(join: Join) -> None:
    player = join("Ada", queue="lonely")
    player.play()
    player.wait("document.querySelector('.figures dd')?.textContent === '1'", "place 1")
    ticket = player.read("JSON.parse(sessionStorage.getItem('rallypoint.search')).ticketId")
    player.page.reload()
    player.wait("document.querySelector('.figures dd')?.textContent === '1'", "place 1 again")
    again = player.read("JSON.parse(sessionStorage.getItem('rallypoint.search')).ticketId")
    assert ticket == again != ""
    player.page.get_by_role("button", name="Leave the queue").click()
    player.wait_screen("home")


def test_second_tab_may_play_as_another_guest(join: Join) -> None:
    first = join("Ada", queue="lonely")
    first.play()
    first.wait("document.querySelector('.figures dd')?.textContent === '1'", "place 1")
    second = Player(first.page.context.new_page(), "Ada", "desktop")
    second.open(first.page.url.split("/?")[0], queue="lonely")
    second.play()
    second.wait_screen("notice")
    second.shot("notice-two-tabs")
    second.page.get_by_role("button", name="Play as another guest").click()
    for player in (first, second):
        player.wait_live()
    assert {first.slot, second.slot} == {0, 1}


def test_lost_network_while_starting_is_explained(join: Join) -> None:
    player = join("Ada", size="phone")
    player.page.context.set_offline(True)
    player.play()
    player.wait_screen("notice")
    player.shot("notice-offline")
    assert "cannot be reached" in player.page.locator("h1").inner_text()
    player.page.context.set_offline(False)
    player.page.get_by_role("button", name="Back").click()
    player.wait_screen("home")


def test_page_stands_still_for_those_who_want_it(join: Join) -> None:
    player = join("Ada", queue="lonely")
    player.page.emulate_media(reduced_motion="reduce")
    player.play()
    player.wait_screen("queue")
    running = "document.getAnimations().filter(one => one.playState === 'running').length"
    assert player.read(running) == 0
    player.page.get_by_role("button", name="Leave the queue").click()
    player.wait_screen("home")


def test_tictactoe_is_played_by_click_and_keyboard(join: Join) -> None:
    pair = [join("Ada"), join("Bo", size="phone")]
    for player in pair:
        player.play("tictactoe")
    for player in pair:
        player.wait("document.querySelector('.found')?.childElementCount === 2", "who was found")
        player.shot("found")
    for player in pair:
        player.wait_live()
    first, second = sorted(pair, key=lambda player: player.slot)
    for mover, cell in [(first, 4), (second, 0), (first, 3), (second, 8)]:
        placed(mover, cell)
    for player in pair:
        player.wait("document.querySelector('[data-turn]').dataset.turn !== 'none'", "a turn")
        player.shot("tictactoe")
    mover = first.page
    mover.locator(".cell").nth(4).focus()
    mover.keyboard.press("ArrowRight")
    mover.keyboard.press("Enter")
    for player in pair:
        player.wait_screen("result")
        player.wait("window.rallypoint.lastRating !== undefined", "the rating counts the match")
        player.shot("result-tictactoe")
    assert "You won" in first.page.locator("h1").inner_text()
    assert "You lost" in second.page.locator("h1").inner_text()


def placed(mover: Player, cell: int) -> None:
    """One move by click or tap, seen by the mover."""
    mover.wait("document.querySelector('[data-turn]').dataset.turn === 'mine'", "my turn")
    mover.page.locator(".cell").nth(cell).click()
    wait_until(lambda: mover.facts()["marks"][cell] != 0, f"cell {cell} is marked")
