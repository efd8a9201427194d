"""Run the test stages in order, print one table of times, exit 1 on a failure.

`python tests/stages.py` runs all; names of stages pick some. Every stage runs even after a failure,
so that a single run tells everything; the tests that failed or were tried again come last.

Stages that start real brokers, clusters and browsers on a crowded machine give a few failed tests a
second try: the report names them, so that a flaky test is seen and mended, but does not stop
everybody. It is a process of its own: pytest-rerunfailures 16.7 does not tear down what a second
try has set up for a module or a session, until the end of all.
"""

from __future__ import annotations

import json
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
TESTS_FAILED = 1
AGAIN_MOST = 30
"""As many as wait for one cluster. Where more failed, something is broken."""


@dataclass(frozen=True, slots=True)
class Step:
    """One command of a stage."""

    name: str
    command: tuple[str, ...]
    tries: int = 1


def python_tool(name: str, *arguments: str) -> Step:
    """Return a step that runs a tool of the environment."""
    return Step(name, (str(BIN / name), *arguments))


def pytest(*paths: str, tries: int = 1, only: tuple[str, ...] = ()) -> Step:
    """Return a step that runs pytest; `-rs` names every skip."""
    command = (sys.executable, "-m", "pytest", "-rs", *paths, *only)
    return Step(" ".join(("pytest", *paths, *only[-2:])), command, tries)


def pytest_wide(*paths: str, tries: int) -> tuple[Step, Step]:
    """Return two steps: what may run beside others, file by file, in two processes; then the rest.

    Tests of real processes wait more than they work. Those marked `alone` measure, or use what
    there is once on a machine.
    """
    beside = ("-n", "2", "--dist", "loadfile", "--no-loadscope-reorder", "-m", "not alone")
    return (
        pytest(*paths, tries=tries, only=beside),
        pytest(*paths, tries=tries, only=("-m", "alone")),
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
        *pytest_wide("tests/integration", tries=2),
    ),
    "kernel": (pytest("tests/kernel", tries=2),),
    "e2e": (pytest("tests/e2e", tries=2),),
    # Built once for each state of the sources: some four minutes where nothing is cached.
    "images": (images(), pytest("tests/images", tries=2)),
    # A real Kubernetes, built once from Go modules: some ten minutes where nothing is cached.
    "kube": (
        Step("build Kubernetes", (sys.executable, "-m", "tests.support.cluster", "build")),
        pytest("tests/kube", tries=2),
    ),
}


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one step went."""

    stage: str
    step: str
    passed: bool
    seconds: float
    told: tuple[str, ...]
    """A line for each test that failed, in whichever try."""


def run(stage: str, step: Step) -> Outcome:
    """Run one step with its output shown, and its few failed tests again if it has a second try."""
    print(f"\n=== {stage}: {step.name}", flush=True)
    begin = time.monotonic()
    tried = _tried(step.command)
    told = [f"failed: {test} {said}" for test, said in tried.failed.items()]
    if step.tries > 1 and tried.is_worth_another:
        print(f"\n=== {stage}: {len(tried.failed)} of them again", flush=True)
        tried = _tried(pytest(*tried.failed).command)
        told += [f"failed again: {test} {said}" for test, said in tried.failed.items()]
    return Outcome(stage, step.name, tried.code == 0, time.monotonic() - begin, tuple(told))


@dataclass(frozen=True, slots=True)
class Tried:
    """How a command ended, and what tests/conftest.py noted of it."""

    code: int
    finished: bool
    """All tests were run: a limit ends the process in the midst of them."""
    failed: dict[str, str]
    """What was said, by test."""

    @property
    def is_worth_another(self) -> bool:
        """Whether a few tests failed, and nothing else."""
        few = 0 < len(self.failed) <= AGAIN_MOST
        return self.code == TESTS_FAILED and self.finished and few


def _tried(command: tuple[str, ...]) -> Tried:
    with tempfile.TemporaryDirectory(prefix="rallypoint-stages-") as folder:
        path = Path(folder) / "notes"
        path.touch()
        environment = os.environ | {"NOTES_FILE": str(path)}
        code = subprocess.run(command, cwd=ROOT, check=False, env=environment).returncode
        notes = [json.loads(line) for line in path.read_text().splitlines()]
    failed = {note["test"]: note["said"] for note in notes if "test" in note}
    return Tried(code, any("finished" in note for note in notes), failed)


def main(wanted: list[str]) -> int:
    """Run the wanted stages, or all."""
    unknown = set(wanted) - set(STAGES)
    if unknown:
        print(f"no such stage: {', '.join(sorted(unknown))}; there are {', '.join(STAGES)}")
        return 2
    outcomes = [run(name, step) for name in wanted or STAGES for step in STAGES[name]]
    print("\nstage        step                                          result   seconds")
    for o in outcomes:
        print(f"{o.stage:12} {o.step:45} {'pass' if o.passed else 'FAIL':6} {o.seconds:9.1f}")
    failed = sum(not o.passed for o in outcomes)
    for line in (line for o in outcomes for line in o.told):
        print(line)
    print(f"{len(outcomes) - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
