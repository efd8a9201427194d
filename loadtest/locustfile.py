"""Locust drives, a swarm plays: `make load` (docs/loadtest.md).

A Locust user is one player of the swarm: it starts with it, ends with it, and waits in between. All
that is measured comes from the swarm's reports. The verdict is the process's exit code.
"""

from __future__ import annotations

import argparse
import logging
import socket
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import gevent
import locust.runners
import locust.stats
from locust import LoadTestShape, User, events, task
from locust.env import Environment
from locust.runners import MasterRunner, WorkerRunner
from locust.stats import StatsEntry

from loadtest import addresses, locust_swarm, report, shapes, slo

HERE = Path(__file__).parent
DEFAULT_RUN_S = 300.0
LOOK_S = 1.0
CONNECT_S = 5.0

# A worker on a crowded machine may be silent for a while: three seconds are no death.
locust.runners.HEARTBEAT_LIVENESS = 30
locust.stats.PERCENTILES_TO_CHART = [0.5, 0.95, 0.99]
locust.stats.PERCENTILES_TO_STATISTICS = [0.5, 0.95, 0.99]
logger = logging.getLogger("load")


class Run:
    """What one Locust process holds while a test runs."""

    swarm: locust_swarm.Swarm | None = None
    history = report.History()
    began_s = 0.0
    judged: dict[str, Any] | None = None
    broken = False
    busy = 0.0
    """The share of a core that the busiest swarm of all workers has taken."""


run = Run()


class Player(User):
    """One player; `--host` says where and how it plays."""

    number = 0

    def on_start(self) -> None:
        """Have the swarm start a player."""
        Player.number += 1
        self._number = Player.number
        if run.swarm is not None:
            run.swarm.say("start", player=self._number)

    def on_stop(self) -> None:
        """Have it leave."""
        if run.swarm is not None:
            run.swarm.say("stop", player=self._number)

    @task
    def play(self) -> None:
        """The swarm plays; Locust only counts us."""
        gevent.sleep(3600)


class Shape(LoadTestShape):
    """The profile of `--shape`, with `--users` at its top, over `--run-time`."""

    use_common_options = True
    gone = 0.0

    def tick(self) -> tuple[int, float] | None:
        """How many players there should be now."""
        assert self.runner is not None
        options = self.runner.environment.parsed_options
        profile = shapes.PROFILES[options.shape]
        lasts_s = float(options.run_time or DEFAULT_RUN_S)
        if not options.run_time and options.shape == "steady":
            lasts_s = float("inf")
        gone = self.get_run_time() / lasts_s
        if gone >= 1.0:
            return None
        if shapes.storms(profile, self.gone, gone):
            logger.info("everybody reconnects")
            self.runner.send_message("storm", {"share": profile.storm_share})
        self.gone = gone
        return shapes.users(profile, gone, options.num_users or 1), options.spawn_rate or 10

    def reset_time(self) -> None:
        """A new run in the web UI."""
        super().reset_time()
        self.gone = 0.0


@events.init_command_line_parser.add_listener
def add_options(parser: argparse.ArgumentParser) -> None:
    """Our own options; those of Locust's web form too."""
    add = parser.add_argument
    add("--queue", default="skirmish", help="the queue to play (%(default)s)")
    add("--game", default="", help="its game, if it is not called the same")
    add("--shape", choices=tuple(shapes.PROFILES), default="steady", help="players over time")
    add("--native", default="", help="grpc://host:port that some players use instead of --host")
    add("--native-share", type=float, default=0.1, help="their share (%(default)s)")
    add("--leave-share", type=float, default=0.05, help="matches left early (%(default)s)")
    add("--input-hz", type=int, default=0, help="inputs a second (as the room asks)")
    add("--slo", default=str(HERE / "slo.yaml"), help="objectives (%(default)s)")
    add("--report", default="test-results/load", help="folder of the report (%(default)s)")


@events.init.add_listener
def begin(environment: Environment, **_: Any) -> None:
    """Read the objectives before anything runs; register what masters say to workers."""
    runner = environment.runner
    assert runner is not None
    if isinstance(runner, WorkerRunner) or not isinstance(runner, MasterRunner):
        runner.register_message("storm", _reconnect)
    if isinstance(runner, WorkerRunner):
        return
    slo.load(Path(environment.parsed_options.slo))
    # A page may name another; a master needs no way to it, only its workers play.
    if environment.web_ui is None and not isinstance(runner, MasterRunner):
        _refuse(environment.parsed_options.host)
    gevent.spawn(_look_always, environment)
    if environment.web_ui is not None:  # Locust's own pages know no verdict
        environment.web_ui.app.add_url_rule("/slo", "slo", lambda: _verdict(environment))


@events.test_start.add_listener
def start(environment: Environment, **_: Any) -> None:
    """Start the swarm where users are spawned; begin the history where they are counted."""
    run.history, run.began_s, run.judged = report.History(), time.monotonic(), None
    run.busy = 0.0
    if not isinstance(environment.runner, MasterRunner):
        _close()
        run.swarm = locust_swarm.Swarm(
            _spec(environment), environment.stats, lambda: _broke(environment)
        )


@events.test_stop.add_listener
def stop(environment: Environment, **_: Any) -> None:
    """Count the last reports; those of workers are sent to the master after this."""
    if run.swarm is not None:
        run.swarm.rest()
        run.busy = _busy()
        _close()
    if not isinstance(environment.runner, MasterRunner | WorkerRunner):
        _judge(environment)


@events.report_to_master.add_listener
def tell_busy(data: dict[str, Any], **_: Any) -> None:
    """What Locust's own report of a worker lacks."""
    data["swarm_busy"] = _busy()


@events.worker_report.add_listener
def hear_busy(data: dict[str, Any], **_: Any) -> None:
    """The busiest counts: its players are in the figures of all."""
    run.busy = max(run.busy, data.get("swarm_busy", 0.0))


@events.quitting.add_listener
def quit_with_verdict(environment: Environment, **_: Any) -> None:
    """Turn the verdict into the exit code."""
    _close()
    if isinstance(environment.runner, WorkerRunner):
        environment.process_exit_code = 3 if run.broken else 0
        return
    if not run.began_s:
        return  # a web UI in which nobody pressed Start
    verdict = run.judged or _judge(environment)
    environment.process_exit_code = 0 if verdict["passed"] else 1


def _refuse(url: str) -> None:
    """End with a sentence where a whole run would do nothing but count refusals."""
    parts = urlsplit(url)
    way = addresses.WAYS.get(parts.scheme)
    if way is None or not parts.hostname:
        known = ", ".join(f"{name}://…" for name in addresses.WAYS)
        raise SystemExit(f"--host {url}: write {known}")
    try:
        socket.create_connection((parts.hostname, parts.port or way.port), CONNECT_S).close()
    except (OSError, ValueError) as error:
        raise SystemExit(f"nobody answers at {url} ({error}): `make up`, or --host") from error


def _busy() -> float:
    return run.swarm.mean_busy if run.swarm is not None else run.busy


def _spec(environment: Environment) -> dict[str, Any]:
    options = environment.parsed_options
    return {
        "url": environment.host or options.host,
        "queue": options.queue,
        "game": options.game or options.queue,
        "native": options.native,
        "native_share": float(options.native_share),
        "leave_share": float(options.leave_share),
        "input_hz": int(options.input_hz),
    }


def _broke(environment: Environment) -> None:
    """The swarm is gone: what was measured is not what was asked for."""
    run.broken = True
    environment.stats.log_request("load", "swarm", 0, 0)
    environment.stats.log_error("load", "swarm", "SWARM_ENDED")
    if environment.runner is not None:
        environment.runner.quit()


def _close() -> None:
    swarm, run.swarm = run.swarm, None
    if swarm is not None:
        swarm.close()


def _reconnect(environment: Environment, msg: Any, **_: Any) -> None:
    if run.swarm is not None:
        run.swarm.say("reconnect", share=msg.data["share"])


def _look_always(environment: Environment) -> None:
    """Write the history, a look a second while a test runs."""
    while True:
        gevent.sleep(LOOK_S)
        runner, total = environment.runner, environment.stats.total
        if runner is None or runner.state not in ("spawning", "running"):
            continue
        run.history.look(
            time.monotonic() - run.began_s,
            players=runner.user_count,
            per_s=total.current_rps,
            failures_per_s=total.current_fail_per_sec,
            percentiles_ms={name: _now(environment, name) for name in (report.ECHO, report.MATCH)},
        )


def _now(environment: Environment, name: str) -> dict[int, float]:
    """The worst transport's percentiles of the last seconds."""
    found = [entry for (called, _), entry in environment.stats.entries.items() if called == name]
    return {
        percent: max(
            (entry.get_current_response_time_percentile(percent / 100) or 0 for entry in found),
            default=0,
        )
        for percent in slo.PERCENTILES
    }


def _row(entry: StatsEntry) -> slo.Row:
    well = entry.num_requests > entry.num_none_requests
    times = {p: entry.get_response_time_percentile(p / 100) for p in slo.PERCENTILES if well}
    return slo.Row(entry.name, entry.method, entry.num_requests, entry.num_failures, times)


def _verdict(environment: Environment) -> dict[str, Any]:
    """The verdict on what is counted so far, as JSON."""
    rows = [_row(entry) for _, entry in sorted(environment.stats.entries.items())]
    broken = [slo.Row("swarm", "load", 1, 1, {})] if run.broken else []
    objectives = {"swarm": {"failed": 0}, **slo.load(Path(environment.parsed_options.slo))}
    checks = slo.judge(objectives, [*rows, *broken], _transports(environment))
    late_ms = max((r.percentiles_ms.get(99, 0) for r in rows if r.transport == "swarm"), default=0)
    generator = slo.Generator(late_ms, round(_busy(), 2))
    return {
        "passed": slo.passed(checks),
        "generator": {**vars_of(generator), "saturated": generator.saturated},
        "checks": [vars_of(check) for check in checks],
        "rows": [vars_of(row) for row in rows],
    }


def _transports(environment: Environment) -> frozenset[str]:
    spec = _spec(environment)
    return addresses.transports(spec["url"], spec["native"], spec["native_share"])


def vars_of(value: Any) -> dict[str, Any]:
    """A slotted dataclass as a dict."""
    return {name: getattr(value, name) for name in value.__slots__}


def _judge(environment: Environment) -> dict[str, Any]:
    """Write the report and say the verdict, once a run."""
    found = run.judged = _verdict(environment)
    checks = [slo.Check(**check) for check in found["checks"]]
    rows = [slo.Row(**row) for row in found["rows"]]
    told = slo.Generator(found["generator"]["late_p99_ms"], found["generator"]["busy"]).line()
    errors = [
        (f"{e.method} {e.name}: {e.error}", e.occurrences)
        for e in environment.stats.errors.values()
    ]
    folder = Path(environment.parsed_options.report)
    title = (
        f"{environment.host or environment.parsed_options.host}, {environment.parsed_options.shape}"
    )
    page = report.html(title, run.history, rows=rows, checks=checks, errors=errors, told=told)
    report.write(
        folder,
        page,
        {**found, "errors": dict(errors), "most_players": max(run.history.players, default=0)},
    )
    verdict = "GREEN" if found["passed"] else "RED"
    locust_swarm.say_to_people(
        [
            *(f"{count}x {text}" for text, count in errors),
            *(check.line() for check in checks),
            told,
            f"SLO: {verdict}; {folder / 'report.html'}",
        ]
    )
    return found
