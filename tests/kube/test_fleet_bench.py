"""`rallypoint bench fleet` measures what it says, on the cluster of these tests."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

from tests.support.kubernetes import ApiServer


def bench(server: ApiServer, *words: str) -> dict[str, Any]:
    """What it prints."""
    done = subprocess.run(
        [sys.executable, "-m", "rallypoint", "bench", "fleet", "--json", *words],
        env={**os.environ, "KUBECONFIG": str(server.kubeconfig)},
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


def test_a_set_is_scaled_up_on_the_nodes_of_kwok(controlled: ApiServer) -> None:
    report = bench(controlled, "--parts", "scale-up", "--scale-up", "60")
    assert not report["scale_up_kubelets"]
    assert 0 < report["scale_up_made_s"] <= report["scale_up_s"] < 100


def test_the_bench_measures_and_cleans_up(server: ApiServer) -> None:
    words = ("--servers", "300", "--rounds", "1", "--parts", "servers", "scale-up")
    # A node without a kubelet runs nothing, and must not be waited for.
    node = json.dumps({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "idle"}})
    server.does("create", "-f", "-", stdin=node)
    try:
        report = bench(server, *words, "--scale-up", "30")
    finally:
        server.does("delete", "node", "idle")
    assert report["servers"] == report["rounds"][0]["events"] == 300
    assert all(report[name] > 0 for name in ("sync_s", "rss_mb", "burst_s"))
    assert all(report[name] < 10 * most for name, most in report["promise"].items())
    assert 0 < report["scale_up_made_s"] <= report["scale_up_s"] < 60
    where = "jsonpath={.items[*].metadata.namespace}"
    assert "rallypoint-bench" not in server.does("get", "rgs", "-A", "-o", where)
