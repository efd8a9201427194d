"""Rallypoint: a multiplayer game backend. Import direction: pyproject.toml, import-linter."""
