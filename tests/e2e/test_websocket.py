"""One page on a WebSocket and one on plain gRPC-Web play together, and lost networks come back."""

from __future__ import annotations

from tests.e2e.conftest import Join
from tests.e2e.test_play import inward, moved, resumed
from tests.support.browser import Player
from tests.support.cable import Cable

SENT = "window.sockets.reduce((sum, one) => sum + one.sent, 0)"
WATCHED = """
window.sockets = [];
window.WebSocket = class extends WebSocket {
  constructor(...args) { super(...args); this.sent = 0; window.sockets.push(this); }
  send(data) { this.sent += 1; super.send(data); }
};
"""


def posts(player: Player) -> list[str]:
    """The methods that the page calls with a POST from now on."""
    called: list[str] = []
    player.page.on("request", lambda request: called.append(request.url.rsplit("/", 1)[-1]))
    return called


def test_websocket_and_fetch_play_together(join: Join, bos_cable: Cable) -> None:
    ada, bo = join("Ada"), join("Bo", url=bos_cable.url, transport="websocket")
    bo.page.add_init_script(WATCHED)
    bo.page.reload()
    bo.wait_screen("home")
    called = posts(bo)
    for player in (ada, bo):
        player.play()
    for player in (ada, bo):
        player.wait_live()
    assert ada.room_id == bo.room_id
    moved(bo, ada, inward(ada))
    moved(ada, bo, inward(bo))
    assert int(bo.read(SENT)) > 10
    assert ada.read("window.rallypoint.match.connection.statistics().unacked") <= 8

    room_id, slot = bo.room_id, bo.slot
    bos_cable.pull()
    bo.page.wait_for_selector(".banner:not([hidden])", timeout=20_000)
    bos_cable.plug()
    resumed(bo, room_id, slot)
    moved(ada, bo, inward(bo))

    bo.page.get_by_role("button", name="Leave", exact=True).click()
    bo.page.locator("dialog").get_by_role("button", name="Leave", exact=True).click()
    for player in (ada, bo):
        player.wait_screen("result")
    assert {"SendInput", "Join", "CreateTicket", "WatchTicket", "Leave"}.isdisjoint(called)
    bo.wait("window.rallypoint.lastRating?.matches === 1", "Bo's rating counts the match")
