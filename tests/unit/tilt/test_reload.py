"""The target `dev` runs what is there, and runs it again when it changes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.chart import ROOT

WITHIN_S = 20.0
SERVICE = """
import signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))
open({told!r}, "a").write("{word} " + " ".join(sys.argv[1:]) + chr(10))
time.sleep(60)
"""


class Service:
    """A service under the reloader."""

    def __init__(self, folder: Path) -> None:
        self.told = folder / "told"
        self.live = folder / "live" / "rallypoint"
        source = folder / "source" / "rallypoint"
        source.mkdir(parents=True)
        (source / "__init__.py").touch()
        (source / "__main__.py").write_text(self.program("first"))
        told = {"RALLYPOINT_SOURCE": str(source.parent), "RALLYPOINT_LIVE": str(self.live.parent)}
        words = [sys.executable, str(ROOT / "images/dev/reload.py"), "gateway", "--now"]
        self.process = subprocess.Popen(
            words, env={**os.environ, **told}, stdout=subprocess.PIPE, text=True
        )

    def program(self, word: str) -> str:
        """A service that notes that it started."""
        return SERVICE.format(told=str(self.told), word=word)

    def change(self, text: str) -> None:
        """Write into the copy that runs, as a live update would."""
        (self.live / "__main__.py").write_text(text)

    def until(self, *lines: str) -> None:
        """Wait until it noted these starts."""
        give_up = time.monotonic() + WITHIN_S
        while not self.told.exists() or self.told.read_text().splitlines() != list(lines):
            assert time.monotonic() < give_up, self.told.exists() and self.told.read_text()
            time.sleep(0.02)

    def until_said(self, line: str) -> None:
        """Wait until the reloader says so; the test's own limit ends it else."""
        assert self.process.stdout is not None
        assert any(said.strip() == line for said in self.process.stdout), f"no {line}"


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    found = Service(tmp_path)
    try:
        yield found
    finally:
        found.process.terminate()  # and with it what it runs
        found.process.communicate(timeout=WITHIN_S)


def test_change_starts_the_service_again(service: Service) -> None:
    service.until("first gateway --now")
    service.change(service.program("second"))
    service.until("first gateway --now", "second gateway --now")

    service.process.send_signal(signal.SIGTERM)

    assert service.process.wait(WITHIN_S) == 7  # the service's own answer


def test_change_of_a_script_of_redis_starts_it_again_too(service: Service) -> None:
    service.until("first gateway --now")
    (service.live / "claim.lua").write_text("return 1")
    service.until(*["first gateway --now"] * 2)


def test_mistake_waits_for_its_correction(service: Service) -> None:
    service.until("first gateway --now")
    service.change("this is no Python")
    service.until_said("ended with 1: waits for a change")
    service.change(service.program("mended"))

    service.until("first gateway --now", "mended gateway --now")

    assert service.process.poll() is None
