"""A node is drained in the middle of a match, and nobody in the browser notices."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest
from tests.e2e.conftest import queue
from tests.e2e.test_play import inward, moved
from tests.support import stack_process, web_clients
from tests.support.browser import Player
from tests.support.stack_process import StackProcess

EPOCH = "Number(window.rallypoint.match.connection.epoch)"
NOTICED = """(() => {
    window.noticed = [];
    const banner = document.querySelector('.banner');
    new MutationObserver(() => { if (!banner.hidden) window.noticed.push(banner.innerText); })
        .observe(banner, { attributes: true, childList: true });
    return true;
})()"""


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StackProcess]:
    """A skirmish on two room nodes."""
    web_clients.page()
    directory = tmp_path_factory.mktemp("drain")
    with stack_process.running(directory, queues=[queue("skirmish")], room_nodes=2) as started:
        yield started


def rallypoint(stack: StackProcess, *words: str) -> str:
    """Run a command on the stack; what it prints."""
    words = (sys.executable, "-m", "rallypoint", *words, "--data-dir", str(stack.data_dir))
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_drained_node_is_not_noticed(pair: tuple[Player, Player], stack: StackProcess) -> None:
    ada, bo = pair
    for player in pair:
        assert player.read(NOTICED)
    epoch = ada.read(EPOCH)
    process = stack.room_node(ada.room_id)
    node = process.replace("room-state", "local")
    told = rallypoint(stack, "drain", node)
    assert f"{node} is empty" in told
    for player in pair:
        player.wait(f"{EPOCH} > {epoch}", "frames of the next node")
        assert player.page.locator(".banner").is_hidden()
    assert stack.room_node(ada.room_id) != process
    moved(bo, ada, inward(ada))
    moved(ada, bo, inward(bo))
    assert f"{node} takes rooms again" in rallypoint(stack, "drain", node, "--undo")
    told = rallypoint(stack, "move", ada.room_id, "--to", node)
    assert f"runs at {node}, epoch {epoch + 2}" in told
    moved(bo, ada, inward(ada))
    for player in pair:
        assert player.read("window.rallypoint.match.connection.statistics().reconnects") == 0
        assert player.read("window.noticed") == []
