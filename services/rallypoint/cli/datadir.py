"""The data directory of `rallypoint up`: its lock, its state file, its keys, its logs.

    lock            held (flock) while an `up` runs on it
    state.json      pid and start time of every process, so that a later run finds leftovers
    cluster.key     32 random bytes, hex, 0600: HMAC of stream tokens
    signing-key.pem Ed25519, 0600: signs access tokens; made by the gateway
    admin.token     0600: what operators show
    queues/         the queue documents of the last `up`
    logs/           one JSON log per process; the last runs' are kept as .1 and .2
    nats/ redis/    the brokers' files

Every problem is a `Refused` whose text is one sentence with the remedy.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import json
import os
import secrets
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from rallypoint.cli import plan

KEPT_LOGS = 3
FRESH = ("nats", "redis", "logs", "state.json")


class Refused(Exception):
    """Why nothing was started, and what to do about it, in one sentence."""


@dataclass(frozen=True, slots=True)
class Running:
    """A process as the state file knows it; the start time tells a reused pid apart."""

    name: str
    pid: int
    started_ticks: int


def add_option(found: argparse.ArgumentParser, *, again: bool = False) -> None:
    """The option that names a running stack.

    `again` is for a subcommand of a parser that has it: so it may stand on either side, and what
    is not said there leaves the first alone.
    """
    found.add_argument(
        "--data-dir",
        type=Path,
        default=argparse.SUPPRESS if again else Path(".rallypoint"),
        help="of the stack (.rallypoint)",
    )


def start_ticks(pid: int) -> int | None:
    """The kernel's start time of a process in clock ticks since boot; None when it is gone."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else int(fields[19])


@contextlib.contextmanager
def opened(path: Path, *, fresh: bool = False) -> Iterator[Path]:
    """Make, check and lock the directory; Refused when it cannot be used."""
    directory = _writable(path)
    with (directory / "lock").open("a+") as lock:
        _lock(lock.fileno(), directory)
        refuse_leftovers(directory)
        if fresh:
            _empty(directory)
        logs(directory).mkdir(exist_ok=True)
        try:
            yield directory
        finally:
            (directory / "state.json").unlink(missing_ok=True)


def _writable(path: Path) -> Path:
    directory = path.absolute()
    remedy = "choose another with --data-dir"
    try:
        directory.mkdir(parents=True, exist_ok=True)
        probe = directory / f".write-{os.getpid()}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        message = f"the data directory {directory} is not writable ({reason}): {remedy}"
        raise Refused(message) from error
    return directory


def _lock(descriptor: int, directory: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        owner = next((r.pid for r in read_state(directory) if r.name == "up"), 0)
        who = f"pid {owner}" if owner else "another `rallypoint up`"
        raise Refused(
            f"{who} already runs on {directory}: stop it first, or use another --data-dir"
        ) from error


def refuse_leftovers(directory: Path) -> None:
    """Refuse to start beside processes that an earlier run left behind."""
    alive = [r for r in read_state(directory) if start_ticks(r.pid) == r.started_ticks]
    if alive:
        named = ", ".join(f"{r.name} (pid {r.pid})" for r in alive)
        pids = " ".join(str(r.pid) for r in alive)
        raise Refused(f"an earlier run left {named} behind: stop it with `kill {pids}`")


def read_state(directory: Path) -> list[Running]:
    """What the state file says; nothing when it is absent or torn."""
    try:
        document = json.loads((directory / "state.json").read_text())
        return [Running(**entry) for entry in document["processes"]]
    except (OSError, ValueError, KeyError, TypeError):
        return []


def fact(directory: Path, name: str) -> str:
    """Something the running stack noted in its state file; Refused when none runs."""
    try:
        return str(json.loads((directory / "state.json").read_text())[name])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise Refused(
            f"no `rallypoint up` runs on {directory}: start one, or name another with --data-dir"
        ) from error


def write_state(directory: Path, pids: Mapping[str, int], *, facts: Mapping[str, str]) -> None:
    """Replace the state file: `up` itself, its children, and where to reach them."""
    entries = [
        {"name": name, "pid": pid, "started_ticks": ticks}
        for name, pid in {"up": os.getpid(), **pids}.items()
        if (ticks := start_ticks(pid)) is not None
    ]
    written = directory / f".state-{os.getpid()}"
    written.write_text(json.dumps({**facts, "processes": entries}, indent=1))
    written.replace(directory / "state.json")


def keys(directory: Path) -> plan.Keys:
    """The secrets of the directory; the cluster's and the operators' are made on first use."""
    cluster = directory / "cluster.key"
    if not cluster.exists():
        _write_secret(cluster, secrets.token_hex(32).encode())
    signing = directory / "signing-key.pem"  # made by the first gateway
    if not admin_token(directory).exists():
        _write_secret(admin_token(directory), secrets.token_urlsafe(24).encode())
    return plan.Keys(
        cluster_key_hex=cluster.read_text().strip(),
        signing_key_file=signing,
        admin_token_file=admin_token(directory),
    )


def admin_token(directory: Path) -> Path:
    """The file with the operators' secret."""
    return directory / "admin.token"


def admin_secret(directory: Path) -> str:
    """What operators show; Refused when no stack was ever run there."""
    try:
        return admin_token(directory).read_text().strip()
    except OSError as error:
        raise Refused(
            f"{directory} holds no secret of operators: name the stack with --data-dir"
        ) from error


def write_queues(directory: Path, documents: Iterable[Mapping[str, object]]) -> None:
    """Put the queue documents there, and no others."""
    files = plan.queue_files(directory)
    files.mkdir(exist_ok=True)
    for old in files.glob("*.json"):
        old.unlink()
    for document in documents:
        path = files / f"{document['queue']}.json"
        path.write_text(json.dumps(document, indent=1))


def _write_secret(path: Path, content: bytes) -> None:
    """Write whole or not at all, and never readable by others."""
    written = path.with_suffix(f".{os.getpid()}")
    descriptor = os.open(written, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
    written.replace(path)


def logs(directory: Path) -> Path:
    """Where the logs lie."""
    return directory / "logs"


def fresh_log(directory: Path, name: str) -> Path:
    """The log of this run's process; earlier runs' move to .1 and .2, older ones go."""
    path = logs(directory) / f"{name}.log"
    for number in range(KEPT_LOGS - 1, 0, -1):
        older = path.with_suffix(f".log.{number - 1}") if number > 1 else path
        if older.exists():
            older.replace(path.with_suffix(f".log.{number}"))
    return path


def log_tail(path: Path, *, lines: int = 5) -> str:
    """The last lines of a log, for the message about a child that died."""
    try:
        return "\n".join(path.read_text(errors="replace").splitlines()[-lines:])
    except OSError:
        return ""


def _empty(directory: Path) -> None:
    for name in FRESH:
        path = directory / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
