"""`rallypoint bench matchmaking`: what one cycle of the pure matcher costs, and how good it is.

Workloads (those of Nakama's benchmark as measured for this project): skill N(1500, 300), five
equally likely home regions, every player accepts ±100 points, nobody has waited. `skill2` makes
pairs, `skill10` groups of ten that all lie within 100 points of each other, as two teams of five.
The time is CPU time of the process over one whole cycle (dense view of the pool, search, teams),
the median of several cycles on one pool after two to warm up. The matches are judged by
`matchmaking.domain.check`, which shares no code with the matcher.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from rallypoint.matchmaking.domain import check, columns, matching
from rallypoint.matchmaking.domain.entry import Entry

REGIONS = 5
TOLERANCE = 100.0
WARM_UP = 2
NOW = 1_000_000.0


@dataclass(frozen=True, slots=True)
class Machine:
    """Where the figures come from."""

    cpu: str
    cores: int
    python: str
    numpy: str


@dataclass(frozen=True, slots=True)
class Report:
    """The figures of one run."""

    workload: str
    tickets: int
    cycles: int
    seed: int
    cycle_cpu_ms: float
    cycle_cpu_ms_min: float
    cycle_cpu_ms_max: float
    matched_players: int
    matches: int
    spread_mean: float
    spread_p95: float
    violations: int
    machine: Machine


def run(arguments: list[str]) -> int:
    """Run the bench; 0, or 1 if a match broke a rule."""
    options = _parser().parse_args(arguments)
    report = measure(options.workload, options.tickets, cycles=options.cycles, seed=options.seed)
    print(json.dumps(asdict(report)) if options.json else _text(report))
    return 1 if report.violations else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="rallypoint bench matchmaking", description=__doc__)
    parser.add_argument("--workload", choices=sorted(WORKLOADS), default="skill2")
    parser.add_argument("--tickets", type=int, default=10_000)
    parser.add_argument("--cycles", type=int, default=15)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    return parser


def _rules(size: int) -> matching.Rules:
    return matching.Rules(
        sizes=(size,), team_count=2, min_after_s=0.0, waits=(0.0,), reaches=(TOLERANCE,)
    )


WORKLOADS = {"skill2": _rules(2), "skill10": _rules(10)}


def fill(tickets: int, *, seed: int) -> columns.Pool:
    """A pool of the workload's players."""
    random = np.random.default_rng(seed)
    skills = random.normal(1500.0, 300.0, tickets).tolist()
    homes = random.integers(0, REGIONS, tickets).tolist()
    pool = columns.Pool(tickets)
    for number, (skill, home) in enumerate(zip(skills, homes, strict=True)):
        pool.add(
            Entry(
                ticket_id=str(number),
                skill=skill,
                search_start=NOW,
                region=home,
                regions=1 << home,
            )
        )
    return pool


def measure(workload: str, tickets: int, *, cycles: int = 15, seed: int = 1) -> Report:
    """Run the cycles and judge the last one."""
    pool, rules = fill(tickets, seed=seed), WORKLOADS[workload]
    times: list[float] = []
    for _ in range(WARM_UP + cycles):
        started = time.process_time()
        view, _rows = pool.view()
        groups = matching.find(view, rules, NOW)
        times.append((time.process_time() - started) * 1000)
    timed = times[WARM_UP:]
    spreads = np.concatenate([group.spread for group in groups]) if groups else np.zeros(1)
    return Report(
        workload=workload,
        tickets=tickets,
        cycles=cycles,
        seed=seed,
        cycle_cpu_ms=round(statistics.median(timed), 3),
        cycle_cpu_ms_min=round(min(timed), 3),
        cycle_cpu_ms_max=round(max(timed), 3),
        matched_players=sum(group.rows.size for group in groups),
        matches=sum(len(group.rows) for group in groups),
        spread_mean=round(float(spreads.mean()), 3),
        spread_p95=round(float(np.percentile(spreads, 95)), 3),
        violations=len(_judge(view, groups, rules)),
        machine=_machine(),
    )


def _judge(
    view: columns.Columns, groups: Sequence[matching.Group], rules: matching.Rules
) -> list[str]:
    searchers = [
        check.Searcher(skill, TOLERANCE, waited=0.0, regions=frozenset({region}))
        for skill, region in zip(view.skill.tolist(), view.region.tolist(), strict=True)
    ]
    matches = [
        (players, teams)
        for group in groups
        for players, teams in zip(group.rows.tolist(), group.teams.tolist(), strict=True)
    ]
    return check.violations(matches, searchers, check.Limits(rules.sizes, rules.team_count, 0.0))


def _machine() -> Machine:
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]
        model = names[0].partition(":")[2].strip() if names else model
    return Machine(model, os.cpu_count() or 1, platform.python_version(), np.__version__)


def _text(report: Report) -> str:
    return "\n".join(f"{name:>18}  {value}" for name, value in asdict(report).items())
