"""What the chaos bench decides without a stack: its plan, and what it takes for a violation."""

from __future__ import annotations

from rallypoint.cli import chaos_audit, chaos_plan
from rallypoint.internal.v1 import events_pb2, snapshot_pb2
from rallypoint.kit.bus_kv import Entry

PROCESSES = (
    *("nats", "redis", "fleet", "room-state-1", "room-state-2"),
    *("matchmaking", "gateway-1", "gateway-2"),
)


def planned(seed: int, rounds: int) -> list[chaos_plan.Fault]:
    return list(chaos_plan.faults(seed, rounds, kinds=chaos_plan.KINDS, processes=PROCESSES))


def own(epoch: int, revision: int) -> Entry:
    record = events_pb2.OwnRecord(node_id="local-1", epoch=epoch)
    return Entry("own.r", record.SerializeToString(), revision)


def snapshot(epoch: int, revision: int) -> Entry:
    return Entry("snap.r", snapshot_pb2.RoomSnapshot(epoch=epoch).SerializeToString(), revision)


def result(epoch: int, revision: int) -> Entry:
    return Entry("result.r", events_pb2.ResultFact(epoch=epoch).SerializeToString(), revision)


def test_plan_follows_from_its_seed() -> None:
    assert planned(7, 40) == planned(7, 40)
    assert planned(7, 40) != planned(8, 40)


def test_plan_has_every_kind_before_any_twice() -> None:
    count = len(chaos_plan.KINDS)
    kinds = [fault.kind for fault in planned(3, 2 * count)]
    assert set(kinds[:count]) == set(kinds[count:]) == set(chaos_plan.KINDS)


def test_plan_breaks_only_what_it_names() -> None:
    for fault in planned(5, 100):
        assert fault.target.startswith(fault.kind.process)
        low, high = fault.kind.hold_s
        assert low <= fault.hold_s <= high


def test_auditor_accepts_writes_of_the_owner() -> None:
    auditor = chaos_audit.Auditor([])
    for entry in (own(1, 1), snapshot(1, 2), own(2, 3), snapshot(2, 4), result(2, 5)):
        auditor.take(entry)
    assert auditor.violations == []
    assert (auditor.snapshots, auditor.results) == (2, 1)


def test_auditor_sees_writes_of_who_lost_the_room() -> None:
    auditor = chaos_audit.Auditor([])
    for entry in (own(2, 1), snapshot(1, 2), result(1, 3), own(1, 4)):
        auditor.take(entry)
    assert len(auditor.violations) == 3
