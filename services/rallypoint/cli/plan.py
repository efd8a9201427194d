"""What `rallypoint up` runs, as values: processes, what each needs, when it is tried again.

Nothing here starts, waits or reads a clock. `plan()` turns the wish and the ports into processes;
`stop_order()` drains them; `backoff_s()` is the table of restarts.

    nats, redis ▸ fleet, room-state ▸ matchmaking ▸ gateway ▸ bots        (start)
    bots ▸ gateway ▸ matchmaking ▸ fleet ▸ room-state ▸ redis, nats       (stop)
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from rallypoint.kit import addresses

Probe = Literal["http", "nats", "redis", "none"]


STOP_ORDER = ("bots", "gateway", "matchmaking", "fleet", "room-state", "redis", "nats")
NEEDS: Mapping[str, tuple[str, ...]] = {
    "nats": (),
    "redis": (),
    "fleet": ("nats", "redis"),
    "room-state": ("nats",),
    "matchmaking": ("nats", "redis", "fleet"),
    "gateway": ("nats", "redis", "matchmaking", "room-state"),
    "bots": ("gateway",),
}
LOOPBACK = "127.0.0.0/8,::1/128"
LOCALHOST = "127.0.0.1"
_EVERYWHERE = {"0.0.0.0": LOCALHOST, "::": "::1"}  # noqa: S104  # compared, never bound
"""Where to find on this machine what listens at all addresses."""
BACKOFF_S = (0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
STEADY_S = 30.0

DEFAULT_QUEUES: Mapping[str, Mapping[str, object]] = {
    "skirmish": {
        "queue": "skirmish",
        "game": "skirmish",
        "set": "local",
        "team_count": 8,
        "team_size": 1,
        "min_players": 2,
        "max_players": 8,
        "min_after_s": 4,
        "tolerance": [[0, 100], [10, 300], [30, 1000]],
        "ticket_ttl_s": 600,
        "options": {"time_limit_s": 120},
        "replay": True,
        "spectators": 50,
        "spectate_delay_s": 5,
    },
    "tictactoe": {
        "queue": "tictactoe",
        "game": "tictactoe",
        "set": "local",
        "team_count": 2,
        "team_size": 1,
        "min_players": 2,
        "max_players": 2,
        "min_after_s": 0,
        "tolerance": [[0, 200], [10, 600], [30, 2000]],
        "ticket_ttl_s": 600,
        "options": {},
        "replay": True,
    },
}


@dataclass(frozen=True, slots=True)
class Place:
    """Where a process runs, when that is not simply here."""

    host: str
    """The address at which the others reach it."""
    enter: tuple[str, ...]
    """The words before its command."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What the user asked for."""

    data_dir: Path
    web_host: str = "127.0.0.1"
    web_port: int = 8080
    room_nodes: int = 1
    gateways: int = 1
    room_capacity: int = 200
    queues: tuple[Mapping[str, object], ...] = tuple(DEFAULT_QUEUES.values())
    bots: int = 0
    """Bots that play the first queue."""
    web_root: Path | None = None
    kinds: tuple[str, ...] = ("fleet", "room-state", "matchmaking", "gateway")
    """The services to run; tests leave some out."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """Settings for every service, for example RALLYPOINT_OTLP_ENDPOINT."""
    broker_host: str = LOCALHOST
    places: Mapping[str, Place] = field(default_factory=dict)
    """Room nodes that run on hosts of their own, by name."""


@dataclass(frozen=True, slots=True)
class Keys:
    """The secrets kept in the data directory."""

    cluster_key_hex: str
    signing_key_file: Path
    admin_token_file: Path | None = None


@dataclass(frozen=True, slots=True)
class Process:
    """One child: how to start it, what must be ready before, how to see that it is ready."""

    name: str
    kind: str
    command: tuple[str, ...]
    needs: tuple[str, ...]
    probe: Probe
    port: int
    environment: Mapping[str, str] = field(default_factory=dict)
    host: str = LOCALHOST


@dataclass(frozen=True, slots=True)
class Ports:
    """The port of every listener, by `<process>` or `<process>/<listener>`."""

    by_name: Mapping[str, int]

    def __getitem__(self, name: str) -> int:
        return self.by_name[name]


def queue_files(data_dir: Path) -> Path:
    """Where the documents of the wished queues are, for matchmaking to write to the bus."""
    return data_dir / "queues"


def names(wish: Wish) -> tuple[str, ...]:
    """The processes of a wish, in the order of the table."""
    rooms = tuple(f"room-state-{n}" for n in range(1, wish.room_nodes + 1))
    gateways = tuple(f"gateway-{n}" for n in range(1, wish.gateways + 1))
    bots = ("bots",) if wish.bots else ()
    services = ("fleet", *rooms, "matchmaking", *gateways)
    wanted = tuple(name for name in services if kind_of(name) in wish.kinds)
    return ("nats", "redis", *wanted, *bots)


def kind_of(name: str) -> str:
    """`room-state-2` ▸ `room-state`."""
    head, _, tail = name.rpartition("-")
    return head if tail.isdigit() else name


def listeners(wish: Wish) -> tuple[str, ...]:
    """The listeners that want a free port; the web port is the user's."""
    found: list[str] = []
    everything = dataclasses.replace(wish, kinds=tuple(NEEDS))
    for name in names(everything):  # also those left out: others are told where they would be
        match kind_of(name):
            case "nats" | "redis":
                found.append(name)
            case "fleet" | "room-state" | "matchmaking":
                found += [f"{name}/grpc", f"{name}/metrics"]
            case "gateway":
                found += [f"{name}/native", f"{name}/metrics"]
    return tuple(found)


def plan(wish: Wish, ports: Ports, *, keys: Keys, brokers: Sequence[Process]) -> list[Process]:
    """Every process of the stack; `brokers` come from their own module, already described."""
    shared = _shared_environment(wish, ports)
    return [
        *brokers,
        *(
            _service(n, wish, ports=ports, keys=keys, shared=shared)
            for n in names(wish)
            if kind_of(n) not in ("nats", "redis")
        ),
    ]


def stop_order(processes: Iterable[Process]) -> list[list[str]]:
    """Names grouped by kind, in the order in which they are drained."""
    present = list(processes)
    groups = [[p.name for p in present if p.kind == kind] for kind in STOP_ORDER]
    return [group for group in groups if group]


def backoff_s(deaths: int) -> float:
    """Seconds before the next start, after `deaths` in a row without a steady life between."""
    return BACKOFF_S[min(max(deaths, 1), len(BACKOFF_S)) - 1]


def _shared_environment(wish: Wish, ports: Ports) -> dict[str, str]:
    return {
        "RALLYPOINT_NATS_URL": f"nats://{wish.broker_host}:{ports['nats']}",
        "RALLYPOINT_REDIS_URL": f"redis://{wish.broker_host}:{ports['redis']}/0",
        "RALLYPOINT_DATA_DIR": str(wish.data_dir),
        **wish.environment,
    }


def _service(
    name: str, wish: Wish, *, ports: Ports, keys: Keys, shared: Mapping[str, str]
) -> Process:
    kind = kind_of(name)
    place = wish.places.get(name, Place(host=LOCALHOST, enter=()))
    metrics = ports.by_name.get(f"{name}/metrics", 0)
    own = {
        "RALLYPOINT_INSTANCE": name,
        "RALLYPOINT_METRICS_PORT": str(metrics),
        "RALLYPOINT_METRICS_HOST": place.host,
        "RALLYPOINT_GRPC_HOST": place.host,
        **_own_environment(name, wish, ports=ports, keys=keys),
    }
    return Process(
        name=name,
        kind=kind,
        command=(*place.enter, sys.executable, "-m", "rallypoint", *_arguments(kind, wish)),
        needs=NEEDS[kind],
        probe="none" if kind == "bots" else "http",
        port=metrics,
        environment={**own, **shared},
        host=place.host,
    )


def _arguments(kind: str, wish: Wish) -> tuple[str, ...]:
    if kind != "bots":
        return (kind,)
    host = _EVERYWHERE.get(wish.web_host, wish.web_host)
    url = f"http://{addresses.joined(host, wish.web_port)}"
    first = wish.queues[0]
    what = ("--game", str(first["game"]), "--queue", str(first["queue"]))
    return ("bots", *what, "--count", str(wish.bots), "--url", url)


def _own_environment(name: str, wish: Wish, *, ports: Ports, keys: Keys) -> dict[str, str]:
    match kind_of(name):
        case "fleet":
            return {"RALLYPOINT_GRPC_PORT": str(ports["fleet/grpc"])}
        case "room-state":
            number = name.rpartition("-")[2]
            return {
                "RALLYPOINT_GRPC_PORT": str(ports[f"{name}/grpc"]),
                "RALLYPOINT_NODE_ID": f"local-{number}",
                "RALLYPOINT_SET": "local",
                "RALLYPOINT_ROOM_CAPACITY": str(wish.room_capacity),
            }
        case "matchmaking":
            return {
                "RALLYPOINT_GRPC_PORT": str(ports["matchmaking/grpc"]),
                "RALLYPOINT_FLEET_ADDRESS": f"127.0.0.1:{ports['fleet/grpc']}",
                "RALLYPOINT_QUEUE_FILES": str(queue_files(wish.data_dir)),
            }
        case "gateway":
            return _gateway_environment(name, wish, ports=ports, keys=keys)
    return {}


def _gateway_environment(name: str, wish: Wish, *, ports: Ports, keys: Keys) -> dict[str, str]:
    environment = {
        "RALLYPOINT_WEB_HOST": wish.web_host,
        "RALLYPOINT_WEB_PORT": str(wish.web_port),
        "RALLYPOINT_NATIVE_PORT": str(ports[f"{name}/native"]),
        "RALLYPOINT_MATCHMAKING_ADDRESS": f"127.0.0.1:{ports['matchmaking/grpc']}",
        "RALLYPOINT_FLEET_ADDRESS": f"127.0.0.1:{ports['fleet/grpc']}",
        "RALLYPOINT_CLUSTER_KEY": keys.cluster_key_hex,
        "RALLYPOINT_SIGNING_KEY_FILE": str(keys.signing_key_file),
        "RALLYPOINT_REUSE_PORT": "true" if wish.gateways > 1 else "false",
        # Everybody at this machine, bots included, shares one address: no limits by address here.
        "RALLYPOINT_TRUSTED_RANGES": LOOPBACK,
    }
    if keys.admin_token_file is not None:
        environment["RALLYPOINT_ADMIN_TOKEN_FILE"] = str(keys.admin_token_file)
    if wish.web_root is not None:
        environment["RALLYPOINT_WEB_ROOT"] = str(wish.web_root)
    return environment
