"""The operator in docs/kube.md works as it stands there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support import go
from tests.support.kubernetes import ApiServer

WAIT_S = 60.0


def example() -> str:
    """Return the first program of the page."""
    text = (go.ROOT / "docs" / "kube.md").read_text()
    found = re.search(r"```python\n(.*?)```", text, re.DOTALL)
    assert found is not None
    return found[1]


@contextmanager
def running(server: ApiServer, namespace: str, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    program = folder / "greeter.py"  # "operator" would shadow the standard library's
    program.write_text(example())
    settings = {"KUBECONFIG": str(server.kubeconfig), "NAMESPACE": namespace}
    process = subprocess.Popen([sys.executable, str(program)], env={**os.environ, **settings})
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def becomes(server: ApiServer, namespace: str, name: str, text: str) -> bool:
    """Wait until a greeting says something."""
    words = ("-n", namespace, "get", "configmap", name, "-o", "jsonpath={.data.text}")
    give_up = time.monotonic() + WAIT_S
    while server.kubectl(*words).stdout != text:
        if time.monotonic() > give_up:
            return False
        time.sleep(0.1)
    return True


def test_the_operator_of_the_page_greets_and_keeps_greeting(
    server: ApiServer, namespace: str, tmp_path: Path
) -> None:
    mine = ("-n", namespace)
    server.does(*mine, "create", "configmap", "a", "--from-literal=who=world")
    server.does(*mine, "label", "configmap", "a", "greet=yes")
    with running(server, namespace, tmp_path) as process:
        assert becomes(server, namespace, "a-greeting", "hello, world")
        server.does(*mine, "patch", "configmap", "a", "-p", '{"data":{"who":"moon"}}')
        assert becomes(server, namespace, "a-greeting", "hello, moon")
        assert process.poll() is None
    owner = "jsonpath={.metadata.ownerReferences[0].name}"
    assert server.does(*mine, "get", "configmap", "a-greeting", "-o", owner) == "a"
