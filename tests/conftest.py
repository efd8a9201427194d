"""Fixtures of all stages: an environment that is ours alone.

Settings of the shell that runs the tests must not leak into them.
"""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

for variable in [name for name in os.environ if name.startswith("RALLYPOINT_")]:
    del os.environ[variable]

# Brokers are forked from processes that use gRPC, whose fork handlers sometimes end the child.
os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "false"

# Tests assert outcomes, never speeds: on a crowded machine one example may take a second.
settings.register_profile("rallypoint", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("rallypoint")
