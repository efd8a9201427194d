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


TWO = ("nodes/a/kubepods", "nodes/b/kubepods")
INNER = ("kubepods", "kubepods/pod1/node/kubepods")


@pytest.mark.parametrize(
    ("roots", "own", "chosen"),
    [
        (TWO, "nodes/a/kubepods/pod1/c", TWO[0]),
        (TWO, "nodes/b/kubepods/pod1/c", TWO[1]),
        (TWO, "system.slice/probe", TWO[0]),
        (INNER, "kubepods/pod1/node/kubepods/pod2/c", INNER[1]),
        (INNER, "kubepods/pod1/other", INNER[0]),
        (INNER, "", INNER[0]),
        ((), "kubepods/pod1", ""),
    ],
    ids=["first", "second", "host", "inner", "outer", "unknown", "none"],
)
def test_pods_of_our_own_kubelet_are_chosen(roots: tuple[str, ...], own: str, chosen: str) -> None:
    assert cgroups.pods_root(roots, own) == chosen


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


def test_root_of_pods_is_the_one_we_are_in(tmp_path: Path) -> None:
    folders = [tmp_path / node / "kubepods" / f"pod{POD}" for node in ("one", "two", "three")]
    for pod in folders:
        pod.mkdir(parents=True)
        tree = owners.Owners(tmp_path, own=str(pod.relative_to(tmp_path)))
        tree.refresh()
        assert (tree.pods_folder, tree.pods_root) == (pod.parent, pod.parent.stat().st_ino)


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
