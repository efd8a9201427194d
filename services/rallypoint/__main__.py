"""The command `rallypoint`."""

from __future__ import annotations

from rallypoint.cli.main import main

if __name__ == "__main__":
    raise SystemExit(main())
