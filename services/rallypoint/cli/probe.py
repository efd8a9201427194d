"""`rallypoint probe`: what sockets wait for, measured in the kernel, per pod and port.

Alone it runs and is scraped at RALLYPOINT_PROBE_PORT; `--once` measures for some seconds and
prints; `top` is a live table. Root, or CAP_BPF and CAP_PERFMON, see everything; without them the
probe says so and measures what is left.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Mapping
from typing import Any

from rallypoint.kit import settings
from rallypoint.probe import config, serve, source
from rallypoint.probe.domain import calls, series

LOOK_S = 1.0


def run(arguments: list[str]) -> int:
    """Run, measure or show; the result is the exit code."""
    parsed = _parser().parse_args(arguments)
    loaded = settings.load(config.Settings, _environ(parsed))
    if parsed.what == "top":
        from rallypoint.cli import probe_top  # brings rich

        return probe_top.show(loaded, parsed.seconds)
    if not parsed.once:
        return serve.serve(loaded, lambda line: print(line, flush=True))
    report = measure(loaded, parsed.seconds or 5.0, adopt=not parsed.only_new)
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
    parser.add_argument("what", nargs="?", choices=("top",), help="a live table")
    parser.add_argument("--once", action="store_true", help="measure, print, end")
    parser.add_argument("--seconds", type=float, help="how long (once: 5, top: until Ctrl-C)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--port", action="append", default=[], help="of a server; may be repeated")
    parser.add_argument("--mode", choices=source.MODES, help="begin lower on the ladder")
    parser.add_argument("--calls", action="store_true", help="also time gRPC, HTTP/2 and DNS")
    parser.add_argument("--only-new", action="store_true", help="leave out older connections")
    return parser


def _environ(parsed: argparse.Namespace) -> Mapping[str, str]:
    """The environment, with what the command line says in it."""
    environ = dict(os.environ)
    if parsed.port:
        environ["RALLYPOINT_PROBE_PORTS"] = ",".join(parsed.port)
    if parsed.calls:
        environ["RALLYPOINT_PROBE_CALLS"] = "1"
    if parsed.mode:
        environ["RALLYPOINT_PROBE_MODE"] = parsed.mode
    return environ


def measure(loaded: config.Settings, seconds: float, *, adopt: bool) -> dict[str, Any]:
    """Attach, wait, read, detach."""
    with serve.opened(loaded, adopt=adopt) as read, serve.named(loaded, read):
        end = time.monotonic() + seconds
        while True:
            read.look()
            if (left := end - time.monotonic()) <= 0:
                break
            time.sleep(min(LOOK_S, left))
        return {
            "mode": read.source.mode,
            "reason": read.source.reason,
            "seconds": seconds,
            "series": [series.shown(one, read.names(one.key.owner)) for one in read.series()],
            "calls": [calls.shown(one, read.names(one.owner)) for one in read.calls()],
            "unrecognised": read.unrecognised(),
            "self": read.source.totals(),
            "kernel": {c.name: {"kernel": c.kernel, "probe": c.probe} for c in read.compared()},
        }


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
    for call in report["calls"]:
        values, failed = call["duration_ms"], " (failed)" if call["failed"] else ""
        lines.append(
            f"{call['owner']} {call['protocol']}/{call['port']} {call['role']} {call['method']}"
            f"{failed}: {values['mean']:.3f} ms mean, {values['p99']:.3f} p99, "
            f"{values['count']} times"
        )
    return "\n".join(lines)
