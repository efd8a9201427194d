"""The bootstrap in a process of its own: start, signals, drain, failure, brokers that come late."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from rallypoint.cli.brokers import Brokers
from rallypoint.cli.ports import free_one

PROGRAM = """
import asyncio, os, sys
from rallypoint.kit import runtime as kit, settings
from dataclasses import dataclass, field

@dataclass(frozen=True, slots=True)
class Settings:
    runtime: kit.RuntimeSettings = field(default_factory=kit.RuntimeSettings)
    mode: str = ""

async def fail():
    raise ValueError("broken")

async def main(config, host):
    host.health.set_ready(ready=True)
    host.spawn(asyncio.sleep(3600), name="sleeper")
    if config.mode == "fail":
        host.spawn(fail(), name="fail")
    await host.wait_stopping()
    if config.mode == "stuck":
        await asyncio.sleep(3600)
    print("drained", flush=True)

sys.exit(kit.run("test", settings.load(Settings, os.environ), main, needs=("bus", "store")))
"""


@contextmanager
def _process(brokers: Brokers, **environment: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    port = free_one()
    environ: Mapping[str, str] = os.environ | {
        "RALLYPOINT_NATS_URL": brokers.nats.url,
        "RALLYPOINT_REDIS_URL": brokers.redis.url,
        "RALLYPOINT_METRICS_PORT": str(port),
        **environment,
    }
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM],
        env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        yield process, port
    finally:
        process.kill()
        process.communicate()


def _status(port: int, path: str) -> int:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as reply:
            return int(reply.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code
    except OSError:
        return 0


def _wait_status(port: int, path: str, wanted: int) -> None:
    until = time.monotonic() + 20
    while _status(port, path) != wanted:
        assert time.monotonic() < until
        time.sleep(0.02)


def _ended(process: subprocess.Popen[str]) -> tuple[int, str, list[dict[str, object]]]:
    output, logs = process.communicate(timeout=60)
    return process.returncode, output, [json.loads(line) for line in logs.splitlines()]


def test_first_signal_drains_and_exits_clean(brokers: Brokers) -> None:
    with _process(brokers) as (process, port):
        _wait_status(port, "/readyz", 200)
        process.send_signal(signal.SIGTERM)
        code, output, logs = _ended(process)
    assert (code, output) == (0, "drained\n")
    assert [line["event"] for line in logs] == ["starting", "stopping", "stopped"]
    assert all(line["service"] == "test" and line["instance"] == "test-1" for line in logs)


def test_second_signal_exits_at_once(brokers: Brokers) -> None:
    with _process(brokers, RALLYPOINT_MODE="stuck") as (process, port):
        _wait_status(port, "/readyz", 200)
        process.send_signal(signal.SIGINT)
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
        assert _ended(process)[0] == 130


def test_task_that_raises_ends_the_process_with_one(brokers: Brokers) -> None:
    with _process(brokers, RALLYPOINT_MODE="fail") as (process, _):
        code, _, logs = _ended(process)
    assert code == 1
    assert "broken" in str(logs[-1]["exception"])


def test_port_in_use_is_one_clear_line(brokers: Brokers) -> None:
    taken = str(brokers.nats.port)
    with _process(brokers, RALLYPOINT_METRICS_PORT=taken) as (process, _):
        code, _, logs = _ended(process)
    assert code == 1
    assert f"cannot listen on 127.0.0.1:{taken}" in str(logs[-1]["reason"])


def test_process_waits_for_brokers_live_but_not_ready(tmp_path: Path) -> None:
    late = Brokers(tmp_path / "late")
    with _process(late) as (process, port):
        _wait_status(port, "/livez", 200)
        assert _status(port, "/readyz") == 503
        late.start()
        _wait_status(port, "/readyz", 200)
        process.send_signal(signal.SIGTERM)
        assert _ended(process)[0] == 0
    late.stop()


def test_process_that_waits_for_brokers_can_be_stopped(tmp_path: Path) -> None:
    with _process(Brokers(tmp_path / "never")) as (process, port):
        _wait_status(port, "/livez", 200)
        process.send_signal(signal.SIGTERM)
        assert _ended(process)[0] == 0
