"""Sockets belong to pods by the cgroup of who made them, in any namespace."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest
from tests.kernel import rig
from tests.kernel.peer import Part
from tests.support.cgroups import container

from rallypoint.probe import owners, session, wish
from rallypoint.probe.domain import series
from rallypoint.probe.domain.layout import Config, EventKind

pytestmark = pytest.mark.usefixtures("namespaces")


def watching(tree: owners.Owners, port: int) -> wish.Wanted:
    """Only pods, whatever else talks."""
    tree.refresh(now=True)
    assert tree.pods_root
    return wish.Wanted(ports=(port,), config=Config(pods_root=tree.pods_root))


def test_both_ends_belong_to_their_pods(pods: Path, port: int) -> None:
    uids = [str(uuid.uuid4()) for _ in range(2)]
    names = [uuid.uuid4().hex * 2 for _ in range(2)]
    tree = owners.Owners(pods.parents[1])
    with session.Session(watching(tree, port)) as probe:
        with (
            container(pods, uids[0], names[0]) as serving,
            container(pods, uids[1], names[1]) as asking,
            rig.cable(2, 2) as cable,
        ):
            cable.talk(
                Part("serve_echo", port=port, cgroup=str(serving)),
                Part("ask", port=port, cgroup=str(asking), count=20),
            )
            tree.refresh(now=True)
            found = {one.key.role: one for one in series.of_slots(probe.slots(), tree.find)}
        assert set(found) == {"client", "server"}
        for role, uid, name in zip(("server", "client"), uids, names, strict=True):
            assert found[role].key.owner.pod_uid == uid
            assert found[role].key.owner.container_id == name
            assert found[role].counters["receives"] == 20


def test_a_pod_on_the_hosts_network_is_known_and_who_is_no_pod_is_not(
    pods: Path, port: int
) -> None:
    uid = str(uuid.uuid4())
    tree = owners.Owners(pods.parents[1])
    with session.Session(watching(tree, port)) as probe:
        with container(pods, uid, uuid.uuid4().hex * 2) as serving:
            rig.talk(
                Part("serve_echo", port=port, cgroup=str(serving)),
                Part("ask", port=port, count=20),
            )
            tree.refresh(now=True)
            (one,) = series.of_slots(probe.slots(), tree.find)
        assert (one.key.role, one.key.owner.pod_uid) == ("server", uid)


def test_a_restarted_container_is_another_series(pods: Path, port: int) -> None:
    uid, names = str(uuid.uuid4()), [uuid.uuid4().hex * 2 for _ in range(2)]
    tree = owners.Owners(pods.parents[1])
    with session.Session(watching(tree, port)) as probe:
        for name in names:
            with container(pods, uid, name) as serving:
                rig.talk(
                    Part("serve_echo", port=port, cgroup=str(serving)),
                    Part("ask", port=port, count=5),
                )
                tree.refresh(now=True)
        found = [one.key.owner for one in series.of_slots(probe.slots(), tree.find)]
        assert {owner.container_id for owner in found} == set(names)
        assert {owner.pod_uid for owner in found} == {uid}


def test_a_pod_that_lives_for_less_than_a_walk_keeps_its_name(pods: Path, port: int) -> None:
    uid = str(uuid.uuid4())
    tree = owners.Owners(pods.parents[1])
    with session.Session(watching(tree, port)) as probe:
        tree.refresh(now=True)
        before = tree.walks
        with (
            container(pods, uid, uuid.uuid4().hex * 2) as serving,
            rig.peer(Part("serve_echo", port=port, cgroup=str(serving))) as server,
        ):
            with rig.peer(Part("ask", port=port, count=2)) as asking:
                assert probe.ring.wait(10)
                for event in probe.events():
                    assert event.kind == EventKind.NEW_SLOT
                    tree.refresh(now=True)
                asking.result()
            server.result()
        (one,) = series.of_slots(probe.slots(), tree.find)
        assert one.key.owner.pod_uid == uid
        assert tree.walks > before


def test_what_was_never_seen_is_one_series(pods: Path, port: int) -> None:
    tree = owners.Owners(pods.parents[1])
    with session.Session(watching(tree, port)) as probe:
        for _ in range(3):
            with container(pods, str(uuid.uuid4()), uuid.uuid4().hex * 2) as serving:
                rig.talk(
                    Part("serve_echo", port=port, cgroup=str(serving)),
                    Part("ask", port=port, count=4),
                )
        assert len(probe.slots()) == 3
        (one,) = series.of_slots(probe.slots(), tree.find)
        assert one.key.owner.name == "unknown"
        assert one.counters["receives"] == 12
