"""Fixtures of all stages: an environment that is ours alone.

Settings of the shell that runs the tests must not leak into them.
"""

from __future__ import annotations

import os

for variable in [name for name in os.environ if name.startswith("RALLYPOINT_")]:
    del os.environ[variable]
