"""Which rights it takes, what is left without, and what a process keeps."""

from __future__ import annotations

import json
import os
import random
import socket
import struct
import subprocess
import sys
import textwrap
import time
from dataclasses import replace

import pytest
from tests.kernel import rig
from tests.kernel.conftest import EVERYTHING
from tests.kernel.peer import Part
from tests.support import cgroups

from rallypoint.probe import build, libbpf, rights, session, source, wish
from rallypoint.probe.domain import histogram

pytestmark = pytest.mark.usefixtures("allowed")
VALUES = 20_000


def run_with(capabilities: set[int], code: str) -> str:
    """Run Python with these capabilities alone; what it printed."""
    first = f"from rallypoint.probe import rights; rights.keep_only(frozenset({capabilities}))\n"
    done = subprocess.run(
        [sys.executable, "-c", first + textwrap.dedent(code)],
        capture_output=True, text=True, timeout=60, check=False, cwd=rig.ROOT,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def bucket_of(program: int, ns: int) -> int:
    asked = bytearray(struct.pack("=QQ", ns, 0))
    libbpf.test_run(program, asked)
    return int(struct.unpack("=QQ", asked)[1])


def test_buckets_are_those_of_floats() -> None:
    seeded = random.Random(1)
    with libbpf.Object(build.object_file("bucket")) as opened:
        table = struct.pack(f"={histogram.BUCKETS}Q", *histogram.ends())
        opened.initial(".rodata")[:] = table
        opened.load()
        program = opened.program_fd("answer")
        values = [round(2 ** seeded.uniform(0, 39.5)) for _ in range(VALUES)]
        found = [bucket_of(program, ns) for ns in values]
        assert found == [histogram.bucket_of_float(ns / 1e9) for ns in values]
        ends = histogram.ends()[:-1]
        edges = [bucket_of(program, ns) for end in ends for ns in (end, end + 1)]
        assert edges == [bucket for end in range(len(ends)) for bucket in (end, end + 1)]
        assert [bucket_of(program, ns) for ns in (0, 1 << 63, (1 << 64) - 1)] == [0, 255, 255]


@pytest.mark.parametrize(
    ("capabilities", "mode"),
    [
        ({rights.CAP_BPF, rights.CAP_PERFMON}, "full"),
        ({rights.CAP_BPF}, "inet_diag"),
        ({rights.CAP_PERFMON}, "inet_diag"),
        (set(), "inet_diag"),
    ],
    ids=["both", "bpf", "perfmon", "none"],
)
def test_both_capabilities_are_needed_and_no_other(capabilities: set[int], mode: str) -> None:
    code = """
        from rallypoint.probe import wish, source
        opened = source.open_best(wish.Wanted())
        print(opened.mode, opened.reason)
        opened.close()
    """
    found, *reason = run_with(capabilities, code).split(maxsplit=1)
    assert found == mode
    assert bool(reason) == (mode != "full")


def test_following_calls_takes_one_more_and_without_it_all_else_goes_on() -> None:
    root = cgroups.unified_root()
    if root is None:
        pytest.skip("no unified cgroup hierarchy")
    code = f"""
        from rallypoint.probe import wish, session
        with session.Session(wish.Wanted(calls_cgroup={str(root)!r})) as opened:
            print(opened.mode, opened.loaded.calls_refused.partition(":")[0] or "followed")
    """
    needed = {rights.CAP_BPF, rights.CAP_PERFMON}
    assert run_with(needed, code) == "full NOT_ALLOWED"
    assert run_with(needed | {rights.CAP_NET_ADMIN}, code) == "full followed"


def test_everything_can_be_read_after_all_rights_are_gone(port: int) -> None:
    code = f"""
        import json
        from rallypoint.kit import errors
        from rallypoint.probe import wish, rights, session
        from tests.kernel import rig
        from tests.kernel.conftest import EVERYTHING
        from tests.kernel.peer import Part
        opened = session.Session(wish.Wanted(config=EVERYTHING))
        assert opened._loader.poll() == 0
        rights.keep_only(frozenset())
        opened.watch_port({port})
        rig.talk(Part("serve_echo", port={port}), Part("ask", port={port}, count=5))
        seen = [slot.counters["receives"] for slot in opened.slots()]
        for slot in opened.slots():
            opened.free(slot)
        try:
            session.Session(wish.Wanted())
            again = "loaded"
        except errors.FailedPrecondition as error:
            again = error.reason
        left = [len(opened.slots()), len(opened.costs()), again, len(rights.held())]
        print(json.dumps([seen, *left]))
    """
    found = run_with({rights.CAP_BPF, rights.CAP_PERFMON}, code)
    assert json.loads(found) == [[5, 5], 0, len(wish.FULL), "NOT_ALLOWED", 0]


def test_the_loader_has_no_network() -> None:
    code = """
        import socket
        rights.refuse_network()
        for family in (socket.AF_UNIX, socket.AF_INET, socket.AF_INET6, socket.AF_NETLINK):
            try:
                socket.socket(family).close()
                print("ok")
            except PermissionError:
                print("refused")
    """
    assert run_with(set(), code).split() == ["ok", "refused", "refused", "refused"]
    with session.Session(wish.Wanted()) as opened:
        assert opened.loaded.no_network


def test_a_job_without_rights_measures_what_is_left(port: int) -> None:
    with (
        rig.peer(Part("serve_echo", port=port)),
        rig.peer(Part("ask", port=port, count=60, gap_ms=50)),
    ):
        command = [
            "setpriv", "--bounding-set=-all", "--inh-caps=-all", sys.executable, "-m", "rallypoint",
            "probe", "--once", "--json", "--seconds", "1", "--port", str(port),
        ]  # fmt: skip
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=60, check=True, cwd=rig.ROOT
        )
    report = json.loads(done.stdout)
    assert report["mode"] == "inet_diag"
    assert report["reason"].startswith("NOT_ALLOWED")
    assert {one["role"] for one in report["series"]} == {"client", "server"}
    assert all(one["rtt_ms"]["count"] >= 1 for one in report["series"])


def test_the_old_hooks_see_rtt_and_unread_data(port: int) -> None:
    wanted = wish.Wanted(mode="old", ports=(port,), config=EVERYTHING)
    with session.Session(wanted) as probe:
        assert probe.mode == "old"
        serve = Part("serve_echo", port=port, read_late_ms=7)
        served, _ = rig.talk(serve, Part("ask", port=port, count=30))
        (server,) = [slot for slot in probe.slots() if slot.key.role == "server"]
    waited = server.histograms["receive_queue"]
    given = sum(served["waited_s"]) / len(served["waited_s"])
    assert waited.count == 30
    assert abs(waited.mean_s - given) < given * 0.1 + 0.0004
    assert server.histograms["rtt"].count >= 30
    assert server.histograms["turnaround"].count == 0


def test_the_level_is_changed_live(probe: session.Session, port: int) -> None:
    probe.configure(replace(probe.config, full=False))
    rig.talk(Part("serve_echo", port=port), Part("ask", port=port, count=5))
    light = probe.slots()
    assert all(slot.counters["receives"] == 0 for slot in light)
    assert all(slot.histograms["rtt"].count >= 4 for slot in light)
    probe.configure(replace(probe.config, full=True))
    rig.talk(Part("serve_echo", port=port), Part("ask", port=port, count=5))
    assert all(slot.counters["receives"] == 5 for slot in probe.slots())


def test_what_waits_while_the_level_changes_is_not_timed(probe: session.Session, port: int) -> None:
    with (
        socket.create_server(("127.0.0.1", port)) as listener,
        socket.create_connection(("127.0.0.1", port)) as near,
        listener.accept()[0] as far,
    ):
        near.sendall(b"x")
        probe.set_level(full=False)
        assert probe.mode == "light"
        time.sleep(0.5)
        far.recv(1)
        probe.set_level(full=True)
        assert probe.mode == "full"
        for _ in range(3):
            far.sendall(b"y")
            near.recv(1)
            near.sendall(b"x")
            far.recv(1)
    slots = list(probe.slots())
    assert len({slot.key.role for slot in slots}) == 2
    for slot in slots:
        for name in ("receive_queue", "turnaround", "ack"):
            timed = slot.histograms[name]
            assert timed.count >= 2
            assert timed.sum_ns < 400_000_000, (slot.key.role, name)


def test_a_missing_compiler_is_a_step_down_and_no_crash(tmp_path: os.PathLike[str]) -> None:
    environ = {"PATH": "/nonexistent", "RALLYPOINT_CACHE": str(tmp_path)}
    command = [sys.executable, "-m", "rallypoint", "probe", "--once", "--json", "--seconds", "0"]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=60, check=True, env=environ, cwd=rig.ROOT
    )
    report = json.loads(done.stdout)
    assert (report["mode"], report["reason"].split(":")[0]) == ("inet_diag", "NO_CLANG")
    assert source.MODES.index(report["mode"]) == 3
