"""The browser client passes its own checks: types, golden vectors, framing, rooms, prediction."""

import importlib.util
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]
WEB = ROOT / "clients" / "web"


def build_script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("rallypoint_web_build", WEB / "build.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def run() -> Callable[[str], subprocess.CompletedProcess[str]]:
    """Runs a script of the package, the development packages installed."""
    build = build_script()
    try:
        node = build.find_node()
    except SystemExit as error:
        pytest.skip(f"the browser client's tests need Node: {error}")
    subprocess.run([sys.executable, str(WEB / "build.py"), "--dev"], check=True)
    command = [*node.npm, "--prefix", str(WEB), "run", "--silent"]
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
