"""Parse the command line and run one command. Commands import what they need when they run."""

from __future__ import annotations

import argparse
import sys


def main(arguments: list[str] | None = None) -> int:
    """Run `rallypoint <command> …`; the result is the exit code."""
    parser = argparse.ArgumentParser(prog="rallypoint", description=__doc__)
    parser.add_argument("command", choices=["up"])
    parser.parse_args(arguments)
    print("rallypoint: nothing runs yet", file=sys.stderr)
    return 0
