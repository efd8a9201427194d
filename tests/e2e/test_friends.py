"""Rooms of one's own: one page makes a room, another enters by its code or from the list."""

from __future__ import annotations

from tests.e2e.conftest import Join
from tests.support.browser import Player
from tests.support.stack_process import StackProcess

SPAM = """() => {
    const form = document.querySelector(".chat form");
    for (let line = 0; line < 12; line += 1) {
        form.querySelector("input").value = "spam";
        form.requestSubmit();
    }
}"""
"""More lines at once than anybody may write."""


def to_rooms(player: Player) -> None:
    """From home to the rooms, with a name."""
    player.page.get_by_label("Your name").fill(player.name)
    player.page.get_by_role("button", name="Play with friends").click()
    player.wait_screen("rooms")


def make_room(player: Player, game: str, *, listed: bool = False) -> str:
    """Make a room as a person does; its code."""
    to_rooms(player)
    player.page.locator(f"input[name=room-game][value={game}]").check(force=True)
    if listed:
        player.page.get_by_label("Show it in the list").check()
    player.page.get_by_role("button", name="Make a room").click()
    player.wait_live()
    return str(player.page.locator("[data-code]").get_attribute("data-code"))


def place(player: Player, cell: int) -> None:
    """Make a move, once it is the player's turn."""
    player.wait("window.rallypoint.match.view.facts().turn === " + str(player.slot), "one's turn")
    player.page.locator(".cell").nth(cell).click()


def test_friend_enters_by_the_code_and_they_play(join: Join) -> None:
    ada, bo = join("Ada"), join("Bo", size="phone")
    code = make_room(ada, "tictactoe")
    ada.shot("room-waiting")
    assert len(code) == 6
    to_rooms(bo)
    bo.shot("rooms")
    bo.page.get_by_label("Enter a code").fill(f"{code[:3]}-{code[3:]}".lower())
    bo.page.get_by_role("button", name="Join", exact=True).tap()
    bo.wait_live()
    assert bo.room_id == ada.room_id
    assert (ada.slot, bo.slot) == (0, 1)
    for ada_cell, bo_cell in ((0, 3), (1, 4)):
        place(ada, ada_cell)
        place(bo, bo_cell)
    ada.shot("room-playing")
    bo.shot("room-playing")
    assert "Bo" in ada.page.locator(".pair").inner_text()
    place(ada, 2)
    for player in (ada, bo):
        player.wait_screen("result")
    assert "You won" in ada.page.locator("h1").inner_text()
    assert "not rated" in ada.page.locator(".note").inner_text()
    ada.page.get_by_role("button", name="Another room").click()
    ada.wait_screen("rooms")


def test_open_room_is_found_in_the_list(join: Join) -> None:
    ada, bo = join("Ada", size="phone"), join("Bo")
    code = make_room(ada, "skirmish", listed=True)
    ada.shot("room-skirmish")
    to_rooms(bo)
    row = bo.page.locator(f".open-rooms [data-code='{code}']")
    row.wait_for(timeout=10_000)
    bo.shot("rooms")
    assert "Ada's room" in bo.page.get_by_role("list", name="Open rooms").inner_text()
    row.click()
    bo.wait_live()
    ada.wait(f"window.rallypoint.match.view.facts().world.players[{bo.slot}]", "Ada sees Bo")
    ada.wait("document.querySelector('.scores').innerText.includes('Bo')", "Ada reads Bo's name")
    bo.shot("room-skirmish")
    room_id, slot = ada.room_id, ada.slot
    ada.page.reload()
    ada.wait_live()
    assert (ada.room_id, ada.slot) == (room_id, slot)
    assert ada.page.locator(f"[data-code='{code}']").is_visible()


def test_keyboard_alone_takes_an_invitation(join: Join, stack: StackProcess) -> None:
    ada, bo = join("Ada"), join("Bo")
    code = make_room(ada, "tictactoe")
    bo.page.goto(f"{stack.url}/?room={code}")
    bo.wait_screen("rooms")
    assert bo.page.get_by_label("Enter a code").input_value() == code
    bo.page.keyboard.press("Enter")
    bo.wait_live()
    assert bo.room_id == ada.room_id
    assert "room=" not in bo.page.url


def test_wrong_codes_are_explained(join: Join) -> None:
    bo = join("Bo", size="phone")
    to_rooms(bo)
    code = bo.page.get_by_label("Enter a code")
    code.fill("abc")
    code.press("Enter")
    problem = bo.page.locator(".problem")
    assert "6 letters and digits" in problem.inner_text()
    code.fill("zzz 999")
    code.press("Enter")
    bo.wait("document.querySelector('.problem').innerText.startsWith('No room')", "it is explained")
    bo.shot("rooms-wrong-code")
    bo.page.get_by_role("button", name="Back").click()
    bo.wait_screen("home")
    bo.shot("home")


def test_players_write_to_each_other(join: Join) -> None:
    ada, bo = join("Ada"), join("Bo", size="phone")
    code = make_room(ada, "skirmish")
    to_rooms(bo)
    bo.page.get_by_label("Enter a code").fill(code)
    bo.page.get_by_role("button", name="Join", exact=True).tap()
    bo.wait_live()
    where = ada.seen(ada.slot)
    ada.page.keyboard.press("Enter")
    ada.page.keyboard.type("wasd <b>over  here</b>")
    ada.page.keyboard.press("Enter")
    bo.page.get_by_text("wasd <b>over here</b>").wait_for(timeout=10_000)
    bo.page.get_by_role("button", name="Chat").tap()
    bo.page.get_by_label("Say something").fill("coming")
    bo.page.get_by_role("button", name="Send").tap()
    ada.page.get_by_text("coming").wait_for(timeout=10_000)
    bo.shot("chat")
    ada.shot("chat")
    assert ada.seen(ada.slot)["x"] == where["x"]
    ada.page.keyboard.press("Escape")
    ada.walk((1, 0), axis="x", until=float(where["x"]) + 40)
    bo.page.evaluate(SPAM)
    bo.page.get_by_text("Not so fast").wait_for(timeout=10_000)
