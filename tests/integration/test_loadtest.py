"""Locust plays the whole stack: a green verdict, and a red one when the room node stands still."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.support import stack_process, waiting
from tests.support.stack_process import StackProcess

from rallypoint.cli import plan, ports

pytestmark = pytest.mark.alone

ROOT = Path(__file__).resolve().parents[2]
QUEUE = {
    **plan.DEFAULT_QUEUES["skirmish"],
    "queue": "load",
    "min_after_s": 0,
    "options": {"time_limit_s": 3},
}
LONG = {**QUEUE, "queue": "long", "options": {"time_limit_s": 110}}
# On a crowded machine one stall of two seconds loses some inputs, and one as the swarm begins
# refuses a few sessions at once, which ask again. How slow it may be is not for this test to say.
LIMITS = """
objectives:
  open session: {at_least: 1, failed: 2}
  join: {at_least: 1, failed: 0}
  input to echo: {at_least: 20, failed_percent: 20}
  stream: {failed: 0}
"""
SLOW = re.compile("NOT_ECHOED|NOT_SENT|STORE_UNAVAILABLE|CLIENT_DEADLINE")
"""What a machine with more work than cores does to players."""


@pytest.fixture(scope="module")
def locust() -> Path:
    """Locust in its own environment, made by the same target that people use."""
    subprocess.run(["make", "-s", ".venv-load/done"], cwd=ROOT, check=True)
    return ROOT / ".venv-load" / "bin" / "locust"


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StackProcess]:
    data_dir = tmp_path_factory.mktemp("load")
    with stack_process.running(data_dir, queues=[QUEUE, LONG]) as running:
        yield running


@pytest.fixture
def command(locust: Path, stack: StackProcess, tmp_path: Path) -> list[str]:
    (tmp_path / "slo.yaml").write_text(LIMITS)
    return [
        str(locust), "--config", "loadtest/locust.conf", "--host", stack.url, "--users", "6",
        "--spawn-rate", "6", "--game", "skirmish", "--slo", str(tmp_path / "slo.yaml"),
        "--report", str(tmp_path / "report"),
    ]  # fmt: skip


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'services'}"}


@pytest.mark.timeout(300)  # the first run installs Locust
def test_workers_play_matches_and_the_verdict_is_green(
    command: list[str], stack: StackProcess, tmp_path: Path
) -> None:
    native = json.loads((stack.data_dir / "state.json").read_text())["native"]
    words = ["--headless", "--queue", "load", "--run-time", "12s", "--processes", "2"]
    words += ["--shape", "reconnect-storm", "--native", native, "--native-share", "0.4"]
    done = subprocess.run(
        [*command, *words], cwd=ROOT, env=environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    told = json.loads((tmp_path / "report" / "summary.json").read_text())
    seen = {(row["name"], row["transport"]) for row in told["rows"]}
    assert {("input to echo", "grpc-web"), ("input to echo", "native")} <= seen
    assert {("time to match", "grpc-web"), ("match", "grpc-web"), ("rejoin", "grpc-web")} <= seen
    assert [error for error in told["errors"] if not SLOW.search(error)] == []
    came_back = [row for row in told["rows"] if row["name"] == "rejoin"]
    assert sum(row["count"] - row["failures"] for row in came_back) > 0
    assert told["most_players"] == 6
    assert "<polyline" in (tmp_path / "report" / "report.html").read_text()


@pytest.mark.timeout(300)
def test_worker_elsewhere_plays_for_a_master_that_judges(
    command: list[str], tmp_path: Path
) -> None:
    port = str(ports.free_one())
    words = ["--headless", "--queue", "load", "--run-time", "8s"]
    master = ["--master", "--master-bind-host", "127.0.0.1", "--master-bind-port", port]
    worker = ["--worker", "--master-host", "127.0.0.1", "--master-port", port]
    with (
        subprocess.Popen(
            [*command, *words, *master, "--expect-workers", "1"], cwd=ROOT, env=environment()
        ) as judge,
        subprocess.Popen([*command, *words, *worker], cwd=ROOT, env=environment()) as player,
    ):
        try:
            assert judge.wait(timeout=120) == 0
            assert player.wait(timeout=30) == 0
        finally:
            judge.kill()
            player.kill()
    told = json.loads((tmp_path / "report" / "summary.json").read_text())
    echoed = {row["name"]: row["count"] - row["failures"] for row in told["rows"]}
    assert echoed["input to echo"] > 0
    assert told["most_players"] == 6


@pytest.mark.parametrize(
    ("host", "says"),
    [("127.0.0.1:8080", "write http://"), ("http://127.0.0.1:9", "nobody answers")],
)
def test_wrong_host_ends_the_run_with_a_sentence(locust: Path, host: str, says: str) -> None:
    words = [str(locust), "--config", "loadtest/locust.conf", "--headless", "--host", host]
    done = subprocess.run(
        words, cwd=ROOT, env=environment(), capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 1
    assert says in done.stderr


def ask(address: str) -> Any:
    try:
        with urllib.request.urlopen(address, timeout=5) as answer:
            return json.load(answer)
    except OSError:
        return None


@pytest.mark.timeout(300)
def test_verdict_turns_red_when_the_room_node_is_stopped(
    command: list[str], stack: StackProcess
) -> None:
    port = ports.free_one()
    words = ["--autostart", "--queue", "long", "--run-time", "100s", "--web-host", "127.0.0.1"]
    node = stack.pid("room-state-1")

    def verdict() -> dict[str, Any]:
        return ask(f"http://127.0.0.1:{port}/slo") or {}

    def clearly_red() -> bool:  # the inputs that come back at the end must not turn it again
        found = verdict()
        lost = [row["failures"] / row["count"] for row in found.get("rows", ())]
        return not found.get("passed", True) and max(lost, default=0) > 0.3

    with subprocess.Popen(
        [*command, *words, "--web-port", str(port)],
        cwd=ROOT,
        env=environment(),
        stderr=subprocess.DEVNULL,
    ) as locust:
        try:
            waiting.wait_until(lambda: bool(verdict().get("passed")), "the verdict is green")
            os.kill(node, signal.SIGSTOP)
            waiting.wait_until(clearly_red, "the verdict is red", within_s=60)
            stats = ask(f"http://127.0.0.1:{port}/stats/requests")
            assert any("NOT_ECHOED" in error["error"] for error in stats["errors"])
            drawn = {row["name"]: row for row in stats["stats"]}
            for name in ("input to echo", "time to match"):  # as Locust's own page shows them
                row = drawn[name]
                median, p95 = row["median_response_time"], row["response_time_percentile_0.95"]
                assert 0 < median <= p95 <= 1.1 * row["max_response_time"], row  # it rounds
        finally:
            os.kill(node, signal.SIGCONT)
            locust.terminate()
    assert locust.returncode == 1
