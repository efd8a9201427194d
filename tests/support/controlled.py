"""A real API server with its controllers and scheduler, and KWOK's nodes to run thousands of pods.

python -m tests.support.controlled [command …]      # with KUBECONFIG set; a shell without
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from rallypoint.fleet import resources
from tests.support.cluster import fakes, plane
from tests.support.kubernetes import ApiServer, run_with, temporary_api_server

NODES = 10
"""Each takes 200 pods."""


@contextmanager
def controlled_api_server(nodes: int) -> Iterator[ApiServer]:
    """Run one that knows our kinds."""
    with (
        temporary_api_server(controlled=True) as running,
        plane.controllers(running),
        fakes.fake_nodes(running, nodes),
    ):
        kinds = "\n---\n".join(resources.files().values())
        running.does("apply", "--server-side", "-f", "-", stdin=kinds)
        names = [f"crd/{custom.name}" for custom in resources.ALL]
        running.does("wait", "--for=condition=Established", "--timeout=30s", *names)
        yield running


def main(command: Sequence[str]) -> int:
    """Run a command with a cluster of its own."""
    with controlled_api_server(NODES) as server:
        return run_with(server, command)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
