"""`rallypoint gateway | matchmaking | fleet | operator | room-state`: one service, by environment.

RALLYPOINT_PROFILE=<directory> writes where the CPU time went to `<directory>/<instance>.txt` when
the service ends.
"""

from __future__ import annotations

import argparse
import gc
import importlib
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
    "operator": Service("rallypoint.fleet.operator", "Settings", ("bus", "store")),
    "room-state": Service("rallypoint.room_state", "Settings", ("bus",)),
}


def run(arguments: list[str]) -> int:
    """Run the service named first; the result is the exit code."""
    name = arguments[0]
    service = SERVICES[name]
    _parser(name, service).parse_args(arguments[1:])
    serve = _imported(service)
    try:
        loaded = settings.load(_settings_class(service), os.environ)
        return _profiled(name, lambda: runtime.run(name, loaded, serve, needs=service.needs))
    except settings.SettingsError as error:
        print(f"rallypoint {name}: {error}", file=sys.stderr)
        return 2


def _parser(name: str, service: Service) -> argparse.ArgumentParser:
    lines = []
    for variable, default in settings.variables(_settings_class(service)):
        shown = " ".join(default.split())
        lines.append(f"  {variable}={shown if len(shown) < 60 else shown[:56] + ' …'}")
    return argparse.ArgumentParser(
        prog=f"rallypoint {name}",
        description=f"One service. {service.package}.config says what the settings mean.",
        epilog="\n".join(["environment, with defaults:", *lines]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def _imported(service: Service) -> Any:
    """Import all that the service needs to be ready, and return what runs it.

    The collector would go through all modules again and again while they come (fleet and room-state
    are ready 35 and 60 ms sooner without); what they made stays: it need not look at it later.
    """
    gc.disable()
    try:
        for need in service.needs:
            importlib.import_module(f"rallypoint.kit.{need}")
        return importlib.import_module(f"{service.package}.serve").serve
    finally:
        gc.freeze()
        gc.enable()


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
