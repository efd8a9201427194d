"""`rallypoint bench fleet` measures what it says, on the cluster of these tests."""

from __future__ import annotations

import json
import os
import subprocess
import sys

from tests.support.kubernetes import ApiServer


def test_the_bench_measures_and_cleans_up(server: ApiServer) -> None:
    words = ["-m", "rallypoint", "bench", "fleet", "--json", "--servers", "300", "--rounds", "1"]
    words += ["--parts", "servers", "scale-up", "--scale-up", "30"]
    # A node without a kubelet runs nothing, and must not be waited for.
    node = json.dumps({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "idle"}})
    server.does("create", "-f", "-", stdin=node)
    try:
        done = subprocess.run(
            [sys.executable, *words],
            env={**os.environ, "KUBECONFIG": str(server.kubeconfig)},
            capture_output=True,
            text=True,
            timeout=110,
            check=False,
        )
    finally:
        server.does("delete", "node", "idle")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["servers"] == report["rounds"][0]["events"] == 300
    assert all(report[name] > 0 for name in ("sync_s", "rss_mb", "burst_s"))
    assert all(report[name] < 10 * most for name, most in report["promise"].items())
    assert 0 < report["scale_up_made_s"] <= report["scale_up_s"] < 60
    where = "jsonpath={.items[*].metadata.namespace}"
    assert "rallypoint-bench" not in server.does("get", "rgs", "-A", "-o", where)
