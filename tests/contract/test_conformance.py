"""The Connect conformance suite against both edges (runner v1.0.5, built from its Go module).

Unary and server streaming, protobuf, identity and gzip. The web edge passes everything; the native
edge everything but the cases listed, with reasons, in `conformance/native_known_failing.txt`.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from tests.contract.conformance import stubs
from tests.support import go

SUITE = Path(__file__).parent / "conformance"
LIMIT_S = 200


def run_suite(config: str, *options: str) -> subprocess.CompletedProcess[str]:
    """Run the runner with our server command; its report is on stdout."""
    command = [str(go.tool(stubs.TOOL)), "--conf", str(SUITE / config), "--mode", "server"]
    command += ["--max-servers", "1", "-p", "4", "-v", *options]
    command += ["--", sys.executable, str(SUITE / "server.py")]
    path = os.pathsep.join([str(go.ROOT), str(stubs.compile_stubs())])
    environment = {**os.environ, "PYTHONPATH": path}
    return subprocess.run(
        command,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )


def totals(report: str) -> tuple[int, int]:
    """Return how many cases there were and how many failed."""
    cases = re.search(r"Total cases: (\d+)", report)
    failed = re.search(r"(\d+) failed", report)
    assert cases is not None, report
    assert failed is not None, report
    return int(cases[1]), int(failed[1])


@pytest.mark.timeout(600)  # the first run builds the runner
def test_web_edge_passes_every_case() -> None:
    """All 124 gRPC-Web cases over HTTP/1.1."""
    done = run_suite("web.yaml")
    assert totals(done.stdout) == (124, 0), done.stdout
    assert done.returncode == 0, done.stdout


@pytest.mark.timeout(600)  # the first run builds the runner
def test_native_edge_fails_only_what_is_listed() -> None:
    """All gRPC cases but three; a listed case that passes fails the run as well."""
    done = run_suite("native.yaml", "--known-failing", f"@{SUITE / 'native_known_failing.txt'}")
    cases, failed = totals(done.stdout)
    assert (cases, failed) == (236, 0), done.stdout
    assert done.returncode == 0, done.stdout
