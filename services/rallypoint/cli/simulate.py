"""`rallypoint simulate <what>`: decisions tried out on made-up players, before real ones pay."""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Mapping

SIMULATIONS: Mapping[str, tuple[str, str]] = {
    "fleet": ("rallypoint.cli.simulate_fleet", "a day of autoscaling: denied, utilisation, cost"),
}


def run(arguments: list[str]) -> int:
    """Run one simulation; the result is its exit code."""
    lines = "\n".join(f"  {name:12}{line}" for name, (_, line) in SIMULATIONS.items())
    parser = argparse.ArgumentParser(
        prog="rallypoint simulate",
        description=__doc__,
        epilog=f"simulations:\n{lines}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("what", choices=SIMULATIONS, metavar="what", help="what to simulate")
    parsed = parser.parse_args(arguments[:1])
    module, _ = SIMULATIONS[parsed.what]
    return int(importlib.import_module(module).run(arguments[1:]))
