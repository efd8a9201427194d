"""`rallypoint config get|apply|diff|remove`: the queue documents of a running stack.

They are in the `config` bucket of the bus; every matchmaking process takes a change from the next
cycle of its queue on, and tells in its log when it refuses one. What is wrong is refused here
first, and so is a game that no room node of the queue's set has. Finds the stack of `rallypoint up`
by its data directory, another one by `--nats`.
"""

from __future__ import annotations

import argparse
import asyncio
import difflib
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rallypoint.cli import datadir

Documents = Mapping[str, Mapping[str, Any]]


def run(arguments: list[str]) -> int:
    """Do what is asked; the result is the exit code."""
    parsed = parser().parse_args(arguments)
    url = parsed.nats or datadir.fact(parsed.data_dir.absolute(), "nats_url")
    return asyncio.run(_run(parsed, url))


def parser() -> argparse.ArgumentParser:
    """The commands and their options."""
    found = argparse.ArgumentParser(
        prog="rallypoint config", description="See and change queues while they are played."
    )
    _add_bus(found)
    commands = found.add_subparsers(dest="command", required=True, metavar="get|apply|diff|remove")
    shown = commands.add_parser("get", help="print documents")
    shown.add_argument("queue", nargs="*", help="only of these queues")
    _add_bus(shown, again=True)
    for name, line in (
        ("apply", "write documents; each counts from the next cycle of its queue on"),
        ("diff", "show what `apply` would change; exit code 1 when there is something"),
    ):
        command = commands.add_parser(name, help=line)
        command.add_argument(
            "file", nargs="+", help="JSON: a document, or a list of them; - is standard input"
        )
        _add_bus(command, again=True)
        if name == "apply":
            command.add_argument(
                "--anyway", action="store_true", help="although no room node has the game"
            )
    removed = commands.add_parser("remove", help="take queues away; nobody is matched there")
    removed.add_argument("queue", nargs="+")
    _add_bus(removed, again=True)
    return found


def _add_bus(found: argparse.ArgumentParser, *, again: bool = False) -> None:
    datadir.add_option(found, again=again)
    default = argparse.SUPPRESS if again else ""
    found.add_argument("--nats", default=default, metavar="URL", help="the bus, if elsewhere")


async def _run(parsed: argparse.Namespace, url: str) -> int:
    from rallypoint.kit import subjects
    from rallypoint.kit.bus import Bus

    wanted = _read(parsed.file) if "file" in parsed else {}
    bus = await Bus.connect(url, name="cli")
    try:
        kv = bus.kv(subjects.CONFIG.name)
        present: Documents = {
            entry.key.removeprefix("queue."): _document(entry.value or b"")
            for entry in await kv.entries(subjects.ALL_QUEUES)
        }
        match parsed.command:
            case "get":
                return _show(present, parsed.queue)
            case "diff":
                return _differ(present, wanted)
            case "apply":
                changed = [one for name, one in wanted.items() if present.get(name) != one]
                if not parsed.anyway:
                    _check_games(changed, await _games(bus))
                return await _apply(kv, present, wanted)
            case _:
                return await _remove(kv, present, parsed.queue)
    finally:
        await bus.close()


def _document(value: bytes) -> Mapping[str, Any]:
    """What stands in the bucket; also what no process takes, so that it can be mended."""
    try:
        found = json.loads(value)
    except ValueError:
        found = None
    return found if isinstance(found, dict) else {"unreadable": value.decode("utf-8", "replace")}


def _read(files: Iterable[str]) -> Documents:
    """The documents of files, each checked; raises what is wrong with one."""
    from rallypoint.kit import errors
    from rallypoint.matchmaking.domain import queues

    found: dict[str, Mapping[str, Any]] = {}
    for name in files:
        try:
            held = json.loads(sys.stdin.read() if name == "-" else Path(name).read_text())
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error  # an OSError names the file as well
            raise errors.InvalidArgument("QUEUE_INVALID", f"{name}: {reason}") from error
        for document in held if isinstance(held, list) else [held]:
            found[queues.parse(document).queue] = document
    return found


def _text(document: Mapping[str, Any] | None) -> str:
    return "" if document is None else json.dumps(document, indent=1, sort_keys=True)


def _show(present: Documents, wanted: Sequence[str]) -> int:
    shown = [present[name] for name in wanted or sorted(present) if name in present]
    print(json.dumps(shown, indent=1))
    absent = [name for name in wanted if name not in present]
    for name in absent:
        print(f"rallypoint config: there is no queue {name}", file=sys.stderr)
    return int(bool(absent))


def _differ(present: Documents, wanted: Documents) -> int:
    differs = False
    for name, document in wanted.items():
        before, after = _text(present.get(name)), _text(document)
        differs |= before != after
        lines = difflib.unified_diff(
            before.splitlines(), after.splitlines(), f"{name} now", f"{name} then", lineterm=""
        )
        print("\n".join(lines), end="\n" if before != after else "")
    return int(differs)


async def _games(bus: Any) -> Mapping[str, set[str]]:
    """What the room nodes that are there can run, by their set."""
    from rallypoint.internal.v1.events_pb2 import NodeRecord
    from rallypoint.kit import subjects

    found: dict[str, set[str]] = {}
    for entry in await bus.kv(subjects.NODES.name).entries(">"):
        record = NodeRecord.FromString(entry.value or b"")
        found.setdefault(record.set, set()).update(record.games)
    return found


def _check_games(documents: Iterable[Mapping[str, Any]], games: Mapping[str, set[str]]) -> None:
    """NotFound for a game that nobody of the set has; a set without nodes is only told of."""
    from rallypoint.kit import errors
    from rallypoint.matchmaking.domain import queues

    for queue in map(queues.parse, documents):
        if queue.set not in games:
            sets = ", ".join(sorted(games)) or "none"
            print(
                f"rallypoint config: queue {queue.queue!r}: the set {queue.set!r} has no room node"
                f" now (sets with some: {sets}); its matches wait for one with {queue.game!r}",
                file=sys.stderr,
            )
        elif queue.game not in games[queue.set]:
            had = ", ".join(sorted(games[queue.set])) or "none"
            raise errors.NotFound(
                "GAME_UNKNOWN",
                f"queue {queue.queue!r}: no room node of the set {queue.set!r} has the game"
                f" {queue.game!r}, only {had}; nothing was written (--anyway, if nodes with it are"
                " about to come)",
            )


async def _apply(kv: Any, present: Documents, wanted: Documents) -> int:
    from rallypoint.kit import subjects
    from rallypoint.kit.names import QueueName

    for name, document in wanted.items():
        known = present.get(name)
        if known == document:
            print(f"{name} is as it was")
            continue
        await kv.put(subjects.queue(QueueName(name)), json.dumps(document, indent=1).encode())
        print(f"{name} is {'new' if known is None else 'changed'}")
    return 0


async def _remove(kv: Any, present: Documents, wanted: Sequence[str]) -> int:
    from rallypoint.kit import subjects
    from rallypoint.kit.names import QueueName

    for name in wanted:
        if name in present:
            await kv.purge(subjects.queue(QueueName(name)))
        print(f"{name} is {'gone' if name in present else 'not there'}")
    return 0
