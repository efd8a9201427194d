"""`rallypoint gateway | matchmaking | fleet | room-state`: one service, set by the environment.

RALLYPOINT_PROFILE=<directory> writes where the CPU time went to `<directory>/<instance>.txt` when
the service ends.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from rallypoint.cli import sampler
from rallypoint.kit import runtime, settings

PROFILE = "RALLYPOINT_PROFILE"


@dataclass(frozen=True, slots=True)
class Service:
    """Where a service and its settings are, and which brokers it wants connected."""

    package: str
    settings: str
    needs: tuple[str, ...]


SERVICES: Mapping[str, Service] = {
    "gateway": Service("rallypoint.gateway", "Settings", ("bus", "store")),
    "matchmaking": Service("rallypoint.matchmaking", "MatchmakingSettings", ("bus", "store")),
    "fleet": Service("rallypoint.fleet", "Settings", ("bus", "store")),
    "room-state": Service("rallypoint.room_state", "Settings", ("bus",)),
}


def run(arguments: list[str]) -> int:
    """Run the service named first; the result is the exit code."""
    parser = argparse.ArgumentParser(
        prog=f"rallypoint {arguments[0]}",
        description="Settings come from the environment: RALLYPOINT_<NAME>, see config.py.",
    )
    parser.parse_args(arguments[1:])
    name = arguments[0]
    service = SERVICES[name]
    serve = importlib.import_module(f"{service.package}.serve").serve
    try:
        loaded = settings.load(_settings_class(service), os.environ)
    except settings.SettingsError as error:
        print(f"rallypoint {name}: {error}", file=sys.stderr)
        return 2
    return _profiled(name, lambda: runtime.run(name, loaded, serve, needs=service.needs))


def _settings_class(service: Service) -> type[runtime.HasRuntime]:
    config = importlib.import_module(f"{service.package}.config")
    found: type[runtime.HasRuntime] = getattr(config, service.settings)
    return found


def _profiled(name: str, serve: Callable[[], int]) -> int:
    directory = os.environ.get(PROFILE)
    if not directory:
        return serve()
    report = Path(directory) / f"{os.environ.get('RALLYPOINT_INSTANCE', name)}.txt"
    with sampler.sampled(report):
        return serve()
