"""What all stages share: an environment that is ours alone, and a list of what went wrong.

Settings of the shell that runs the tests must not leak into them.
"""

from __future__ import annotations

import functools
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.support import loops

TROUBLE = os.environ.get("TROUBLE_FILE")
"""Where tests/stages.py reads, after hours of output, which tests failed or were tried again."""
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
    """Note a test that failed, or that gets its second try."""
    if TROUBLE is None or WORKER or report.outcome in ("passed", "skipped"):
        return
    crash = getattr(report.longrepr, "reprcrash", None)
    said = crash.message if crash else str(report.longrepr)
    line = f"{report.outcome} {report.nodeid} ({report.when}): {' '.join(said.split())[:400]}\n"
    with Path(TROUBLE).open("a") as file:
        file.write(line)
