"""The chart as Helm renders it, as objects."""

from __future__ import annotations

import functools
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import yaml

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "helm" / "rallypoint"
CRDS = CHART / "crds"
HELM = Path(sys.executable).parent / "helm"
CASES = tuple(sorted(path.name.removesuffix("-values.yaml") for path in CHART.glob("ci/*.yaml")))
NAMESPACE = "play"
RELEASE = "demo"
OLDEST: Final = "fdac4134236d9d23532367ebfccc22765bc29e44"
"""A commit whose chart somebody may have installed: the oldest that this one is an upgrade of."""
LANDED: Final = "236a1ea1659f4a041e75b0e9640c01570aebfd97"
"""The newest that landed before this one."""

Object = dict[str, Any]


def values(case: str) -> Path:
    """The file of a case of the matrix."""
    return CHART / "ci" / f"{case}-values.yaml"


def helm(*words: str, within_s: float = 60) -> subprocess.CompletedProcess[str]:
    """Run Helm; the caller looks at the exit code."""
    return subprocess.run(
        [str(HELM), *words], capture_output=True, text=True, timeout=within_s, check=False
    )


def landed(commit: str, folder: Path) -> Path | None:
    """Unpack the chart of a commit; None where the clone has no such history."""
    asked = ["git", "archive", commit, "--", str(CHART.relative_to(ROOT))]
    packed = subprocess.run(asked, cwd=ROOT, capture_output=True, check=False)
    if packed.returncode:
        return None
    subprocess.run(["tar", "-x", "-C", str(folder)], input=packed.stdout, check=True)
    return folder / CHART.relative_to(ROOT)


@functools.cache
def text(case: str) -> str:
    """What Helm writes for a case, without the CRDs."""
    done = helm("template", RELEASE, str(CHART), "--namespace", NAMESPACE, "-f", str(values(case)))
    assert done.returncode == 0, done.stderr
    return done.stdout


@functools.cache
def rendered(case: str) -> tuple[Object, ...]:
    """The objects of a case."""
    return tuple(one for one in yaml.safe_load_all(text(case)) if one)


def of_kind(case: str, *kinds: str) -> list[Object]:
    """The objects of some kinds."""
    return [one for one in rendered(case) if one["kind"] in kinds]


def pods(case: str) -> list[tuple[str, Object]]:
    """Every pod that is made, with the name of what makes it."""
    found = [
        (one["metadata"]["name"], one["spec"]["template"])
        for one in of_kind(case, "Deployment", "StatefulSet", "DaemonSet")
    ]
    sets = of_kind(case, "GameServerSet")
    return found + [(s["metadata"]["name"], s["spec"]["template"]["spec"]["pod"]) for s in sets]


def selects(selector: Object, labels: Object) -> bool:
    """Whether a label selector of equalities takes these labels."""
    return selector.items() <= labels.items()
