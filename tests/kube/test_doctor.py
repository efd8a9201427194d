"""`rallypoint doctor` at a real API server: CRDs missing, there, and of another version."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from typing import Any

from rallypoint.cli import doctor_cluster
from rallypoint.cli.doctor_check import State
from rallypoint.fleet import resources
from tests.kube.conftest import Runs
from tests.kube.stack import connected
from tests.support.kubernetes import ApiServer

SET = resources.GAME_SERVER_SET.name


def ask(server: ApiServer) -> dict[str, Any]:
    words = ["doctor", "--json", "--kubeconfig", str(server.kubeconfig)]
    done = subprocess.run(
        [sys.executable, "-m", "rallypoint", *words], capture_output=True, text=True, check=False
    )
    told: dict[str, Any] = json.loads(done.stdout)
    assert done.returncode == (0 if told["ok"] else 1)
    return {check["name"]: check for check in told["checks"]}


def test_crds_are_found_and_compared(server: ApiServer) -> None:
    def apply() -> None:
        text = "---\n".join(resources.files().values())
        server.does("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=text)
        server.does("wait", "--for=condition=Established", "--timeout=30s", f"crd/{SET}")

    apply()
    there = ask(server)
    assert there["API server"]["state"] == "ok"
    assert there[f"CRD {SET}"]["state"] == "ok", there
    assert there["rights"]["state"] == "ok"
    assert "nodes" in there
    patch = [{"op": "replace", "path": "/spec/names/shortNames", "value": ["other"]}]
    server.does("patch", "crd", SET, "--type=json", "-p", json.dumps(patch))
    try:
        changed = ask(server)[f"CRD {SET}"]
    finally:
        apply()
    assert (changed["state"], "shortNames" in changed["seen"]) == ("bad", True)
    assert "kubectl apply" in changed["fix"]


def test_missing_crd_is_bad(server: ApiServer, runs: Runs) -> None:
    kind = dataclasses.replace(resources.GAME_SERVER.kind, plural="nothings")
    (first, *_) = resources.GAME_SERVER.versions
    missing = dataclasses.replace(
        resources.GAME_SERVER, versions=(dataclasses.replace(first, kind=kind),)
    )

    async def scenario() -> None:
        async with connected(server) as transport:
            check = await doctor_cluster.look_at_crd(transport, missing)
        assert (check.state, check.seen) == (State.BAD, "not installed")

    runs(scenario())


def test_server_that_does_not_answer_is_bad(tmp_path: Any) -> None:
    config = {
        "current-context": "a",
        "contexts": [{"name": "a", "context": {"cluster": "a", "user": "a"}}],
        "clusters": [{"name": "a", "cluster": {"server": "http://127.0.0.1:1"}}],
        "users": [{"name": "a", "user": {}}],
    }
    path = tmp_path / "config"
    path.write_text(json.dumps(config))
    done = subprocess.run(
        [sys.executable, "-m", "rallypoint", "doctor", "--kubeconfig", str(path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "127.0.0.1:1" in done.stdout
