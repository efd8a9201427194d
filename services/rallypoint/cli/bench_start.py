"""`rallypoint bench start`: seconds from exec to ready, for each service and for the whole stack.

Starts the embedded stack in a fresh directory several times and reports medians. "Ready" is the
first good answer of /readyz (asked every 20 ms); the stack's time includes brokers and checks.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import tempfile
from pathlib import Path

from rallypoint.cli import machine, plan, ports, stack

PROMISE_SERVICE_S = 0.6
PROMISE_STACK_S = 4.0


def run(arguments: list[str]) -> int:
    """Measure and print; the result is the exit code."""
    parser = argparse.ArgumentParser(prog="rallypoint bench start", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--runs", type=int, default=3, help="runs to take the median of")
    parsed = parser.parse_args(arguments)
    runs = [asyncio.run(_once()) for _ in range(parsed.runs)]
    report = _report(runs)
    print(json.dumps(report) if parsed.json else _text(report))
    return 0


async def _once() -> tuple[dict[str, float], float]:
    with tempfile.TemporaryDirectory(prefix="rallypoint-start-") as directory:
        wish = plan.Wish(data_dir=Path(directory), web_port=ports.free_one())
        async with stack.Stack(wish) as running:
            return dict(running.start_s), running.stack_s


def _report(runs: list[tuple[dict[str, float], float]]) -> dict[str, object]:
    names = runs[0][0]
    services = {
        name: round(statistics.median(times[name] for times, _ in runs), 3) for name in names
    }
    return {
        "services": services,
        "stack_s": round(statistics.median(stack_s for _, stack_s in runs), 3),
        "promise": {"service_s": PROMISE_SERVICE_S, "stack_s": PROMISE_STACK_S},
        "runs": len(runs),
        "machine": machine.description(),
    }


def _text(report: dict[str, object]) -> str:
    services = report["services"]
    assert isinstance(services, dict)
    lines = [f"  {name:16}{seconds:6.2f} s" for name, seconds in services.items()]
    return "\n".join([*lines, f"  {'the whole stack':16}{report['stack_s']:6.2f} s"])
