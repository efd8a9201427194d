"""Run the test stages in order, print one table of times, exit 1 on a failure.

`python tests/stages.py` runs all; names of stages pick some. Every stage runs even after a failure,
so that a single run tells everything; the tests that failed or were tried again come last.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
FORMATTED = ("services", "tests", "protos", "clients", "loadtest")


@dataclass(frozen=True, slots=True)
class Step:
    """One command of a stage."""

    name: str
    command: tuple[str, ...]


def python_tool(name: str, *arguments: str) -> Step:
    """Return a step that runs a tool of the environment."""
    return Step(name, (str(BIN / name), *arguments))


def pytest(*paths: str, reruns: int = 0, only: tuple[str, ...] = ()) -> Step:
    """Return a step that runs pytest; `-rsR` makes every skip and every second try be named.

    Stages that start real brokers and browsers on a crowded machine get one second try: the report
    lists it, so that a flaky test is seen and mended, but does not stop everybody.
    """
    command = (sys.executable, "-m", "pytest", "-rsR", "--reruns", str(reruns), *paths)
    return Step(" ".join(("pytest", *paths, *only[-2:])), (*command, *only))


def pytest_wide(*paths: str, reruns: int = 0) -> tuple[Step, Step]:
    """Return two steps: what may run beside others, file by file, in two processes; then the rest.

    Tests of real processes wait more than they work. Those marked `alone` measure, or use what
    there is once on a machine.
    """
    beside = ("-n", "2", "--dist", "loadfile", "--no-loadscope-reorder", "-m", "not alone")
    return (
        pytest(*paths, reruns=reruns, only=beside),
        pytest(*paths, reruns=reruns, only=("-m", "alone")),
    )


def images() -> Step:
    """Return a step that builds the images of this checkout."""
    return Step("build images", (sys.executable, "-m", "tests.support.images"))


STAGES: dict[str, tuple[Step, ...]] = {
    "lint": (
        python_tool("ruff", "check", "."),
        python_tool("ruff", "format", "--check", *FORMATTED),
        python_tool("mypy"),
        python_tool("lint-imports"),
        python_tool("buf", "lint"),
        python_tool("properdocs", "build"),
        Step("audit", (sys.executable, "tests/audit.py")),
    ),
    "fast": (pytest("tests/unit", "tests/architecture"),),
    "contract": (pytest("tests/contract"),),
    # The collector is built here, so that no test pays for it.
    "integration": (
        Step("build otelcol", (sys.executable, "-m", "tests.support.go", "otelcol")),
        *pytest_wide("tests/integration", reruns=1),
    ),
    "kernel": (pytest("tests/kernel", reruns=1),),
    "e2e": (pytest("tests/e2e", reruns=1),),
    # Built once for each state of the sources: some four minutes where nothing is cached.
    "images": (images(), pytest("tests/images", reruns=1)),
    # A real Kubernetes, built once from Go modules: some ten minutes where nothing is cached.
    "kube": (
        Step("build Kubernetes", (sys.executable, "-m", "tests.support.cluster", "build")),
        pytest("tests/kube", reruns=1),
    ),
}


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one step went."""

    stage: str
    step: str
    passed: bool
    seconds: float


def run(stage: str, step: Step, trouble: Path) -> Outcome:
    """Run one step with its output shown; its tests note in a file what went wrong."""
    print(f"\n=== {stage}: {step.name}", flush=True)
    begin = time.monotonic()
    environment = os.environ | {"TROUBLE_FILE": str(trouble)}
    code = subprocess.run(step.command, cwd=ROOT, check=False, env=environment).returncode
    return Outcome(stage, step.name, code == 0, time.monotonic() - begin)


def main(wanted: list[str]) -> int:
    """Run the wanted stages, or all."""
    unknown = set(wanted) - set(STAGES)
    if unknown:
        print(f"no such stage: {', '.join(sorted(unknown))}; there are {', '.join(STAGES)}")
        return 2
    with tempfile.TemporaryDirectory(prefix="rallypoint-stages-") as folder:
        trouble = Path(folder) / "trouble"
        outcomes = [run(name, step, trouble) for name in wanted or STAGES for step in STAGES[name]]
        told = trouble.read_text() if trouble.exists() else ""
    print("\nstage        step                                          result   seconds")
    for o in outcomes:
        print(f"{o.stage:12} {o.step:45} {'pass' if o.passed else 'FAIL':6} {o.seconds:9.1f}")
    failed = sum(not o.passed for o in outcomes)
    print(f"{told}{len(outcomes) - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
