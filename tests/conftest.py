"""Fixtures of all stages: an environment that is ours alone.

Settings of the shell that runs the tests must not leak into them.
"""

from __future__ import annotations

import os

for variable in [name for name in os.environ if name.startswith("RALLYPOINT_")]:
    del os.environ[variable]

# Brokers are forked from processes that use gRPC, whose fork handlers sometimes end the child.
os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "false"
