"""`rallypoint doctor`: look at this machine, or at a cluster, and say what to mend.

    rallypoint doctor                             what `up`, the hot paths and the probe need here
    rallypoint doctor --kubeconfig ~/.kube/config what the chart and the operator need there

Nothing is changed. Exit code 1 when something is bad, which means that something will not work;
a warning means that it will work worse, or not for everybody.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
from collections.abc import Sequence
from pathlib import Path

from rallypoint.cli.doctor_check import Check, State

MARKS = {State.OK: "ok  ", State.WARN: "warn", State.BAD: "BAD "}


def run(arguments: list[str]) -> int:
    """Look, print; the result is the exit code."""
    parsed = _parser().parse_args(arguments)
    checks = _look(parsed)
    bad = sum(check.state is State.BAD for check in checks)
    if parsed.json:
        document = [
            {"name": c.name, "state": c.state.value, "seen": c.seen, "fix": c.fix} for c in checks
        ]
        print(json.dumps({"ok": not bad, "checks": document}))
    else:
        print("\n".join(_lines(checks)))
    return 1 if bad else 0


def _look(parsed: argparse.Namespace) -> list[Check]:
    if parsed.kubeconfig is None and not parsed.context:
        from rallypoint.cli import doctor_machine

        return doctor_machine.look(parsed.data_dir, parsed.port)
    from rallypoint.cli import doctor_cluster

    environment = dict(os.environ)
    if parsed.kubeconfig is not None:
        environment["KUBECONFIG"] = str(parsed.kubeconfig)
    asked = doctor_cluster.look(environment, context=parsed.context, namespace=parsed.namespace)
    return asyncio.run(asked)


def _lines(checks: Sequence[Check]) -> list[str]:
    width = max(len(check.name) for check in checks)
    found = []
    for check in checks:
        found.append(f"{MARKS[check.state]} {check.name:{width}}  {check.seen}")
        if check.state is not State.OK:
            found.append(f"{'':4} {'':{width}}  ▸ {check.fix}")
    counts = {state: sum(check.state is state for check in checks) for state in State}
    found.append(f"{counts[State.BAD]} bad, {counts[State.WARN]} to mend, {counts[State.OK]} well")
    return found


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="rallypoint doctor", description="Look at this machine or a cluster: what to mend."
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument(
        "--data-dir", type=Path, default=Path(".rallypoint"), help="that of `up` (%(default)s)"
    )
    parser.add_argument("--port", type=int, default=8080, help="that of the page (%(default)s)")
    parser.add_argument("--kubeconfig", type=Path, help="look at this cluster instead")
    parser.add_argument("--context", help="of the kubeconfig; the current one by default")
    parser.add_argument("--namespace", default="", help="where the chart goes (the context's)")
    return parser
