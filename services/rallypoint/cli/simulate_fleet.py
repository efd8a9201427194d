"""`rallypoint simulate fleet`: a day of autoscaling in seconds, with the operator's own decisions.

Matches come along a daily curve and are packed into servers that take time to start. Try buffers
and schedules here: a match that found no slot within its patience is denied. The set is a manifest
(`--set`, the first GameServerSet in a YAML file) or one policy, `--buffer`.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path
from typing import Any

import msgspec
import yaml

from rallypoint.cli import plot
from rallypoint.fleet.domain import simulation
from rallypoint.fleet.domain.game_server_set import (
    Autoscaling,
    Capacity,
    GameServerSet,
    GameServerSetSpec,
    Policy,
)
from rallypoint.fleet.domain.simulation import Outcome, Scenario
from rallypoint.kit import errors


def run(arguments: list[str]) -> int:
    """Simulate and print; the result is the exit code."""
    parsed = _parser().parse_args(arguments)
    spec = _from_file(parsed.set) if parsed.set else _from_words(parsed)
    if spec.autoscaling is None:
        raise errors.InvalidArgument("NO_AUTOSCALING", f"{parsed.set} has no spec.autoscaling")
    scenario = Scenario(
        peak_per_minute=parsed.peak,
        match_s=parsed.match_seconds,
        start_s=parsed.start_seconds,
        hours=parsed.hours,
        seed=parsed.seed,
    )
    outcome = simulation.run(scenario, spec)
    report = _report(scenario, outcome, parsed.price)
    if parsed.plot:
        parsed.plot.write_text(_plot(scenario, outcome, parsed.price))
    print(json.dumps(report) if parsed.json else _text(report))
    return 0


def _from_words(parsed: argparse.Namespace) -> GameServerSetSpec:
    policy = Policy(name="rooms", type="RoomBuffer", buffer=parsed.buffer)
    return GameServerSetSpec(
        capacity=Capacity(rooms=parsed.rooms),
        autoscaling=Autoscaling(min=parsed.min, max=parsed.max, policies=(policy,)),
    )


def _from_file(path: Path) -> GameServerSetSpec:
    try:
        documents = list(yaml.safe_load_all(path.read_text()))
        found = next(d for d in documents if d and d.get("kind") == "GameServerSet")
        return msgspec.convert(found, GameServerSet).spec
    except (OSError, yaml.YAMLError, msgspec.MsgspecError) as error:
        raise errors.InvalidArgument("BAD_SET", f"{path}: {error}") from error
    except StopIteration:
        raise errors.InvalidArgument("BAD_SET", f"{path} has no GameServerSet") from None


def _report(scenario: Scenario, outcome: Outcome, price: float) -> dict[str, Any]:
    return {
        "matches": outcome.matches,
        "denied": outcome.denied,
        "waited": outcome.waited,
        "server_hours": round(outcome.server_hours, 1),
        "cost": round(outcome.server_hours * price, 2),
        "utilisation": round(outcome.utilisation, 3),
        "servers_most": max((s.servers for s in outcome.samples), default=0),
        "servers_least": min((s.servers for s in outcome.samples), default=0),
        "created": outcome.created,
        "retired": outcome.retired,
        "scenario": dataclasses.asdict(scenario),
    }


def _text(report: dict[str, Any]) -> str:
    lines = [
        f"  {name:15}{value:>12,}" for name, value in report.items() if not isinstance(value, dict)
    ]
    return "\n".join(["a simulated day", *lines])


def _plot(scenario: Scenario, outcome: Outcome, price: float) -> str:
    samples = outcome.samples
    hours = [s.at / 3600 for s in samples]
    paid, cost = 0.0, []
    for sample in samples:
        paid += sample.servers * scenario.tick_s / 3600 * price
        cost.append(paid)
    panels = [
        plot.Panel(
            "Slots",
            [
                plot.Line("capacity", [s.capacity for s in samples]),
                plot.Line("demand", [s.rooms + s.waiting for s in samples]),
            ],
        ),
        plot.Panel("Servers", [plot.Line("paid for", [s.servers for s in samples])]),
        plot.Panel("Denied matches", [plot.Line("so far", [s.denied for s in samples])]),
        plot.Panel("Cost", [plot.Line("so far", cost)]),
    ]
    return plot.svg("A day of autoscaling", hours, panels, x_label="hours")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="rallypoint simulate fleet",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--set", type=Path, help="a manifest with the set to try")
    parser.add_argument("--buffer", default="15%", help="free slots to keep, 20 or 15%% (15%%)")
    parser.add_argument("--rooms", type=int, default=8, help="rooms a server (8)")
    parser.add_argument("--min", type=int, default=2, help="servers at least (2)")
    parser.add_argument("--max", type=int, default=400, help="servers at most (400)")
    parser.add_argument("--peak", type=float, default=60.0, help="matches a minute at most (60)")
    parser.add_argument("--match-seconds", type=float, default=600.0, help="mean length (600)")
    parser.add_argument("--start-seconds", type=float, default=45.0, help="to ready (45)")
    parser.add_argument("--hours", type=float, default=24.0, help="how long (24)")
    parser.add_argument("--price", type=float, default=0.05, help="of a server's hour (0.05)")
    parser.add_argument("--seed", type=int, default=1, help="the same seed, the same day (1)")
    parser.add_argument("--plot", type=Path, help="write an SVG: slots, servers, denied, cost")
    parser.add_argument("--json", action="store_true", help="print JSON")
    return parser
