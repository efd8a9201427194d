"""The operators' page: closed without the secret; shows what runs; kick and close reach players."""

from __future__ import annotations

from playwright.sync_api import Page
from tests.e2e.conftest import Join
from tests.e2e.test_friends import make_room, to_rooms
from tests.support.browser import SHOTS, Player
from tests.support.stack_process import StackProcess
from tests.support.waiting import wait_until


def open_page(player: Player, stack: StackProcess, *, secret: str = "") -> Page:
    """The operators' page in a tab of its own."""
    page = player.page.context.new_page()
    page.goto(f"{stack.url}/operator" + (f"#{secret}" if secret else ""))
    return page


def secret_of(stack: StackProcess) -> str:
    return (stack.data_dir / "admin.token").read_text().strip()


def shot(page: Page, label: str, size: str) -> None:
    SHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SHOTS / f"{label}-{size}.png")


def test_page_shows_nothing_without_the_secret(join: Join, stack: StackProcess) -> None:
    page = open_page(join("Eve"), stack)
    page.get_by_label("The admin secret").fill("not the secret at all")
    page.get_by_role("button", name="Open").click()
    page.get_by_text("That secret is not this server's.").wait_for(timeout=10_000)
    shot(page, "operator-refused", "desktop")
    assert page.locator("tbody tr").count() == 0
    page.get_by_label("The admin secret").fill(secret_of(stack))
    page.get_by_label("The admin secret").press("Enter")
    page.get_by_text("Live rooms").wait_for(timeout=10_000)


def test_operator_looks_into_a_room_kicks_and_closes(join: Join, stack: StackProcess) -> None:
    ada, bo = join("Ada"), join("Bo", size="phone")
    code = make_room(ada, "tictactoe")
    to_rooms(bo)
    bo.page.get_by_label("Enter a code").fill(code)
    bo.page.get_by_role("button", name="Join", exact=True).click()
    bo.wait_live()
    ada.page.locator(".cell").nth(4).click()
    assert any(secret_of(stack) in line for line in stack.lines)

    page = open_page(join("Operator"), stack, secret=secret_of(stack))
    assert secret_of(stack) not in page.url
    row = page.locator("tr", has=page.locator(f"[data-room='{ada.room_id}']"))
    row.wait_for(timeout=10_000)
    assert "2/2" in row.inner_text()
    row.get_by_role("button").click()
    panel = page.get_by_role("region", name="Room", exact=True)
    panel.get_by_role("button", name="Kick Bo").wait_for(timeout=10_000)
    board = panel.locator("details[data-table=board] tbody tr")
    wait_until(lambda: board.count() == 1, "the one mark on the board is seen")
    assert board.inner_text().split() == ["4", "1"]
    wait_until(lambda: float(row.locator("td").nth(7).inner_text()) > 0, "frames are counted")
    shot(page, "operator", "desktop")

    panel.get_by_role("button", name="Kick Bo").click()
    page.get_by_label("The reason").fill("CHEATING")
    page.keyboard.press("Enter")
    bo.page.get_by_text("CHEATING").wait_for(timeout=10_000)
    bo.shot("kicked")
    ada.wait_screen("result")


def test_operator_closes_a_room_from_a_phone(join: Join, stack: StackProcess) -> None:
    ada = join("Ada")
    make_room(ada, "skirmish")
    phone = join("Operator", size="phone")
    page = open_page(phone, stack, secret=secret_of(stack))
    page.locator(f"[data-room='{ada.room_id}']").tap()
    page.get_by_role("button", name="Close the room").tap()
    shot(page, "operator-close", "phone")
    page.get_by_label("The reason").fill("MAINTENANCE")
    page.get_by_role("button", name="Do it").tap()
    ada.wait_screen("result")
    assert "MAINTENANCE" in ada.page.locator("main").inner_text()
    page.get_by_text("That room has ended.").wait_for(timeout=10_000)
    shot(page, "operator", "phone")
