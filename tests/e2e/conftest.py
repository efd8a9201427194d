"""A real stack, a real Chromium, and players who meet in it."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Page
from tests.support import browser, cable, stack_process, web_clients
from tests.support.browser import Player
from tests.support.stack_process import StackProcess

SIZES: dict[str, dict[str, Any]] = {
    "desktop": {"viewport": {"width": 1280, "height": 800}},
    "phone": {
        "viewport": {"width": 390, "height": 844},
        "device_scale_factor": 2,
        "has_touch": True,
        "is_mobile": True,
    },
}
# What a browser says when the network is taken away or the gateway is killed on purpose.
EXPECTED_NOISE = ("net::ERR_", "Failed to load resource")

Join = Callable[..., Player]


def queue(name: str, **options: object) -> dict[str, object]:
    """A queue of skirmish for two that does not wait for more."""
    return {
        "queue": name,
        "game": "skirmish",
        "set": "local",
        "team_count": 2,
        "team_size": 1,
        "min_players": 2,
        "max_players": 2,
        "min_after_s": 0,
        "tolerance": [[0, 5000]],
        "ticket_ttl_s": 600,
        "options": {"time_limit_s": 120, **options},
    }


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StackProcess]:
    """A long and a short skirmish, a queue where nobody comes, and tic-tac-toe."""
    web_clients.page()
    tictactoe = {**queue("tictactoe"), "game": "tictactoe", "options": {}}
    recorded = {"replay": True, "spectators": 5, "spectate_delay_s": 3}
    filmed = {**queue("filmed", time_limit_s=30), **recorded}
    sprint = queue("sprint", time_limit_s=12)
    queues = [queue("skirmish"), sprint, filmed, queue("lonely"), tictactoe]
    data_dir = tmp_path_factory.mktemp("up")
    with stack_process.running(data_dir, queues=queues, room_nodes=2) as started:
        yield started


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    """One browser for all."""
    with browser.launched() as started:
        yield started


@pytest.fixture
def join(chromium: Browser, stack: StackProcess) -> Iterator[Join]:
    """Open pages as players; a fault of a page's own fails the test."""
    contexts = []
    faults: list[str] = []
    numbers = itertools.count(1)

    def open_page(
        name: str = "", *, size: str = "desktop", url: str = stack.url, **query: str
    ) -> Player:
        context = chromium.new_context(**SIZES[size])
        contexts.append(context)
        page = context.new_page()
        listen(page, faults)
        player = Player(page, name or f"Player {next(numbers)}", size)
        player.open(url, **query)
        return player

    yield open_page
    for context in contexts:
        context.close()
    assert faults == []


def listen(page: Page, faults: list[str]) -> None:
    """Note what the page itself did wrong."""
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on(
        "console",
        lambda said: (
            faults.append(said.text)
            if said.type == "error" and not any(noise in said.text for noise in EXPECTED_NOISE)
            else None
        ),
    )


@pytest.fixture
def bos_cable(stack: StackProcess) -> Iterator[cable.Cable]:
    """What Bo's network hangs on."""
    with cable.laid(stack.url) as laid:
        yield laid


@pytest.fixture
def pair(join: Join, bos_cable: cable.Cable) -> tuple[Player, Player]:
    """Two players in one long match: Ada at a desk, Bo on a phone."""
    ada, bo = join("Ada"), join("Bo", size="phone", url=bos_cable.url)
    for player in (ada, bo):
        player.play()
    for player in (ada, bo):
        player.wait_live()
    assert ada.room_id == bo.room_id
    return ada, bo
