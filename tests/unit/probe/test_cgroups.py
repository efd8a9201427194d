"""Whose cgroup it is, by its path and by its place in a tree."""

from __future__ import annotations

from pathlib import Path

import pytest

from rallypoint.probe import owners
from rallypoint.probe.domain import cgroups
from rallypoint.probe.domain.cgroups import UNKNOWN, Owner

POD = "0b6c1f9e-2f0a-4f9b-8a35-6f1f0d2f8a11"
SLICE = POD.replace("-", "_")
ID = "9f" * 32


@pytest.mark.parametrize(
    ("path", "pod", "container"),
    [
        (
            f"kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{SLICE}.slice/"
            f"cri-containerd-{ID}.scope", POD, ID,
        ),
        (f"kubepods.slice/kubepods-pod{SLICE}.slice/crio-{ID}.scope", POD, ID),
        (f"kubepods/besteffort/pod{POD}/{ID}", POD, ID),
        (f"kubelet/kubepods/burstable/pod{POD}/{ID}/inner", POD, ID),
        (f"kubepods/pod{POD}", POD, ""),
        ("system.slice/docker-" + ID + ".scope", "", ""),
        ("user.slice", "", ""),
    ],
    ids=["systemd", "guaranteed", "cgroupfs", "nested", "sandbox", "docker", "host"],
)  # fmt: skip
def test_pods_and_containers_are_in_the_path(path: str, pod: str, container: str) -> None:
    assert cgroups.owner(path) == Owner(path, pod, container)


def test_names_for_people() -> None:
    assert cgroups.owner(f"kubepods/pod{POD}").name == "pod 0b6c1f9e"
    assert cgroups.owner("").name == "/"
    assert UNKNOWN.name == "unknown"


@pytest.fixture
def clock() -> list[float]:
    return [0.0]


@pytest.fixture
def tree(tmp_path: Path, clock: list[float]) -> owners.Owners:
    (tmp_path / "kubepods").mkdir()
    return owners.Owners(tmp_path, lambda: clock[0])


def test_ids_are_found_by_walking_again(
    tmp_path: Path, tree: owners.Owners, clock: list[float]
) -> None:
    pod = tmp_path / "kubepods" / f"pod{POD}"
    tree.refresh()
    assert tree.pods_root == (tmp_path / "kubepods").stat().st_ino
    pod.mkdir()
    number = pod.stat().st_ino
    assert tree.find(number) == UNKNOWN  # walked just before
    clock[0] += 1.5
    assert tree.find(number).pod_uid == POD
    assert tree.walks == 2


def test_the_dead_keep_their_names(tmp_path: Path, tree: owners.Owners, clock: list[float]) -> None:
    pod = tmp_path / "kubepods" / f"pod{POD}"
    pod.mkdir()
    number = pod.stat().st_ino
    assert tree.find(number).pod_uid == POD
    pod.rmdir()
    clock[0] += 2
    tree.refresh()
    assert not tree.exists(number)
    assert tree.find(number).pod_uid == POD


def test_without_a_tree_everybody_is_unknown() -> None:
    assert owners.Owners(None).find(1) == UNKNOWN
