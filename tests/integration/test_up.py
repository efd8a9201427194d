"""`rallypoint up` as a user meets it: refuses clearly, starts, restarts, stops without a trace."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from tests.support.waiting import wait_until

from rallypoint.cli import datadir, plan, ports, probes, stack

Runs = Callable[[Coroutine[Any, Any, None]], None]
UP = (sys.executable, "-m", "rallypoint", "up")


def up(
    data_dir: Path, *arguments: str, path: str | None = None
) -> subprocess.CompletedProcess[str]:
    """Run `up` where it is expected to refuse."""
    environment = os.environ if path is None else {**os.environ, "PATH": path}
    words = [*UP, "--data-dir", str(data_dir), *arguments]
    return subprocess.run(words, capture_output=True, text=True, timeout=60, env=environment)


def only(sentences: str) -> str:
    """The one sentence on stderr."""
    lines = sentences.strip().splitlines()
    assert len(lines) == 1, sentences
    return lines[0]


def running(directory: Path) -> list[datadir.Running]:
    return datadir.read_state(directory)


def gone(pids: list[int]) -> bool:
    return all(datadir.start_ticks(pid) is None for pid in pids)


def test_up_refuses_a_taken_port(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = up(tmp_path / "data", "--port", port)
    assert done.returncode != 0
    assert f"port {port}" in only(done.stderr)
    assert "--port" in done.stderr
    assert running(tmp_path / "data") == []


def test_up_refuses_an_unwritable_directory(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = up(tmp_path / "file" / "data", "--port", str(ports.free_one()))
    assert done.returncode != 0
    assert "--data-dir" in only(done.stderr)


def test_up_refuses_beside_a_leftover_of_an_earlier_run(tmp_path: Path) -> None:
    left = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        datadir.write_state(tmp_path, {"fleet": left.pid}, facts={})
        state = json.loads((tmp_path / "state.json").read_text())
        state["processes"] = [e for e in state["processes"] if e["name"] == "fleet"]
        (tmp_path / "state.json").write_text(json.dumps(state))
        done = up(tmp_path, "--port", str(ports.free_one()))
    finally:
        left.communicate(b"\n")
    assert done.returncode != 0
    assert f"kill {left.pid}" in only(done.stderr)


def test_up_refuses_a_bad_queue(tmp_path: Path) -> None:
    done = up(tmp_path / "data", "--queue", "nosuch")
    assert done.returncode != 0
    assert "nosuch" in only(done.stderr)
    assert not (tmp_path / "data").exists()


def test_up_refuses_a_page_that_is_not_built(tmp_path: Path) -> None:
    done = up(tmp_path / "data", "--web-root", str(tmp_path))
    assert done.returncode != 0
    assert "index.html" in only(done.stderr)


def test_service_that_cannot_start_stops_everything(tmp_path: Path, runs: Runs) -> None:
    queue = {**plan.DEFAULT_QUEUES["skirmish"], "min_players": -1}
    wish = plan.Wish(
        data_dir=tmp_path, web_port=ports.free_one(), queues=(queue,), kinds=("matchmaking",)
    )
    pids: list[int] = []

    async def scenario() -> None:
        def tell(event: stack.Event) -> None:
            pids.extend(r.pid for r in running(tmp_path) if r.name != "up")

        with pytest.raises(datadir.Refused, match="matchmaking ended before it was ready"):
            async with stack.Stack(wish, tell=tell):
                pass

    runs(scenario())
    assert pids
    assert gone(pids)


def test_second_up_on_the_same_directory_is_refused(tmp_path: Path, runs: Runs) -> None:
    wish = plan.Wish(data_dir=tmp_path, web_port=ports.free_one(), kinds=())

    async def scenario() -> None:
        async with stack.Stack(wish):
            done = await asyncio.to_thread(up, tmp_path, "--port", str(ports.free_one()))
        assert done.returncode != 0
        assert "already runs" in only(done.stderr)

    runs(scenario())


def test_killed_child_comes_back_on_its_port_with_its_data(tmp_path: Path, runs: Runs) -> None:
    wish = plan.Wish(data_dir=tmp_path, web_port=ports.free_one(), kinds=())
    events: list[stack.Event] = []

    async def scenario() -> None:
        async with stack.Stack(wish, tell=events.append) as brokers:
            first = brokers.pid("redis")
            brokers.kill("redis")
            await brokers.wait_ready("redis")
            assert brokers.pid("redis") not in (0, first)
            assert brokers.restarts("redis") == 1
            assert {r.name: r.pid for r in running(tmp_path)}["redis"] == brokers.pid("redis")

    runs(scenario())
    told = [event.what for event in events if event.name == "redis"]
    assert told[:5] == ["starting", "ready", "died", "restarting", "starting"]


def test_held_child_stays_down_until_released(tmp_path: Path, runs: Runs) -> None:
    wish = plan.Wish(data_dir=tmp_path, web_port=ports.free_one(), kinds=())

    async def scenario() -> None:
        async with stack.Stack(wish) as brokers:
            await brokers.hold("redis")
            await asyncio.sleep(0.5)
            assert brokers.pid("redis") == 0
            await brokers.release("redis")
            assert brokers.is_ready("redis")

    runs(scenario())


@pytest.mark.parametrize(
    "number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=["ctrl-c", "term", "hang-up"]
)
def test_up_serves_until_asked_and_leaves_nothing(tmp_path: Path, number: signal.Signals) -> None:
    port = ports.free_one()
    with subprocess.Popen(
        [*UP, "--data-dir", str(tmp_path), "--port", str(port), "--gateways", "2"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        assert process.stdout is not None
        shown: list[str] = []
        for line in process.stdout:
            shown.append(line)
            if "Ctrl-C stops" in line:
                break
        assert any(f"http://127.0.0.1:{port}" in line for line in shown), shown
        pids = [r.pid for r in running(tmp_path) if r.name != "up"]
        status, _ = asyncio.run(probes.get(port, "/"))
        process.send_signal(number)
        rest = process.stdout.read()
    assert process.returncode == 0, rest
    assert len(pids) == 7
    assert status != 0
    assert gone(pids)
    assert running(tmp_path) == []
    logs = {path.name for path in datadir.logs(tmp_path).glob("*.log")}
    assert {"gateway-1.log", "gateway-2.log", "fleet.log", "nats.log"} <= logs


def test_up_at_an_address_of_ipv6_is_found_by_every_command(tmp_path: Path) -> None:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6) as free:
            port = free.getsockname()[1]
    except OSError:
        pytest.skip("this machine has no IPv6")
    with subprocess.Popen(
        [*UP, "--data-dir", str(tmp_path), "--host", "::1", "--port", str(port)],
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        url = f"http://[::1]:{port}"
        assert any(line.rstrip().endswith(url) for line in process.stdout)
        bots = ("bots", "--url", url, "--game", "tictactoe", "--count", "2", "--matches", "1")
        here = ("--data-dir", str(tmp_path))
        said = [
            subprocess.run(
                [sys.executable, "-m", "rallypoint", *words], capture_output=True, text=True
            )
            for words in (
                (*bots, "--transport", "websocket"),
                ("rooms", *here, "ls"),
                ("replay", *here, "--list"),
            )
        ]
        process.send_signal(signal.SIGTERM)
        process.stdout.read()
    assert [done.returncode for done in said] == [0, 0, 0], said
    assert "2 matches played" in said[0].stdout
    assert process.returncode == 0


def test_nothing_outlives_a_killed_up(tmp_path: Path) -> None:
    port = ports.free_one()
    with subprocess.Popen(
        [*UP, "--data-dir", str(tmp_path), "--port", str(port)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if "Ctrl-C stops" in line:
                break
        pids = [r.pid for r in running(tmp_path) if r.name != "up"]
        process.kill()
        process.wait()
    assert len(pids) == 6
    wait_until(lambda: gone(pids), "all ended", within_s=40)


def test_second_signal_does_not_wait_for_a_stuck_child(tmp_path: Path, runs: Runs) -> None:
    wish = plan.Wish(data_dir=tmp_path, web_port=ports.free_one(), kinds=())
    pids: list[int] = []

    async def scenario() -> None:
        async with stack.Stack(wish) as brokers:
            brokers.kill("redis", number=signal.SIGSTOP)
            pids.extend([brokers.pid("redis"), brokers.pid("nats")])
            loop = asyncio.get_running_loop()
            loop.call_later(0.2, brokers.force)

    began_s = time.monotonic()
    runs(scenario())
    assert gone(pids)
    assert time.monotonic() - began_s < stack.DRAIN_S
