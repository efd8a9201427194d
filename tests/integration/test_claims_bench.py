"""`rallypoint bench fleet` measures claims and allocations on brokers and services of its own."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

pytestmark = pytest.mark.alone


def test_the_bench_claims_and_allocates() -> None:
    words = ["-m", "rallypoint", "bench", "fleet", "--json", "--seconds", "1"]
    words += ["--parts", "claims", "allocations"]
    done = subprocess.run(
        [sys.executable, *words], capture_output=True, text=True, timeout=110, check=False
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["claims_per_s"] > report["promise"]["claims_per_s"] / 10
    assert report["claim_ms"]["p99"] >= report["claim_ms"]["p50"] > 0
    assert report["claims"]["refused"] == 0
    assert 0.5 < report["packing"] <= 1
    assert report["allocations"]["done"] > 0
    assert report["allocate_ms"]["p50"] > 0
