"""Build browser code for tests: our own client through its build script, others' beside it."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parents[2]
WEB = ROOT / "clients" / "web"
THIRD_PARTY = ROOT / "tests" / "e2e" / "third_party"


def build_script() -> ModuleType:
    """Return clients/web/build.py as a module."""
    known = sys.modules.get("rallypoint_web_build")
    if known is not None:
        return known
    spec = importlib.util.spec_from_file_location("rallypoint_web_build", WEB / "build.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def page() -> Path:
    """Return the folder of the built page, built when out of date."""
    subprocess.run([sys.executable, str(WEB / "build.py")], check=True, timeout=120)
    return WEB / "dist"


def third_party() -> str:
    """Return the script with the clients of others."""
    build = build_script()
    node = build.find_node()
    locked = build.digest([THIRD_PARTY / "package.json", THIRD_PARTY / "package-lock.json"])
    stamp = THIRD_PARTY / "node_modules" / ".stamp"
    environment = node.environment()
    if not build.fresh(stamp, locked):
        install = [*node.npm, "ci", "--ignore-scripts", "--no-progress", "--loglevel=error"]
        subprocess.run(install, check=True, cwd=THIRD_PARTY, env=environment, capture_output=True)
        stamp.write_text(locked)
    _generate(THIRD_PARTY / "gen", environment)
    bundle = ["node_modules/.bin/esbuild", "main.ts", "--bundle", "--format=iife"]
    done = subprocess.run(
        [*bundle, "--target=es2022", "--log-level=warning"],
        check=True, cwd=THIRD_PARTY, env=environment, capture_output=True, text=True,
    )  # fmt: skip
    return done.stdout


def _generate(target: Path, environment: dict[str, str]) -> None:
    target.mkdir(exist_ok=True)
    protos = ROOT / "protos"
    sources = sorted((protos / "rallypoint" / "v1").glob("*.proto"))
    plugin = THIRD_PARTY / "node_modules" / ".bin" / "protoc-gen-es"
    subprocess.run(
        [
            sys.executable, "-m", "grpc_tools.protoc", f"-I{protos}",
            f"--plugin=protoc-gen-es={plugin}",
            f"--es_out={target}", "--es_opt=target=ts,import_extension=none",
            *(str(path.relative_to(protos)) for path in sources),
        ],
        check=True, env=environment,
    )  # fmt: skip
