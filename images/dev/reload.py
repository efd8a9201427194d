"""Run a service, and run it again when its source changes: process 1 of the target `dev`.

The source is copied below /tmp, which alone can be written, and runs from there; Tilt's live
updates write into that copy. A service that ends by itself waits for the next change.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

POLL_S = 0.3
READ = ("*.py", "*.lua")
SOURCE = Path(os.environ.get("RALLYPOINT_SOURCE", "/src/services"))
LIVE = Path(os.environ.get("RALLYPOINT_LIVE", "/tmp/live"))  # noqa: S108  # a pod's own

State = dict[Path, int]


class Reloader:
    """One service at a time, from the source as it is."""

    def __init__(self, arguments: Sequence[str]) -> None:
        self._command = [sys.executable, "-m", "rallypoint", *arguments]
        self._child: subprocess.Popen[bytes] | None = None
        self._told_to_end = False

    def end(self, number: int, frame: FrameType | None) -> None:
        """Pass a signal on, and end with the service."""
        self._told_to_end = True
        if self._child:
            self._child.send_signal(number)

    def run(self) -> int:
        """Run until told to end; the exit code is the service's."""
        while True:
            seen = state()
            self._child = subprocess.Popen(self._command, env=environment())
            if self._told_to_end:  # while it was being started
                self._child.terminate()
            code = self._watch(self._child, seen)
            if self._told_to_end:
                return code

    def _watch(self, child: subprocess.Popen[bytes], seen: State) -> int:
        """Wait for a change, then end the service."""
        told = False
        while not self._told_to_end and state() == seen:
            if not told and child.poll() is not None:
                print(f"ended with {child.returncode}: waits for a change", flush=True)
                told = True
            time.sleep(POLL_S)
        if not self._told_to_end:
            print("source changed: starts again", flush=True)
            child.terminate()
        return child.wait()


def state() -> State:
    """Return when each source was last written: modules, and what they read, such as Lua."""
    found = {}
    for path in (each for kind in READ for each in LIVE.rglob(kind)):
        try:
            found[path] = path.stat().st_mtime_ns
        except FileNotFoundError:
            continue
    return found


def environment() -> dict[str, str]:
    """Return an environment in which the copy comes before what is installed."""
    paths = [str(LIVE), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}


def main(arguments: Sequence[str]) -> int:
    """Copy the source unless a former run of this pod did, and run."""
    if not LIVE.exists():
        shutil.copytree(SOURCE, LIVE, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    reloader = Reloader(arguments)
    signal.signal(signal.SIGTERM, reloader.end)
    signal.signal(signal.SIGINT, reloader.end)
    return reloader.run()


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
