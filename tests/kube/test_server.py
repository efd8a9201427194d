"""The API server that the other tests rely on is the real one, whole and of the pinned version."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.support import go
from tests.support.kubernetes import ApiServer


def test_kubectl_and_server_are_of_the_pinned_version(server: ApiServer) -> None:
    versions = json.loads(server.does("version", "-o", "json"))
    assert versions["serverVersion"]["gitVersion"] == go.KUBERNETES
    assert versions["clientVersion"]["gitVersion"] == go.KUBERNETES


def test_server_keeps_what_it_is_given(server: ApiServer, namespace: str) -> None:
    server.does("-n", namespace, "create", "configmap", "one", "--from-literal=a=b")
    assert server.does("-n", namespace, "get", "cm", "one", "-o", "jsonpath={.data.a}") == "b"


STARTER = """
import sys
from tests.support.kubernetes import temporary_api_server
with temporary_api_server() as server:
    print(server.folder, flush=True)
    sys.stdin.read()
"""


def processes_of(folder: Path) -> list[str]:
    """Return the command lines that name a folder."""
    lines = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            lines.append(path.read_bytes().replace(b"\0", b" ").decode())
        except OSError:
            continue
    return [line for line in lines if str(folder) in line]


def test_nothing_is_left_behind_when_the_starter_ends() -> None:
    command = [sys.executable, "-c", STARTER]
    environment = {**os.environ, "PYTHONPATH": str(go.ROOT)}
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as starter:
        assert starter.stdout is not None
        folder = Path(starter.stdout.readline().strip())
        assert len(processes_of(folder)) == 2
        starter.communicate("")
    assert processes_of(folder) == []
    assert not folder.exists()
