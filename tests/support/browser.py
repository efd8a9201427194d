"""A player in Chromium: presses what a person presses, reads what a person sees."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from tests.support import waiting

CHROMIUM = Path("/usr/bin/chromium")
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
SHOTS = Path(__file__).resolve().parents[2] / "test-results" / "e2e"
SCREEN_MS = 30_000
KEYS = {(1, 0): "d", (-1, 0): "a", (0, 1): "s", (0, -1): "w"}


@contextmanager
def launched() -> Iterator[Browser]:
    """One browser, or a skip with the reason; every player has a context of their own in it."""
    if not CHROMIUM.exists():
        pytest.skip(f"{CHROMIUM} is missing: install Debian's chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=ARGUMENTS)
        yield browser
        browser.close()


@dataclass
class Player:
    """One page."""

    page: Page
    name: str
    size: str
    """desktop or phone: part of the names of its screenshots."""

    def open(self, url: str, **query: str) -> None:
        """Load the page, with what is asked for in its address."""
        asked = urlencode({name: value for name, value in query.items() if value})
        self.page.goto(f"{url}/?{asked}" if asked else f"{url}/")
        self.wait_screen("home")

    def play(self, game: str = "skirmish") -> None:
        """Fill in the form and press Play."""
        self.page.get_by_label("Your name").fill(self.name)
        self.page.locator(f"input[value={game}]").check(force=True)
        self.page.get_by_role("button", name="Play", exact=True).click()

    def wait_screen(self, name: str) -> None:
        """Wait until home, queue, match, result or notice is shown."""
        self.page.wait_for_selector(f"body[data-screen={name}]", timeout=SCREEN_MS)

    def wait_live(self) -> None:
        """Wait until frames arrive and the game is drawn."""
        self.wait_screen("match")
        self.wait("window.rallypoint.match?.connection.state === 'live'", "the stream is live")
        self.wait("window.rallypoint.match?.view !== undefined", "the game is shown")

    def wait(self, expression: str, what: str, *, within_s: float = 30.0) -> None:
        """Wait until a condition holds in the page."""
        question = f"() => Boolean({expression})"
        waiting.wait_until(
            lambda: bool(self.page.evaluate(question)), f"{self.name}: {what}", within_s=within_s
        )

    def read(self, expression: str) -> Any:
        """Evaluate in the page."""
        return self.page.evaluate(f"() => ({expression})")

    def facts(self) -> dict[str, Any]:
        """What the game's view shows."""
        found = self.read("window.rallypoint.match?.view?.facts() ?? null")
        assert found is not None, f"{self.name} is not in a match"
        return dict(found)

    @property
    def slot(self) -> int:
        """The own seat."""
        return int(self.facts()["self"])

    @property
    def room_id(self) -> str:
        """The room of the match."""
        return str(self.read("window.rallypoint.match.connection.welcome.roomId"))

    def seen(self, slot: int) -> dict[str, Any]:
        """Somebody as this page knows them."""
        world = self.facts()["world"]
        return dict(world["players"][slot])

    def shot(self, label: str) -> None:
        """Keep a screenshot to look at."""
        SHOTS.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=SHOTS / f"{label}-{self.size}.png")

    # -- skirmish

    def walk(self, direction: tuple[int, int], *, axis: str, until: float) -> None:
        """Hold a key until one's own place on an axis has passed a mark."""
        sign = sum(direction)
        own = self.slot
        key = KEYS[direction]
        self.page.keyboard.down(key)
        try:
            waiting.wait_until(
                lambda: sign * (float(self.seen(own)[axis]) - until) >= 0,
                f"{self.name} walks to {axis} {until}",
            )
        finally:
            self.page.keyboard.up(key)

    def aim_at(self, slot: int) -> None:
        """Point the mouse at somebody."""
        facts = self.facts()
        camera, other = facts["camera"], facts["world"]["players"][slot]
        x = (other["x"] - camera["left"]) * camera["scale"]
        y = (other["y"] - camera["top"]) * camera["scale"]
        self.page.mouse.move(x, y)

    @contextmanager
    def touching(self, x: float, y: float, *, pull: tuple[float, float] = (0, 0)) -> Iterator[None]:
        """Hold a finger on the glass, pulled away from where it went down. CSS pixels."""
        session = self.page.context.new_cdp_session(self.page)

        def send(kind: str, *points: dict[str, float]) -> None:
            session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": list(points)})

        send("touchStart", {"x": x, "y": y})
        send("touchMove", {"x": x + pull[0], "y": y + pull[1]})
        yield
        send("touchEnd")
        session.detach()

    def distance(self, slot: int) -> float:
        """How far somebody is, in units of the arena."""
        own, other = self.seen(self.slot), self.seen(slot)
        return math.hypot(own["x"] - other["x"], own["y"] - other["y"])
