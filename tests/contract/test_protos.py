"""The protos keep to buf's rules and never break those who were built on the version before."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BUF = str(Path(sys.executable).parent / "buf")


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def baseline() -> str | None:
    """Return the last tag, else the parent commit, if it has protos (decisions §9)."""
    tag = run("git", "describe", "--tags", "--abbrev=0").stdout.strip()
    revision = tag or "HEAD~1"
    known = run("git", "cat-file", "-e", f"{revision}:protos").returncode == 0
    return revision if known else None


def test_protos_pass_the_linter() -> None:
    done = run(BUF, "lint")
    assert (done.returncode, done.stdout) == (0, "")


def test_protos_break_nothing_since_the_baseline() -> None:
    revision = baseline()
    if revision is None:
        pytest.skip("no tag and no parent commit with protos to compare with")
    done = run(BUF, "breaking", "--against", f".git#ref={revision}")
    assert (done.returncode, done.stdout) == (0, "")
