"""The browser client passes its own checks: types, golden vectors, framing, rooms, prediction."""

import subprocess
import sys
from collections.abc import Callable

import pytest
from tests.support import web_clients


@pytest.fixture(scope="module")
def run() -> Callable[[str], subprocess.CompletedProcess[str]]:
    """Runs a script of the package, the development packages installed."""
    build = web_clients.build_script()
    try:
        node = build.find_node()
    except SystemExit as error:
        pytest.skip(f"the browser client's tests need Node: {error}")
    subprocess.run([sys.executable, str(web_clients.WEB / "build.py"), "--dev"], check=True)
    command = [*node.npm, "--prefix", str(web_clients.WEB), "run", "--silent"]
    return lambda script: subprocess.run(
        [*command, script],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
        env=node.environment(),
    )


@pytest.mark.parametrize("script", ["check", "test"])
def test_web_client_passes(
    run: Callable[[str], subprocess.CompletedProcess[str]], script: str
) -> None:
    done = run(script)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
