"""`rallypoint version`."""

from __future__ import annotations

import argparse
from importlib import metadata


def run(arguments: list[str]) -> int:
    """Print the version of the installed distribution."""
    argparse.ArgumentParser(prog="rallypoint version", description=__doc__).parse_args(arguments)
    print(metadata.version("rallypoint"))
    return 0
