"""`rallypoint bench probe`: what the probe costs those it watches, and itself.

64-byte messages go to and fro over loopback on one CPU, in turns without and with the probe.

    ns_per_run          the dearest program: mean of its runs, timed by the kernel (with some 40 ns
                        for the timing) in one turn and while 3,000 short connections come and go;
                        of what that does not bring about, while 2,000 connections are cut off and
                        2,000 datagrams are dropped. Those that follow calls are under `calls`
    us_per_round_trip   CPU that a TCP round trip costs more with the probe, both ends; medians
    verified_insns      instructions the verifier went through, all programs
    rss_mb              resident memory of `rallypoint probe` while it watches and is scraped
    load_s              from the object file to everything attached
    calls               what following calls costs on top, if it is turned on: bench_probe_calls
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import socket
import statistics
import struct
import subprocess
import sys
import time
import urllib.request
from dataclasses import replace
from pathlib import Path
from typing import Any

from rallypoint.cli import bench_probe_calls, machine, ports
from rallypoint.kit import errors
from rallypoint.probe import libbpf, session, source, wish
from rallypoint.probe.domain.layout import Config

SIZE = 64
CONNECTIONS = 20
SHORT = 3000
SCRAPES = 5
BROKEN = 2000
LEAST_RUNS = 1000  # fewer were others' connections, on cold caches


def run(arguments: list[str]) -> int:
    """Measure and print; the result is the exit code."""
    parser = argparse.ArgumentParser(
        prog="rallypoint bench probe",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--turns", type=int, default=7, help="without and with (%(default)s)")
    parser.add_argument("--messages", type=int, default=40_000, help="per turn (%(default)s)")
    parser.add_argument("--mode", choices=source.BPF_MODES, default="full", help="(%(default)s)")
    parser.add_argument("--hot-update", action="store_true", help="with dispatchers in front")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parsed = parser.parse_args(arguments)
    wanted = wish.Wanted(
        mode=parsed.mode,
        config=Config(every_cgroup=True, full=parsed.mode != "light"),
        resident=parsed.hot_update,
    )
    report = measure(parsed.turns, parsed.messages, wanted)
    print(json.dumps(report) if parsed.json else _text(report))
    return 0


def measure(turns: int, messages: int, wanted: wish.Wanted) -> dict[str, Any]:
    """All figures."""
    port = ports.free_one()
    echo = Echo(port, messages)
    wanted = replace(wanted, ports=(port,))
    without, with_, loads = [], [], []
    for _ in range(turns):
        without.append(echo.turn())
        with session.Session(wanted) as probe:
            with_.append(echo.turn())
            loads.append(probe.loaded.load_s)
    with session.Session(wanted) as probe:
        costs = timed(probe, echo)
    per_run = {c.name: round(c.run_ns / c.runs, 1) for c in costs if c.runs >= LEAST_RUNS}
    return {
        "workload": {
            "mode": wanted.mode,
            "hot_update": wanted.resident,
            "turns": turns,
            "messages": messages,
            "bytes": SIZE,
        },
        "ns_per_run": max(per_run.values()),
        "ns_per_run_by_program": per_run,
        "us_per_round_trip": round(statistics.median(with_) - statistics.median(without), 3),
        "us_without": round(statistics.median(without), 3),
        "us_with": round(statistics.median(with_), 3),
        "verified_insns": sum(cost.instructions for cost in costs),
        "rss_mb": round(resident_mb(port, echo), 1),
        "load_s": round(statistics.median(loads), 3),
        "calls": bench_probe_calls.measure(turns, wanted, ports.free_one(), echo.turn),
        "machine": machine.description(),
    }


class Echo:
    """The traffic."""

    def __init__(self, port: int, messages: int) -> None:
        try:
            from rallypoint.cli import _echo
        except ImportError:
            raise errors.FailedPrecondition(
                "NO_ECHO", "the traffic is made in C: install a compiler and run make again"
            ) from None
        self._run = _echo.run
        self._port = port
        self._messages = messages
        self._cpu = max(os.sched_getaffinity(0))

    def turn(self) -> float:
        """Microseconds of CPU per round trip."""
        return self._run(self._port, CONNECTIONS, self._messages // CONNECTIONS, SIZE, self._cpu)

    def connect(self) -> None:
        """Many short connections."""
        self._run(self._port, SHORT, 1, SIZE, self._cpu)

    def cut_off(self) -> None:
        """Many connections that end with a reset."""
        with socket.create_server(("127.0.0.1", self._port)) as listener:
            for _ in range(BROKEN):
                with socket.create_connection(("127.0.0.1", self._port)) as near:
                    far, _ = listener.accept()
                    far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("=ii", 1, 0))
                    far.close()
                    with contextlib.suppress(ConnectionResetError):
                        near.recv(1)

    def drop(self) -> None:
        """Many datagrams for which there is no room."""
        with (
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as deaf,
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as loud,
        ):
            deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
            deaf.bind(("127.0.0.1", self._port))
            loud.connect(deaf.getsockname())
            for _ in range(BROKEN):
                loud.send(bytes(SIZE))


def timed(probe: session.Session, echo: Echo) -> list[session.ProgramCost]:
    """What each program cost in one turn."""
    timing = libbpf.enable_stats()
    try:
        echo.turn()
        echo.connect()
        usual = probe.costs()
        echo.cut_off()
        echo.drop()
        rare = {cost.name: cost for cost in probe.costs()}
        return [one if one.runs >= LEAST_RUNS else rare[one.name] for one in usual]
    finally:
        os.close(timing)


def resident_mb(port: int, echo: Echo) -> float:
    """The memory of a probe in a process of its own."""
    settings = {"PORT": "0", "PORTS": str(port), "SCOPE": "all"}
    environ = {**os.environ, **{f"RALLYPOINT_PROBE_{k}": v for k, v in settings.items()}}
    command = [sys.executable, "-m", "rallypoint", "probe"]
    probe = subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, text=True)
    try:
        assert probe.stdout
        probe.stdout.readline()
        address = probe.stdout.readline().split()[1]
        echo.turn()
        for _ in range(SCRAPES):
            with urllib.request.urlopen(address, timeout=10) as answer:  # noqa: S310  # our probe
                answer.read()
            time.sleep(0.2)
        status = Path(f"/proc/{probe.pid}/status").read_text()
    finally:
        probe.terminate()
        probe.communicate(timeout=10)
    return next(int(x.split()[1]) / 1024 for x in status.splitlines() if x.startswith("VmRSS"))


def _text(report: dict[str, Any]) -> str:
    programs = ", ".join(f"{name} {ns}" for name, ns in report["ns_per_run_by_program"].items())
    return "\n".join(
        (
            f"dearest program    {report['ns_per_run']} ns a run ({programs})",
            f"TCP round trip     {report['us_per_round_trip']} µs CPU more, on "
            f"{report['us_without']} µs",
            f"verifier           {report['verified_insns']} instructions",
            f"memory             {report['rss_mb']} MB resident",
            f"load and attach    {report['load_s']} s",
            f"following calls    {_calls(report['calls'])}",
        )
    )


def _calls(found: dict[str, Any]) -> str:
    if "refused" in found:
        return str(found["refused"])
    return (
        f"{found['ns_per_run']} ns a packet, {found['us_per_call']} µs to read a call, "
        f"{found['us_per_round_trip']} µs more for a round trip that is none"
    )
