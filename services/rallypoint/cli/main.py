"""Parse the command line and run one command. A command imports what it needs when it runs.

A command is a module with `run(arguments) -> exit code`; it has its own parser, so that
`rallypoint <command> --help` costs no other command's imports. What a command raises to say that it
cannot start or go on is one sentence on standard error and exit code 1; only a bug is a traceback.
"""

from __future__ import annotations

import argparse
import importlib
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

SERVICES: Mapping[str, str] = {
    "gateway": "clients' edge: sessions, gRPC-Web and gRPC, streams of frames",
    "matchmaking": "tickets, matches, ratings",
    "fleet": "places rooms on nodes",
    "operator": "acts on GameServerSets of a Kubernetes cluster",
    "room-state": "runs the rooms",
}


@dataclass(frozen=True, slots=True)
class Command:
    """Where a command is and what it does, in one line."""

    module: str
    line: str


COMMANDS: Mapping[str, Command] = {
    "up": Command("rallypoint.cli.up", "start everything on this machine and show it"),
    **{name: Command("rallypoint.cli.service", line) for name, line in SERVICES.items()},
    "bots": Command("rallypoint.cli.bots", "players without people: queue, play, queue again"),
    "new": Command("rallypoint.cli.new_game", "write the skeleton of a game of your own"),
    "rooms": Command("rallypoint.cli.rooms", "see the rooms that run, kick players, close rooms"),
    "config": Command("rallypoint.cli.config", "see and change queues while they are played"),
    "replay": Command("rallypoint.cli.replay", "list, play and save matches that were recorded"),
    "bench": Command("rallypoint.cli.bench", "measure; `rallypoint bench --help` lists what"),
    "drain": Command("rallypoint.cli.drain", "empty a room node; its matches go on elsewhere"),
    "move": Command("rallypoint.cli.move", "have a room go on at another node"),
    "simulate": Command("rallypoint.cli.simulate", "try autoscaling out on a made-up day"),
    "doctor": Command("rallypoint.cli.doctor", "look at this machine or a cluster: what to mend"),
    "crd": Command("rallypoint.cli.crd", "make the chart's CRDs from their types"),
    "probe": Command("rallypoint.cli.probe", "what sockets wait for, measured in the kernel"),
    "licenses": Command("rallypoint.cli.licenses", "what is installed, under which license"),
    "version": Command("rallypoint.cli.version", "print the version"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `rallypoint <command> …`; the result is the exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words[:1] == ["--version"]:  # what everybody tries first
        words[0] = "version"
    parsed = _parser().parse_args(words[:1])
    command = COMMANDS[parsed.command]
    rest = words if parsed.command in SERVICES else words[1:]
    try:
        code = int(importlib.import_module(command.module).run(rest))
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        if parsed.command in SERVICES:
            raise
        # Who reads our output has seen enough; Python would try once more at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except Exception as error:
        if not _is_told(error):
            raise
        print(f"rallypoint {parsed.command}: {error}", file=sys.stderr)
        return 1


def _is_told(error: Exception) -> bool:
    """Tell whether the text of an error is meant for who typed the command."""
    from rallypoint.cli import brokers, datadir  # imported for a failure only
    from rallypoint.kit import errors, settings

    told = (
        datadir.Refused, brokers.BrokerFailed, settings.SettingsError, errors.RallypointError,
    )  # fmt: skip
    return isinstance(error, told)


def _parser() -> argparse.ArgumentParser:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:{width}}  {command.line}" for name, command in COMMANDS.items()]
    parser = argparse.ArgumentParser(
        prog="rallypoint",
        description="A multiplayer game backend: matchmaking, rooms and fleet, over gRPC-Web.",
        epilog="\n".join(["commands:", *lines, "", "`rallypoint <command> --help` tells more."]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("command", choices=COMMANDS, metavar="command", help="what to do")
    return parser
