"""Fixtures of the kernel stage: a kernel or a right that is missing is a skip with its reason."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.kernel import rig
from tests.support import cgroups

from rallypoint.kit import errors
from rallypoint.probe import session, wish
from rallypoint.probe.domain.layout import Config

EVERYTHING = Config(every_cgroup=True)


@pytest.fixture(scope="session")
def allowed() -> None:
    """Skip where BPF programs cannot be loaded."""
    if os.geteuid():
        pytest.skip("not root")
    try:
        session.Session(wish.Wanted(config=EVERYTHING)).close()
    except errors.FailedPrecondition as error:
        # A program that the verifier read and refused, or a loader that died, is our own fault.
        if "processed" in error.message or error.reason in ("LAYOUT_CHANGED", "LOADER_DIED"):
            raise
        pytest.skip(f"this machine refuses: {error.reason}: {error.message[:200]}")


@pytest.fixture(scope="session")
def namespaces(allowed: None) -> None:
    """Skip where network namespaces or TUN devices are missing."""
    if not shutil.which("ip"):
        pytest.skip("no ip (iproute2)")
    if not Path("/dev/net/tun").exists():
        pytest.skip("no /dev/net/tun")


@pytest.fixture
def port() -> int:
    return rig.free_port()


@pytest.fixture
def probe(allowed: None, port: int) -> Iterator[session.Session]:
    """Every program attached, watching `port`."""
    with session.Session(wish.Wanted(ports=(port,), config=EVERYTHING)) as opened:
        yield opened


@pytest.fixture
def pods() -> Iterator[Path]:
    """`kubepods.slice/kubepods-burstable.slice` in a part of the tree of our own."""
    root = cgroups.unified_root()
    if root is None:
        pytest.skip("no unified cgroup hierarchy")
    with contextlib.ExitStack() as stack:
        try:
            below = stack.enter_context(cgroups.pods_folder(root))
        except OSError as error:
            pytest.skip(f"cannot make cgroups: {error.strerror}")
        yield below
