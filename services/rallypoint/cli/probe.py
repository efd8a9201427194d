"""`rallypoint probe`: what sockets wait for, measured in the kernel, per pod and port.

`--once` measures for some seconds and prints what it found. Root, or CAP_BPF and CAP_PERFMON, see
everything; without them the probe says so and measures what is left.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Mapping
from typing import Any

from rallypoint.kit import settings
from rallypoint.probe import config, owners, source
from rallypoint.probe.domain import series

LOOK_S = 1.0


def run(arguments: list[str]) -> int:
    """Measure, print; the result is the exit code."""
    parsed = _parser().parse_args(arguments)
    loaded = settings.load(config.Settings, _environ(parsed))
    report = measure(loaded, parsed.seconds, adopt=not parsed.only_new)
    print(json.dumps(report) if parsed.json else _text(report))
    return 0


def _parser() -> argparse.ArgumentParser:
    lines = [f"  {name}={default}" for name, default in settings.variables(config.Settings)]
    parser = argparse.ArgumentParser(
        prog="rallypoint probe",
        description=__doc__,
        epilog="\n".join(["environment, with defaults:", *lines]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--once", action="store_true", required=True, help="measure, print, end")
    parser.add_argument("--seconds", type=float, default=5.0, help="how long (%(default)s)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--port", action="append", default=[], help="of a server; may be repeated")
    parser.add_argument("--mode", choices=source.MODES, help="begin lower on the ladder")
    parser.add_argument("--only-new", action="store_true", help="leave out older connections")
    return parser


def _environ(parsed: argparse.Namespace) -> Mapping[str, str]:
    """The environment, with what the command line says in it."""
    environ = dict(os.environ)
    if parsed.port:
        environ["RALLYPOINT_PROBE_PORTS"] = ",".join(parsed.port)
    if parsed.mode:
        environ["RALLYPOINT_PROBE_MODE"] = parsed.mode
    return environ


def measure(loaded: config.Settings, seconds: float, *, adopt: bool) -> dict[str, Any]:
    """Attach, wait, read, detach."""
    tree = owners.Owners(owners.find_root(loaded.probe_cgroup_root))
    tree.refresh()
    opened = source.open_best(config.wanted(loaded, pods_root=tree.pods_root, adopt=adopt))
    try:
        end = time.monotonic() + seconds
        while True:
            opened.look()
            for event in opened.events():
                tree.find(event.cgroup)
            if (left := end - time.monotonic()) <= 0:
                break
            time.sleep(min(LOOK_S, left))
        found = series.of_slots(opened.slots(), tree.find)
        return {
            "mode": opened.mode,
            "reason": opened.reason,
            "seconds": seconds,
            "series": [series.shown(one) for one in found],
            "self": opened.totals(),
        }
    finally:
        opened.close()


def _text(report: dict[str, Any]) -> str:
    lines = [f"mode {report['mode']}" + (f" ({report['reason']})" if report["reason"] else "")]
    for one in report["series"]:
        lines.append(f"{one['owner']} {one['transport']}/{one['port']} {one['role']}")
        for name, values in one.items():
            if name.endswith("_ms"):
                lines.append(
                    f"  {name[:-3]:14} {values['mean']:9.3f} ms mean, {values['p50']:9.3f} p50, "
                    f"{values['p99']:9.3f} p99, {values['count']} times"
                )
        told = ", ".join(f"{value} {name}" for name, value in one["counters"].items())
        lines.append(f"  {told}")
    return "\n".join(lines)
