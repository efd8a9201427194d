"""The images of this checkout, built once and kept in the cache; skipped where nobody may build."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.support import images

from rallypoint.cli import bench_image, container, plan

LIMIT_S = 120


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Have the limit count the tests, not the minutes in which images are first built."""
    for item in items:
        if Path(__file__).parent in item.path.parents and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(LIMIT_S, func_only=True))


@pytest.fixture(scope="session")
def built() -> Path:
    """The folder of images."""
    if reason := images.missing() or container.missing():
        pytest.skip(reason)
    return images.built()


@pytest.fixture(scope="session")
def listed(built: Path) -> dict[str, Any]:
    """What images.json says."""
    found: dict[str, Any] = json.loads((built / "images.json").read_text())
    return found


@pytest.fixture(scope="session")
def services(built: Path) -> Iterator[container.Image]:
    """The image of all services."""
    with container.unpacked(built, "services") as image:
        yield image


@pytest.fixture(scope="session")
def probe(built: Path) -> Iterator[container.Image]:
    """The image of the probe."""
    with container.unpacked(built, "probe") as image:
        yield image


@pytest.fixture
def processes(built: Path) -> Iterator[dict[str, plan.Process]]:
    """Each service, beside running brokers."""
    with bench_image.services() as found:
        yield {process.kind: process for process in found}
