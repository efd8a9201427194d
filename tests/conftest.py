"""What all stages share: an environment that is ours alone, and a list of what went wrong.

Settings of the shell that runs the tests must not leak into them.
"""

from __future__ import annotations

import functools
import json
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.support import loops

NOTES = os.environ.get("NOTES_FILE")
"""Where tests/stages.py reads which tests failed, and that none was left out."""
WORKER = "PYTEST_XDIST_WORKER" in os.environ
"""One of several processes, whose reports the first sees too."""

for variable in [name for name in os.environ if name.startswith("RALLYPOINT_")]:
    del os.environ[variable]

# Brokers are forked from processes that use gRPC, whose fork handlers sometimes end the child.
os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "false"

# Tests assert outcomes, never speeds: on a crowded machine one example may take a second.
settings.register_profile("rallypoint", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("rallypoint")


@pytest.fixture
def runs(request: pytest.FixtureRequest) -> loops.Runs:
    """Run a test's coroutine to its end on a loop of its own."""
    return functools.partial(loops.run, within_s=loops.limit_s(request))


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Note a test that failed."""
    if report.failed:
        crash = getattr(report.longrepr, "reprcrash", None)
        said = crash.message if crash else str(report.longrepr)
        _note(test=report.nodeid, said=f"({report.when}) {' '.join(said.split())[:400]}")


def pytest_sessionfinish() -> None:
    """Note that all tests were run: a limit ends the process in the midst of them."""
    _note(finished=True)


def _note(**what: object) -> None:
    if NOTES and not WORKER:
        with Path(NOTES).open("a") as file:
            file.write(json.dumps(what) + "\n")
