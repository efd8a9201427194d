"""The data directory: lock, leftovers, keys, logs."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from rallypoint.cli import datadir


def test_second_run_on_the_same_directory_is_refused(tmp_path: Path) -> None:
    with datadir.opened(tmp_path):
        datadir.write_state(tmp_path, {}, facts={})
        with pytest.raises(datadir.Refused, match=f"pid {os.getpid()} already runs"):
            datadir.opened(tmp_path).__enter__()


def test_directory_can_be_used_again_afterwards(tmp_path: Path) -> None:
    for _ in range(2):
        with datadir.opened(tmp_path) as directory:
            assert datadir.logs(directory).is_dir()


def test_unusable_directory_is_refused_with_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(datadir.Refused, match=r"not writable.*--data-dir"):
        datadir.opened(tmp_path / "file" / "below").__enter__()


def test_process_of_an_earlier_run_is_named(tmp_path: Path) -> None:
    left = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        datadir.write_state(tmp_path, {"gateway-1": left.pid}, facts={})
        with pytest.raises(datadir.Refused, match=rf"gateway-1 \(pid {left.pid}\).*kill"):
            datadir.refuse_leftovers(tmp_path)
    finally:
        left.communicate(b"\n")
    entries = json.loads((tmp_path / "state.json").read_text())["processes"]
    gone = [entry for entry in entries if entry["name"] != "up"]
    (tmp_path / "state.json").write_text(json.dumps({"processes": gone}))
    datadir.refuse_leftovers(tmp_path)


def test_reused_pid_is_not_a_leftover(tmp_path: Path) -> None:
    entry = {"name": "gateway-1", "pid": os.getpid(), "started_ticks": 1}
    (tmp_path / "state.json").write_text(json.dumps({"processes": [entry]}))
    datadir.refuse_leftovers(tmp_path)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"processes": [{"pid": 1}]}'])
def test_torn_state_file_says_nothing(tmp_path: Path, text: str) -> None:
    (tmp_path / "state.json").write_text(text)
    assert datadir.read_state(tmp_path) == []


def test_cluster_key_stays_and_is_private(tmp_path: Path) -> None:
    first, again = datadir.keys(tmp_path), datadir.keys(tmp_path)
    assert first == again
    assert len(bytes.fromhex(first.cluster_key_hex)) == 32
    assert stat.S_IMODE((tmp_path / "cluster.key").stat().st_mode) == 0o600


def test_fresh_forgets_matches_but_keeps_keys(tmp_path: Path) -> None:
    kept = datadir.keys(tmp_path)
    (tmp_path / "redis").mkdir()
    (tmp_path / "redis" / "appendonly.aof").touch()
    with datadir.opened(tmp_path, fresh=True) as directory:
        assert not (directory / "redis").exists()
        assert datadir.keys(directory) == kept


def test_logs_of_earlier_runs_are_kept_up_to_a_number(tmp_path: Path) -> None:
    datadir.logs(tmp_path).mkdir()
    for run in range(5):
        datadir.fresh_log(tmp_path, "fleet").write_text(f"run {run}")
    found = {path.name: path.read_text() for path in datadir.logs(tmp_path).iterdir()}
    assert found == {"fleet.log": "run 4", "fleet.log.1": "run 3", "fleet.log.2": "run 2"}


def test_log_tail_is_the_last_lines(tmp_path: Path) -> None:
    log = tmp_path / "x.log"
    log.write_text("\n".join(map(str, range(10))))
    assert datadir.log_tail(log, lines=2) == "8\n9"
    assert datadir.log_tail(tmp_path / "none.log") == ""
